# A trail of the puts into the bucket: the only source of events that the NHS's module knows, and what rules that were
# made for it match.

locals {
  trail_name           = "${local.name}-s3logs"
  trail_log_group_name = coalesce(var.cloudtrail_log_group_name, "/aws/cloudtrail/${local.name}")
  trail_prefix         = "cloudtrail"
  # By name: the bucket's and the key's policy name the trail, which needs both.
  trail_arn = "arn:${local.partition}:cloudtrail:${local.region}:${local.account_id}:trail/${local.trail_name}"
}

resource "aws_cloudtrail" "s3logs" {
  #checkov:skip=CKV_AWS_67:It records one bucket, which is in one region
  #checkov:skip=CKV_AWS_252:Nothing waits for the trail's files
  count                      = var.cloudtrail_enabled ? 1 : 0
  name                       = local.trail_name
  s3_bucket_name             = aws_s3_bucket.s3logs.id
  s3_key_prefix              = local.trail_prefix
  kms_key_id                 = aws_kms_key.mesh.arn
  enable_log_file_validation = true
  # The bucket's events arise in its own region.
  is_multi_region_trail         = false
  include_global_service_events = false
  cloud_watch_logs_group_arn    = "${aws_cloudwatch_log_group.mesh_cloudtrail[0].arn}:*"
  cloud_watch_logs_role_arn     = aws_iam_role.mesh_cloudtrail_to_cloudwatch_role[0].arn
  tags                          = local.tags

  advanced_event_selector {
    name = "Puts into ${local.name}"

    field_selector {
      field  = "eventCategory"
      equals = ["Data"]
    }
    field_selector {
      field  = "resources.type"
      equals = ["AWS::S3::Object"]
    }
    field_selector {
      field       = "resources.ARN"
      starts_with = ["${aws_s3_bucket.mesh.arn}/"]
    }
    field_selector {
      field  = "eventName"
      equals = ["PutObject", "CompleteMultipartUpload"]
    }
  }

  depends_on = [
    aws_iam_role_policy.mesh_cloudtrail_to_cloudwatch_role,
    aws_s3_bucket_policy.s3logs_policy,
  ]
}

# One that is named is kept without a trail: it may be that of the NHS's module, with its lines.
resource "aws_cloudwatch_log_group" "mesh_cloudtrail" {
  #checkov:skip=CKV_AWS_338:cloudtrail_cloudwatch_log_retention_in_days decides, 30 as in the NHS's module
  count             = var.cloudtrail_enabled || var.cloudtrail_log_group_name != null ? 1 : 0
  name              = local.trail_log_group_name
  retention_in_days = coalesce(var.cloudtrail_cloudwatch_log_retention_in_days, 0)
  kms_key_id        = aws_kms_key.mesh.arn
  tags              = local.tags
}

resource "aws_iam_role" "mesh_cloudtrail_to_cloudwatch_role" {
  count                = var.cloudtrail_enabled ? 1 : 0
  name                 = "${local.name}-cloudtrail"
  description          = "Lets CloudTrail write to ${local.trail_log_group_name}"
  assume_role_policy   = data.aws_iam_policy_document.assume["cloudtrail"].json
  permissions_boundary = local.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "mesh_cloudtrail_to_cloudwatch_role" {
  count  = var.cloudtrail_enabled ? 1 : 0
  name   = "${local.name}-cloudtrail"
  role   = aws_iam_role.mesh_cloudtrail_to_cloudwatch_role[0].id
  policy = data.aws_iam_policy_document.trail_log[0].json
}

data "aws_iam_policy_document" "trail_log" {
  count = var.cloudtrail_enabled ? 1 : 0

  statement {
    sid     = "WriteLog"
    actions = ["logs:CreateLogStream", "logs:PutLogEvents"]
    # CloudTrail gives the stream its name.
    resources = ["${aws_cloudwatch_log_group.mesh_cloudtrail[0].arn}:log-stream:${local.account_id}_CloudTrail_${local.region}*"]
  }
}

data "aws_iam_policy_document" "trail_files" {
  count = var.cloudtrail_enabled ? 1 : 0

  statement {
    sid       = "TrailLooksAtBucket"
    actions   = ["s3:GetBucketAcl"]
    resources = [aws_s3_bucket.s3logs.arn]
    principals {
      type        = "Service"
      identifiers = ["cloudtrail.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [local.trail_arn]
    }
  }

  statement {
    sid       = "TrailFiles"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.s3logs.arn}/${local.trail_prefix}/AWSLogs/${local.account_id}/*"]
    principals {
      type        = "Service"
      identifiers = ["cloudtrail.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [local.trail_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "s3:x-amz-acl"
      values   = ["bucket-owner-full-control"]
    }
  }
}

data "aws_iam_policy_document" "trail_key" {
  count = var.cloudtrail_enabled ? 1 : 0

  statement {
    sid       = "TrailFiles"
    actions   = ["kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext"]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = ["cloudtrail.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [local.trail_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "kms:EncryptionContext:aws:cloudtrail:arn"
      values   = [local.trail_arn]
    }
  }

  statement {
    sid       = "TrailLooksAtKey"
    actions   = ["kms:DescribeKey"]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = ["cloudtrail.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [local.trail_arn]
    }
  }
}
