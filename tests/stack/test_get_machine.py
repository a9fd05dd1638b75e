"""The state machine get-messages, rendered as Terraform does it: when one execution starts the next."""

import json
import uuid

import pytest
from asl.render import PLACEHOLDERS, render, templates
from stack.conftest import zip_of

# Starts an execution that is told of messages left by the one before.
TOLD = {"left": ["0"]}
# Poll, Fetch and Acknowledge. Of messages that begin with "slow" Fetch stores nothing, and leaves them when its rounds end. A
# batch of which one begins with "bad" gets on in the first round and fails in the second.
FUNCTIONS = """
class InvalidConfiguration(Exception):
    pass


def handle(event, context):
    request = event["request"]
    if "rounds" in request:
        if any(one["message_id"].startswith("bad") for one in request["messages"]):
            if "upload_id" in request["messages"][0]:
                raise InvalidConfiguration
            begun = [one | {"upload_id": "an id", "next_chunk": 2, "skip": 0, "next_part": 2} for one in request["messages"]]
            return request | {"rounds": 1, "stored": [], "stored_count": 0, "messages": begun}
        stored = [one for one in request["messages"] if not one["message_id"].startswith("slow")]
        waiting = [one for one in request["messages"] if one not in stored]
        answer = request | {"rounds": request["rounds"] - 1, "stored": stored, "stored_count": len(stored), "messages": waiting}
        if waiting and not answer["rounds"]:
            answer |= {"messages": [], "result": {"failed": [], "left": [waiting[0]["message_id"]]}}
        return answer
    if "stored" in request:
        return {}
    if request.get("left"):
        return {"statusCode": 204, "body": {}}
    lists = request.get("lists", [["one", "slow two"], ["slow three"], ["four"]])
    batches = [
        {"mailbox": request["mailbox"], "messages": [{"message_id": id} for id in ids], "rounds": 2} for ids in lists
    ]
    return {"statusCode": 200, "body": {"mailbox": request["mailbox"], "message_count": 4, "more": False, "batches": batches}}
"""


@pytest.fixture(scope="module")
def end(aws):
    """The end of the machine, from what became of the batches on: nothing is started, but told of."""
    states = json.loads(render(templates()["get-messages.asl.json"]))["States"]
    kept = {name: states[name] for name in ("More waiting?", "Any failed?", "Messages failed", "Done")}
    kept["Start next"] = {"Type": "Succeed"}
    return aws.machine({"StartAt": "More waiting?", "States": kept})


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(
    ("more", "failed", "left", "first", "later"),
    [
        (False, 0, 0, False, False),
        (True, 0, 0, True, True),
        (False, 0, 1, True, True),
        (True, 2, 0, True, True),
        (True, 3, 0, False, False),
        # A worker ended: of several batches, of the only one.
        (False, 2, 2, True, True),
        (False, 3, 3, True, False),
        (True, 3, 3, True, False),
    ],
)
def test_the_next_execution_starts_where_that_brings_something(aws, end, more, failed, left, first, later, told):
    messages = [{"message_id": f"{n}", "error": "Runtime.ExitError"} for n in range(failed)]
    state = {
        "body": {"mailbox": "X26ABC1", "message_count": 3, "more": more},
        "failed": {"messages": messages, "count": failed, "left": [f"{n}" for n in range(left)]},
    } | (TOLD if told else {})
    path = entered(aws, aws.run(end, state))
    assert ("Start next" in path) is (later if told else first), path


def started_by(aws, execution):
    given = json.loads(aws.client("stepfunctions").describe_execution(executionArn=execution)["input"])
    return given.get("AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID")


def entered(aws, execution):
    history = aws.history(execution["executionArn"])
    return [event["stateEnteredEventDetails"]["name"] for event in history if "stateEnteredEventDetails" in event]


@pytest.fixture(scope="module")
def machine(aws):
    """The whole machine, with functions of its own."""
    function, role = f"f-{uuid.uuid4().hex[:8]}", aws.role()
    arn = aws.client("lambda").create_function(
        FunctionName=function,
        Runtime="python3.13",
        Handler="code.handle",
        Timeout=20,
        MemorySize=256,
        Role=role,
        Code={"ZipFile": zip_of(FUNCTIONS, 0o644, "code.py")},
    )["FunctionArn"]
    text = templates()["get-messages.asl.json"]
    for name in ("poll_mailbox", "fetch_message_chunk", "acknowledge_message"):
        text = text.replace(f"${{{name}}}", arn)
    table = PLACEHOLDERS["leases_table"]
    aws.client("dynamodb").create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "lease_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "lease_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return aws.machine(json.loads(render(text)))


def test_a_batch_that_fails_under_way_leaves_no_more_than_ids_in_the_state(aws, machine):
    failed = aws.run(machine, {"mailbox": "X26ABC2", "lists": [["bad one", "two", "three"], ["four"], ["bad five"]], "left": []})
    assert (failed["status"], failed["error"]) == ("FAILED", "MessagesFailed")
    assert failed["cause"].startswith("Up to 4 messages of mailbox X26ABC2 "), failed["cause"]
    exits = [event.get("stateExitedEventDetails", {}) for event in aws.history(failed["executionArn"])]
    (output,) = [json.loads(one["output"]) for one in exits if one.get("name") == "Fetch messages"]
    by = {"error": "InvalidConfiguration"}
    assert output["failed"] == {"messages": [{"message_id": "bad one"} | by, "two", "three", {"message_id": "bad five"} | by], "count": 4, "left": []}


def test_what_is_left_when_the_rounds_end_goes_on_in_an_execution_that_is_told_so(aws, machine):
    first = aws.run(machine, {"mailbox": "X26ABC1"})
    assert first["status"] == "SUCCEEDED", first
    path = entered(aws, first)
    # Two rounds of each batch that has a slow one, one of the third.
    assert (path.count("Fetch batch"), path.count("Acknowledge some"), path.count("Acknowledge")) == (5, 1, 1)
    client = aws.client("stepfunctions")
    found = client.list_executions(stateMachineArn=machine)["executions"]
    (second,) = [one["executionArn"] for one in found if started_by(aws, one["executionArn"]) == first["executionArn"]]
    assert aws.end_of(second)["status"] == "SUCCEEDED"
    given = json.loads(client.describe_execution(executionArn=second)["input"])
    assert given == {
        "mailbox": "X26ABC1",
        "left": ["slow two"],
        "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": first["executionArn"],
    }
