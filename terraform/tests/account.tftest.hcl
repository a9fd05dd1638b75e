# Everything is made in the provider's account and region: naming others is refused.

mock_provider "aws" {
  source = "./tests/aws"
}

mock_provider "aws" {
  alias           = "known"
  source          = "./tests/aws"
  override_during = plan
}

variables {
  name_prefix = "demo"
  mesh_env    = "integration"
  mailbox_ids = ["X26ABC1"]
}

run "the_providers_own_may_be_named" {
  command = plan

  variables {
    account_id = "123456789012"
    region     = "eu-west-2"
  }
}

run "others_are_refused" {
  command = plan

  variables {
    account_id = "210987654321"
    region     = "us-east-1"
  }

  expect_failures = [var.account_id, var.region]
}

run "roles_are_taken_on_for_this_account_alone" {
  command = plan

  assert {
    condition = {
      for service, document in data.aws_iam_policy_document.assume :
      service => [for condition in document.statement[0].condition : "${condition.variable} ${one(condition.values)}"]
      } == {
      cloudtrail = []
      events     = ["aws:SourceAccount 123456789012"]
      lambda     = []
      states     = ["aws:SourceAccount 123456789012"]
    }
    error_message = "who may take on a role"
  }
}

# GovCloud: its services have the names that they have elsewhere.
run "in_another_partition_and_region" {
  command   = plan
  providers = { aws = aws.known }

  variables {
    use_legacy_inbound_location    = true
    use_secrets_manager            = true
    secrets_kms_key_arns           = ["arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/0b1c"]
    tracing_enabled                = true
    vpc_id                         = "vpc-1"
    subnet_ids                     = ["subnet-1"]
    aws_s3_endpoint_prefix_list_id = "pl-s3"
    aws_ssm_endpoint_sg_id         = "sg-ssm"
    aws_sfn_endpoint_sg_id         = "sg-sfn"
    aws_secrets_endpoints_sg_id    = "sg-secrets"
  }

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-us-gov" }
  }

  override_data {
    target = data.aws_region.current
    values = { id = "us-gov-west-1", name = "us-gov-west-1" }
  }

  assert {
    condition = {
      for name, made in {
        functions = concat(values(data.aws_iam_policy_document.function), values(data.aws_iam_policy_document.tracing), [
          data.aws_iam_policy_document.lease, data.aws_iam_policy_document.legacy_inbound, data.aws_iam_policy_document.poll_mailbox,
          data.aws_iam_policy_document.fetch_message_chunk, data.aws_iam_policy_document.acknowledge_message,
          data.aws_iam_policy_document.send_message_chunk, data.aws_iam_policy_document.track_message,
        ])
        state_machines = [
          data.aws_iam_policy_document.state_machine, data.aws_iam_policy_document.get_messages, data.aws_iam_policy_document.send_message,
          data.aws_iam_policy_document.track_messages, data.aws_iam_policy_document.start_get_messages,
          data.aws_iam_policy_document.start_send_message, data.aws_iam_policy_document.start_track_messages,
        ]
        trail = concat(data.aws_iam_policy_document.trail_log, data.aws_iam_policy_document.trail_files, data.aws_iam_policy_document.trail_key)
        resources = concat(values(data.aws_iam_policy_document.assume), values(data.aws_iam_policy_document.tls_only), [
          data.aws_iam_policy_document.own_key, data.aws_iam_policy_document.bucket, data.aws_iam_policy_document.s3logs,
          data.aws_iam_policy_document.send_messages_dead_letter,
        ])
      } : name => toset(regexall("arn:aws(?:-us-gov)?:|[a-z]{2}(?:-gov)?-[a-z]+-[0-9]", jsonencode(made[*].statement)))
      } == {
      functions      = toset(["arn:aws-us-gov:", "us-gov-west-1"])
      state_machines = toset(["arn:aws-us-gov:", "us-gov-west-1"])
      trail          = toset(["arn:aws-us-gov:", "us-gov-west-1"])
      resources      = toset(["arn:aws-us-gov:", "us-gov-west-1"])
    }
    error_message = "policies have the provider's partition and region, and no other"
  }

  assert {
    condition = {
      for name, made in {
        state_machines = [aws_sfn_state_machine.get_messages.definition, aws_sfn_state_machine.send_message.definition, aws_sfn_state_machine.track_messages.definition]
        functions = [
          aws_lambda_function.poll_mailbox.environment, aws_lambda_function.fetch_message_chunk.environment, aws_lambda_function.acknowledge_message.environment,
          aws_lambda_function.send_message_chunk.environment, aws_lambda_function.track_message.environment,
        ]
        network = data.aws_ec2_managed_prefix_list.dynamodb[0].name
      } : name => toset(regexall("arn:aws(?:-us-gov)?:|[a-z]{2}(?:-gov)?-[a-z]+-[0-9]", jsonencode(made)))
      } == {
      state_machines = toset(["arn:aws-us-gov:"])
      functions      = toset(["arn:aws-us-gov:", "us-gov-west-1"])
      network        = toset(["us-gov-west-1"])
    }
    error_message = "so have state machines, functions and the prefix list"
  }
}
