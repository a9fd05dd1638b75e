# Everything is made in the provider's account and region: naming others is refused.

mock_provider "aws" {
  source = "./tests/aws"
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

run "in_another_partition" {
  command = plan

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-cn" }
  }

  assert {
    condition     = local.send_message_arn == "arn:aws-cn:states:eu-west-2:123456789012:stateMachine:demo-mesh-send-message"
    error_message = "ARNs have the provider's partition"
  }
}
