# What somebody has to look at. Each alarm's section in docs/runbook.md is named at its description's end.

locals {
  # Minutes between two runs; 0 where the expression does not tell.
  schedule_minutes = {
    for name, schedule in { polls = var.get_messages_schedule, track = var.track_messages_schedule } : name => try(
      tonumber(regex("^rate\\(([0-9]+) minutes?\\)$", schedule)[0]),
      60 * tonumber(regex("^rate\\(([0-9]+) hours?\\)$", schedule)[0]),
      1440 * tonumber(regex("^rate\\(([0-9]+) days?\\)$", schedule)[0]),
      0,
    )
  }

  # An hour, or two polls where these take longer, in the alarm's periods of five minutes. None beyond a day: CloudWatch looks
  # no further back.
  two_polls          = ceil(2 * local.schedule_minutes.polls / 5) * 5
  poll_alarm_minutes = var.poll_alarm_minutes == null ? (local.two_polls <= 1440 ? max(60, local.two_polls) : 0) : var.poll_alarm_minutes

  # Numbers that the tracking run logs: once a run how things stand, and a line for each undelivered message.
  alarm_namespace = "mesh-aws/${local.name}"
  tracked = {
    held        = { reference = "MESHTRACK0006", value = "$.held", says = "MESH cannot tell whether it has a message. It is not sent again: a person must decide." }
    overdue     = { reference = "MESHTRACK0006", value = "$.overdue", says = "Messages are on their way for too long." }
    poison      = { reference = "MESHTRACK0006", value = "$.poison", says = "Messages could not be stored in max_attempts attempts. MESH keeps them for five days." }
    undelivered = { reference = "MESHTRACK0007", value = "1", says = "A recipient did not collect a message in time, or MESH could not deliver it." }
  }

  # Lines that are counted: of messages which MESH has lost, or which are left out, and of a certificate that expires soon.
  counted = { for one in [
    { reference = "MESHFETCH0014", metric = "messages-gone", log_group = aws_cloudwatch_log_group.fetch_message_chunk.name },
    { reference = "MESHTRACK0009", metric = "messages-gone", log_group = aws_cloudwatch_log_group.track_message.name },
    { reference = "MESHMBOX0007", metric = "messages-gone", log_group = aws_cloudwatch_log_group.poll_mailbox.name },
    { reference = "MESHPOLL0004", metric = "messages-gone", log_group = aws_cloudwatch_log_group.poll_mailbox.name },
    # Every function logs it; polls and handshakes come by schedule, but not to a mailbox that only sends.
    { reference = "MESHMBOX0008", metric = "certificate-expires", log_group = aws_cloudwatch_log_group.poll_mailbox.name },
    { reference = "MESHMBOX0008", metric = "certificate-expires", log_group = aws_cloudwatch_log_group.send_message_chunk.name, by = "-send" },
  ] : "${one.reference}${try(one.by, "")}" => one }

  machines = {
    get-messages   = { arn = aws_sfn_state_machine.get_messages.arn, says = "What was not stored stays in MESH." }
    send-message   = { arn = aws_sfn_state_machine.send_message.arn, says = "An object was not sent; its row says why." }
    track-messages = { arn = aws_sfn_state_machine.track_messages.arn, says = "The next run does it all again." }
  }
  sending_rules  = merge({ "" = aws_cloudwatch_event_rule.send_message_event.name }, { for rule in aws_cloudwatch_event_rule.send_message_cloudtrail_event : "-cloudtrail" => rule.name })
  schedule_rules = concat(aws_cloudwatch_event_rule.get_messages, aws_cloudwatch_event_rule.get_messages_handshake, [aws_cloudwatch_event_rule.track_messages])

  # Where nothing else is said: an alarm as soon as one is counted in five minutes, and none where nothing is.
  alarms = { for name, alarm in merge(
    {
      dead-letter = {
        section   = "dead-letter", namespace = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", statistic = "Maximum"
        dimension = { QueueName = aws_sqs_queue.send_messages_dead_letter.name }
        says      = "Events that started no send wait in ${local.send_messages_rule}-dead-letter: objects that nobody sends."
      }
    },
    # Nothing but this figure tells of them.
    { for suffix, rule in local.sending_rules : "event-lost${suffix}" => {
      section   = "event-lost", namespace = "AWS/Events", metric = "InvocationsFailedToBeSentToDlq"
      dimension = { RuleName = rule }
      says      = "Events of ${rule} started no send, and could not be put into the dead-letter queue."
    } },
    { for machine, one in local.machines : "${machine}-failed" => {
      section   = "${machine}-failed", namespace = "AWS/States", metric = "ExecutionsFailed"
      dimension = { StateMachineArn = one.arn }
      says      = "Executions of ${local.name}-${machine} failed. ${one.says}"
    } },
    { for machine, one in local.machines : "${machine}-timed-out" => {
      section   = "${machine}-failed", namespace = "AWS/States", metric = "ExecutionsTimedOut"
      dimension = { StateMachineArn = one.arn }
      says      = "Executions of ${local.name}-${machine} timed out. ${one.says}"
    } },
    # Before its first invocation an execution has left nothing but its input.
    { for machine in ["send-message"] : "${machine}-aborted" => {
      section   = "${machine}-aborted", namespace = "AWS/States", metric = "ExecutionsAborted"
      dimension = { StateMachineArn = local.machines[machine].arn }
      says      = "Executions of ${local.name}-${machine} were stopped. Objects whose execution had not begun to send are not sent by anything else."
    } },
    # A state machine calls again what failed: this tells, before executions give up, of what goes on failing.
    { for name in local.function_name : "${trimprefix(name, "${local.name}-")}-errors" => {
      section   = "function-errors", namespace = "AWS/Lambda", metric = "Errors", periods = 3
      dimension = { FunctionName = name }
      says      = "Calls of ${name} have failed for 15 minutes."
    } },
    # A share of its own makes the sending function wait on purpose.
    { for function, name in local.function_name : "${trimprefix(name, "${local.name}-")}-throttles" => {
      section   = "function-throttles", namespace = "AWS/Lambda", metric = "Throttles", periods = 3
      dimension = { FunctionName = name }
      says      = "Lambda has refused calls of ${name} for 15 minutes: the account's concurrency is used up."
    } if !(function == "send_message_chunk" && var.send_max_concurrency != null) },
    { for rule in local.schedule_rules : "${trimprefix(rule.name, "${local.name}-")}-not-started" => {
      section   = "schedule-failed", namespace = "AWS/Events", metric = "FailedInvocations"
      dimension = { RuleName = rule.name }
      says      = "EventBridge could not start what ${rule.name} is for."
    } },
    { for rule in aws_cloudwatch_event_rule.get_messages : "${trimprefix(rule.name, "${local.name}-")}-stopped" => {
      section   = "polls-stopped", namespace = "AWS/Events", metric = "Invocations", at_most = 0, periods = local.poll_alarm_minutes / 5
      dimension = { RuleName = rule.name }
      says      = "${rule.name} has started no poll for ${local.poll_alarm_minutes} minutes. MESH removes what nobody collects after five days."
    } if var.get_messages_enabled && local.poll_alarm_minutes > 0 },
    # Without it nobody counts what the following are about.
    { for name in ["track-not-running"] : name => {
      section   = name, namespace = "AWS/States", metric = "ExecutionsSucceeded", at_most = 0, periods = var.track_alarm_minutes / 5
      dimension = { StateMachineArn = aws_sfn_state_machine.track_messages.arn }
      says      = "No tracking run has succeeded for ${var.track_alarm_minutes} minutes: interrupted sends may wait, and the alarms on messages see nothing."
    } if var.track_alarm_minutes > 0 },
    # Between two runs nothing has changed: how things stood still holds.
    { for metric, one in local.tracked : metric => {
      section   = metric, namespace = local.alarm_namespace, metric = metric, says = one.says
      statistic = startswith(one.value, "$.") ? "Maximum" : "Sum", missing = startswith(one.value, "$.") ? "ignore" : null
    } },
    { for name in ["messages-gone"] : name => {
      section = name, namespace = local.alarm_namespace, metric = name
      says    = "MESH no longer has a message that it listed, or a message is left out: its id cannot be used, or its row cannot be read."
    } },
    # A day, so that a schedule of a poll each hour is no end of it.
    { for name in ["certificate-expires"] : name => {
      section = name, namespace = local.alarm_namespace, metric = name, seconds = 86400
      says    = "The client certificate for MESH expires within 30 days. After that nothing is sent or received."
    } },
  ) : name => alarm if var.alarms_enabled }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each          = local.alarms
  alarm_name        = "${local.name}-${each.key}"
  alarm_description = "${each.value.says} docs/runbook.md#${each.value.section}"
  alarm_actions     = var.alarm_actions
  ok_actions        = var.ok_actions
  tags              = local.tags

  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = try(each.value.dimension, null)
  statistic           = try(each.value.statistic, "Sum")
  period              = try(each.value.seconds, 300)
  evaluation_periods  = try(each.value.periods, 1)
  comparison_operator = can(each.value.at_most) ? "LessThanOrEqualToThreshold" : "GreaterThanOrEqualToThreshold"
  threshold           = try(each.value.at_most, 1)
  treat_missing_data  = coalesce(try(each.value.missing, null), can(each.value.at_most) ? "breaching" : "notBreaching")
}

resource "aws_cloudwatch_log_metric_filter" "tracked" {
  for_each       = var.alarms_enabled ? local.tracked : {}
  name           = "${local.name}-${each.key}"
  log_group_name = aws_cloudwatch_log_group.track_message.name
  pattern        = "{ $.logReference = \"${each.value.reference}\" }"

  metric_transformation {
    namespace = local.alarm_namespace
    name      = each.key
    value     = each.value.value
    unit      = "Count"
  }
}

resource "aws_cloudwatch_log_metric_filter" "counted" {
  for_each       = var.alarms_enabled ? local.counted : {}
  name           = "${local.name}-${each.value.metric}-${each.key}"
  log_group_name = each.value.log_group
  pattern        = "{ $.logReference = \"${each.value.reference}\" }"

  metric_transformation {
    namespace = local.alarm_namespace
    name      = each.value.metric
    value     = "1"
    unit      = "Count"
  }
}
