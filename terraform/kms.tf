# One key for messages, rows, logs and the dead-letter queue.
resource "aws_kms_key" "mesh" {
  description             = local.name
  enable_key_rotation     = true
  deletion_window_in_days = var.force_destroy ? 7 : 30
  policy                  = data.aws_iam_policy_document.key.json
  tags                    = local.tags
}

resource "aws_kms_alias" "mesh" {
  name          = "alias/${local.name}"
  target_key_id = aws_kms_key.mesh.key_id
}

# Two documents with one Sid fail the plan; beside statements of this document's own the caller's would be lost silently.
data "aws_iam_policy_document" "key" {
  source_policy_documents = concat(
    [data.aws_iam_policy_document.own_key.json],
    data.aws_iam_policy_document.trail_key[*].json,
    var.additional_kms_key_policy_json == null ? [] : [var.additional_kms_key_policy_json],
  )
}

# S3, DynamoDB, SSM and Secrets Manager use the key with the caller's permissions, which the roles' policies give.
data "aws_iam_policy_document" "own_key" {
  statement {
    sid       = "AccountDecidesByIam"
    actions   = ["kms:*"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account_id}:root"]
    }
  }

  statement {
    sid = "LogGroups"
    actions = [
      "kms:Decrypt",
      "kms:DescribeKey",
      "kms:Encrypt",
      "kms:GenerateDataKey",
      "kms:GenerateDataKeyWithoutPlaintext",
      "kms:ReEncryptFrom",
      "kms:ReEncryptTo",
    ]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = ["logs.${local.region}.amazonaws.com"]
    }
    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values = [
        for group in concat(["/aws/lambda/${local.name}-*", "/aws/states/${local.name}-*"], var.cloudtrail_enabled || var.cloudtrail_log_group_name != null ? [local.trail_log_group_name] : []) :
        "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:${group}"
      ]
    }
  }

  statement {
    sid       = "EventsToDeadLetterQueue"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}
