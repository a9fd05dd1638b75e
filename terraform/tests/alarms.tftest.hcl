# Alarms: which, on what, and off.

mock_provider "aws" {
  source = "./tests/aws"
}

variables {
  name_prefix = "demo"
  mesh_env    = "integration"
  mailbox_ids = ["X26ABC1"]
}

run "by_default" {
  command = plan

  assert {
    condition = toset(flatten([
      values(aws_cloudwatch_metric_alarm.dead_letter)[*].alarm_name, values(aws_cloudwatch_metric_alarm.event_lost)[*].alarm_name,
      values(aws_cloudwatch_metric_alarm.executions)[*].alarm_name, values(aws_cloudwatch_metric_alarm.functions)[*].alarm_name,
      values(aws_cloudwatch_metric_alarm.track_not_running)[*].alarm_name, values(aws_cloudwatch_metric_alarm.tracked)[*].alarm_name,
      ])) == toset([
      "demo-mesh-dead-letter", "demo-mesh-event-lost", "demo-mesh-event-lost-cloudtrail", "demo-mesh-get-messages-failed",
      "demo-mesh-send-message-failed", "demo-mesh-track-messages-failed", "demo-mesh-function-errors", "demo-mesh-function-throttles",
      "demo-mesh-track-not-running", "demo-mesh-held", "demo-mesh-overdue", "demo-mesh-poison", "demo-mesh-undelivered",
    ])
    error_message = "the alarms, each by a name of its own"
  }

  assert {
    condition = alltrue([
      for alarm in flatten([
        values(aws_cloudwatch_metric_alarm.dead_letter), values(aws_cloudwatch_metric_alarm.event_lost), values(aws_cloudwatch_metric_alarm.executions),
        values(aws_cloudwatch_metric_alarm.functions), values(aws_cloudwatch_metric_alarm.track_not_running), values(aws_cloudwatch_metric_alarm.tracked),
      ]) : alarm.threshold == 1 && alarm.tags["Application"] == "mesh-aws"
    ])
    error_message = "one is enough"
  }

  assert {
    condition = (
      alltrue([for alarm in concat(values(aws_cloudwatch_metric_alarm.dead_letter), values(aws_cloudwatch_metric_alarm.executions)) : alarm.treat_missing_data == "notBreaching"]) &&
      aws_cloudwatch_metric_alarm.track_not_running["this"].treat_missing_data == "breaching" &&
      { for name, alarm in aws_cloudwatch_metric_alarm.tracked : name => alarm.treat_missing_data } ==
      { held = "ignore", overdue = "ignore", poison = "ignore", undelivered = "notBreaching" }
    )
    error_message = "what no figure means"
  }

  assert {
    condition = {
      for name, alarm in aws_cloudwatch_metric_alarm.executions : name => join(" ", sort([
        for query in alarm.metric_query : one(query.metric).metric_name if length(query.metric) > 0
      ]))
    } == { for name in ["get-messages", "send-message", "track-messages"] : name => "ExecutionsFailed ExecutionsTimedOut" }
    error_message = "each state machine"
  }

  assert {
    condition = {
      for name, alarm in aws_cloudwatch_metric_alarm.functions : name => join(" ", sort([
        for query in alarm.metric_query : one(query.metric).dimensions["FunctionName"] if length(query.metric) > 0
      ]))
      } == {
      for name in ["function-errors", "function-throttles"] : name =>
      "demo-mesh-acknowledge-message demo-mesh-fetch-message-chunk demo-mesh-poll-mailbox demo-mesh-send-message-chunk demo-mesh-track-message"
    }
    error_message = "every function"
  }

  assert {
    condition = alltrue([
      for name, filter in aws_cloudwatch_log_metric_filter.tracked :
      filter.log_group_name == "/aws/lambda/demo-mesh-track-message" &&
      filter.metric_transformation[0].namespace == "mesh-aws/demo-mesh" &&
      aws_cloudwatch_metric_alarm.tracked[name].namespace == "mesh-aws/demo-mesh" &&
      aws_cloudwatch_metric_alarm.tracked[name].metric_name == filter.metric_transformation[0].name
    ])
    error_message = "an alarm is about its filter's figures, and no other instance's"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.track_not_running["this"].evaluation_periods * aws_cloudwatch_metric_alarm.track_not_running["this"].period == 1800
    error_message = "half an hour"
  }
}

run "off" {
  command = plan

  variables {
    alarms_enabled      = false
    log_level           = "ERROR"
    track_alarm_minutes = 10
    # Too rare for that, if there were an alarm.
    track_messages_schedule = "rate(1 day)"
  }

  assert {
    condition = length(flatten([
      values(aws_cloudwatch_metric_alarm.dead_letter), values(aws_cloudwatch_metric_alarm.event_lost), values(aws_cloudwatch_metric_alarm.executions),
      values(aws_cloudwatch_metric_alarm.functions), values(aws_cloudwatch_metric_alarm.track_not_running), values(aws_cloudwatch_metric_alarm.tracked),
      values(aws_cloudwatch_log_metric_filter.tracked),
    ])) == 0 && length(output.alarm_arns) == 0
    error_message = "none"
  }

  assert {
    condition     = aws_lambda_function.track_message.environment[0].variables["LOG_LEVEL"] == "ERROR"
    error_message = "what is said counts"
  }
}

run "what_alarms_count_is_logged" {
  command = plan

  variables {
    log_level = "ERROR"
  }

  assert {
    condition = [
      aws_lambda_function.track_message.environment[0].variables["LOG_LEVEL"], aws_lambda_function.poll_mailbox.environment[0].variables["LOG_LEVEL"],
    ] == ["INFO", "ERROR"]
    error_message = "INFO at least, in that function alone"
  }
}

run "somebody_is_told" {
  command = plan

  variables {
    alarm_actions           = ["arn:aws:sns:eu-west-2:123456789012:page"]
    ok_actions              = ["arn:aws:sns:eu-west-2:123456789012:calm"]
    cloudtrail_enabled      = false
    send_max_concurrency    = 3
    track_messages_schedule = "rate(2 hours)"
    track_alarm_minutes     = 240
    tags                    = { Owner = "me" }
  }

  assert {
    condition = alltrue([
      for alarm in flatten([
        values(aws_cloudwatch_metric_alarm.dead_letter), values(aws_cloudwatch_metric_alarm.event_lost), values(aws_cloudwatch_metric_alarm.executions),
        values(aws_cloudwatch_metric_alarm.functions), values(aws_cloudwatch_metric_alarm.track_not_running), values(aws_cloudwatch_metric_alarm.tracked),
      ]) : alarm.alarm_actions == toset(["arn:aws:sns:eu-west-2:123456789012:page"]) && alarm.ok_actions == toset(["arn:aws:sns:eu-west-2:123456789012:calm"]) &&
      alarm.tags["Owner"] == "me"
    ])
    error_message = "by every alarm"
  }

  assert {
    condition     = keys(aws_cloudwatch_metric_alarm.event_lost) == ["event-lost"]
    error_message = "without a trail there is no rule for its events"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.functions["function-throttles"].metric_query) == 5 && length(aws_cloudwatch_metric_alarm.functions["function-errors"].metric_query) == 6
    error_message = "a function with a share of its own is throttled on purpose"
  }
}

run "no_arns_are_refused" {
  command = plan

  variables {
    alarm_actions       = ["page"]
    ok_actions          = ["calm"]
    track_alarm_minutes = 12
  }

  expect_failures = [var.alarm_actions, var.ok_actions, var.track_alarm_minutes]
}

run "more_than_cloudwatch_takes_is_refused" {
  command = plan

  variables {
    alarm_actions       = [for number in range(6) : "arn:aws:sns:eu-west-2:123456789012:topic-${number}"]
    ok_actions          = [for number in range(6) : "arn:aws:sns:eu-west-2:123456789012:topic-${number}"]
    track_alarm_minutes = 1445
  }

  expect_failures = [var.alarm_actions, var.ok_actions, var.track_alarm_minutes]
}

run "an_alarm_that_would_sound_though_all_is_well_is_refused" {
  command = plan

  variables {
    track_messages_schedule = "rate(1 hour)"
  }

  expect_failures = [var.track_alarm_minutes]
}
