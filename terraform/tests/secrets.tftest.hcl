# A function may read the secrets that it uses, by name, where they are.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  name_prefix = "demo"
  mesh_env    = "integration"
  mailbox_ids = ["X26ABC1", "X26ABC2"]
}

run "in_ssm" {
  command = plan

  assert {
    condition = alltrue([
      for function in ["poll_mailbox", "fetch_message_chunk", "acknowledge_message"] :
      one([for statement in data.aws_iam_policy_document.function[function].statement : statement.resources if statement.sid == "ReadParameters"]) == toset([
        for name in [
          "MESH_CA_CERT", "MESH_CLIENT_CERT", "MESH_CLIENT_KEY", "MESH_SHARED_KEY",
          "mailboxes/X26ABC1/MAILBOX_PASSWORD", "mailboxes/X26ABC2/MAILBOX_PASSWORD",
        ] : "arn:aws:ssm:eu-west-2:123456789012:parameter/demo-mesh/mesh/${name}"
      ])
    ])
    error_message = "receiving reads the polled mailboxes' passwords"
  }

  assert {
    condition = alltrue([
      for function in ["send_message_chunk", "track_message"] :
      one([for statement in data.aws_iam_policy_document.function[function].statement : statement.resources if statement.sid == "ReadParameters"]) == toset([
        for name in ["MESH_CA_CERT", "MESH_CLIENT_CERT", "MESH_CLIENT_KEY", "MESH_SHARED_KEY", "mailboxes/*/MAILBOX_PASSWORD"] :
        "arn:aws:ssm:eu-west-2:123456789012:parameter/demo-mesh/mesh/${name}"
      ])
    ])
    error_message = "any mailbox that has a password may send"
  }

  assert {
    condition     = !strcontains(jsonencode([for document in values(data.aws_iam_policy_document.function) : document.statement[*].actions]), "secretsmanager:")
    error_message = "no function has to do with Secrets Manager"
  }
}

run "in_secrets_manager" {
  command = plan

  variables {
    use_secrets_manager  = true
    secrets_kms_key_arns = ["arn:aws:kms:eu-west-2:123456789012:key/0b1c"]
  }

  assert {
    condition = alltrue([
      for document in values(data.aws_iam_policy_document.function) :
      one([for statement in document.statement : statement.resources if statement.sid == "ReadParameters"]) == toset([
        for name in ["MESH_CA_CERT", "MESH_CLIENT_CERT"] : "arn:aws:ssm:eu-west-2:123456789012:parameter/demo-mesh/mesh/${name}"
      ])
    ])
    error_message = "only the certificates stay in SSM"
  }

  assert {
    condition = one([for statement in data.aws_iam_policy_document.function["poll_mailbox"].statement : statement.resources if statement.sid == "ReadSecrets"]) == toset([
      for name in ["MESH_CLIENT_KEY", "MESH_SHARED_KEY", "mailboxes/X26ABC1/MAILBOX_PASSWORD", "mailboxes/X26ABC2/MAILBOX_PASSWORD"] :
      "arn:aws:secretsmanager:eu-west-2:123456789012:secret:/demo-mesh/mesh/${name}-??????"
    ])
    error_message = "the polled mailboxes' secrets"
  }

  assert {
    condition     = contains(one([for statement in data.aws_iam_policy_document.function["send_message_chunk"].statement : statement.resources if statement.sid == "ReadSecrets"]), "arn:aws:secretsmanager:eu-west-2:123456789012:secret:/demo-mesh/mesh/mailboxes/*/MAILBOX_PASSWORD-??????")
    error_message = "any mailbox that has a password may send"
  }

  assert {
    condition = alltrue([
      for document in values(data.aws_iam_policy_document.function) :
      jsonencode(one([
        for statement in document.statement :
        [statement.actions, statement.resources, one(statement.condition).variable, sort(one(statement.condition).values)] if statement.sid == "DecryptSecrets"
      ])) ==
      jsonencode([["kms:Decrypt"], ["arn:aws:kms:eu-west-2:123456789012:key/0b1c"], "kms:ViaService", ["secretsmanager.eu-west-2.amazonaws.com", "ssm.eu-west-2.amazonaws.com"]])
    ])
    error_message = "the consumer's key, by the services that hold the secrets"
  }
}

# Ten names fit into a role's policies whatever their length; with the three parameters of a legacy location, five do.
run "up_to_ten_mailboxes_are_named" {
  command = plan

  variables {
    mailbox_ids = [for number in range(10) : "X26T${number}"]
  }

  assert {
    condition = toset([
      for arn in one([for statement in data.aws_iam_policy_document.function["poll_mailbox"].statement : statement.resources if statement.sid == "ReadParameters"]) : arn if endswith(arn, "PASSWORD")
    ]) == toset([for number in range(10) : "arn:aws:ssm:eu-west-2:123456789012:parameter/demo-mesh/mesh/mailboxes/X26T${number}/MAILBOX_PASSWORD"])
    error_message = "each by its name"
  }
}

run "more_than_ten_mailboxes_take_a_pattern" {
  command = plan

  variables {
    mailbox_ids = [for number in range(11) : "X26T${number}"]
  }

  assert {
    condition = [
      for arn in one([for statement in data.aws_iam_policy_document.function["poll_mailbox"].statement : statement.resources if statement.sid == "ReadParameters"]) : arn if endswith(arn, "PASSWORD")
    ] == ["arn:aws:ssm:eu-west-2:123456789012:parameter/demo-mesh/mesh/mailboxes/*/MAILBOX_PASSWORD"]
    error_message = "one pattern for all"
  }
}

run "up_to_five_mailboxes_with_legacy_locations_are_named" {
  command = plan

  variables {
    mailbox_ids                 = [for number in range(5) : "X26T${number}"]
    use_legacy_inbound_location = true
  }

  assert {
    condition     = length(one(data.aws_iam_policy_document.legacy_inbound.statement).resources) == 10 && local.polled_mailboxes == tolist([for number in range(5) : "X26T${number}"])
    error_message = "bucket and folder of each by its name"
  }
}

run "more_than_five_mailboxes_with_legacy_locations_take_a_pattern" {
  command = plan

  variables {
    mailbox_ids                 = [for number in range(6) : "X26T${number}"]
    use_legacy_inbound_location = true
  }

  assert {
    condition = one(data.aws_iam_policy_document.legacy_inbound.statement).resources == toset([
      for name in ["INBOUND_BUCKET", "INBOUND_FOLDER"] : "arn:aws:ssm:eu-west-2:123456789012:parameter/demo-mesh/mesh/mailboxes/*/${name}"
    ])
    error_message = "one pattern for all"
  }
}

run "an_alias_is_no_key" {
  command = plan

  variables {
    secrets_kms_key_arns = ["arn:aws:kms:eu-west-2:123456789012:alias/mine"]
  }

  expect_failures = [var.secrets_kms_key_arns]
}
