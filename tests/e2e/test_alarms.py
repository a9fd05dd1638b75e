"""Metric filters held against the lines that the functions log: nothing evaluates them on the local AWS."""

import json
import re

from stack.chaos import Ageing
from stack.checks import Message


def figures(pipeline, line):
    """The figures that the deployed metric filters take from a line, by metric."""
    found = {}
    group = f"/aws/lambda/{pipeline.name}-track-message"
    for one in pipeline.stack.client("logs").describe_metric_filters(logGroupName=group)["metricFilters"]:
        # The part of the pattern language that the module uses.
        field, text = re.fullmatch(r'\{ \$\.(\w+) = "(\w+)" \}', one["filterPattern"]).groups()
        if line.get(field) == text:
            (metric,) = one["metricTransformations"]
            value = metric["metricValue"]
            number = line[value.removeprefix("$.")] if value.startswith("$.") else float(value)
            assert isinstance(number, int | float)
            assert not isinstance(number, bool)
            found[metric["metricName"]] = number
    return found


def lines(pipeline, execution):
    return [json.loads(line) for line in pipeline.function_logs("track-message", execution["executionArn"])]


def test_a_run_reports_the_state_of_the_rows(pipeline):
    execution = pipeline.track()
    assert execution["status"] == "SUCCEEDED"
    reports = [found for line in lines(pipeline, execution) if (found := figures(pipeline, line)) and "undelivered" not in found]
    assert len(reports) == 1
    assert set(reports[0]) == {"held", "overdue", "poison"}


def test_an_undelivered_message_is_counted(pipeline, sender, other):
    key = f"outbound/{sender}/never collected.txt"
    version = pipeline.put(key, b"x", Message(sender, other, b"x").metadata)
    row = pipeline.wait_sent(key, version)
    path = f"/messageexchange/{sender}/outbox/tracking.*"
    body = json.dumps({"messageId": row["message_id"], "status": "undeliverable", "statusCode": "14"})
    pipeline.stack.script("GET", path, status=200, body=body)
    Ageing(pipeline).row(row["id"])
    execution = pipeline.track()
    counted = [line for line in lines(pipeline, execution) if "undelivered" in figures(pipeline, line)]
    assert [line["row"] for line in counted] == [row["id"]]
    assert pipeline.row(row["id"])["status"] == "undelivered"


def test_every_figure_has_its_alarm_and_every_alarm_of_ours_its_figure(pipeline):
    group = f"/aws/lambda/{pipeline.name}-track-message"
    filters = pipeline.stack.client("logs").describe_metric_filters(logGroupName=group)["metricFilters"]
    made = {(metric["metricNamespace"], metric["metricName"]) for one in filters for metric in one["metricTransformations"]}
    pages = pipeline.stack.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{pipeline.name}-")
    alarms = [alarm for page in pages for alarm in page["MetricAlarms"]]
    watched = {(alarm["Namespace"], alarm["MetricName"]) for alarm in alarms if alarm.get("Namespace", "").startswith("mesh-aws/")}
    assert watched == made
    assert {name for _, name in made} == {"held", "overdue", "poison", "undelivered"}


def test_what_alarms_watch_is_there(pipeline):
    """A misspelt dimension is no error on AWS, and never sounds."""
    client = pipeline.stack.client
    pages = client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{pipeline.name}-")
    alarms = [alarm for page in pages for alarm in page["MetricAlarms"]]
    look = {
        "FunctionName": lambda name: client("lambda").get_function(FunctionName=name),
        "QueueName": lambda name: client("sqs").get_queue_url(QueueName=name),
        "RuleName": lambda name: client("events").describe_rule(Name=name),
        "StateMachineArn": lambda arn: client("stepfunctions").describe_state_machine(stateMachineArn=arn),
    }
    watched = {(place["Name"], place["Value"]) for alarm in alarms for place in alarm["Dimensions"]}
    for name, value in watched:
        look[name](value)
    assert {name for name, _ in watched} == set(look)
    # Each function, machine and rule of the instance has one, but for the tests' own rule.
    functions = [one["FunctionName"] for page in client("lambda").get_paginator("list_functions").paginate() for one in page["Functions"]]
    rules = [rule["Name"] for page in client("events").get_paginator("list_rules").paginate(NamePrefix=f"{pipeline.name}-") for rule in page["Rules"]]
    machines = [pipeline.machine(one) for one in ("get-messages", "send-message", "track-messages")]
    assert {value for name, value in watched if name == "FunctionName"} == {one for one in functions if one.startswith(f"{pipeline.name}-")}
    assert {value for name, value in watched if name == "RuleName"} == set(rules) - {f"{pipeline.name}-seen"}
    assert {value for name, value in watched if name == "StateMachineArn"} == set(machines)
