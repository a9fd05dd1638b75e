locals {
  send_message_name  = "${local.name}-send-message"
  send_messages_rule = "${local.name}-send-messages"
}

resource "aws_sfn_state_machine" "send_message" {
  name     = local.send_message_name
  role_arn = aws_iam_role.send_message.arn
  tags     = local.tags

  definition = templatefile("${path.module}/state-machines/send-message.asl.json", {
    partition          = local.partition
    send_message_chunk = module.send_message_chunk.qualified_arn
  })

  # The execution's data would take object keys into the log.
  logging_configuration {
    log_destination        = "${aws_cloudwatch_log_group.send_message.arn}:*"
    include_execution_data = false
    level                  = "ALL"
  }

  depends_on = [aws_iam_role_policy.send_message]
}

resource "aws_cloudwatch_log_group" "send_message" {
  name              = "/aws/states/${local.send_message_name}"
  retention_in_days = var.cloudwatch_retention_in_days
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}

resource "aws_iam_role" "send_message" {
  name               = local.send_message_name
  description        = "Role of the state machine ${local.send_message_name}"
  assume_role_policy = data.aws_iam_policy_document.assume["states"].json
  tags               = local.tags
}

resource "aws_iam_role_policy" "send_message" {
  name   = local.send_message_name
  role   = aws_iam_role.send_message.id
  policy = data.aws_iam_policy_document.send_message.json
}

data "aws_iam_policy_document" "send_message" {
  source_policy_documents = [data.aws_iam_policy_document.log_delivery.json]

  # Any version: executions that began before an update go on with the older one.
  statement {
    sid       = "Invoke"
    actions   = ["lambda:InvokeFunction"]
    resources = ["${module.send_message_chunk.arn}:*"]
  }

  statement {
    sid       = "Announce"
    actions   = ["events:PutEvents"]
    resources = ["arn:${local.partition}:events:${local.region}:${local.account_id}:event-bus/default"]
  }
}

# A put object starts a send; a copy (reason CopyObject) does not.

resource "aws_cloudwatch_event_rule" "send_message_event" {
  name        = local.send_messages_rule
  description = "Sends objects put below outbound as MESH messages"
  tags        = local.tags

  event_pattern = jsonencode({
    source      = ["aws.s3"]
    detail-type = ["Object Created"]
    detail = {
      bucket = { name = [aws_s3_bucket.mesh.id] }
      object = { key = [{ prefix = "outbound" }] }
      reason = ["PutObject", "CompleteMultipartUpload"]
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
    aws_iam_role_policy.send_message_event,
    aws_sqs_queue_policy.send_messages_dead_letter,
  ]
}

resource "aws_iam_role" "send_message_event" {
  name               = "${local.send_message_name}-event"
  description        = "Lets EventBridge start ${local.send_message_name}"
  assume_role_policy = data.aws_iam_policy_document.assume["events"].json
  tags               = local.tags
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

# Events whose execution EventBridge could not start: objects that nobody sends.
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
      values   = [aws_cloudwatch_event_rule.send_message_event.arn]
    }
  }
}
