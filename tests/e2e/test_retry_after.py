"""MESH asks to be left alone for longer than a call waits."""

from stack.chaos import Ageing
from stack.checks import Message, received


def test_a_mailbox_is_not_polled_before_mesh_wants_it(pipeline, mailbox, other):
    message = Message(other, mailbox, b"later")
    message_id = message.send(pipeline.stack)
    inbox = f"/messageexchange/{mailbox}/inbox"
    pipeline.stack.script("GET", inbox, status=503, headers={"Retry-After": "600"})
    for _ in range(2):
        (polled,) = pipeline.poll(mailbox)
        assert (polled["status"], polled["output"]["statusCode"]) == ("SUCCEEDED", 204)
        assert len(pipeline.stack.requests(inbox)) == 1
    # Ten minutes later.
    Ageing(pipeline).lease(mailbox)
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    assert received(pipeline, message_id, message) == []


def test_a_message_is_not_fetched_before_mesh_wants_it(pipeline, mailbox, other):
    message = Message(other, mailbox, b"later")
    message_id = message.send(pipeline.stack)
    path = f"/messageexchange/{mailbox}/inbox/{message_id}"
    pipeline.stack.script("GET", path, status=503, headers={"Retry-After": "600"})
    assert pipeline.poll(mailbox)[-1]["error"] == "MessagesFailed"
    row = pipeline.row(f"in#{message_id}")
    assert (row["status"], row["due"]) == ("receiving", "receive")
    assert pipeline.poll(mailbox)[-1]["output"]["statusCode"] == 204
    assert len(pipeline.stack.requests(path)) == 1
    # Ten minutes later.
    Ageing(pipeline).row(row["id"])
    Ageing(pipeline).lease(mailbox)
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    assert received(pipeline, message_id, message) == []


def test_a_message_is_not_acknowledged_before_mesh_wants_it(pipeline, mailbox, other):
    messages = {}
    for number in range(3):
        message = Message(other, mailbox, f"later {number}".encode())
        messages[message.send(pipeline.stack)] = message
    path = f"/messageexchange/{mailbox}/inbox/.*/status/acknowledged"
    refusal = '{"detail": [{"event": "RECEIVE", "code": "slow", "msg": "slow down"}]}'
    pipeline.stack.script("PUT", path, status=429, headers={"Retry-After": "600"}, body=refusal)
    # The messages are stored: the execution has nothing more to do.
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    asked = len(pipeline.stack.requests(path))
    rows = [pipeline.row(f"in#{message_id}") for message_id in messages]
    waiting = [row for row in rows if row["status"] == "received"]
    assert waiting
    assert [row["status"] for row in rows if row not in waiting] == ["acknowledged"] * (3 - len(waiting))
    for row in waiting:
        assert row["announced"] is True
        assert row["error"].startswith("Throttled")
    # Neither the state machine nor another poll asks again.
    assert pipeline.poll(mailbox)[-1]["output"]["statusCode"] == 204
    assert len(pipeline.stack.requests(f"/messageexchange/{mailbox}/inbox")) == 1
    assert len(pipeline.stack.requests(path)) == asked
    # Ten minutes later.
    Ageing(pipeline).lease(mailbox)
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    for message_id, message in messages.items():
        assert received(pipeline, message_id, message) == []
        assert len(pipeline.told_of(f"in#{message_id}", "MESH message received")) == 1
