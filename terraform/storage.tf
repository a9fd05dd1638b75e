# Messages: received ones below inbound/, those to send below outbound….

resource "aws_s3_bucket" "mesh" {
  #checkov:skip=CKV_AWS_144:Whether health data may be copied to another region is for its owner to decide
  bucket        = local.name
  force_destroy = var.force_destroy
  tags          = local.tags
}

resource "aws_s3_bucket_versioning" "mesh" {
  bucket = aws_s3_bucket.mesh.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "mesh" {
  bucket = aws_s3_bucket.mesh.id
  rule {
    bucket_key_enabled = var.bucket_key_enabled
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.mesh.arn
    }
  }
}

resource "aws_s3_bucket_ownership_controls" "mesh" {
  bucket = aws_s3_bucket.mesh.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "mesh" {
  bucket                  = aws_s3_bucket.mesh.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# A bucket has one notification configuration, and this is it, unless the consumer keeps one: consumers react by
# EventBridge rules.
resource "aws_s3_bucket_notification" "mesh" {
  count       = var.manage_bucket_notifications ? 1 : 0
  bucket      = aws_s3_bucket.mesh.id
  eventbridge = true
}

resource "aws_s3_bucket_logging" "mesh" {
  bucket        = aws_s3_bucket.mesh.id
  target_bucket = aws_s3_bucket.s3logs.id
  target_prefix = "bucket_logs/"

  depends_on = [aws_s3_bucket_policy.s3logs_policy]
}

resource "aws_s3_bucket_lifecycle_configuration" "mesh" {
  bucket = aws_s3_bucket.mesh.id

  # A message whose fetching came to its end between two parts leaves an upload that is paid for.
  rule {
    id     = "AbortUploads"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  rule {
    id     = "ExpireMeshObjects"
    status = var.mesh_s3_object_expiry_enabled ? "Enabled" : "Disabled"
    filter {}
    expiration {
      days = var.mesh_s3_object_expiry_in_days
    }
    noncurrent_version_expiration {
      noncurrent_days = var.mesh_s3_object_expiry_in_days
    }
  }

  depends_on = [aws_s3_bucket_versioning.mesh]
}

resource "aws_s3_bucket_policy" "mesh_bucket_policy" {
  bucket = aws_s3_bucket.mesh.id
  policy = data.aws_iam_policy_document.bucket.json

  # S3 refuses two changes to a bucket's access at once (OperationAborted).
  depends_on = [aws_s3_bucket_public_access_block.mesh]
}

data "aws_iam_policy_document" "bucket" {
  source_policy_documents = concat(
    [data.aws_iam_policy_document.tls_only["mesh"].json],
    var.additional_bucket_policy_json == null ? [] : [var.additional_bucket_policy_json],
  )
}

# Access logs of that bucket, and the trail's files.

resource "aws_s3_bucket" "s3logs" {
  #checkov:skip=CKV_AWS_21:Logs are written once, and old versions would outlast s3logs_retention_in_days
  #checkov:skip=CKV_AWS_144:Logs that are kept for days need no second region
  #checkov:skip=CKV_AWS_145:S3 delivers access logs only to a bucket with its own keys
  #checkov:skip=CKV2_AWS_62:Nobody reacts to access logs
  bucket        = "${local.name}-s3logs"
  force_destroy = var.force_destroy
  tags          = local.tags
}

# S3 delivers access logs only to a bucket with its own keys (SSE-S3).
resource "aws_s3_bucket_server_side_encryption_configuration" "s3logs_encryption_configuration" {
  bucket = aws_s3_bucket.s3logs.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

# Not BucketOwnerEnforced: S3 refuses that for a bucket which still has the log delivery group's ACL,
# as one taken over from the NHS's module has.
resource "aws_s3_bucket_ownership_controls" "s3logs_controls" {
  #checkov:skip=CKV2_AWS_65:S3 refuses it for a bucket that still has the log delivery group's list, see above
  bucket = aws_s3_bucket.s3logs.id
  rule {
    object_ownership = "BucketOwnerPreferred"
  }
}

resource "aws_s3_bucket_public_access_block" "s3logs" {
  bucket                  = aws_s3_bucket.s3logs.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "s3logs" {
  bucket = aws_s3_bucket.s3logs.id

  # Not the whole bucket: in one taken over from the NHS's module access logs were never to expire.
  dynamic "rule" {
    for_each = merge(
      { AWSLogs = var.s3logs_retention_in_days, (local.trail_prefix) = var.s3logs_retention_in_days },
      var.access_logs_retention_in_days == null ? {} : { bucket_logs = var.access_logs_retention_in_days },
    )
    content {
      id     = rule.key
      status = "Enabled"
      filter {
        prefix = "${rule.key}/"
      }
      expiration {
        days = rule.value
      }
    }
  }

  rule {
    id     = "AbortUploads"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

resource "aws_s3_bucket_policy" "s3logs_policy" {
  bucket = aws_s3_bucket.s3logs.id
  policy = data.aws_iam_policy_document.s3logs.json

  depends_on = [aws_s3_bucket_public_access_block.s3logs]
}

data "aws_iam_policy_document" "s3logs" {
  source_policy_documents = concat(
    [data.aws_iam_policy_document.tls_only["s3logs"].json],
    data.aws_iam_policy_document.trail_files[*].json,
  )

  statement {
    sid       = "AccessLogs"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.s3logs.arn}/bucket_logs/*"]
    principals {
      type        = "Service"
      identifiers = ["logging.s3.amazonaws.com"]
    }
    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = [aws_s3_bucket.mesh.arn]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}

data "aws_iam_policy_document" "tls_only" {
  for_each = { mesh = aws_s3_bucket.mesh.arn, s3logs = aws_s3_bucket.s3logs.arn }

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value, "${each.value}/*"]
    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  statement {
    sid       = "Tls12AtLeast"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value, "${each.value}/*"]
    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
    condition {
      test     = "NumericLessThan"
      variable = "s3:TlsVersion"
      values   = ["1.2"]
    }
  }
}
