# What each function may do. Every function reads its mailbox's secrets.

data "aws_iam_policy_document" "function" {
  statement {
    sid     = "ReadSecrets"
    actions = ["ssm:GetParameters"]
    resources = [
      for name in [
        "MESH_CA_CERT",
        "MESH_CLIENT_CERT",
        "MESH_CLIENT_KEY",
        "MESH_SHARED_KEY",
        "mailboxes/*/MAILBOX_PASSWORD",
      ] : "arn:${local.partition}:ssm:${local.region}:${local.account_id}:parameter${local.secrets_prefix}/${name}"
    ]
  }

  # DynamoDB decrypts the tables' keys, and SSM a parameter that the consumer encrypted with this key,
  # on behalf of the caller.
  statement {
    sid       = "DecryptRowsAndSecrets"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.mesh.arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = [for service in ["dynamodb", "ssm"] : "${service}.${local.region}.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "lease" {
  source_policy_documents = [data.aws_iam_policy_document.function.json]

  statement {
    sid       = "TakeLease"
    actions   = ["dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.leases.arn]
  }
}

data "aws_iam_policy_document" "poll_mailbox" {
  source_policy_documents = [data.aws_iam_policy_document.lease.json]

  statement {
    sid       = "ReleaseLease"
    actions   = ["dynamodb:DeleteItem"]
    resources = [aws_dynamodb_table.leases.arn]
  }

  statement {
    sid       = "ReadRows"
    actions   = ["dynamodb:BatchGetItem"]
    resources = [aws_dynamodb_table.messages.arn]
  }
}

data "aws_iam_policy_document" "fetch_message_chunk" {
  source_policy_documents = [data.aws_iam_policy_document.lease.json]

  statement {
    sid       = "ChangeRows"
    actions   = ["dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.messages.arn]
  }

  statement {
    sid = "StoreMessages"
    actions = [
      "s3:AbortMultipartUpload",
      "s3:GetObject",
      "s3:ListMultipartUploadParts",
      "s3:PutObject",
    ]
    resources = [
      "${aws_s3_bucket.mesh.arn}/inbound/*",
      "${aws_s3_bucket.mesh.arn}/headers/*",
    ]
  }

  # Without it S3 answers 403 instead of 404 for an object that is not there.
  statement {
    sid       = "TellMissingFromForbidden"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.mesh.arn]
  }

  # A multipart upload decrypts what it has encrypted.
  statement {
    sid       = "EncryptMessages"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.mesh.arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${local.region}.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "acknowledge_message" {
  source_policy_documents = [data.aws_iam_policy_document.lease.json]

  statement {
    sid       = "ChangeRows"
    actions   = ["dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.messages.arn]
  }
}

data "aws_iam_policy_document" "send_message_chunk" {
  source_policy_documents = [data.aws_iam_policy_document.function.json]

  statement {
    sid       = "ClaimAndChangeRows"
    actions   = ["dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.messages.arn]
  }

  statement {
    sid     = "FindMessagesOfUncertainSends"
    actions = ["dynamodb:Query"]
    resources = [
      "${aws_dynamodb_table.messages.arn}/index/due",
      "${aws_dynamodb_table.messages.arn}/index/message_id",
    ]
  }

  statement {
    sid       = "ReadObjects"
    actions   = ["s3:GetObject", "s3:GetObjectVersion"]
    resources = ["${aws_s3_bucket.mesh.arn}/outbound*"]
  }

  # Without it S3 answers 403 instead of 404 for an object that is not there.
  statement {
    sid       = "TellMissingFromForbidden"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.mesh.arn]
  }

  statement {
    sid       = "DecryptObjects"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.mesh.arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${local.region}.amazonaws.com"]
    }
  }
}
