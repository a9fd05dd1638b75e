"""Executions that end between two steps: the tracking schedule brings each message to its end."""

import json

import pytest
from stack.chaos import Ageing
from stack.checks import Message, inbox_empty
from stack.mesh import password
from stack.pipeline import until


@pytest.fixture
def ageing(pipeline):
    return Ageing(pipeline)


def put(pipeline, sender, other, body=b"on its way"):
    message = Message(sender, other, body)
    key = f"outbound/{sender}/a.txt"
    pipeline.stack.cell(sender, f'[/"]{sender}[/"]')
    return message, key, lambda: pipeline.put(key, body, message.metadata)


def test_a_message_whose_sent_event_was_not_put_is_told_of_by_tracking(pipeline, ageing, sender, other):
    message, key, do_put = put(pipeline, sender, other)
    # posting, accepted, sent: the execution is stopped as the last is written.
    pipeline.stack.fault(sender, "abort", call=".*send-message-chunk aws UpdateItem", at=3)
    version = do_put()
    row = pipeline.wait_sent(key, version)
    assert pipeline.wait(row["execution"])["status"] == "ABORTED"
    assert pipeline.told_of(row["id"], "MESH message sent") == []
    ageing.row(row["id"])
    assert pipeline.track()["status"] == "SUCCEEDED"
    assert len(pipeline.told_of(row["id"], "MESH message sent")) == 1
    assert pipeline.row(row["id"])["announced"] is True
    # From here on it is followed like any other.
    with pipeline.stack.party(other) as party:
        party.retrieve_message(row["message_id"]).acknowledge()
    ageing.row(row["id"])
    assert pipeline.track()["status"] == "SUCCEEDED"
    assert pipeline.row(row["id"])["status"] == "delivered"
    assert len(pipeline.told_of(row["id"], "MESH message sent")) == 1


def test_a_sent_message_is_told_of_once(pipeline, ageing, sender, other):
    _, key, do_put = put(pipeline, sender, other)
    row = pipeline.wait_sent(key, do_put())
    row = pipeline.row(row["id"])
    assert row["announced"] is True
    ageing.row(row["id"])
    assert pipeline.track()["status"] == "SUCCEEDED"
    assert len(pipeline.told_of(row["id"], "MESH message sent")) == 1


def test_an_acknowledgement_that_its_row_was_not_told_of_is_made_up_for(pipeline, ageing, mailbox, other):
    message = Message(other, mailbox, b"stored and acknowledged")
    message_id = message.send(pipeline.stack)
    pipeline.stack.cell(mailbox, f'[/"]{mailbox}[/"]')
    # MESH has the acknowledgement, and whoever wants to write that down dies: the lease is written before.
    pipeline.stack.fault(mailbox, "kill-before", call=".*acknowledge-message aws UpdateItem", at=2, times=20)
    assert pipeline.poll(mailbox)[-1]["status"] == "FAILED"
    assert inbox_empty(pipeline, mailbox) == []
    row = pipeline.row(f"in#{message_id}")
    assert (row["status"], row["due"]) == ("received", "receive")
    # Polling will never see it again.
    ageing.lease(mailbox)
    assert pipeline.poll(mailbox)[-1]["output"]["statusCode"] == 204
    ageing.received(row["id"])
    for _ in range(2):
        assert pipeline.track()["status"] == "SUCCEEDED"
    row = pipeline.row(row["id"])
    assert row["status"] == "acknowledged"
    assert "due" not in row
    assert pipeline.get(row["s3_key"])["Body"] == message.body
    assert pipeline.told_of(row["id"], "MESH message received")


def test_a_message_that_was_begun_and_vanished_is_closed(pipeline, ageing, mailbox, other):
    message_id = Message(other, mailbox, b"taken by somebody else").send(pipeline.stack)
    pipeline.stack.cell(mailbox, f'[/"]{mailbox}[/"]')
    pipeline.stack.fault(mailbox, "kill-before", call=".*fetch-message-chunk aws PutObject", times=20)
    pipeline.poll(mailbox)
    row = pipeline.row(f"in#{message_id}")
    assert (row["status"], row["due"]) == ("receiving", "receive")
    # As after five days.
    gone = json.dumps({"errorEvent": "RECEIVE", "errorCode": "20", "errorDescription": "Message does not exist"})
    pipeline.stack.script("GET", f"/messageexchange/{mailbox}/inbox/{message_id}", status=404, body=gone)
    ageing.received(row["id"])
    assert pipeline.track()["status"] == "SUCCEEDED"
    row = pipeline.row(row["id"])
    assert row["status"] == "gone"
    assert row["error"].startswith("MessageGone")
    assert "due" not in row


def kept(pipeline, text):
    """The bodies in the dead-letter queue that hold the text; they stay there."""
    sqs = pipeline.stack.client("sqs")
    url = sqs.get_queue_url(QueueName=f"{pipeline.name}-send-messages-dead-letter")["QueueUrl"]
    found = {}
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=3).get("Messages"):
        found |= {message["MessageId"]: message["Body"] for message in messages}
    return [json.loads(body) for body in found.values() if text in body]


def test_an_event_that_fails_before_it_has_a_row_is_kept_and_can_be_sent(pipeline, sender, other):
    message, key, do_put = put(pipeline, sender, other)
    refusal = json.dumps({"__type": "AccessDeniedException", "message": "not authorised to perform dynamodb:PutItem"})
    call = ".*send-message-chunk aws PutItem"
    pipeline.stack.fault(sender, "status", call=call, status=400, body=refusal, times=2)
    version = do_put()
    (execution,) = until(lambda: pipeline.executions("send-message", key) or None, "execution", dict)
    ended = pipeline.wait(execution["executionArn"])
    assert (ended["status"], ended["error"]) == ("FAILED", "AwsRefused")
    assert pipeline.row_of(key, version) is None
    (entry,) = kept(pipeline, sender)
    assert entry["detail"]["object"] == {"key": key, "version-id": version}
    assert entry["error"]["Error"] == "AwsRefused"
    # The cause is mended: the entry is an input as good as the event was.
    pipeline.stack.client("stepfunctions").start_execution(
        stateMachineArn=pipeline.machine("send-message"), input=json.dumps(entry)
    )
    row = pipeline.wait_sent(key, version)
    with pipeline.stack.party(other) as party:
        assert party.list_messages() == [row["message_id"]]


def test_an_event_that_nobody_understands_is_kept(pipeline, sender):
    event = {"detail-type": "Object Created", "detail": {"of another": sender}}
    started = pipeline.stack.client("stepfunctions").start_execution(
        stateMachineArn=pipeline.machine("send-message"), input=json.dumps(event)
    )
    ended = pipeline.wait(started["executionArn"])
    assert (ended["status"], ended["error"]) == ("FAILED", "InvalidInput")
    (entry,) = kept(pipeline, sender)
    assert entry["detail"] == event["detail"]


def test_what_its_row_tells_of_is_not_kept(pipeline, sender):
    key = f"outbound/{sender}/nowhere.txt"
    version = pipeline.put(key, b"to nobody", {"mex-from": sender})
    row = pipeline.wait_sent(key, version, "failed")
    ended = pipeline.wait(row["execution"])
    assert (ended["status"], ended["error"]) == ("FAILED", "InvalidParameters")
    assert kept(pipeline, sender) == []


def test_an_object_whose_row_is_open_is_not_kept(pipeline, sender, other):
    """The sweep sends it: thousands of these would hide what nobody sends."""
    _, key, do_put = put(pipeline, sender, other)
    secret = f"mailboxes/{sender}/MAILBOX_PASSWORD"
    pipeline.stack.client("ssm").delete_parameter(Name=f"/{pipeline.name}/mesh/{secret}")
    version = do_put()
    row = pipeline.wait_error(key, version)
    ended = pipeline.wait(row["execution"])
    assert (ended["status"], ended["error"]) == ("FAILED", "InvalidConfiguration")
    assert json.loads(ended["cause"])["errorMessage"].startswith(f"row {row['id']}: ")
    assert (row["status"], row["due"]) == ("claimed", "send")
    assert kept(pipeline, sender) == []
    pipeline.put_secret(secret, password(sender))
    pipeline.stack.client("stepfunctions").start_execution(
        stateMachineArn=pipeline.machine("send-message"), input=json.dumps({"row": row["id"]})
    )
    assert pipeline.wait_sent(key, version)["status"] == "sent"
