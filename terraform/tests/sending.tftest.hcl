# The switches of sending.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  name_prefix        = "demo"
  mesh_env           = "integration"
  mailbox_ids        = ["X26ABC1"]
  cloudtrail_enabled = false
}

run "by_default_a_put_object_is_sent" {
  command = plan

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.send_message_event.event_pattern) == {
      source      = ["aws.s3"]
      detail-type = ["Object Created"]
      detail = {
        bucket = { name = ["demo-mesh"] }
        object = { key = [{ prefix = "outbound" }] }
        reason = ["PutObject", "CompleteMultipartUpload"]
      }
    }
    error_message = "not a copied one"
  }

  assert {
    condition     = jsondecode(aws_dynamodb_table_item.send_messages_switch.item) == { id = { S = "switch#send-messages" }, enabled = { BOOL = true } }
    error_message = "sending is on"
  }

  assert {
    condition     = aws_lambda_function.send_message_chunk.reserved_concurrent_executions == -1
    error_message = "no limit but the account's"
  }
}

run "switched_off_objects_are_still_noticed" {
  command = plan

  variables {
    send_messages_enabled = false
  }

  assert {
    condition     = coalesce(aws_cloudwatch_event_rule.send_message_event.state, "ENABLED") == "ENABLED"
    error_message = "the rule stays on: each object gets a row"
  }

  assert {
    condition     = jsondecode(aws_dynamodb_table_item.send_messages_switch.item).enabled.BOOL == false
    error_message = "the functions that send and take up sends read it"
  }
}

run "the_other_way_round" {
  command = plan

  variables {
    cloudtrail_enabled   = true
    send_copied_objects  = true
    send_max_concurrency = 1
  }

  override_resource {
    target          = aws_sqs_queue.send_messages_dead_letter
    override_during = plan
    values          = { arn = "arn:aws:sqs:eu-west-2:123456789012:demo-mesh-send-messages-dead-letter" }
  }

  assert {
    condition     = jsondecode(aws_cloudwatch_event_rule.send_message_event.event_pattern).detail.reason == ["PutObject", "CompleteMultipartUpload", "CopyObject"]
    error_message = "a copied object is sent, too"
  }

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.send_message_cloudtrail_event[0].event_pattern) == {
      source      = ["aws.s3"]
      detail-type = ["AWS API Call via CloudTrail"]
      detail = {
        eventSource       = ["s3.amazonaws.com"]
        eventName         = ["PutObject", "CompleteMultipartUpload"]
        errorCode         = [{ exists = false }]
        requestParameters = { bucketName = ["demo-mesh"], key = [{ prefix = "outbound" }] }
      }
    }
    error_message = "CloudTrail's record of a put that was not refused"
  }

  # A day, and 14, are the longest that EventBridge and SQS offer.
  assert {
    condition = toset([
      for target in [aws_cloudwatch_event_target.send_message_event, aws_cloudwatch_event_target.send_message_cloudtrail_event[0]] :
      join(" ", [target.retry_policy[0].maximum_event_age_in_seconds, target.retry_policy[0].maximum_retry_attempts, target.dead_letter_config[0].arn])
    ]) == toset(["86400 185 arn:aws:sqs:eu-west-2:123456789012:demo-mesh-send-messages-dead-letter"])
    error_message = "an event that starts no send is tried again for a day, then kept"
  }

  assert {
    condition     = aws_sqs_queue.send_messages_dead_letter.message_retention_seconds == 1209600
    error_message = "for 14 days"
  }

  assert {
    condition     = aws_lambda_function.send_message_chunk.reserved_concurrent_executions == 1
    error_message = "one at a time"
  }
}

run "following_up" {
  command = plan

  variables {
    track_messages_schedule = "rate(1 hour)"
    track_alarm_minutes     = 120
  }

  assert {
    condition = {
      name    = aws_cloudwatch_event_rule.track_messages.name, schedule = aws_cloudwatch_event_rule.track_messages.schedule_expression,
      rule    = aws_cloudwatch_event_target.track_messages.rule, input = aws_cloudwatch_event_target.track_messages.input,
      machine = aws_sfn_state_machine.track_messages.name, function = aws_lambda_function.track_message.function_name,
      sends   = aws_lambda_function.track_message.environment[0].variables["SEND_MESSAGE_ARN"],
      } == {
      name    = "demo-mesh-track-messages", schedule = "rate(1 hour)", rule = "demo-mesh-track-messages", input = "{}",
      machine = "demo-mesh-track-messages", function = "demo-mesh-track-message",
      sends   = "arn:aws:states:eu-west-2:123456789012:stateMachine:demo-mesh-send-message",
    }
    error_message = "rule, machine and function"
  }

  assert {
    condition = jsonencode(one([for statement in data.aws_iam_policy_document.track_message.statement : [statement.actions, statement.resources] if statement.sid == "TakeUpSends"])) == jsonencode([
      ["states:StartExecution"], ["arn:aws:states:eu-west-2:123456789012:stateMachine:demo-mesh-send-message"],
    ])
    error_message = "it may start that machine alone"
  }
}

run "wrong_values_are_refused" {
  command = plan

  variables {
    send_max_concurrency    = 0
    track_messages_schedule = "5 minutes"
  }

  expect_failures = [var.send_max_concurrency, var.track_messages_schedule]
}
