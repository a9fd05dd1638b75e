locals {
  send_message_name = "${local.name}-send-message"
  # By name: the function that follows up gets it in its environment.
  send_message_arn   = "arn:${local.partition}:states:${local.region}:${local.account_id}:stateMachine:${local.send_message_name}"
  send_messages_rule = "${local.name}-send-messages"
}

resource "aws_sfn_state_machine" "send_message" {
  #checkov:skip=CKV_AWS_284:tracing_enabled decides
  #checkov:skip=CKV_AWS_285:Data of executions would take message ids and object keys into the log
  name     = local.send_message_name
  role_arn = aws_iam_role.send_message.arn
  tags     = local.tags

  definition = templatefile("${path.module}/state-machines/send-message.asl.json", {
    partition          = local.partition
    send_message_chunk = aws_lambda_function.send_message_chunk.qualified_arn
    dead_letter_queue  = aws_sqs_queue.send_messages_dead_letter.url
    messages_table     = aws_dynamodb_table.messages.name
  })

  # The execution's data would take object keys into the log.
  logging_configuration {
    log_destination        = "${aws_cloudwatch_log_group.send_message.arn}:*"
    include_execution_data = false
    level                  = "ALL"
  }

  tracing_configuration {
    enabled = var.tracing_enabled
  }

  depends_on = [aws_iam_role_policy.send_message]
}

resource "aws_cloudwatch_log_group" "send_message" {
  name              = "/aws/states/${local.send_message_name}"
  retention_in_days = local.log_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}

resource "aws_iam_role" "send_message" {
  name                 = local.send_message_name
  description          = "Role of the state machine ${local.send_message_name}"
  assume_role_policy   = data.aws_iam_policy_document.assume["states"].json
  permissions_boundary = local.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "send_message" {
  name   = local.send_message_name
  role   = aws_iam_role.send_message.id
  policy = data.aws_iam_policy_document.send_message.json
}

data "aws_iam_policy_document" "send_message" {
  source_policy_documents = [data.aws_iam_policy_document.state_machine.json]

  # Any version: executions that began before an update go on with the older one.
  statement {
    sid       = "Invoke"
    actions   = ["lambda:InvokeFunction"]
    resources = ["${aws_lambda_function.send_message_chunk.arn}:*"]
  }

  statement {
    sid       = "Announce"
    actions   = ["events:PutEvents"]
    resources = ["arn:${local.partition}:events:${local.region}:${local.account_id}:event-bus/default"]
  }

  statement {
    sid       = "NoteAnnouncement"
    actions   = ["dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.messages.arn]
  }

  statement {
    sid       = "KeepEvents"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.send_messages_dead_letter.arn]
  }

  # DynamoDB and SQS use the key on behalf of the caller; SQS needs both.
  statement {
    sid       = "UseRowsAndQueue"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.mesh.arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["dynamodb.${local.region}.amazonaws.com", "sqs.${local.region}.amazonaws.com"]
    }
  }
}

# Whether sending is on, as the functions read it at run time: the executions of before a change go on with the settings that
# they began with. The rule stays on while sending is off: the function notes what waits.
resource "aws_dynamodb_table_item" "send_messages_switch" {
  table_name = aws_dynamodb_table.messages.name
  hash_key   = aws_dynamodb_table.messages.hash_key

  item = jsonencode({
    id      = { S = "switch#send-messages" }
    enabled = { BOOL = var.send_messages_enabled }
  })
}

# A put object starts a send; a copied one only if the caller wants it.

resource "aws_cloudwatch_event_rule" "send_message_event" {
  name        = local.send_messages_rule
  description = "Sends objects put below outbound as MESH messages"
  tags        = local.tags

  event_pattern = jsonencode({
    source      = ["aws.s3"]
    detail-type = ["Object Created"]
    detail = {
      bucket = { name = [aws_s3_bucket.mesh.bucket] }
      object = { key = [{ prefix = "outbound" }] }
      reason = concat(["PutObject", "CompleteMultipartUpload"], var.send_copied_objects ? ["CopyObject"] : [])
    }
  })
}

resource "aws_cloudwatch_event_target" "send_message_event" {
  rule      = aws_cloudwatch_event_rule.send_message_event.name
  target_id = "SendMessage"
  arn       = aws_sfn_state_machine.send_message.arn
  role_arn  = aws_iam_role.send_message_event.arn

  # No more of the event than is used: it also names the requester and an address.
  input_transformer {
    input_paths = {
      bucket      = "$.detail.bucket.name"
      detail_type = "$.detail-type"
      key         = "$.detail.object.key"
      reason      = "$.detail.reason"
      time        = "$.time"
      version_id  = "$.detail.object.version-id"
    }
    input_template = <<-EOT
      {
        "source": "aws.s3",
        "detail-type": <detail_type>,
        "time": <time>,
        "detail": {
          "reason": <reason>,
          "bucket": {"name": <bucket>},
          "object": {"key": <key>, "version-id": <version_id>}
        }
      }
    EOT
  }

  # A day, the longest that EventBridge offers.
  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }

  dead_letter_config {
    arn = aws_sqs_queue.send_messages_dead_letter.arn
  }

  depends_on = [
    aws_dynamodb_table_item.send_messages_switch,
    aws_iam_role_policy.send_message_event,
    aws_sqs_queue_policy.send_messages_dead_letter,
  ]
}

# CloudTrail's record of the same put, minutes later, while there is a trail. Whichever comes first sends the object;
# the other one finds its row.

resource "aws_cloudwatch_event_rule" "send_message_cloudtrail_event" {
  count       = var.cloudtrail_enabled ? 1 : 0
  name        = "${local.send_messages_rule}-cloudtrail"
  description = "Sends objects put below outbound as MESH messages, as CloudTrail records them"
  tags        = local.tags

  # A refused call is recorded, too: with an errorCode.
  event_pattern = jsonencode({
    source      = ["aws.s3"]
    detail-type = ["AWS API Call via CloudTrail"]
    detail = {
      eventSource       = ["s3.amazonaws.com"]
      eventName         = ["PutObject", "CompleteMultipartUpload"]
      errorCode         = [{ exists = false }]
      requestParameters = { bucketName = [aws_s3_bucket.mesh.bucket], key = [{ prefix = "outbound" }] }
    }
  })
}

resource "aws_cloudwatch_event_target" "send_message_cloudtrail_event" {
  count     = var.cloudtrail_enabled ? 1 : 0
  rule      = aws_cloudwatch_event_rule.send_message_cloudtrail_event[0].name
  target_id = "SendMessage"
  arn       = aws_sfn_state_machine.send_message.arn
  role_arn  = aws_iam_role.send_message_event.arn

  # No more of the record than is used: it also names the requester and an address. Whole response elements: they
  # are null where a call has none.
  input_transformer {
    input_paths = {
      bucket            = "$.detail.requestParameters.bucketName"
      detail_type       = "$.detail-type"
      event_name        = "$.detail.eventName"
      key               = "$.detail.requestParameters.key"
      response_elements = "$.detail.responseElements"
      time              = "$.time"
    }
    input_template = <<-EOT
      {
        "source": "aws.s3",
        "detail-type": <detail_type>,
        "time": <time>,
        "detail": {
          "eventName": <event_name>,
          "requestParameters": {"bucketName": <bucket>, "key": <key>},
          "responseElements": <response_elements>
        }
      }
    EOT
  }

  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }

  dead_letter_config {
    arn = aws_sqs_queue.send_messages_dead_letter.arn
  }

  depends_on = [
    aws_dynamodb_table_item.send_messages_switch,
    aws_iam_role_policy.send_message_event,
    aws_sqs_queue_policy.send_messages_dead_letter,
  ]
}

resource "aws_iam_role" "send_message_event" {
  name                 = "${local.send_message_name}-event"
  description          = "Lets EventBridge start ${local.send_message_name}"
  assume_role_policy   = data.aws_iam_policy_document.assume["events"].json
  permissions_boundary = local.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "send_message_event" {
  name   = "${local.send_message_name}-event"
  role   = aws_iam_role.send_message_event.id
  policy = data.aws_iam_policy_document.start_send_message.json
}

data "aws_iam_policy_document" "start_send_message" {
  statement {
    sid       = "Start"
    actions   = ["states:StartExecution"]
    resources = [aws_sfn_state_machine.send_message.arn]
  }
}

# Events whose execution EventBridge could not start, or that failed before there was a row: objects that nobody sends.
resource "aws_sqs_queue" "send_messages_dead_letter" {
  name                      = "${local.send_messages_rule}-dead-letter"
  message_retention_seconds = 1209600
  kms_master_key_id         = aws_kms_key.mesh.arn
  tags                      = local.tags
}

resource "aws_sqs_queue_policy" "send_messages_dead_letter" {
  queue_url = aws_sqs_queue.send_messages_dead_letter.url
  policy    = data.aws_iam_policy_document.send_messages_dead_letter.json
}

data "aws_iam_policy_document" "send_messages_dead_letter" {
  statement {
    sid       = "UndeliveredEvents"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.send_messages_dead_letter.arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = concat([aws_cloudwatch_event_rule.send_message_event.arn], aws_cloudwatch_event_rule.send_message_cloudtrail_event[*].arn)
    }
  }
}
