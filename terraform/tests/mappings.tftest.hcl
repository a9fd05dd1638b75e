# Legacy mappings become parameters; mailboxes in them are not polled for that.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  name_prefix = "demo"
  mesh_env    = "integration"
  mailbox_ids = []
}

run "mappings_become_parameters" {
  command = plan

  module {
    source = "./modules/mailboxes"
  }

  variables {
    secrets_prefix = "/demo-mesh/mesh"
    bucket         = "demo-mesh"
    mailbox_id     = "X26ABC1"
    outbound_mappings = [
      { dest_mailbox = "X26ABC2", workflow_id = "RESULTS" },
      { dest_mailbox = "X26ABC1", workflow_id = "TO_SELF" },
    ]
    tags = { Owner = "me" }
  }

  assert {
    condition = {
      for parameter in concat(
        [aws_ssm_parameter.mailbox_inbound_bucket, aws_ssm_parameter.mailbox_inbound_folder],
        values(aws_ssm_parameter.outbound_mappings_src_mailbox),
        values(aws_ssm_parameter.outbound_mappings_dest_mailbox),
        values(aws_ssm_parameter.outbound_mappings_workflow_id),
      ) : parameter.name => nonsensitive(parameter.value) if jsonencode(parameter.tags) == jsonencode({ Owner = "me" })
      } == {
      "/demo-mesh/mesh/mailboxes/X26ABC1/INBOUND_BUCKET"                           = "demo-mesh"
      "/demo-mesh/mesh/mailboxes/X26ABC1/INBOUND_FOLDER"                           = "inbound_X26ABC1"
      "/demo-mesh/mesh/mapping/demo-mesh/outbound_X26ABC1_to_X26ABC2/src_mailbox"  = "X26ABC1"
      "/demo-mesh/mesh/mapping/demo-mesh/outbound_X26ABC1_to_X26ABC2/dest_mailbox" = "X26ABC2"
      "/demo-mesh/mesh/mapping/demo-mesh/outbound_X26ABC1_to_X26ABC2/workflow_id"  = "RESULTS"
      "/demo-mesh/mesh/mapping/demo-mesh/outbound_X26ABC1_to_X26ABC1/src_mailbox"  = "X26ABC1"
      "/demo-mesh/mesh/mapping/demo-mesh/outbound_X26ABC1_to_X26ABC1/dest_mailbox" = "X26ABC1"
      "/demo-mesh/mesh/mapping/demo-mesh/outbound_X26ABC1_to_X26ABC1/workflow_id"  = "TO_SELF"
    }
    error_message = "names and values, each with the tags"
  }

  assert {
    condition     = keys(aws_ssm_parameter.outbound_mappings_src_mailbox) == ["X26ABC1", "X26ABC1_to_X26ABC1"]
    error_message = "the first mapping has the key that a state of the NHS's module has"
  }
}

run "several_mailboxes_may_have_mappings" {
  command = plan

  variables {
    mailboxes = [
      { id = "X26ABC1", outbound_mappings = [{ dest_mailbox = "X26ABC2", workflow_id = "RESULTS" }] },
      { id = "X26ABC2", outbound_mappings = [] },
    ]
  }

  assert {
    condition     = keys(module.mailboxes) == ["X26ABC1", "X26ABC2"]
    error_message = "each its own"
  }

  assert {
    condition     = length(aws_cloudwatch_event_rule.get_messages) == 0
    error_message = "none is polled"
  }

  assert {
    condition = one([for statement in data.aws_iam_policy_document.send_message_chunk.statement : statement.resources if statement.sid == "ReadLegacyMappings"]) == toset([
      for name in ["src_mailbox", "dest_mailbox", "workflow_id"] : "arn:aws:ssm:eu-west-2:123456789012:parameter/demo-mesh/mesh/mapping/demo-mesh/*/${name}"
    ])
    error_message = "sending reads mappings of the bucket alone"
  }
}

run "what_is_no_mailbox_is_refused" {
  command = plan

  variables {
    mailboxes = [{ id = "X26ABC1", outbound_mappings = [{ dest_mailbox = "x26abc2", workflow_id = "RESULTS" }] }]
  }

  expect_failures = [var.mailboxes]
}

run "a_mailbox_in_two_entries_is_refused" {
  command = plan

  variables {
    mailboxes = [{ id = "X26ABC1", outbound_mappings = [] }, { id = "X26ABC1", outbound_mappings = [] }]
  }

  expect_failures = [var.mailboxes]
}

run "two_workflows_for_one_folder_are_refused" {
  command = plan

  variables {
    mailboxes = [{ id = "X26ABC1", outbound_mappings = [
      { dest_mailbox = "X26ABC2", workflow_id = "RESULTS" },
      { dest_mailbox = "X26ABC2", workflow_id = "LETTERS" },
    ] }]
  }

  expect_failures = [var.mailboxes]
}

run "a_mapping_without_a_workflow_is_refused" {
  command = plan

  variables {
    mailboxes = [{ id = "X26ABC1", outbound_mappings = [{ dest_mailbox = "X26ABC2", workflow_id = "" }] }]
  }

  expect_failures = [var.mailboxes]
}
