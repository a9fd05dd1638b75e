locals {
  get_messages_name = "${local.name}-get-messages"
  # By name: the machine's role may start the machine, which needs the role first.
  get_messages_arn = "arn:${local.partition}:states:${local.region}:${local.account_id}:stateMachine:${local.get_messages_name}"
}

resource "aws_sfn_state_machine" "get_messages" {
  #checkov:skip=CKV_AWS_284:tracing_enabled decides
  #checkov:skip=CKV_AWS_285:Data of executions would take message ids and object keys into the log
  name     = local.get_messages_name
  role_arn = aws_iam_role.get_messages.arn
  tags     = local.tags

  # MaxConcurrency is a number; the template holds it as text to stay valid JSON.
  definition = replace(
    templatefile("${path.module}/state-machines/get-messages.asl.json", {
      partition           = local.partition
      poll_mailbox        = aws_lambda_function.poll_mailbox.qualified_arn
      fetch_message_chunk = aws_lambda_function.fetch_message_chunk.qualified_arn
      acknowledge_message = aws_lambda_function.acknowledge_message.qualified_arn
      leases_table        = aws_dynamodb_table.leases.name
      messages_table      = aws_dynamodb_table.messages.name
      max_concurrency     = var.get_message_max_concurrency
    }),
    "/(\"MaxConcurrency\": )\"(\\d+)\"/", "$1$2"
  )

  # The execution's data would take object keys and ids of messages into the log.
  logging_configuration {
    log_destination        = "${aws_cloudwatch_log_group.get_messages.arn}:*"
    include_execution_data = false
    level                  = "ALL"
  }

  tracing_configuration {
    enabled = var.tracing_enabled
  }

  depends_on = [aws_iam_role_policy.get_messages]
}

resource "aws_cloudwatch_log_group" "get_messages" {
  name              = "/aws/states/${local.get_messages_name}"
  retention_in_days = local.log_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}

resource "aws_iam_role" "get_messages" {
  name                 = local.get_messages_name
  description          = "Role of the state machine ${local.get_messages_name}"
  assume_role_policy   = data.aws_iam_policy_document.assume["states"].json
  permissions_boundary = local.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "get_messages" {
  name   = local.get_messages_name
  role   = aws_iam_role.get_messages.id
  policy = data.aws_iam_policy_document.get_messages.json
}

data "aws_iam_policy_document" "get_messages" {
  source_policy_documents = [data.aws_iam_policy_document.state_machine.json]

  # Any version: executions that began before an update go on with the older one.
  statement {
    sid     = "Invoke"
    actions = ["lambda:InvokeFunction"]
    resources = [
      "${aws_lambda_function.poll_mailbox.arn}:*",
      "${aws_lambda_function.fetch_message_chunk.arn}:*",
      "${aws_lambda_function.acknowledge_message.arn}:*",
    ]
  }

  statement {
    sid       = "Announce"
    actions   = ["events:PutEvents"]
    resources = ["arn:${local.partition}:events:${local.region}:${local.account_id}:event-bus/default"]
  }

  statement {
    sid       = "ReleaseLease"
    actions   = ["dynamodb:DeleteItem"]
    resources = [aws_dynamodb_table.leases.arn]
  }

  statement {
    sid       = "DecryptLeases"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.mesh.arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["dynamodb.${local.region}.amazonaws.com"]
    }
  }

  statement {
    sid       = "StartNext"
    actions   = ["states:StartExecution"]
    resources = [local.get_messages_arn]
  }
}

# Schedules: polls

resource "aws_cloudwatch_event_rule" "get_messages" {
  count               = length(local.mailbox_groups)
  name                = count.index == 0 ? local.get_messages_name : "${local.get_messages_name}-${count.index + 1}"
  description         = "Polls MESH mailboxes"
  schedule_expression = var.get_messages_schedule
  state               = var.get_messages_enabled ? "ENABLED" : "DISABLED"
  tags                = local.tags
}

resource "aws_cloudwatch_event_target" "get_messages" {
  for_each  = local.mailbox_group
  rule      = aws_cloudwatch_event_rule.get_messages[each.value].name
  target_id = "GetMessages${each.key}"
  arn       = aws_sfn_state_machine.get_messages.arn
  role_arn  = aws_iam_role.get_messages_event.arn
  input     = jsonencode({ mailbox = each.key })

  # EventBridge starts an execution with the role's policy.
  depends_on = [aws_iam_role_policy.get_messages_event]
}

resource "aws_iam_role" "get_messages_event" {
  name                 = "${local.get_messages_name}-event"
  description          = "Lets EventBridge start ${local.get_messages_name}"
  assume_role_policy   = data.aws_iam_policy_document.assume["events"].json
  permissions_boundary = local.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "get_messages_event" {
  name   = "${local.get_messages_name}-event"
  role   = aws_iam_role.get_messages_event.id
  policy = data.aws_iam_policy_document.start_get_messages.json
}

data "aws_iam_policy_document" "start_get_messages" {
  statement {
    sid       = "Start"
    actions   = ["states:StartExecution"]
    resources = [aws_sfn_state_machine.get_messages.arn]
  }
}

# Schedules: handshakes

resource "aws_cloudwatch_event_rule" "get_messages_handshake" {
  count               = length(local.mailbox_groups)
  name                = "${local.get_messages_name}-handshake${count.index == 0 ? "" : "-${count.index + 1}"}"
  description         = "Shakes hands with MESH for each mailbox"
  schedule_expression = var.handshake_schedule
  tags                = local.tags
}

resource "aws_cloudwatch_event_target" "get_messages_handshake" {
  for_each  = local.mailbox_group
  rule      = aws_cloudwatch_event_rule.get_messages_handshake[each.value].name
  target_id = "GetMessages${each.key}"
  arn       = aws_sfn_state_machine.get_messages.arn
  role_arn  = aws_iam_role.get_messages_handshake_event.arn
  input     = jsonencode({ handshake = "true", mailbox = each.key })

  depends_on = [aws_iam_role_policy.get_messages_handshake_event]
}

resource "aws_iam_role" "get_messages_handshake_event" {
  name                 = "${local.get_messages_name}-handshake-event"
  description          = "Lets EventBridge start ${local.get_messages_name} for a handshake"
  assume_role_policy   = data.aws_iam_policy_document.assume["events"].json
  permissions_boundary = local.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "get_messages_handshake_event" {
  name   = "${local.get_messages_name}-handshake-event"
  role   = aws_iam_role.get_messages_handshake_event.id
  policy = data.aws_iam_policy_document.start_get_messages.json
}
