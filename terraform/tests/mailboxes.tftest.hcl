# EventBridge allows a rule five targets: mailboxes go on in further rules.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name_prefix = "demo"
  mesh_env    = "integration"
  mailbox_ids = ["X26T001", "X26T002", "X26T003", "X26T004", "X26T005", "X26T006", "X26T007", "X26T008", "X26T009", "X26T010", "X26T011"]
}

run "eleven_mailboxes_take_three_rules" {
  command = plan

  assert {
    condition     = aws_cloudwatch_event_rule.get_messages[*].name == ["demo-mesh-get-messages", "demo-mesh-get-messages-2", "demo-mesh-get-messages-3"]
    error_message = "names of the polling rules"
  }

  assert {
    condition     = aws_cloudwatch_event_rule.get_messages_handshake[*].name == ["demo-mesh-get-messages-handshake", "demo-mesh-get-messages-handshake-2", "demo-mesh-get-messages-handshake-3"]
    error_message = "names of the handshake rules"
  }

  assert {
    condition = alltrue([
      for targets in [aws_cloudwatch_event_target.get_messages, aws_cloudwatch_event_target.get_messages_handshake] :
      [for group in values({ for target in values(targets) : target.rule => target.target_id... }) : length(group)] == [5, 5, 1]
    ])
    error_message = "five targets a rule"
  }

  assert {
    condition     = { for id, target in aws_cloudwatch_event_target.get_messages : id => jsondecode(target.input) } == { for id in var.mailbox_ids : id => { mailbox = id } }
    error_message = "each mailbox is polled, with itself as input"
  }

  assert {
    condition     = { for id, target in aws_cloudwatch_event_target.get_messages_handshake : id => jsondecode(target.input) } == { for id in var.mailbox_ids : id => { mailbox = id, handshake = "true" } }
    error_message = "each mailbox shakes hands, with itself as input"
  }
}

run "a_stack_that_only_sends_has_no_schedule" {
  command = plan

  variables {
    mailbox_ids = []
  }

  assert {
    condition     = length(aws_cloudwatch_event_rule.get_messages) == 0 && length(aws_cloudwatch_event_rule.get_messages_handshake) == 0
    error_message = "no mailbox, no rule"
  }
}

run "disabled_polling_keeps_the_handshakes" {
  command = plan

  variables {
    get_messages_enabled = false
  }

  assert {
    condition     = alltrue([for rule in aws_cloudwatch_event_rule.get_messages : rule.state == "DISABLED"])
    error_message = "polls are off"
  }

  assert {
    condition     = alltrue([for rule in aws_cloudwatch_event_rule.get_messages_handshake : rule.state != "DISABLED"])
    error_message = "handshakes are on"
  }
}
