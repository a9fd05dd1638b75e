# A function of yours that works on received messages: handler.py, started by the event that follows when a message is stored.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.76, < 7" # knows python3.13
    }
  }
}

provider "aws" {
  region = var.region
}

module "mesh" {
  source = "../.."

  name_prefix        = var.name_prefix
  mesh_env           = var.mesh_env
  mesh_url           = var.mesh_url
  mailbox_ids        = var.mailbox_ids
  cloudtrail_enabled = false
  force_destroy      = var.force_destroy
  alarm_actions      = var.alarm_actions
}

locals {
  name = "${var.name_prefix}-consumer"
}

# Narrow it by mailbox, sender or workflow_id, so that each kind of message has a function of its own.
resource "aws_cloudwatch_event_rule" "received" {
  name        = local.name
  description = "Messages that were stored in ${module.mesh.mesh_s3_bucket_name}"
  event_pattern = jsonencode({
    source      = ["mesh-client"]
    detail-type = ["MESH message received"]
    detail = {
      bucket       = [module.mesh.mesh_s3_bucket_name]
      message_type = ["DATA"]
    }
  })
}

resource "aws_cloudwatch_event_target" "received" {
  rule = aws_cloudwatch_event_rule.received.name
  arn  = aws_lambda_function.consumer.arn

  dead_letter_config {
    arn = aws_sqs_queue.failed.arn
  }
}

resource "aws_lambda_permission" "received" {
  statement_id  = "ReceivedMessages"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.consumer.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.received.arn
}

resource "aws_lambda_function" "consumer" {
  #checkov:skip=CKV_AWS_50:Tracing is your choice
  #checkov:skip=CKV_AWS_115:Messages arrive no faster than the module stores them
  #checkov:skip=CKV_AWS_117:It reaches nothing but AWS's own endpoints
  #checkov:skip=CKV_AWS_173:It has no environment variables
  #checkov:skip=CKV_AWS_272:Code signing is your choice
  function_name    = local.name
  description      = "Works on received MESH messages"
  role             = aws_iam_role.consumer.arn
  runtime          = "python3.13"
  handler          = "handler.handle"
  filename         = "${path.module}/handler.zip"
  source_code_hash = filebase64sha256("${path.module}/handler.zip")
  memory_size      = 256
  timeout          = 60

  # A message whose event fails three times is not lost: it is in the bucket, and its event in this queue.
  dead_letter_config {
    target_arn = aws_sqs_queue.failed.arn
  }

  depends_on = [aws_cloudwatch_log_group.consumer, aws_iam_role_policy.consumer]
}

resource "aws_cloudwatch_log_group" "consumer" {
  #checkov:skip=CKV_AWS_158:handler.py logs ids and sizes, nothing that is personal
  name              = "/aws/lambda/${local.name}"
  retention_in_days = 365
}

resource "aws_sqs_queue" "failed" {
  name                      = "${local.name}-failed"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
}

# MESH has been told that these messages arrived: nobody else misses them.
resource "aws_cloudwatch_metric_alarm" "failed" {
  alarm_name          = aws_sqs_queue.failed.name
  alarm_description   = "Received messages that ${local.name} did not work on. They are in ${module.mesh.mesh_s3_bucket_name}, their events in the queue, for 14 days."
  alarm_actions       = var.alarm_actions
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.failed.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
}

resource "aws_sqs_queue_policy" "failed" {
  queue_url = aws_sqs_queue.failed.url
  policy    = data.aws_iam_policy_document.failed.json
}

data "aws_iam_policy_document" "failed" {
  statement {
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.failed.arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.received.arn]
    }
  }
}

resource "aws_iam_role" "consumer" {
  name               = "${local.name}-role"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "consumer" {
  name   = "${local.name}-policy"
  role   = aws_iam_role.consumer.id
  policy = data.aws_iam_policy_document.consumer.json
}

data "aws_partition" "current" {}

data "aws_iam_policy_document" "consumer" {
  statement {
    sid       = "ReadMessages"
    actions   = ["s3:GetObjectVersion"]
    resources = ["arn:${data.aws_partition.current.partition}:s3:::${module.mesh.mesh_s3_bucket_name}/inbound/*"]
  }

  # The bucket's objects are encrypted with the module's key.
  statement {
    sid       = "DecryptMessages"
    actions   = ["kms:Decrypt"]
    resources = [module.mesh.mesh_kms_key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${var.region}.amazonaws.com"]
    }
  }

  statement {
    sid       = "KeepFailed"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.failed.arn]
  }

  statement {
    sid       = "WriteLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.consumer.arn}:*"]
  }
}

variable "region" {
  type        = string
  description = "AWS region."
  default     = "eu-west-2"
}

variable "name_prefix" {
  type        = string
  description = "Every resource is named `<name_prefix>-mesh…` or `<name_prefix>-consumer…`."
}

variable "mesh_env" {
  type        = string
  description = "local, integration or production."
  default     = "integration"
}

variable "mesh_url" {
  type        = string
  description = "URL of MESH when mesh_env is local."
  default     = null
}

variable "mailbox_ids" {
  type        = set(string)
  description = "Mailboxes to receive from."
}

variable "alarm_actions" {
  type        = list(string)
  description = "ARNs of SNS topics: who is told when a message needs a person."
  default     = []
}

variable "force_destroy" {
  type        = bool
  description = "Whether `terraform destroy` may delete messages and rows."
  default     = false
}

output "mesh" {
  description = "The module's outputs: names and ARNs to use from outside."
  value       = module.mesh
}
