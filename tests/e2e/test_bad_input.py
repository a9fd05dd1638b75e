"""Bad input ends in an error that names the thing and the remedy, in the row, the log and the execution's cause."""

import json
import time

import pytest
from stack.chaos import Ageing
from stack.checks import Message, outcome, received, sent
from stack.mesh import password

CONTENT = b"must stay where it is"


def refused(pipeline, key, version, sender, error, parts, row_statuses=("failed",)):
    """The differences between what became of the object and a clean refusal."""
    row = pipeline.wait_error(key, version)
    execution = pipeline.wait(row["execution"])
    texts = {
        "row": row["error"],
        "cause": f"{execution.get('error')}: {execution.get('cause')}",
        "log": "\n".join(line for line in pipeline.function_logs("send-message-chunk", error) if row["execution"] in line),
    }
    found = [f"{where} lacks {part!r}: {text}" for where, text in texts.items() for part in parts if part not in text]
    found += [f"{where} lacks {error}: {text}" for where, text in texts.items() if error not in text]
    if (execution["status"], execution.get("error")) != ("FAILED", error):
        found.append(f"the execution ended {execution['status']} {execution.get('error')}")
    if row["status"] not in row_statuses:
        found.append(f"the row is {row['status']}")
    if "message_id" in row:
        found.append(f"the row has a message id {row['message_id']}")
    accepted = [
        entry for entry in pipeline.stack.requests(f"/messageexchange/{sender}/outbox.*") if entry["status"] == 202
    ]
    if accepted:
        found.append(f"MESH accepted {accepted}")
    s3 = pipeline.stack.client("s3")
    if s3.head_object(Bucket=pipeline.bucket, Key=key)["VersionId"] != version:
        found.append("the object is no longer there")
    return found


def test_an_unknown_recipient(pipeline, sender):
    message = Message(sender, "X26NOBODY", CONTENT)
    key = f"outbound/{sender}/lost.txt"
    version = pipeline.put(key, CONTENT, message.metadata)
    assert refused(pipeline, key, version, sender, "Rejected", ["417", "12", "X26NOBODY", "mex-to"]) == []


def test_an_unknown_sender(pipeline, other):
    stranger = f"X26S{other[-3:]}"
    pipeline.put_secret(f"mailboxes/{stranger}/MAILBOX_PASSWORD", "anything")
    key = f"outbound/{stranger}/a.txt"
    version = pipeline.put(key, CONTENT, Message(stranger, other, CONTENT).metadata)
    parts = [stranger, "MAILBOX_PASSWORD", "MESH_SHARED_KEY"]
    assert refused(pipeline, key, version, stranger, "NotAuthorised", parts, ("claimed", "failed")) == []


def test_a_wrong_password(pipeline, sender, other):
    pipeline.put_secret(f"mailboxes/{sender}/MAILBOX_PASSWORD", "wrong")
    key = f"outbound/{sender}/a.txt"
    version = pipeline.put(key, CONTENT, Message(sender, other, CONTENT).metadata)
    parts = [sender, f"/{pipeline.name}/mesh/mailboxes/{sender}/MAILBOX_PASSWORD"]
    assert refused(pipeline, key, version, sender, "NotAuthorised", parts, ("claimed", "failed")) == []


def test_a_missing_password_parameter(pipeline, sender, other):
    name = f"/{pipeline.name}/mesh/mailboxes/{sender}/MAILBOX_PASSWORD"
    pipeline.stack.client("ssm").delete_parameter(Name=name)
    key = f"outbound/{sender}/a.txt"
    version = pipeline.put(key, CONTENT, Message(sender, other, CONTENT).metadata)
    parts = [name, "SecureString"]
    assert refused(pipeline, key, version, sender, "InvalidConfiguration", parts, ("claimed", "failed")) == []


def test_a_send_whose_cause_was_put_right_is_taken_up_by_the_tracking_run(pipeline, sender, other):
    name = f"mailboxes/{sender}/MAILBOX_PASSWORD"
    pipeline.stack.client("ssm").delete_parameter(Name=f"/{pipeline.name}/mesh/{name}")
    message, key = Message(sender, other, CONTENT), f"outbound/{sender}/a.txt"
    version = pipeline.put(key, CONTENT, message.metadata, ContentType=message.content_type)
    failed = pipeline.wait_error(key, version)
    assert (failed["status"], failed["due"], "expires_at" in failed) == ("claimed", "send", False)
    pipeline.put_secret(name, password(sender))
    Ageing(pipeline).row(failed["id"])
    pipeline.track()
    row = pipeline.wait_sent(key, version)
    assert row["execution"] != failed["execution"]
    assert sent(pipeline, key, version, message) == []


def test_an_object_without_parameters(pipeline, sender):
    key = f"outbound/{sender}/bare.txt"
    version = pipeline.put(key, CONTENT)
    assert refused(pipeline, key, version, sender, "InvalidParameters", ["mex-from", "metadata"]) == []


@pytest.mark.parametrize("missing", ["mex-to", "mex-workflowid"])
def test_an_object_without_one_parameter(pipeline, sender, other, missing):
    key = f"outbound/{sender}/no-{missing}.txt"
    metadata = Message(sender, other, CONTENT).metadata
    del metadata[missing]
    version = pipeline.put(key, CONTENT, metadata)
    assert refused(pipeline, key, version, sender, "InvalidParameters", [missing, "metadata"]) == []


def test_an_empty_object(pipeline, sender, other):
    key = f"outbound/{sender}/empty.txt"
    version = pipeline.put(key, b"", Message(sender, other, b"").metadata)
    assert refused(pipeline, key, version, sender, "InvalidParameters", ["empty"]) == []


@pytest.mark.parametrize("character", ["\t", "\n", "\r\nMex-To: X26ABC1", "\x7f", "\x00"], ids=repr)
def test_a_control_character_in_a_metadata_value(pipeline, sender, other, character):
    key = f"outbound/{sender}/control.txt"
    message = Message(sender, other, CONTENT, headers={"mex-subject": f"one{character}two"})
    version = pipeline.put(key, CONTENT, message.metadata)
    assert refused(pipeline, key, version, sender, "InvalidParameters", ["Mex-Subject", "control character"]) == []
    assert pipeline.stack.requests(f"/messageexchange/{sender}/outbox.*") == []


# Receiving: the message stays in MESH, and is fetched once the fault is mended.


def poll_fails(pipeline, mailbox, error, parts):
    """The differences between what a poll of the mailbox ends in and a clear failure."""
    started = pipeline.stack.client("stepfunctions").start_execution(
        stateMachineArn=pipeline.machine("get-messages"), input=f'{{"mailbox": "{mailbox}"}}'
    )
    execution = pipeline.wait(started["executionArn"])
    texts = {
        "cause": execution.get("cause", ""),
        "log": "\n".join(pipeline.function_logs("poll-mailbox", mailbox)),
    }
    found = [f"{where} lacks {part!r}: {text}" for where, text in texts.items() for part in parts if part not in text]
    if (execution["status"], execution.get("error")) != ("FAILED", error):
        found.append(f"the execution ended {execution['status']} {execution.get('error')}")
    if error not in texts["log"]:
        found.append(f"the log lacks {error}: {texts['log']}")
    found += [f"{row} is left" for row in pipeline.rows() if row.get("lease_id") == mailbox]
    return found


def test_a_poll_of_a_mailbox_unknown_to_mesh(pipeline):
    pipeline.put_secret("mailboxes/X26NOTHERE/MAILBOX_PASSWORD", "anything")
    parts = ["X26NOTHERE", "mailbox of this environment", "MAILBOX_PASSWORD"]
    assert poll_fails(pipeline, "X26NOTHERE", "NotAuthorised", parts) == []


@pytest.mark.parametrize("wrong", ["wrong", None], ids=["wrong password", "missing parameter"])
def test_a_poll_without_the_right_password(pipeline, mailbox, other, wrong):
    message_id = Message(other, mailbox, CONTENT).send(pipeline.stack)
    name = f"/{pipeline.name}/mesh/mailboxes/{mailbox}/MAILBOX_PASSWORD"
    if wrong:
        pipeline.put_secret(f"mailboxes/{mailbox}/MAILBOX_PASSWORD", wrong)
        assert poll_fails(pipeline, mailbox, "NotAuthorised", [mailbox, name]) == []
    else:
        pipeline.stack.client("ssm").delete_parameter(Name=name)
        assert poll_fails(pipeline, mailbox, "InvalidConfiguration", [name, "SecureString"]) == []
    with pipeline.stack.party(mailbox) as party:
        assert party.list_messages() == [message_id]
    pipeline.put_secret(f"mailboxes/{mailbox}/MAILBOX_PASSWORD", password(mailbox))
    # Secrets are cached for minutes; a cold start reads them.
    pipeline.stack.drop_workers()
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    assert pipeline.get(f"inbound/{mailbox}/{message_id}.dat")["Body"] == CONTENT


@pytest.mark.parametrize(
    ("given", "said"), [({"mailbox": "../X26ABC1"}, "names no mailbox"), ({}, '{"mailbox": "<mailbox id>"}'), ({"mailbox_id": "X26ABC1"}, "has no mailbox")]
)
def test_an_input_that_is_no_poll(pipeline, given, said):
    started = pipeline.stack.client("stepfunctions").start_execution(stateMachineArn=pipeline.machine("get-messages"), input=json.dumps(given))
    execution = pipeline.wait(started["executionArn"])
    assert (execution["status"], execution["error"]) == ("FAILED", "InvalidInput")
    assert said in json.loads(execution["cause"])["errorMessage"]


@pytest.mark.parametrize("status", [404, 410])
def test_a_message_that_is_listed_and_is_not_there(pipeline, mailbox, other, status):
    missing = Message(other, mailbox, b"there again later")
    missing_id = missing.send(pipeline.stack)
    path = f"/messageexchange/{mailbox}/inbox/{missing_id}"
    body = json.dumps({"errorEvent": "RECEIVE", "errorCode": "20", "errorDescription": "Message does not exist"})
    pipeline.stack.script("GET", path, status=status, body=body, times=2)
    statuses = []
    for number in range(2):
        # In nobody's way.
        fine = Message(other, mailbox, f"arrives {number}".encode())
        fine_id = fine.send(pipeline.stack)
        polled = pipeline.poll(mailbox)[-1]
        assert (polled["status"], polled["error"]) == ("FAILED", "MessagesFailed")
        assert missing_id in polled["cause"]
        assert received(pipeline, fine_id, fine) == []
        row = pipeline.row(f"in#{missing_id}")
        assert row["error"].startswith("MessageGone")
        statuses.append(row["status"])
    assert statuses == ["receiving", "gone"]
    # It is asked for no more until its time has come.
    assert pipeline.poll(mailbox)[-1]["output"]["statusCode"] == 204
    assert len(pipeline.stack.requests(path)) == 2
    Ageing(pipeline).row(row["id"])
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    assert received(pipeline, missing_id, missing, attempts=3) == []


def test_a_message_that_was_gone_and_comes_in_the_same_execution(pipeline, mailbox, other):
    """As Step Functions repeats a task whose answer it has lost."""
    message = Message(other, mailbox, b"there after all")
    message_id = message.send(pipeline.stack)
    execution = f"{pipeline.machine('get-messages').replace('stateMachine', 'execution')}:lost-answer"
    row = {"id": f"in#{message_id}", "message_id": message_id, "direction": "in", "mailbox": mailbox, "status": "gone"}
    row |= {"execution": execution, "counted_by": execution, "timestamp": "2026-01-01T00:00:00.000Z"}
    item = {name: {"S": value} for name, value in row.items()} | {"attempts": {"N": "2"}, "expires_at": {"N": "9999999999"}}
    pipeline.stack.client("dynamodb").put_item(TableName=f"{pipeline.name}-messages", Item=item)
    batch = {"mailbox": mailbox, "messages": [{"message_id": message_id}], "rounds": 1}
    answer = pipeline.stack.client("lambda").invoke(
        FunctionName=f"{pipeline.name}-fetch-message-chunk", Payload=json.dumps({"execution": execution, "request": batch})
    )
    answer = json.loads(answer["Payload"].read())
    assert answer["stored"] == [{"message_id": message_id}]
    row = pipeline.row(row["id"])
    assert (row["status"], "expires_at" in row) == ("received", False)
    assert pipeline.get(row["s3_key"])["Body"] == message.body
    assert row["s3_key"] in json.dumps(answer["events"])


def test_a_password_that_is_changed_under_a_warm_function(pipeline, mailbox, other):
    name = f"mailboxes/{mailbox}/MAILBOX_PASSWORD"
    # As MESH will have it from now on; what the function has read is another one.
    pipeline.put_secret(name, "as it was")
    pipeline.stack.drop_workers()
    assert pipeline.poll(mailbox)[-1]["error"] == "NotAuthorised"
    message = Message(other, mailbox, b"waits in MESH")
    message_id = message.send(pipeline.stack)
    pipeline.put_secret(name, password(mailbox))
    # What was read within the last 30 seconds counts as fresh; in five minutes it would be read anew whatever MESH says.
    time.sleep(31)
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    assert received(pipeline, message_id, message) == []
