"""The contract between the state machine definitions, the functions and Terraform, checked without AWS."""

import fnmatch
import json
import re
from pathlib import Path

import pytest

from asl.render import PLACEHOLDERS, render, templates

REPOSITORY = Path(__file__).resolve().parents[1]

TEMPORARY = {"MeshUnavailable", "Throttled", "AwsUnavailable"}
LAMBDA_SERVICE = {
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    # In a VPC: a function that nobody called for weeks gets its network interfaces again, which can be had up to a limit.
    "Lambda.ResourceNotReadyException",
    "Lambda.EC2ThrottledException",
    "Lambda.EC2UnexpectedException",
    "Lambda.ENILimitReachedException",
    "Lambda.SubnetIPAddressLimitReachedException",
}
CRASHES = {"Lambda.Unknown", "Runtime.ExitError", "Runtime.OutOfMemory", "Sandbox.Timedout", "States.Timeout"}
OF_AWS = LAMBDA_SERVICE | CRASHES | {"States.ALL", "DynamoDB.ConditionalCheckFailedException"}


def our_error_names():
    """The variants of the functions' error enum."""
    source = (REPOSITORY / "crates/mesh-pipeline/src/error.rs").read_text()
    enum = re.search(r"pub enum Error \{(.*?)\n\}", source, re.S)[1]
    return set(re.findall(r"^\s+([A-Z]\w+)\(", enum, re.M))


def states(machine):
    """Every state by name, those inside a Map too."""
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states(state["ItemProcessor"])


def all_states():
    """Every state of both machines."""
    return [
        pytest.param(state, id=f"{file.removesuffix('.asl.json')}: {name}")
        for file, template in templates().items()
        for name, state in states(json.loads(render(template)))
    ]


def tasks(resource):
    """The tasks that use a service integration."""
    found = [p for p in all_states() if p.values[0].get("Resource", "").endswith(f":states:::{resource}")]
    assert found, f"no task uses {resource}"
    return found


@pytest.mark.parametrize("file", templates())
def test_a_template_is_valid_json_with_known_placeholders(file):
    template = templates()[file]
    json.loads(template)
    assert set(re.findall(r"\$\{([^}]*)\}", template)) <= set(PLACEHOLDERS)
    assert "${" not in render(template)


def test_terraform_fills_the_placeholders():
    for file in templates():
        source = (REPOSITORY / "terraform" / file.replace(".asl.json", ".tf")).read_text()
        call = re.search(r'templatefile\("[^"]*' + re.escape(file) + r'", \{(.*?)\n\s*\}\)', source, re.S)[1]
        given = set(re.findall(r"^\s+(\w+)\s*=", call, re.M))
        assert given == set(re.findall(r"\$\{(\w+)\}", templates()[file]))


def test_max_concurrency_becomes_a_number():
    machine = json.loads(render(templates()["get-messages.asl.json"]))
    assert machine["States"]["Fetch messages"]["MaxConcurrency"] == int(PLACEHOLDERS["max_concurrency"])


@pytest.mark.parametrize("state", tasks("lambda:invoke"))
def test_a_function_is_called_by_version_with_the_execution_and_tried_again(state):
    assert re.fullmatch(r"arn:.*:function:[a-z-]+:\d+", state["Parameters"]["FunctionName"])
    payload = state["Parameters"]["Payload"]
    assert payload["execution.$"] == "$$.Execution.Id"
    assert payload.keys() in ({"execution.$", "request.$"}, {"execution.$", "request"})
    if "Retry" not in state:
        # The last try; test_what_failed_before_it_had_a_row_is_kept knows which.
        return
    retried = {error for retrier in state["Retry"] for error in retrier["ErrorEquals"]}
    assert TEMPORARY | LAMBDA_SERVICE <= retried <= TEMPORARY | LAMBDA_SERVICE | CRASHES
    for retrier in state["Retry"]:
        assert retrier["BackoffRate"] > 1 and retrier["JitterStrategy"] == "FULL"


@pytest.mark.parametrize("state", tasks("lambda:invoke"))
def test_a_task_waits_longer_than_its_function_may_run(state):
    variable = re.search(r'variable "timeout" \{(.*?)\n\}', (REPOSITORY / "terraform/variables.tf").read_text(), re.S)[1]
    assert state["TimeoutSeconds"] > int(re.search(r"seconds <= (\d+)", variable)[1])


@pytest.mark.parametrize("state", all_states())
def test_retry_and_catch_match_errors_that_exist(state):
    ours = our_error_names()
    assert TEMPORARY <= ours
    for rule in state.get("Retry", []) + state.get("Catch", []):
        assert set(rule["ErrorEquals"]) <= ours | OF_AWS
        # The Amazon States Language wants States.ALL alone and last.
        assert "States.ALL" not in rule["ErrorEquals"] or rule["ErrorEquals"] == ["States.ALL"]


@pytest.mark.parametrize(
    "state",
    tasks("events:putEvents")
    + tasks("dynamodb:deleteItem")
    + tasks("dynamodb:updateItem")
    + tasks("sqs:sendMessage")
    + tasks("states:startExecution"),
)
def test_an_aws_call_is_tried_again_and_changes_nothing_in_the_state(state):
    assert state["ResultPath"] is None
    assert any(retrier.get("MaxAttempts", 3) > 1 for retrier in state["Retry"])


def test_nothing_that_fails_in_a_batch_ends_the_others():
    processor = json.loads(render(templates()["get-messages.asl.json"]))["States"]["Fetch messages"]["ItemProcessor"]
    for name, state in processor["States"].items():
        assert state["Type"] != "Fail"
        if state["Type"] == "Task":
            assert state["Catch"][-1]["ErrorEquals"] == ["States.ALL"], name


def test_a_batch_that_is_stored_at_once_takes_four_transitions():
    """A page of 500 in batches of 10 stays under 300."""
    machine = json.loads(render(templates()["get-messages.asl.json"]))["States"]["Fetch messages"]["ItemProcessor"]
    state, path = machine["StartAt"], []
    while state:
        path.append(state)
        found = machine["States"][state]
        # Everything is stored: the choice between "and some are left" and "nothing stored" is the second.
        state = found["Choices"][1]["Next"] if found["Type"] == "Choice" else found.get("Next")
    assert path == ["Fetch batch", "Anything stored?", "Announce", "Acknowledge"]


def limit(crate, name):
    """A constant of a crate."""
    source = (REPOSITORY / "crates" / crate / "src/lib.rs").read_text()
    return int(re.search(rf"const {name}: \w+ = ([\d_]+);", source)[1].replace("_", ""))


def events(states, *names):
    """The most that these states leave in the history."""
    # Entered and exited; of a task three for each try, and of each kind of error as many as its retrier allows.
    tries = [1 + sum(r.get("MaxAttempts", 3) for r in states[name].get("Retry", [])) for name in names if states[name]["Type"] == "Task"]
    return 2 * len(names) + 3 * sum(tries)


def test_a_page_stays_under_20000_events_of_history():
    machine = json.loads(render(templates()["get-messages.asl.json"]))["States"]
    batch = machine["Fetch messages"]["ItemProcessor"]["States"]
    rounds = events(batch, "Fetch batch", "Anything stored?", "Announce some", "Acknowledge some")
    assert rounds == events(batch, "Fetch batch", "Anything stored?", "Announce", "Acknowledge")
    assert rounds == limit("poll", "ROUND_EVENTS")
    # Its iteration starts and ends, and these states at most end it.
    ends = ("Only message?", "Others left", "Batch failed", "One list")
    assert not [name for name in ends if batch[name]["Type"] == "Task"]
    assert limit("poll", "BATCH_EVENTS") == 2 + events(batch, *ends)
    assert limit("poll", "MAX_BATCHES") * (limit("poll", "BATCH_EVENTS") + rounds) <= limit("poll", "BATCHES_EVENTS")
    # The execution starts and ends, and the Map starts and ends besides.
    once = ("Poll mailbox", "Anything to fetch?", "Fetch messages", "Release lease", "More waiting?", "Start next", "Any failed?", "Messages failed")
    assert limit("poll", "BATCHES_EVENTS") + 2 + 2 + events(machine, *once) < 20_000


def test_a_tick_of_tracking_stays_under_20000_events_of_history():
    machine = json.loads(render(templates()["track-messages.asl.json"]))["States"]
    lists = -(-limit("track", "MAX_EVENTS") // limit("track", "EVENTS_AT_ONCE"))
    # The Map starts and ends, and so does an iteration for each list.
    announced = 2 + lists * (2 + events(machine["Announce"]["ItemProcessor"]["States"], "Announce some"))
    of_a_round = events(machine, "Track", "Anything to announce?", "Announce") + announced
    assert of_a_round * (limit("track", "MAX_ROUNDS") + 1) + 2 + events(machine, "Rows failed") < 20_000


def test_a_send_that_waits_for_its_turn_stays_under_20000_events_of_history():
    machine = json.loads(render(templates()["send-message.asl.json"]))["States"]
    of_a_round = events(machine, "Complete?", "Wait", "Go on")
    assert events(machine, "Send") + limit("send", "MAX_ROUNDS") * of_a_round < 20_000


def test_a_send_that_waited_often_fails_at_once():
    machine = json.loads(render(templates()["send-message.asl.json"]))["States"]
    rules = machine["Go on"]["Retry"] + machine["Go on"]["Catch"]
    assert "NotTaken" in our_error_names()
    assert {"NotTaken", "States.ALL"}.isdisjoint(error for rule in rules for error in rule["ErrorEquals"])


def test_what_failed_before_it_had_a_row_is_kept():
    machine = json.loads(render(templates()["send-message.asl.json"]))["States"]
    told, others = machine["Send"]["Catch"]
    # These come once the object is claimed, or are noted in a closed row.
    assert {"AwsUnavailable", "AwsRefused", "InvalidConfiguration", "InvalidInput"}.isdisjoint(told["ErrorEquals"])
    assert set(told["ErrorEquals"]) <= our_error_names()
    assert others["ErrorEquals"] == ["States.ALL"]
    named, unnamed = machine[others["Next"]]["Choices"]
    assert unnamed == {"Variable": "$.detail", "IsPresent": True, "Next": "Keep the event"}
    assert named["Next"] == "Last try"
    assert named["And"][0] == {"Variable": "$.error.Cause", "IsPresent": True}
    patterns = [test["StringMatches"] for test in named["And"][1]["Or"] if test["Variable"] == "$.error.Cause"]

    def has_a_row(message):
        causes = [json.dumps({"errorType": "AwsRefused", "errorMessage": message}, separators=s) for s in ((",", ":"), None)]
        found = {any(fnmatch.fnmatchcase(cause, pattern) for pattern in patterns) for cause in causes}
        assert len(found) == 1, "however the cause is written"
        return found.pop()

    assert has_a_row("row out#0123: no password")
    # A key has any text: it must not pass for a row.
    for message in ("no password", "reading outbound/out#1", 'reading "errorMessage":"row out#1"', "making row out#0123: busy", "the row out#0123 can't be read"):
        assert not has_a_row(message), message
    # The last try fails the execution at a task: one that ends in a Fail state would fail again when it is redriven.
    for state in (told["Next"], machine[others["Next"]]["Default"], machine["Keep the event"]["Next"]):
        assert state == "Last try"
    untried = [p.id for p in all_states() if p.values[0]["Type"] == "Task" and "Retry" not in p.values[0]]
    assert untried == ["send-message: Last try"]
    assert "Catch" not in machine["Last try"]
    assert not [name for name, state in machine.items() if state["Type"] == "Fail"]


def test_no_execution_data_is_logged():
    for file in templates():
        source = (REPOSITORY / "terraform" / file.replace(".asl.json", ".tf")).read_text()
        assert "include_execution_data = false" in source
