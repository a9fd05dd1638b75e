# Where received messages are stored.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  name_prefix = "demo"
  mesh_env    = "integration"
  mailbox_ids = ["X26ABC1"]
}

run "below_inbound_by_message_id" {
  command = plan

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.fetch_message_chunk.statement : statement.sid => statement.actions
      if contains(["FindUploads", "ListVersions", "LookAtVersions"], statement.sid)
      } == {
      FindUploads    = toset(["s3:ListBucketMultipartUploads"])
      ListVersions   = toset(["s3:ListBucketVersions"])
      LookAtVersions = toset(["s3:GetObjectVersion"])
    }
    error_message = "what an earlier attempt has left may be looked at, whatever the setting was then"
  }

  assert {
    condition     = length(data.aws_iam_policy_document.legacy_inbound.statement) == 0
    error_message = "no parameter of a legacy location is read"
  }
}

run "a_received_message_is_never_sent" {
  command = plan

  variables {
    use_legacy_inbound_location = true
  }

  override_resource {
    target          = aws_s3_bucket.mesh
    override_during = plan
    values          = { arn = "arn:aws:s3:::demo-mesh" }
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.fetch_message_chunk.statement :
      one(statement.actions) => one(statement.resources) if statement.sid == "NeverWhereItWouldBeSent" && statement.effect == "Deny"
    } == { "s3:PutObject" = "arn:aws:s3:::demo-mesh/outbound*" }
    error_message = "what lies below outbound would be sent"
  }
}

run "headers_are_written_alone" {
  command = plan

  override_resource {
    target          = aws_s3_bucket.mesh
    override_during = plan
    values          = { arn = "arn:aws:s3:::demo-mesh" }
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.fetch_message_chunk.statement :
      one(statement.resources) => join(" ", sort(statement.actions)) if contains(["StoreMessages", "StoreHeaders"], statement.sid)
      } == {
      "arn:aws:s3:::demo-mesh/headers/*" = "s3:PutObject"
      "arn:aws:s3:::demo-mesh/inbound/*" = "s3:AbortMultipartUpload s3:GetObject s3:ListMultipartUploadParts s3:PutObject"
    }
    error_message = "no more than that"
  }
}

run "in_a_legacy_location" {
  command = plan

  variables {
    use_legacy_inbound_location = true
    legacy_inbound_bucket_arns  = ["arn:aws:s3:::archive"]
    legacy_inbound_kms_key_arns = ["arn:aws:kms:eu-west-2:123456789012:key/0b1c"]
  }

  assert {
    condition = one(data.aws_iam_policy_document.legacy_inbound.statement).resources == toset([
      for name in ["INBOUND_BUCKET", "INBOUND_FOLDER"] : "arn:aws:ssm:eu-west-2:123456789012:parameter/demo-mesh/mesh/mailboxes/X26ABC1/${name}"
    ])
    error_message = "the polled mailboxes' locations are read"
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.fetch_message_chunk.statement : statement.sid => anytrue([
        for resource in ["arn:aws:s3:::archive/*", "arn:aws:s3:::archive", "arn:aws:kms:eu-west-2:123456789012:key/0b1c"] : contains(statement.resources, resource)
      ]) if !contains(["ChangeRows", "NeverWhereItWouldBeSent", "StoreHeaders"], statement.sid)
      } == {
      EncryptMessages          = true
      FindUploads              = true
      ListVersions             = true
      LookAtVersions           = true
      StoreMessages            = true
      TellMissingFromForbidden = true
    }
    error_message = "the bucket and its key may be used"
  }
}

run "other_buckets_without_a_legacy_location_are_refused" {
  command = plan

  variables {
    legacy_inbound_bucket_arns  = ["arn:aws:s3:::archive"]
    legacy_inbound_kms_key_arns = ["arn:aws:kms:eu-west-2:123456789012:key/0b1c"]
  }

  expect_failures = [var.legacy_inbound_bucket_arns, var.legacy_inbound_kms_key_arns]
}

run "the_modules_own_bucket_is_no_other" {
  command = plan

  variables {
    use_legacy_inbound_location = true
    legacy_inbound_bucket_arns  = ["arn:aws:s3:::archive", "arn:aws:s3:::demo-mesh"]
  }

  expect_failures = [var.legacy_inbound_bucket_arns]
}

run "what_is_no_arn_is_refused" {
  command = plan

  variables {
    use_legacy_inbound_location = true
    legacy_inbound_bucket_arns  = ["archive"]
    legacy_inbound_kms_key_arns = ["alias/archive"]
  }

  expect_failures = [var.legacy_inbound_bucket_arns, var.legacy_inbound_kms_key_arns]
}
