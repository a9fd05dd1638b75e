locals {
  track_messages_name = "${local.name}-track-messages"
}

resource "aws_sfn_state_machine" "track_messages" {
  #checkov:skip=CKV_AWS_284:tracing_enabled decides
  #checkov:skip=CKV_AWS_285:Data of executions would take message ids and object keys into the log
  name     = local.track_messages_name
  role_arn = aws_iam_role.track_messages.arn
  tags     = local.tags

  definition = templatefile("${path.module}/state-machines/track-messages.asl.json", {
    partition     = local.partition
    track_message = aws_lambda_function.track_message.qualified_arn
  })

  # The execution's data would take ids of messages into the log.
  logging_configuration {
    log_destination        = "${aws_cloudwatch_log_group.track_messages.arn}:*"
    include_execution_data = false
    level                  = "ALL"
  }

  tracing_configuration {
    enabled = var.tracing_enabled
  }

  depends_on = [aws_iam_role_policy.track_messages]
}

resource "aws_cloudwatch_log_group" "track_messages" {
  name              = "/aws/states/${local.track_messages_name}"
  retention_in_days = local.log_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}

resource "aws_iam_role" "track_messages" {
  name                 = local.track_messages_name
  description          = "Role of the state machine ${local.track_messages_name}"
  assume_role_policy   = data.aws_iam_policy_document.assume["states"].json
  permissions_boundary = local.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "track_messages" {
  name   = local.track_messages_name
  role   = aws_iam_role.track_messages.id
  policy = data.aws_iam_policy_document.track_messages.json
}

data "aws_iam_policy_document" "track_messages" {
  source_policy_documents = [data.aws_iam_policy_document.state_machine.json]

  # Any version: executions that began before an update go on with the older one.
  statement {
    sid       = "Invoke"
    actions   = ["lambda:InvokeFunction"]
    resources = ["${aws_lambda_function.track_message.arn}:*"]
  }

  statement {
    sid       = "Announce"
    actions   = ["events:PutEvents"]
    resources = ["arn:${local.partition}:events:${local.region}:${local.account_id}:event-bus/default"]
  }
}

resource "aws_cloudwatch_event_rule" "track_messages" {
  name                = local.track_messages_name
  description         = "Takes up interrupted sends again and follows up sent messages"
  schedule_expression = var.track_messages_schedule
  tags                = local.tags
}

resource "aws_cloudwatch_event_target" "track_messages" {
  rule      = aws_cloudwatch_event_rule.track_messages.name
  target_id = "TrackMessages"
  arn       = aws_sfn_state_machine.track_messages.arn
  role_arn  = aws_iam_role.track_messages_event.arn
  input     = jsonencode({})

  # EventBridge starts an execution with the role's policy, and the function reads the switch.
  depends_on = [aws_dynamodb_table_item.send_messages_switch, aws_iam_role_policy.track_messages_event]
}

resource "aws_iam_role" "track_messages_event" {
  name                 = "${local.track_messages_name}-event"
  description          = "Lets EventBridge start ${local.track_messages_name}"
  assume_role_policy   = data.aws_iam_policy_document.assume["events"].json
  permissions_boundary = local.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "track_messages_event" {
  name   = "${local.track_messages_name}-event"
  role   = aws_iam_role.track_messages_event.id
  policy = data.aws_iam_policy_document.start_track_messages.json
}

data "aws_iam_policy_document" "start_track_messages" {
  statement {
    sid       = "Start"
    actions   = ["states:StartExecution"]
    resources = [aws_sfn_state_machine.track_messages.arn]
  }
}
