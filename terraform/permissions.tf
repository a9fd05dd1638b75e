# What each function may do.

locals {
  # Receiving reads the passwords of the mailboxes that are polled, sending and following up those of any mailbox. Beyond ten
  # mailboxes, or five with legacy locations, a pattern takes the names' place: all policies of a role may have 10,240
  # characters. With the longest names in everything, three subnets and five legacy buckets, each with a key, still fit.
  polled_mailboxes = length(var.mailbox_ids) > (var.use_legacy_inbound_location ? 5 : 10) ? ["*"] : sort(var.mailbox_ids)
  password_mailboxes = {
    poll_mailbox        = local.polled_mailboxes
    fetch_message_chunk = local.polled_mailboxes
    acknowledge_message = local.polled_mailboxes
    send_message_chunk  = ["*"]
    track_message       = ["*"]
  }
  security_groups = {
    poll_mailbox        = aws_security_group.poll_mailbox
    fetch_message_chunk = aws_security_group.fetch_message_chunk
    acknowledge_message = aws_security_group.fetch_message_chunk
    send_message_chunk  = aws_security_group.send_message_chunk
    track_message       = aws_security_group.send_message_chunk
  }

  parameters_arn    = "arn:${local.partition}:ssm:${local.region}:${local.account_id}:parameter${local.secrets_prefix}"
  secrets_arn       = "arn:${local.partition}:secretsmanager:${local.region}:${local.account_id}:secret:${local.secrets_prefix}"
  ec2_arn           = "arn:${local.partition}:ec2:${local.region}"
  secrets_services  = [for service in concat(["ssm"], var.use_secrets_manager ? ["secretsmanager"] : []) : "${service}.${local.region}.amazonaws.com"]
  dynamodb_service  = "dynamodb.${local.region}.amazonaws.com"
  certificate_names = ["MESH_CA_CERT", "MESH_CLIENT_CERT"]
  secret_names = {
    for function, mailboxes in local.password_mailboxes : function =>
    concat(["MESH_CLIENT_KEY", "MESH_SHARED_KEY"], [for mailbox in mailboxes : "mailboxes/${mailbox}/MAILBOX_PASSWORD"])
  }
}

# What every function does: write its log, read its secrets, keep rows.
data "aws_iam_policy_document" "function" {
  for_each                = local.function_name
  source_policy_documents = [data.aws_iam_policy_document.tracing["function"].json]

  statement {
    sid       = "WriteLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:/aws/lambda/${each.value}:*"]
  }

  statement {
    sid     = "ReadParameters"
    actions = ["ssm:GetParameters"]
    resources = [
      for name in concat(local.certificate_names, var.use_secrets_manager ? [] : local.secret_names[each.key]) :
      "${local.parameters_arn}/${name}"
    ]
  }

  # Secrets Manager ends a secret's name in ARNs with a hyphen and six characters of its own.
  dynamic "statement" {
    for_each = var.use_secrets_manager ? ["ReadSecrets"] : []
    content {
      sid       = statement.value
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [for name in local.secret_names[each.key] : "${local.secrets_arn}/${name}-??????"]
    }
  }

  # DynamoDB decrypts the tables' keys, SSM and Secrets Manager what the consumer encrypted with this key, on behalf of
  # the caller.
  statement {
    sid       = "DecryptRowsAndSecrets"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.mesh.arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = concat([local.dynamodb_service], local.secrets_services)
    }
  }

  dynamic "statement" {
    for_each = length(var.secrets_kms_key_arns) > 0 ? ["DecryptSecrets"] : []
    content {
      sid       = statement.value
      actions   = ["kms:Decrypt"]
      resources = var.secrets_kms_key_arns
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = local.secrets_services
      }
    }
  }

  # Lambda makes the function's network interfaces with the function's role, and refuses to make a function whose role may
  # not do so. The first two know no narrower resource; of the others it asks before there is an interface to name.
  dynamic "statement" {
    for_each = local.in_vpc ? ["ManageNetworkInterfaces"] : []
    content {
      sid = statement.value
      actions = [
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:AssignPrivateIpAddresses",
        "ec2:DeleteNetworkInterface",
        "ec2:UnassignPrivateIpAddresses",
      ]
      resources = ["*"]
    }
  }

  # Subnets may be shared by another account. EC2 names an interface when it is made.
  dynamic "statement" {
    for_each = local.in_vpc ? ["MakeNetworkInterfaces"] : []
    content {
      sid     = statement.value
      actions = ["ec2:CreateNetworkInterface"]
      resources = concat(
        ["${local.ec2_arn}:${local.account_id}:network-interface/*"],
        [for subnet in var.subnet_ids : "${local.ec2_arn}:*:subnet/${subnet}"],
        local.security_groups[each.key][*].arn,
      )
    }
  }

  # Lambda itself, not the code that it runs.
  dynamic "statement" {
    for_each = local.in_vpc ? ["NoNetworkForTheCode"] : []
    content {
      sid    = statement.value
      effect = "Deny"
      actions = [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
      ]
      resources = ["*"]
      condition {
        test     = "ArnEquals"
        variable = "lambda:SourceFunctionArn"
        values   = ["arn:${local.partition}:lambda:${local.region}:${local.account_id}:function:${each.value}"]
      }
    }
  }
}

data "aws_iam_policy_document" "lease" {
  statement {
    sid       = "TakeLease"
    actions   = ["dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.leases.arn]
  }
}

data "aws_iam_policy_document" "poll_mailbox" {
  source_policy_documents = [
    data.aws_iam_policy_document.function["poll_mailbox"].json,
    data.aws_iam_policy_document.lease.json,
  ]

  statement {
    sid       = "LookAtAndReleaseLease"
    actions   = ["dynamodb:DeleteItem", "dynamodb:GetItem"]
    resources = [aws_dynamodb_table.leases.arn]
  }

  statement {
    sid       = "ReadRows"
    actions   = ["dynamodb:BatchGetItem"]
    resources = [aws_dynamodb_table.messages.arn]
  }
}

data "aws_iam_policy_document" "fetch_message_chunk" {
  source_policy_documents = [
    data.aws_iam_policy_document.function["fetch_message_chunk"].json,
    data.aws_iam_policy_document.lease.json,
    data.aws_iam_policy_document.legacy_inbound.json,
  ]

  statement {
    sid       = "ChangeRows"
    actions   = ["dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.messages.arn]
  }

  # A legacy location's folder may be any.
  statement {
    sid = "StoreMessages"
    actions = [
      "s3:AbortMultipartUpload",
      "s3:GetObject",
      "s3:ListMultipartUploadParts",
      "s3:PutObject",
    ]
    resources = local.inbound_objects
  }

  # The full headers of a message whose own don't fit into S3's metadata: written in one go, never read.
  statement {
    sid       = "StoreHeaders"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.mesh.arn}/headers/*"]
  }

  # What lies below outbound is sent: no parameter of a legacy location, and no fault, may bring a received message there.
  statement {
    sid       = "NeverWhereItWouldBeSent"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.mesh.arn}/outbound*"]
  }

  # Without it S3 answers 403 instead of 404 for an object that is not there.
  statement {
    sid       = "TellMissingFromForbidden"
    actions   = ["s3:ListBucket"]
    resources = local.inbound_buckets
  }

  # An upload whose worker died before it could note its id is given up. S3 knows no condition on the prefix for this one.
  statement {
    sid       = "FindUploads"
    actions   = ["s3:ListBucketMultipartUploads"]
    resources = local.inbound_buckets
  }

  # What an earlier attempt has stored may have been taken away since, or another message may have its name: the versions tell.
  statement {
    sid       = "ListVersions"
    actions   = ["s3:ListBucketVersions"]
    resources = local.inbound_buckets
  }

  statement {
    sid       = "LookAtVersions"
    actions   = ["s3:GetObjectVersion"]
    resources = local.inbound_objects
  }

  # A multipart upload decrypts what it has encrypted.
  statement {
    sid       = "EncryptMessages"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = concat([aws_kms_key.mesh.arn], tolist(var.legacy_inbound_kms_key_arns))
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${local.region}.amazonaws.com"]
    }
  }
}

locals {
  inbound_buckets = concat([aws_s3_bucket.mesh.arn], tolist(var.legacy_inbound_bucket_arns))
  inbound_objects = concat(
    ["${aws_s3_bucket.mesh.arn}/${var.use_legacy_inbound_location ? "" : "inbound/"}*"],
    [for arn in var.legacy_inbound_bucket_arns : "${arn}/*"],
  )
}

data "aws_iam_policy_document" "legacy_inbound" {
  dynamic "statement" {
    for_each = var.use_legacy_inbound_location ? ["ReadLegacyLocation"] : []
    content {
      sid     = statement.value
      actions = ["ssm:GetParameters"]
      resources = [
        for pair in setproduct(local.polled_mailboxes, ["INBOUND_BUCKET", "INBOUND_FOLDER"]) :
        "${local.parameters_arn}/mailboxes/${pair[0]}/${pair[1]}"
      ]
    }
  }
}

data "aws_iam_policy_document" "acknowledge_message" {
  source_policy_documents = [
    data.aws_iam_policy_document.function["acknowledge_message"].json,
    data.aws_iam_policy_document.lease.json,
  ]

  statement {
    sid       = "ChangeRows"
    actions   = ["dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.messages.arn]
  }
}

data "aws_iam_policy_document" "send_message_chunk" {
  source_policy_documents = [data.aws_iam_policy_document.function["send_message_chunk"].json]

  # The folder may be any: the consumer may keep mappings of its own.
  statement {
    sid     = "ReadLegacyMappings"
    actions = ["ssm:GetParameters"]
    resources = [
      for name in ["src_mailbox", "dest_mailbox", "workflow_id"] :
      "${local.parameters_arn}/mapping/${local.name}/*/${name}"
    ]
  }

  # GetItem: the switch.
  statement {
    sid       = "ClaimAndChangeRows"
    actions   = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
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

data "aws_iam_policy_document" "track_message" {
  source_policy_documents = [data.aws_iam_policy_document.function["track_message"].json]

  statement {
    sid       = "FindDueRows"
    actions   = ["dynamodb:Query"]
    resources = ["${aws_dynamodb_table.messages.arn}/index/due"]
  }

  # GetItem: the switch.
  statement {
    sid       = "ReadAndChangeRows"
    actions   = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.messages.arn]
  }

  statement {
    sid       = "TakeUpSends"
    actions   = ["states:StartExecution"]
    resources = [local.send_message_arn]
  }
}
