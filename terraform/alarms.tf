# What somebody has to look at. Each alarm's section in docs/runbook.md has its name.

locals {
  alarms    = var.alarms_enabled ? toset(["this"]) : toset([])
  runbook   = "docs/runbook.md"
  namespace = "mesh-aws/${local.name}"

  # Numbers that the follow-up logs. `report`: once a tick, as they are then.
  tracked = {
    held        = { pattern = "{ $.logReference = \"MESHTRACK0006\" }", value = "$.held", report = true }
    overdue     = { pattern = "{ $.logReference = \"MESHTRACK0006\" }", value = "$.overdue", report = true }
    poison      = { pattern = "{ $.logReference = \"MESHTRACK0006\" }", value = "$.poison", report = true }
    undelivered = { pattern = "{ $.logReference = \"MESHTRACK0007\" }", value = "1", report = false }
  }
  tracked_says = {
    held        = "MESH cannot tell whether it has a message: it was not sent again, and a person must decide."
    overdue     = "A message has been on its way for too long: its row is open though its time has passed."
    poison      = "A message could not be stored in max_attempts attempts. It stays in MESH, for five days at most."
    undelivered = "The recipient did not collect a message in time, or MESH could not deliver it."
  }

  machines = {
    get-messages   = aws_sfn_state_machine.get_messages
    send-message   = aws_sfn_state_machine.send_message
    track-messages = aws_sfn_state_machine.track_messages
  }
  machine_says = {
    get-messages   = "A poll, or the storing of messages, has failed. What was not stored stays in MESH."
    send-message   = "An object was not sent. Its row says why."
    track-messages = "Interrupted sends were not taken up again, or sent messages not followed up."
  }

  # A share of its own makes the sending function wait on purpose.
  throttled = { for function, name in local.function_name : function => name if !(function == "send_message_chunk" && var.send_max_concurrency != null) }

  # As many periods without a run as no schedule that the variable allows has.
  track_periods = ceil(var.track_alarm_minutes / 5)
}

resource "aws_cloudwatch_metric_alarm" "dead_letter" {
  for_each          = local.alarms
  alarm_name        = "${local.name}-dead-letter"
  alarm_description = "Events whose send could not be started wait in ${aws_sqs_queue.send_messages_dead_letter.name}: objects that nobody sends. ${local.runbook}#dead-letter"
  alarm_actions     = var.alarm_actions
  ok_actions        = var.ok_actions
  tags              = local.tags

  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.send_messages_dead_letter.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  # An empty queue has no figures after six hours.
  treat_missing_data = "notBreaching"
}

# An event that could neither start a send nor be kept: nothing but this figure tells of it.
resource "aws_cloudwatch_metric_alarm" "event_lost" {
  for_each = var.alarms_enabled ? merge(
    { event-lost = aws_cloudwatch_event_rule.send_message_event.name },
    var.cloudtrail_enabled ? { event-lost-cloudtrail = aws_cloudwatch_event_rule.send_message_cloudtrail_event[0].name } : {},
  ) : {}
  alarm_name        = "${local.name}-${each.key}"
  alarm_description = "An event of ${each.value} started no send, and could not be put into the dead-letter queue. ${local.runbook}#event-lost"
  alarm_actions     = var.alarm_actions
  ok_actions        = var.ok_actions
  tags              = local.tags

  namespace           = "AWS/Events"
  metric_name         = "InvocationsFailedToBeSentToDlq"
  dimensions          = { RuleName = each.value }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"
}

resource "aws_cloudwatch_metric_alarm" "executions" {
  for_each          = var.alarms_enabled ? local.machines : {}
  alarm_name        = "${local.name}-${each.key}-failed"
  alarm_description = "Executions of ${each.value.name} failed or timed out. ${local.machine_says[each.key]} ${local.runbook}#${each.key}-failed"
  alarm_actions     = var.alarm_actions
  ok_actions        = var.ok_actions
  tags              = local.tags

  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"

  metric_query {
    id          = "ended_badly"
    label       = "Executions that failed or timed out"
    expression  = "FILL(failed, 0) + FILL(timed_out, 0)"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { failed = "ExecutionsFailed", timed_out = "ExecutionsTimedOut" }
    content {
      id = metric_query.key
      metric {
        namespace   = "AWS/States"
        metric_name = metric_query.value
        dimensions  = { StateMachineArn = each.value.arn }
        stat        = "Sum"
        period      = 300
      }
    }
  }
}

# A state machine repeats a call that failed; what goes on failing is told of here before an execution gives up.
resource "aws_cloudwatch_metric_alarm" "functions" {
  for_each = var.alarms_enabled ? {
    function-errors    = { metric = "Errors", functions = local.function_name, says = "Functions have failed for 15 minutes." }
    function-throttles = { metric = "Throttles", functions = local.throttled, says = "Lambda has refused calls of functions for 15 minutes: the account's concurrency is used up." }
  } : {}
  alarm_name        = "${local.name}-${each.key}"
  alarm_description = "${each.value.says} ${local.runbook}#${each.key}"
  alarm_actions     = var.alarm_actions
  ok_actions        = var.ok_actions
  tags              = local.tags

  evaluation_periods  = 3
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"

  metric_query {
    id          = "all"
    label       = "${each.value.metric} of all functions"
    expression  = join(" + ", [for function in keys(each.value.functions) : "FILL(${function}, 0)"])
    return_data = true
  }

  dynamic "metric_query" {
    for_each = each.value.functions
    content {
      id = metric_query.key
      metric {
        namespace   = "AWS/Lambda"
        metric_name = each.value.metric
        dimensions  = { FunctionName = metric_query.value }
        stat        = "Sum"
        period      = 300
      }
    }
  }
}

# Without it nobody counts what the alarms below are about.
resource "aws_cloudwatch_metric_alarm" "track_not_running" {
  for_each          = local.alarms
  alarm_name        = "${local.name}-track-not-running"
  alarm_description = "No execution of ${local.track_messages_name} has succeeded for ${var.track_alarm_minutes} minutes: interrupted sends wait, and the alarms on held, overdue, poison and undelivered messages see nothing. ${local.runbook}#track-not-running"
  alarm_actions     = var.alarm_actions
  ok_actions        = var.ok_actions
  tags              = local.tags

  namespace           = "AWS/States"
  metric_name         = "ExecutionsSucceeded"
  dimensions          = { StateMachineArn = aws_sfn_state_machine.track_messages.arn }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = local.track_periods
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
}

resource "aws_cloudwatch_log_metric_filter" "tracked" {
  for_each       = var.alarms_enabled ? local.tracked : {}
  name           = "${local.name}-${each.key}"
  log_group_name = aws_cloudwatch_log_group.track_message.name
  pattern        = each.value.pattern

  metric_transformation {
    namespace = local.namespace
    name      = each.key
    value     = each.value.value
    unit      = "Count"
  }
}

resource "aws_cloudwatch_metric_alarm" "tracked" {
  for_each          = var.alarms_enabled ? local.tracked : {}
  alarm_name        = "${local.name}-${each.key}"
  alarm_description = "${local.tracked_says[each.key]} ${local.runbook}#${each.key}"
  alarm_actions     = var.alarm_actions
  ok_actions        = var.ok_actions
  tags              = local.tags

  namespace           = local.namespace
  metric_name         = aws_cloudwatch_log_metric_filter.tracked[each.key].metric_transformation[0].name
  statistic           = each.value.report ? "Maximum" : "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  # Between two ticks nothing has changed.
  treat_missing_data = each.value.report ? "ignore" : "notBreaching"
}
