"""State machines do on the local AWS what they do on AWS, with the very shapes that this project's machines use."""

import json
import time
import uuid

import botocore
import pytest
from stack import aws as server

INVOKE = "arn:aws:states:::lambda:invoke"
DONE = {"Done": {"Type": "Succeed"}}


def single(state, **rest):
    """A machine of one state named It; other states come as keywords."""
    return {"StartAt": "It", "States": {"It": state} | rest}


def output(found):
    assert found["status"] == "SUCCEEDED", found
    return json.loads(found["output"])


def passing(aws, value, **fields):
    return aws.run(aws.machine(single({"Type": "Pass", "End": True} | fields)), value)


@pytest.fixture(scope="module")
def function(aws):
    return aws.function()["FunctionArn"] + ":1"


def task(function, **fields):
    parameters = {"FunctionName": function, "Payload.$": "$"}
    return {
        "Type": "Task",
        "Resource": INVOKE,
        "Parameters": parameters,
        "OutputPath": "$.Payload",
        "End": True,
    } | fields


# Paths


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("$[*][*]", [[], []], []),
        ("$[*][*]", [[], [{"a": 1}]], [{"a": 1}]),
        ("$[*][*]", [[{"a": 1}], [{"a": 2}, {"a": 3}]], [{"a": 1}, {"a": 2}, {"a": 3}]),
        ("$[*].a", [{"a": 1}], [1]),
        ("$[*].a", [{"b": 1}], []),
        ("$[0:1]", [5, 6], [5]),
        ("$[1]", [5, 6], 6),
        ("$[0].b.c", [{"b": {"c": [7]}}], [7]),
        ("$..c", [{"b": {"c": 7}}], [7]),
        ("$[?(@.a > 1)].a", [{"a": 1}, {"a": 2}], [2]),
    ],
)
def test_a_path_that_can_match_many_things_gives_a_list(aws, path, value, expected):
    assert output(passing(aws, value, Parameters={"x.$": path})) == {"x": expected}


def test_a_path_to_nothing_ends_the_execution_whatever_is_caught(aws, function):
    caught = task(function, InputPath="$.missing", Catch=[{"ErrorEquals": ["States.ALL"], "Next": "Done"}])
    found = aws.run(aws.machine(single(caught, **DONE)), {"a": 1})
    assert (found["status"], found["error"]) == ("FAILED", "States.Runtime")
    assert "$.missing" in found["cause"]


# Tasks


def test_a_task_invokes_the_version_with_the_executions_arn(aws, function):
    state = task(
        function,
        Parameters={
            "FunctionName": function,
            "Payload": {"execution.$": "$$.Execution.Id", "machine.$": "$$.StateMachine.Id", "request.$": "$"},
        },
    )
    found = aws.run(aws.machine(single(state)), {"mailbox": "X26ABC1"})
    assert output(found) == {
        "execution": found["executionArn"],
        "machine": found["stateMachineArn"],
        "request": {"mailbox": "X26ABC1"},
    }


def test_a_result_selector_keeps_the_top_level(aws, function):
    selector = {"statusCode.$": "$.Payload.statusCode", "body.$": "$.Payload.body"}
    state = task(function, ResultSelector=selector, OutputPath="$")
    value = {"do": "return", "value": {"statusCode": 200, "body": {"mailbox": "X", "batches": []}}}
    assert output(aws.run(aws.machine(single(state)), value)) == value["value"]


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ({"error": {"Cause": '{"errorType":"E","errorMessage":"row out#1: no"}'}, "detail": {}}, "Known"),
        ({"error": {"Cause": '{"errorType": "E", "errorMessage": "row out#1: no"}'}, "detail": {}}, "Known"),
        ({"error": {"Cause": '{"errorMessage":"of \\"errorMessage\\":\\"row out#1\\""}'}, "detail": {}}, "Unknown"),
        ({"error": {"Error": "States.Timeout"}, "detail": {}}, "Unknown"),
        ({"error": {"Cause": '{"errorMessage":"no"}'}}, "Done"),
    ],
)
def test_the_text_of_an_error_is_matched_with_its_quotes(aws, value, state):
    choice = {
        "Type": "Choice",
        "Choices": [
            {
                "And": [
                    {"Variable": "$.error.Cause", "IsPresent": True},
                    {
                        "Or": [
                            {"Variable": "$.error.Cause", "StringMatches": f'*"errorMessage":{space}"row out#*'}
                            for space in ("", " ")
                        ]
                    },
                ],
                "Next": "Known",
            },
            {"Variable": "$.detail", "IsPresent": True, "Next": "Unknown"},
        ],
        "Default": "Done",
    }
    found = aws.run(aws.machine(single(choice, Known={"Type": "Succeed"}, Unknown={"Type": "Succeed"}, **DONE)), value)
    entered = [event for event in aws.history(found["executionArn"]) if event["type"] == "SucceedStateEntered"]
    assert [event["stateEnteredEventDetails"]["name"] for event in entered] == [state]


def test_retries_wait_for_a_scaled_time_and_then_succeed(aws, function, tmp_path):
    retry = [
        {
            "ErrorEquals": ["MeshUnavailable", "Throttled"],
            "IntervalSeconds": 20,
            "BackoffRate": 2,
            "MaxAttempts": 3,
            "JitterStrategy": "NONE",
        }
    ]
    value = {"do": "fail-until", "folder": str(tmp_path / "tries"), "times": 3, "error": "MeshUnavailable"}
    start = time.monotonic()
    assert output(aws.run(aws.machine(single(task(function, Retry=retry))), value)) == value
    assert 0.6 < time.monotonic() - start < 10, "20 s and 40 s at a scale of 0.01"
    assert len(list((tmp_path / "tries").iterdir())) == 3


def test_the_attempts_of_a_retry_are_counted_afresh_when_a_state_is_entered_again(aws, function, tmp_path):
    retry = [{"ErrorEquals": ["MeshUnavailable"], "IntervalSeconds": 1, "MaxAttempts": 2}]
    first, again = (
        task(
            function,
            Retry=retry,
            ResultPath=None,
            OutputPath="$",
            Parameters={"FunctionName": function, "Payload.$": path},
            Next=to,
        )
        for path, to in (("$[0]", "Choose"), ("$[0]", "Choose"))
    )
    for state in (first, again):
        state.pop("End")
    machine = {
        "StartAt": "It",
        "States": {
            "It": first,
            "Choose": {
                "Type": "Choice",
                "Choices": [{"Variable": "$[1]", "IsPresent": True, "Next": "Rest"}],
                "Default": "Done",
            },
            "Rest": {"Type": "Pass", "InputPath": "$[1:]", "Next": "It"},
        }
        | DONE,
    }
    values = [
        {"do": "fail-until", "folder": str(tmp_path / str(n)), "times": 3, "error": "MeshUnavailable"} for n in range(3)
    ]
    output(aws.run(aws.machine(machine), values))
    assert [len(list((tmp_path / str(n)).iterdir())) for n in range(3)] == [3] * 3


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"do": "fail", "error": "InvalidParameters"}, "InvalidParameters"),
        ({"do": "exit"}, "Runtime.ExitError"),
    ],
)
def test_the_errors_name_is_what_retry_and_catch_match(aws, function, value, error):
    retry = [{"ErrorEquals": ["MeshUnavailable", "Lambda.ServiceException"], "MaxAttempts": 2}]
    machine = single(
        task(function, Retry=retry, Catch=[{"ErrorEquals": [error], "ResultPath": "$.error", "Next": "Done"}]), **DONE
    )
    found = aws.run(aws.machine(machine), value)
    assert output(found)["error"]["Error"] == error
    events = [event["type"] for event in aws.history(found["executionArn"])]
    assert events.count("TaskScheduled") == 1, "not retried"


def test_a_timeout_is_sandbox_timedout(aws):
    name = aws.function(Timeout=1)["FunctionArn"]
    found = aws.run(aws.machine(single(task(name))), {"do": "sleep", "seconds": 9})
    assert (found["status"], found["error"]) == ("FAILED", "Sandbox.Timedout")
    assert "Task timed out after 1.00 seconds" in found["cause"]


def test_an_uncaught_error_and_its_cause_end_the_execution(aws, function):
    found = aws.run(aws.machine(single(task(function))), {"do": "fail", "error": "Rejected"})
    assert (found["status"], found["error"]) == ("FAILED", "Rejected")
    assert json.loads(found["cause"])["errorMessage"] == "told to"


def test_a_function_that_is_gone(aws):
    found = aws.run(aws.machine(single(task("arn:aws:lambda:eu-west-2:123456789012:function:gone:1"))))
    assert found["error"] == "Lambda.ResourceNotFoundException"


def test_a_wait_of_seconds_from_the_input_is_scaled(aws):
    machine = aws.machine(single({"Type": "Wait", "SecondsPath": "$.wait_seconds", "End": True}))
    start = time.monotonic()
    output(aws.run(machine, {"wait_seconds": 60}))
    assert 0.6 < time.monotonic() - start < 5


# Service integrations


def put_events(**fields):
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::events:putEvents",
        "Parameters": {"Entries.$": "$.events"},
        "ResultPath": None,
        "End": True,
    } | fields


def test_entries_that_a_function_prepared_are_put(aws):
    source, queue = f"mesh-client-{uuid.uuid4().hex[:8]}", aws.queue()
    aws.rule({"source": [source]}, {"Arn": queue.arn})
    entries = [
        {
            "Source": source,
            "DetailType": "MESH message received",
            "Resources": ["arn:aws:s3:::b"],
            "Detail": json.dumps({"n": n}),
        }
        for n in range(10)
    ]
    value = {"events": entries, "stored": [1]}
    found = aws.run(aws.machine(single(put_events())), value)
    assert output(found) == value
    received = queue.bodies(10)
    assert sorted(event["detail"]["n"] for event in received) == list(range(10))
    assert received[0]["resources"] == ["arn:aws:s3:::b", found["stateMachineArn"], found["executionArn"]]


def test_a_failed_entry_fails_the_task(aws):
    machine = single(
        put_events(Catch=[{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Done"}]), **DONE
    )
    error = output(aws.run(aws.machine(machine), {"events": [{"Source": "x", "DetailType": "y", "Detail": "{"}]}))[
        "error"
    ]
    assert error["Error"] == "EventBridge.FailedEntry"
    assert json.loads(error["Cause"])["FailedEntryCount"] == 1


@pytest.mark.parametrize(("owner", "released"), [("me", True), ("another", False)])
def test_a_lease_is_deleted_by_its_owner_only(aws, owner, released):
    client, table = aws.client("dynamodb"), f"t-{uuid.uuid4().hex[:8]}"
    attribute = {"AttributeName": "lease_id"}
    client.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[attribute | {"AttributeType": "S"}],
        KeySchema=[attribute | {"KeyType": "HASH"}],
    )
    release = {
        "Type": "Task",
        "Resource": "arn:aws:states:::dynamodb:deleteItem",
        "Parameters": {
            "TableName": table,
            "Key": {"lease_id": {"S.$": "$.body.mailbox"}},
            "ConditionExpression": "#owner = :me",
            "ExpressionAttributeNames": {"#owner": "owner"},
            "ExpressionAttributeValues": {":me": {"S.$": "$$.Execution.Id"}},
        },
        "ResultPath": None,
        "Catch": [{"ErrorEquals": ["DynamoDB.ConditionalCheckFailedException"], "ResultPath": None, "Next": "Done"}],
        "Next": "Done",
    }
    machine = aws.machine(single(release, **DONE))
    name = uuid.uuid4().hex
    arn = machine.replace(":stateMachine:", ":execution:") + f":{name}"
    client.put_item(
        TableName=table, Item={"lease_id": {"S": "X26ABC1"}, "owner": {"S": arn if owner == "me" else owner}}
    )
    value = {"body": {"mailbox": "X26ABC1"}}
    assert output(aws.run(machine, value, name=name)) == value
    assert ("Item" in client.get_item(TableName=table, Key={"lease_id": {"S": "X26ABC1"}})) is not released


def test_a_machine_starts_the_next_execution_of_itself(aws):
    start = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution",
        "Parameters": {
            "StateMachineArn.$": "$$.StateMachine.Id",
            "Input": {"mailbox.$": "$.body.mailbox", "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID.$": "$$.Execution.Id"},
        },
        "ResultPath": "$.next",
        "End": True,
    }
    choice = {
        "Type": "Choice",
        "Choices": [{"Variable": "$.body.more", "BooleanEquals": True, "Next": "Start next"}],
        "Default": "Done",
    }
    machine = aws.machine(
        {
            "StartAt": "It",
            "States": {
                "It": {
                    "Type": "Choice",
                    "Choices": [{"Variable": "$.mailbox", "IsPresent": True, "Next": "Done"}],
                    "Default": "More",
                },
                "More": choice,
                "Start next": start,
            }
            | DONE,
        }
    )
    first = aws.run(machine, {"body": {"mailbox": "X26ABC1", "more": True}})
    started = output(first)["next"]
    assert isinstance(started["StartDate"], float)
    assert json.loads(aws.end_of(started["ExecutionArn"])["input"]) == {
        "mailbox": "X26ABC1",
        "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": first["executionArn"],
    }


# Map, and what follows it


def batches(function):
    """The shape of get-messages: batches, some messages of which fail, and a Fail that says which."""
    fetch = task(
        function,
        ResultPath="$",
        OutputPath="$.Payload",
        Catch=[{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Batch failed"}],
    )
    fetch.pop("End")
    cause = "States.Format('{} messages of mailbox {} were not stored; the first is {} ({}), left: {}.', States.ArrayLength($.failed.messages), $.body.mailbox, $.failed.messages[0].message_id, $.failed.messages[0].error, $.failed.left[0])"
    return {
        "StartAt": "Fetch messages",
        "States": {
            "Fetch messages": {
                "Type": "Map",
                "ItemsPath": "$.body.batches",
                "MaxConcurrency": 4,
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "INLINE"},
                    "StartAt": "Fetch batch",
                    "States": {
                        "Fetch batch": fetch | {"Next": "Batch done"},
                        "Batch failed": {
                            "Type": "Pass",
                            "Parameters": {
                                "lists": {"earlier": [], "first": [{"message_id": "?", "error.$": "$.error.Error"}]},
                                "left": ["?"],
                            },
                            "Next": "One list",
                        },
                        "One list": {
                            "Type": "Pass",
                            "Parameters": {"result": {"failed.$": "$.lists.*[*]", "left.$": "$.left"}},
                            "Next": "Batch done",
                        },
                        "Batch done": {"Type": "Succeed", "OutputPath": "$.result"},
                    },
                },
                "ResultSelector": {"messages.$": "$[*].failed[*]", "left.$": "$[*].left[*]"},
                "ResultPath": "$.failed",
                "Next": "Any failed?",
            },
            "Any failed?": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.failed.messages[0]", "IsPresent": True, "Next": "Messages failed"}],
                "Default": "Done",
            },
            "Messages failed": {"Type": "Fail", "Error": "MessagesFailed", "CausePath": cause},
        }
        | DONE,
    }


def batch(*failed):
    return {"do": "return", "value": {"result": {"failed": [{"message_id": m, "error": e} for m, e in failed], "left": []}}}


def test_a_map_of_batches_without_a_failure_succeeds_with_the_polls_output(aws, function):
    body = {"mailbox": "X26ABC1", "batches": [batch(), batch()]}
    found = output(aws.run(aws.machine(batches(function)), {"statusCode": 200, "body": body}))
    assert found == {"statusCode": 200, "body": body, "failed": {"messages": [], "left": []}}


def test_a_map_of_batches_names_the_first_failure(aws, function):
    body = {
        "mailbox": "X26ABC1",
        "batches": [batch(), {"do": "fail", "error": "AwsRefused"}, batch(("20260101_AB", "InvalidMessage"))],
    }
    found = aws.run(aws.machine(batches(function)), {"statusCode": 200, "body": body})
    assert (found["status"], found["error"]) == ("FAILED", "MessagesFailed")
    assert found["cause"] == "2 messages of mailbox X26ABC1 were not stored; the first is ? (AwsRefused), left: ?."


def test_the_state_exits_of_an_empty_poll_are_few(aws, function):
    choice = {
        "Type": "Choice",
        "Choices": [{"Variable": "$.statusCode", "NumericEquals": 200, "Next": "Never"}],
        "Default": "Done",
    }
    poll = task(function, ResultSelector={"statusCode.$": "$.Payload.statusCode"}, OutputPath="$", Next="Choose")
    poll.pop("End")
    machine = aws.machine(
        {"StartAt": "Poll", "States": {"Poll": poll, "Choose": choice, "Never": {"Type": "Fail"}} | DONE}
    )
    found = aws.run(machine, {"do": "return", "value": {"statusCode": 204}})
    assert output(found) == {"statusCode": 204}
    entered = [
        e["stateEnteredEventDetails"]["name"]
        for e in aws.history(found["executionArn"])
        if e["type"].endswith("StateEntered")
    ]
    assert entered == ["Poll", "Choose", "Done"]


# Limits


@pytest.mark.parametrize("where", ["task", "pass"])
def test_more_than_256_kib_between_states_is_the_end(aws, function, where):
    state = (
        task(function)
        if where == "task"
        else {"Type": "Pass", "End": True, "Parameters": {"a.$": "$.value", "b.$": "$.value"}}
    )
    state |= {"Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Done"}]} if where == "task" else {}
    value = {"do": "big", "size": 300 * 1024, "value": "x" * 140 * 1024}
    found = aws.run(aws.machine(single(state, **DONE) if where == "task" else single(state)), value)
    assert (found["status"], found["error"]) == ("FAILED", "States.DataLimitExceeded")


def test_an_input_over_256_kib_is_refused(aws):
    machine = aws.machine(single(DONE["Done"]))
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        aws.run(machine, {"x": "x" * 256 * 1024})
    assert failed.value.response["Error"]["Code"] == "ValidationException"


@pytest.mark.parametrize("inside", ["loop", "map"])
def test_an_execution_ends_at_its_25000th_event(aws, inside):
    loop = {"StartAt": "Again", "States": {"Again": {"Type": "Pass", "Next": "Again"}}}
    each = {
        "Type": "Map",
        "ItemProcessor": loop,
        "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Done"}],
        "End": True,
    }
    found = aws.run(aws.machine(loop if inside == "loop" else single(each, **DONE)), [1, 2], seconds=120)
    assert (found["status"], found["error"]) == ("FAILED", "States.Runtime")
    assert "maximum number of history events (25000)" in found["cause"]
    last = aws.client("stepfunctions").get_execution_history(
        executionArn=found["executionArn"], reverseOrder=True, maxResults=1
    )["events"]
    assert [(event["id"], event["type"]) for event in last] == [(25_000, "ExecutionFailed")]


# The API


def test_history_comes_in_pages_and_in_either_order(aws):
    found = passing(aws, {"a": 1})
    client = aws.client("stepfunctions")
    forward = [event["type"] for event in aws.history(found["executionArn"])]
    assert forward == ["ExecutionStarted", "PassStateEntered", "PassStateExited", "ExecutionSucceeded"]
    page = client.get_execution_history(executionArn=found["executionArn"], maxResults=3, reverseOrder=True)
    rest = client.get_execution_history(
        executionArn=found["executionArn"], maxResults=3, reverseOrder=True, nextToken=page["nextToken"]
    )
    assert [event["type"] for event in page["events"] + rest["events"]] == forward[::-1]
    assert "nextToken" not in rest


def test_an_execution_needs_no_name_and_a_name_is_used_once(aws):
    machine = aws.machine(single(DONE["Done"]))
    first, second = aws.run(machine), aws.run(machine)
    assert len({first["name"], second["name"]} - {None, "None"}) == 2
    aws.run(machine, {"a": 1}, name="once")
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        aws.run(machine, {"a": 2}, name="once")
    assert failed.value.response["Error"]["Code"] == "ExecutionAlreadyExists"


@pytest.mark.parametrize(
    ("definition", "result"),
    [(single({"Type": "Succeed"}), "OK"), ({"StartAt": "It", "States": {"It": {"Type": "Nonsense"}}}, "FAIL")],
)
def test_a_definition_is_validated(aws, definition, result):
    answer = aws.client("stepfunctions").validate_state_machine_definition(definition=json.dumps(definition))
    assert answer["result"] == result
    assert bool(answer["diagnostics"]) is (result == "FAIL")


def test_versions_are_listed_and_deleted(aws):
    client = aws.client("stepfunctions")
    machine = aws.machine(single(DONE["Done"]), publish=True)
    versions = client.list_state_machine_versions(stateMachineArn=machine)["stateMachineVersions"]
    assert [v["stateMachineVersionArn"] for v in versions] == [f"{machine}:1"]
    client.delete_state_machine_version(stateMachineVersionArn=f"{machine}:1")
    assert client.list_state_machine_versions(stateMachineArn=machine)["stateMachineVersions"] == []


@pytest.mark.parametrize("with_data", [True, False])
def test_the_history_is_logged_with_or_without_its_data(aws, function, with_data):
    logs, group, mark = aws.client("logs"), f"/aws/states/{uuid.uuid4().hex}", uuid.uuid4().hex
    logs.create_log_group(logGroupName=group)
    arn = f"arn:aws:logs:{server.REGION}:{server.ACCOUNT}:log-group:{group}:*"
    # SDKs leave out a field that is false.
    settings = {"level": "ALL", "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": arn}}]} | (
        {"includeExecutionData": True} if with_data else {}
    )
    machine = aws.machine(single(task(function)), loggingConfiguration=settings)
    executions = [aws.run(machine, {"mark": mark})["executionArn"] for _ in range(2)]
    lines = [json.loads(event["message"]) for event in logs.filter_log_events(logGroupName=group)["events"]]
    for execution in executions:
        logged = [line["type"] for line in lines if line["execution_arn"] == execution]
        assert logged == [event["type"] for event in aws.history(execution)]
    assert (mark in json.dumps(lines)) is with_data


def test_many_executions_at_once(aws, function):
    machine = aws.machine(single(task(function)))
    client = aws.client("stepfunctions")
    arns = [
        client.start_execution(stateMachineArn=machine, input=json.dumps({"n": n}))["executionArn"] for n in range(40)
    ]
    assert [output(aws.end_of(arn))["n"] for arn in arns] == list(range(40))


def test_a_stopped_execution_stops(aws):
    # It takes moto a while to read.
    later = {f"Pass{n}": {"Type": "Pass", "Next": f"Pass{n + 1}"} for n in range(200)} | {"Pass200": {"Type": "Pass", "End": True}}
    machine = aws.machine({"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 6000, "Next": "Pass0"}} | later})
    client = aws.client("stepfunctions")
    # At once after its start and in the midst of it.
    for moment in (*[0] * 10, 0.2):
        arn = client.start_execution(stateMachineArn=machine, input="{}")["executionArn"]
        time.sleep(moment)
        client.stop_execution(executionArn=arn, error="Stopped", cause="by the test")
        assert aws.end_of(arn, seconds=5)["status"] == "ABORTED"
