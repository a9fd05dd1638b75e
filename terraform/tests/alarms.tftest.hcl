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

  # By what they are about, and what they do where there is no figure.
  assert {
    condition = toset([
      for alarm in values(aws_cloudwatch_metric_alarm.this) :
      "${alarm.alarm_name} ${alarm.namespace} ${alarm.metric_name} ${alarm.statistic} ${alarm.evaluation_periods} ${alarm.treat_missing_data}"
      ]) == toset([
      "demo-mesh-dead-letter AWS/SQS ApproximateNumberOfMessagesVisible Maximum 1 notBreaching",
      "demo-mesh-event-lost AWS/Events InvocationsFailedToBeSentToDlq Sum 1 notBreaching",
      "demo-mesh-event-lost-cloudtrail AWS/Events InvocationsFailedToBeSentToDlq Sum 1 notBreaching",
      "demo-mesh-get-messages-failed AWS/States ExecutionsFailed Sum 1 notBreaching",
      "demo-mesh-get-messages-timed-out AWS/States ExecutionsTimedOut Sum 1 notBreaching",
      "demo-mesh-send-message-aborted AWS/States ExecutionsAborted Sum 1 notBreaching",
      "demo-mesh-send-message-failed AWS/States ExecutionsFailed Sum 1 notBreaching",
      "demo-mesh-send-message-timed-out AWS/States ExecutionsTimedOut Sum 1 notBreaching",
      "demo-mesh-track-messages-failed AWS/States ExecutionsFailed Sum 1 notBreaching",
      "demo-mesh-track-messages-timed-out AWS/States ExecutionsTimedOut Sum 1 notBreaching",
      "demo-mesh-acknowledge-message-errors AWS/Lambda Errors Sum 3 notBreaching",
      "demo-mesh-fetch-message-chunk-errors AWS/Lambda Errors Sum 3 notBreaching",
      "demo-mesh-poll-mailbox-errors AWS/Lambda Errors Sum 3 notBreaching",
      "demo-mesh-send-message-chunk-errors AWS/Lambda Errors Sum 3 notBreaching",
      "demo-mesh-track-message-errors AWS/Lambda Errors Sum 3 notBreaching",
      "demo-mesh-acknowledge-message-throttles AWS/Lambda Throttles Sum 3 notBreaching",
      "demo-mesh-fetch-message-chunk-throttles AWS/Lambda Throttles Sum 3 notBreaching",
      "demo-mesh-poll-mailbox-throttles AWS/Lambda Throttles Sum 3 notBreaching",
      "demo-mesh-send-message-chunk-throttles AWS/Lambda Throttles Sum 3 notBreaching",
      "demo-mesh-track-message-throttles AWS/Lambda Throttles Sum 3 notBreaching",
      "demo-mesh-get-messages-not-started AWS/Events FailedInvocations Sum 1 notBreaching",
      "demo-mesh-get-messages-handshake-not-started AWS/Events FailedInvocations Sum 1 notBreaching",
      "demo-mesh-track-messages-not-started AWS/Events FailedInvocations Sum 1 notBreaching",
      "demo-mesh-get-messages-stopped AWS/Events Invocations Sum 12 breaching",
      "demo-mesh-track-not-running AWS/States ExecutionsSucceeded Sum 6 breaching",
      "demo-mesh-certificate-expires mesh-aws/demo-mesh certificate-expires Sum 1 notBreaching",
      "demo-mesh-held mesh-aws/demo-mesh held Maximum 1 ignore",
      "demo-mesh-messages-gone mesh-aws/demo-mesh messages-gone Sum 1 notBreaching",
      "demo-mesh-overdue mesh-aws/demo-mesh overdue Maximum 1 ignore",
      "demo-mesh-poison mesh-aws/demo-mesh poison Maximum 1 ignore",
      "demo-mesh-undelivered mesh-aws/demo-mesh undelivered Sum 1 notBreaching",
    ])
    error_message = "the alarms, each by a name of its own"
  }

  assert {
    condition = alltrue([
      for name, alarm in aws_cloudwatch_metric_alarm.this : alarm.period == (name == "certificate-expires" ? 86400 : 300) && alarm.tags["Application"] == "mesh-aws" && (
        alarm.treat_missing_data == "breaching"
        ? alarm.comparison_operator == "LessThanOrEqualToThreshold" && alarm.threshold == 0
        : alarm.comparison_operator == "GreaterThanOrEqualToThreshold" && alarm.threshold == 1
      )
    ])
    error_message = "one is enough, and one is missed"
  }

  assert {
    condition = {
      for name in ["dead-letter", "event-lost", "event-lost-cloudtrail", "poll-mailbox-errors", "send-message-chunk-throttles", "get-messages-stopped", "track-messages-not-started"] :
      name => one(values(aws_cloudwatch_metric_alarm.this[name].dimensions))
      } == {
      dead-letter                  = "demo-mesh-send-messages-dead-letter"
      event-lost                   = "demo-mesh-send-messages"
      event-lost-cloudtrail        = "demo-mesh-send-messages-cloudtrail"
      poll-mailbox-errors          = "demo-mesh-poll-mailbox"
      send-message-chunk-throttles = "demo-mesh-send-message-chunk"
      get-messages-stopped         = "demo-mesh-get-messages"
      track-messages-not-started   = "demo-mesh-track-messages"
    }
    error_message = "of this instance's own"
  }

  assert {
    condition = alltrue([
      for name, filter in aws_cloudwatch_log_metric_filter.tracked :
      filter.log_group_name == "/aws/lambda/demo-mesh-track-message" && one(filter.metric_transformation).name == name &&
      one(filter.metric_transformation).namespace == aws_cloudwatch_metric_alarm.this[name].namespace
    ]) && length(aws_cloudwatch_log_metric_filter.tracked) == 4
    error_message = "what the tracking run's lines say"
  }

  assert {
    condition = {
      for code, filter in aws_cloudwatch_log_metric_filter.counted : "${filter.log_group_name} ${filter.pattern}" => one([
        for metric in filter.metric_transformation : metric.name if metric.namespace == aws_cloudwatch_metric_alarm.this[metric.name].namespace
      ])
      } == {
      "/aws/lambda/demo-mesh-fetch-message-chunk { $.logReference = \"MESHFETCH0014\" }" = "messages-gone"
      "/aws/lambda/demo-mesh-track-message { $.logReference = \"MESHTRACK0009\" }"       = "messages-gone"
      "/aws/lambda/demo-mesh-poll-mailbox { $.logReference = \"MESHMBOX0007\" }"         = "messages-gone"
      "/aws/lambda/demo-mesh-poll-mailbox { $.logReference = \"MESHPOLL0004\" }"         = "messages-gone"
      "/aws/lambda/demo-mesh-poll-mailbox { $.logReference = \"MESHMBOX0008\" }"         = "certificate-expires"
      "/aws/lambda/demo-mesh-send-message-chunk { $.logReference = \"MESHMBOX0008\" }"   = "certificate-expires"
    }
    error_message = "what the lines that are counted say"
  }
}

run "off" {
  command = plan

  variables {
    alarms_enabled = false
    log_level      = "ERROR"
    # Too rare, if there were alarms.
    track_messages_schedule = "rate(1 day)"
    get_messages_schedule   = "rate(1 day)"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.this) + length(aws_cloudwatch_log_metric_filter.tracked) + length(aws_cloudwatch_log_metric_filter.counted) + length(output.alarm_arns) == 0
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
    mailbox_ids             = ["X26ABC1", "X26ABC2", "X26ABC3", "X26ABC4", "X26ABC5", "X26ABC6"]
    poll_alarm_minutes      = 120
    send_max_concurrency    = 3
    track_messages_schedule = "rate(2 hours)"
    track_alarm_minutes     = 240
    tags                    = { Owner = "me" }
  }

  assert {
    condition = alltrue([
      for alarm in values(aws_cloudwatch_metric_alarm.this) :
      alarm.alarm_actions == toset(["arn:aws:sns:eu-west-2:123456789012:page"]) && alarm.ok_actions == toset(["arn:aws:sns:eu-west-2:123456789012:calm"]) && alarm.tags["Owner"] == "me"
    ])
    error_message = "by every alarm"
  }

  assert {
    condition     = !contains(keys(aws_cloudwatch_metric_alarm.this), "event-lost-cloudtrail")
    error_message = "without a trail there is no rule for its events"
  }

  assert {
    condition     = contains(keys(aws_cloudwatch_metric_alarm.this), "send-message-chunk-errors") && !contains(keys(aws_cloudwatch_metric_alarm.this), "send-message-chunk-throttles")
    error_message = "a function with a share of its own is throttled on purpose"
  }

  assert {
    condition     = [for name in keys(aws_cloudwatch_metric_alarm.this) : name if endswith(name, "-stopped")] == ["get-messages-2-stopped", "get-messages-stopped"]
    error_message = "each rule that polls"
  }

  assert {
    condition     = [for name in ["get-messages-stopped", "track-not-running"] : aws_cloudwatch_metric_alarm.this[name].evaluation_periods] == [24, 48]
    error_message = "two hours and four"
  }
}

run "polls_that_are_switched_off_have_not_stopped" {
  command = plan

  variables {
    get_messages_enabled = false
    track_alarm_minutes  = 0
  }

  assert {
    condition     = [for name in keys(aws_cloudwatch_metric_alarm.this) : name if endswith(name, "-stopped") || name == "track-not-running"] == []
    error_message = "neither is asked for"
  }
}

run "no_such_alarm_by_the_minutes" {
  command = plan

  variables {
    poll_alarm_minutes = 0
  }

  assert {
    condition     = [for name in keys(aws_cloudwatch_metric_alarm.this) : name if endswith(name, "-stopped")] == []
    error_message = "none is asked for"
  }
}

run "half_an_hour_is_two_polls_in_the_usual_minutes" {
  command = plan

  variables {
    get_messages_schedule = "rate(30 minutes)"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["get-messages-stopped"].evaluation_periods == 12
    error_message = "an hour"
  }
}

run "slower_polls_have_longer" {
  command = plan

  variables {
    get_messages_schedule = "rate(31 minutes)"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["get-messages-stopped"].evaluation_periods == 13 && strcontains(aws_cloudwatch_metric_alarm.this["get-messages-stopped"].alarm_description, "for 65 minutes")
    error_message = "two polls, in whole periods"
  }
}

run "a_day_is_the_longest" {
  command = plan

  variables {
    get_messages_schedule = "rate(12 hours)"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["get-messages-stopped"].evaluation_periods == 288
    error_message = "two polls"
  }
}

run "polls_that_are_slower_than_an_alarm_looks_back_have_none" {
  command = plan

  variables {
    get_messages_schedule = "rate(721 minutes)"
  }

  assert {
    condition     = [for name in keys(aws_cloudwatch_metric_alarm.this) : name if endswith(name, "-stopped")] == []
    error_message = "an alarm looks back a day at most"
  }
}

run "of_a_cron_nothing_is_known" {
  command = plan

  variables {
    get_messages_schedule = "cron(0 8 * * ? *)"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["get-messages-stopped"].evaluation_periods == 12
    error_message = "an hour"
  }
}

run "what_is_none_is_refused" {
  command = plan

  variables {
    alarm_actions       = ["page"]
    ok_actions          = ["calm"]
    poll_alarm_minutes  = 5
    track_alarm_minutes = 12
  }

  expect_failures = [var.alarm_actions, var.ok_actions, var.poll_alarm_minutes, var.track_alarm_minutes]
}

run "more_than_cloudwatch_takes_is_refused" {
  command = plan

  variables {
    alarm_actions       = [for number in range(6) : "arn:aws:sns:eu-west-2:123456789012:topic-${number}"]
    ok_actions          = [for number in range(6) : "arn:aws:sns:eu-west-2:123456789012:topic-${number}"]
    poll_alarm_minutes  = 1445
    track_alarm_minutes = 1445
  }

  expect_failures = [var.alarm_actions, var.ok_actions, var.poll_alarm_minutes, var.track_alarm_minutes]
}

run "an_alarm_that_would_sound_though_all_is_well_is_refused" {
  command = plan

  variables {
    get_messages_schedule   = "rate(31 minutes)"
    poll_alarm_minutes      = 60
    track_messages_schedule = "rate(1 hour)"
  }

  expect_failures = [var.poll_alarm_minutes, var.track_alarm_minutes]
}
