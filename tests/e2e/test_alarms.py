"""Metric filters held against the lines that the functions log."""

import json

import pytest
from stack.chaos import Ageing
from stack.checks import Message, outcome
from stack.metrics import figures


def lines(pipeline, execution):
    return [json.loads(line) for line in pipeline.function_logs("track-message", execution["executionArn"])]


def test_a_run_reports_the_state_of_the_rows(pipeline):
    execution = pipeline.track()
    assert outcome(execution) == "SUCCEEDED"
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


def counted(pipeline, function, text):
    """The lines of a function with the text that count as a message that is gone."""
    found = [json.loads(line) for line in pipeline.function_logs(function, text)]
    return [line for line in found if "messages-gone" in figures(pipeline, line, function)]


def test_a_message_that_mesh_lists_and_does_not_have_is_counted(pipeline, mailbox, other):
    message_id = Message(other, mailbox, b"listed").send(pipeline.stack)
    gone = json.dumps({"errorEvent": "RECEIVE", "errorCode": "20", "errorDescription": "Message does not exist"})
    pipeline.stack.script("GET", f"/messageexchange/{mailbox}/inbox/{message_id}", status=404, body=gone, times=2)
    pipeline.poll(mailbox)
    assert counted(pipeline, "fetch-message-chunk", message_id) == []
    pipeline.poll(mailbox)
    (line,) = counted(pipeline, "fetch-message-chunk", message_id)
    assert (line["logReference"], line["mailbox"]) == ("MESHFETCH0014", mailbox)


def test_a_message_that_was_begun_and_vanished_is_counted(pipeline, mailbox):
    message_id = f"VANISHED{mailbox}"
    past = "2026-01-15T12:00:00.000Z"
    item = {"id": f"in#{message_id}", "direction": "in", "mailbox": mailbox, "message_id": message_id, "status": "receiving", "due": "receive"}
    item |= {"timestamp": past, "updated_at": past, "next_attempt_at": past}
    pipeline.stack.client("dynamodb").put_item(TableName=f"{pipeline.name}-messages", Item={name: {"S": value} for name, value in item.items()})
    assert pipeline.track()["status"] == "SUCCEEDED"
    assert pipeline.row(item["id"])["status"] == "gone"
    (line,) = counted(pipeline, "track-message", message_id)
    assert line["logReference"] == "MESHTRACK0009"


@pytest.mark.parametrize("status", ["unheard of", "failed"])
def test_a_message_whose_row_can_not_be_read_is_counted(pipeline, mailbox, other, status):
    message_id = Message(other, mailbox, b"left out").send(pipeline.stack)
    row, dynamodb, table = {"id": {"S": f"in#{message_id}"}}, pipeline.stack.client("dynamodb"), f"{pipeline.name}-messages"
    dynamodb.put_item(TableName=table, Item=row | {"status": {"S": status}})
    assert pipeline.poll(mailbox)[-1]["output"]["statusCode"] == 204
    (line,) = counted(pipeline, "poll-mailbox", message_id)
    assert (line["logReference"], line["mailbox"]) == ("MESHPOLL0004", mailbox)
    dynamodb.delete_item(TableName=table, Key=row)
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"


def test_a_message_whose_id_can_not_be_used_is_counted(pipeline, mailbox):
    listing = json.dumps({"messages": ["x" * 2000], "links": {}})
    pipeline.stack.script("GET", f"/messageexchange/{mailbox}/inbox", status=200, body=listing)
    assert pipeline.poll(mailbox)[-1]["output"]["statusCode"] == 204
    (line,) = counted(pipeline, "poll-mailbox", mailbox)
    assert (line["logReference"], line["message_count"]) == ("MESHMBOX0007", 1)


def test_every_figure_has_its_alarm_and_every_alarm_of_ours_its_figure(pipeline):
    functions = ("fetch-message-chunk", "poll-mailbox", "send-message-chunk", "track-message")
    groups = [f"/aws/lambda/{pipeline.name}-{function}" for function in functions]
    describe = pipeline.stack.client("logs").describe_metric_filters
    filters = [one for group in groups for one in describe(logGroupName=group)["metricFilters"]]
    made = {(metric["metricNamespace"], metric["metricName"]) for one in filters for metric in one["metricTransformations"]}
    pages = pipeline.stack.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{pipeline.name}-")
    alarms = [alarm for page in pages for alarm in page["MetricAlarms"]]
    watched = {(alarm["Namespace"], alarm["MetricName"]) for alarm in alarms if alarm.get("Namespace", "").startswith("mesh-aws/")}
    assert watched == made
    assert {name for _, name in made} == {"certificate-expires", "held", "messages-gone", "overdue", "poison", "undelivered"}


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
