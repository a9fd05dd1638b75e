# Each example plans, and shows what it is there for.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name_prefix = "demo"
  mailbox_ids = ["X26ABC1", "X26ABC2"]
}

run "minimal" {
  command = plan

  module {
    source = "./examples/minimal"
  }

  assert {
    condition     = output.mesh.mesh_s3_bucket_name == "demo-mesh"
    error_message = "the module is there"
  }
}

run "consumer" {
  command = plan

  module {
    source = "./examples/consumer"
  }

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.received.event_pattern) == {
      source      = ["mesh-client"]
      detail-type = ["MESH message received"]
      detail      = { bucket = ["demo-mesh"], message_type = ["DATA"] }
    }
    error_message = "the rule takes messages of this bucket"
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.failed.dimensions.QueueName == aws_sqs_queue.failed.name && aws_cloudwatch_metric_alarm.failed.threshold == 0
    error_message = "an event that the function failed on sounds an alarm"
  }
}

run "secrets_manager" {
  command = plan

  module {
    source = "./examples/secrets-manager"
  }

  variables {
    sending_mailbox_ids = ["X26ABC2", "X26ABC3"]
  }

  assert {
    condition = toset(values(aws_secretsmanager_secret.mesh)[*].name) == toset([
      for name in [
        "MESH_CLIENT_KEY",
        "MESH_SHARED_KEY",
        "mailboxes/X26ABC1/MAILBOX_PASSWORD",
        "mailboxes/X26ABC2/MAILBOX_PASSWORD",
        "mailboxes/X26ABC3/MAILBOX_PASSWORD",
      ] : "/demo-mesh/mesh/${name}"
    ])
    error_message = "a secret for each value that the functions read"
  }
}

run "vpc" {
  command = plan

  module {
    source = "./examples/vpc"
  }

  variables {
    vpc_id          = "vpc-1"
    subnet_ids      = ["subnet-1", "subnet-2"]
    route_table_ids = ["rtb-1"]
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.endpoints) == 3
    error_message = "the endpoints let in each of the module's security groups"
  }

  assert {
    condition     = output.mesh.mesh_s3_bucket_name == "demo-mesh"
    error_message = "the module is there"
  }
}
