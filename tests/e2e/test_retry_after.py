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
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    assert received(pipeline, message_id, message) == []
