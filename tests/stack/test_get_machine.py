"""The state machine get-messages, rendered as Terraform does it: when one execution starts the next."""

import json

import pytest
from asl.render import render, templates

STARTED = {"AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "arn:aws:states:eu-west-2:123456789012:execution:one:two"}


@pytest.fixture(scope="module")
def end(aws):
    """The end of the machine, from what became of the batches on: nothing is started, but told of."""
    states = json.loads(render(templates()["get-messages.asl.json"]))["States"]
    kept = {name: states[name] for name in ("More waiting?", "Any failed?", "Messages failed", "Done")}
    kept["Start next"] = {"Type": "Succeed"}
    return aws.machine({"StartAt": "More waiting?", "States": kept})


@pytest.mark.parametrize("started", [False, True])
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
def test_the_next_execution_starts_where_that_brings_something(aws, end, more, failed, left, first, later, started):
    messages = [{"message_id": f"{n}", "error": "Runtime.ExitError"} for n in range(failed)]
    state = {
        "body": {"mailbox": "X26ABC1", "message_count": 3, "more": more},
        "failed": {"messages": messages, "count": failed, "left": [f"{n}" for n in range(left)]},
    } | (STARTED if started else {})
    history = aws.history(aws.run(end, state)["executionArn"])
    path = [event["stateEnteredEventDetails"]["name"] for event in history if "stateEnteredEventDetails" in event]
    assert ("Start next" in path) is (later if started else first), path
