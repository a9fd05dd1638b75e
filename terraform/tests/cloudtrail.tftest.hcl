# A trail for rules that match CloudTrail's events. Sending works without it.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  name_prefix = "demo"
  mesh_env    = "integration"
  mailbox_ids = ["X26ABC1"]
}

run "by_default_puts_are_recorded" {
  command = plan

  assert {
    condition     = aws_cloudtrail.s3logs[0].name == "demo-mesh-s3logs" && aws_cloudtrail.s3logs[0].enable_log_file_validation
    error_message = "the trail"
  }

  assert {
    condition = {
      for selector in one(aws_cloudtrail.s3logs[0].advanced_event_selector).field_selector : selector.field => selector.equals if selector.field != "resources.ARN"
      } == {
      eventCategory    = tolist(["Data"])
      "resources.type" = tolist(["AWS::S3::Object"])
      eventName        = tolist(["PutObject", "CompleteMultipartUpload"])
    }
    error_message = "puts of objects alone"
  }

  assert {
    condition     = aws_cloudwatch_log_group.mesh_cloudtrail[0].name == "/aws/cloudtrail/demo-mesh" && aws_cloudwatch_log_group.mesh_cloudtrail[0].retention_in_days == 30
    error_message = "its log group"
  }

  assert {
    condition     = [aws_cloudwatch_event_rule.send_message_event.name, aws_cloudwatch_event_rule.send_message_cloudtrail_event[0].name] == ["demo-mesh-send-messages", "demo-mesh-send-messages-cloudtrail"]
    error_message = "both shapes of the event start a send"
  }
}

run "without_it_nothing_of_it_is_left" {
  command = plan

  variables {
    cloudtrail_enabled = false
  }

  assert {
    condition = sum([
      length(aws_cloudtrail.s3logs),
      length(aws_cloudwatch_log_group.mesh_cloudtrail),
      length(aws_iam_role.mesh_cloudtrail_to_cloudwatch_role),
      length(aws_iam_role_policy.mesh_cloudtrail_to_cloudwatch_role),
      length(aws_cloudwatch_event_rule.send_message_cloudtrail_event),
      length(aws_cloudwatch_event_target.send_message_cloudtrail_event),
      length(data.aws_iam_policy_document.trail_files),
      length(data.aws_iam_policy_document.trail_key),
    ]) == 0
    error_message = "no trail, nothing that serves it"
  }

  assert {
    condition     = aws_cloudwatch_event_rule.send_message_event.name == "demo-mesh-send-messages"
    error_message = "sending does not need it"
  }
}

run "its_log_group_keeps_its_name_if_the_caller_wants" {
  command = plan

  variables {
    cloudtrail_log_group_name                   = "/aws/cloudtrail/mesh-s3-logs"
    cloudtrail_cloudwatch_log_retention_in_days = 0
  }

  assert {
    condition     = aws_cloudwatch_log_group.mesh_cloudtrail[0].name == "/aws/cloudtrail/mesh-s3-logs" && aws_cloudwatch_log_group.mesh_cloudtrail[0].retention_in_days == 0
    error_message = "the name that is given"
  }

  assert {
    condition     = contains(flatten([for statement in data.aws_iam_policy_document.own_key.statement : [for condition in statement.condition : condition.values] if statement.sid == "LogGroups"]), "arn:aws:logs:eu-west-2:123456789012:log-group:/aws/cloudtrail/mesh-s3-logs")
    error_message = "the key serves that group"
  }
}

run "its_log_group_stays_without_it_where_it_has_a_name" {
  command = plan

  variables {
    cloudtrail_enabled        = false
    cloudtrail_log_group_name = "/aws/cloudtrail/mesh-s3-logs"
  }

  assert {
    condition     = length(aws_cloudtrail.s3logs) + length(aws_iam_role.mesh_cloudtrail_to_cloudwatch_role) == 0 && aws_cloudwatch_log_group.mesh_cloudtrail[0].name == "/aws/cloudtrail/mesh-s3-logs"
    error_message = "the lines of the NHS's module are kept"
  }

  assert {
    condition     = contains(flatten([for statement in data.aws_iam_policy_document.own_key.statement : [for condition in statement.condition : condition.values] if statement.sid == "LogGroups"]), "arn:aws:logs:eu-west-2:123456789012:log-group:/aws/cloudtrail/mesh-s3-logs")
    error_message = "the key still serves that group"
  }
}

run "names_and_periods_that_are_none_are_refused" {
  command = plan

  variables {
    cloudtrail_log_group_name                   = "mesh logs"
    cloudtrail_cloudwatch_log_retention_in_days = 31
  }

  expect_failures = [var.cloudtrail_log_group_name, var.cloudtrail_cloudwatch_log_retention_in_days]
}
