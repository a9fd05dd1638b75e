"""Sends whose answer is lost, late or a refusal for now: one message arrives, or an operator is asked."""

import json

import pytest
from stack.checks import MIB, Message, sent


def put(pipeline, sender, message, name="a.txt"):
    key = f"outbound/{sender}/{name}"
    version = pipeline.put(key, message.body, message.metadata, ContentType=message.content_type)
    return key, version


def posts(pipeline, sender):
    """How often a first chunk was posted."""
    return len(pipeline.stack.requests(f"/messageexchange/{sender}/outbox"))


def inbox(pipeline, mailbox):
    with pipeline.stack.party(mailbox) as party:
        return party.list_messages()


def test_a_lost_answer_to_an_accepted_message_is_found_by_local_id(pipeline, sender, other):
    message = Message(sender, other, b"only once", content_type="text/plain")
    pipeline.stack.script("POST", f"/messageexchange/{sender}/outbox", status=503, late=True)
    key, version = put(pipeline, sender, message)
    row = pipeline.wait_sent(key, version, seconds=60)
    assert sent(pipeline, key, version, message) == []
    assert inbox(pipeline, other) == [row["message_id"]]
    assert posts(pipeline, sender) == 1


def test_a_request_that_had_no_effect_is_posted_again_after_asking(pipeline, sender, other):
    message = Message(sender, other, b"only once", content_type="text/plain")
    pipeline.stack.script("POST", f"/messageexchange/{sender}/outbox", status=503)
    key, version = put(pipeline, sender, message)
    row = pipeline.wait_sent(key, version, seconds=60)
    assert sent(pipeline, key, version, message) == []
    assert inbox(pipeline, other) == [row["message_id"]]
    assert posts(pipeline, sender) == 2
    asked = pipeline.stack.requests(f"/messageexchange/{sender}/outbox/tracking/.*")
    assert [entry["status"] for entry in asked] == [404]


def test_several_chunks_whose_first_answer_is_lost_become_a_new_message(pipeline, sender, other):
    message = Message(sender, other, b"x" * 6 * MIB, content_type="text/plain", chunks=2)
    pipeline.stack.script("POST", f"/messageexchange/{sender}/outbox", status=503, late=True)
    key, version = put(pipeline, sender, message)
    row = pipeline.wait_sent(key, version, seconds=60)
    assert sent(pipeline, key, version, message) == []
    # The abandoned one stays `uploading`: MESH delivers complete messages only.
    assert inbox(pipeline, other) == [row["message_id"]]


def test_a_lost_answer_to_the_last_chunk_is_no_second_message(pipeline, sender, other):
    message = Message(sender, other, b"x" * 6 * MIB, content_type="text/plain", chunks=2)
    pipeline.stack.script("POST", f"/messageexchange/{sender}/outbox/[^/]+/2", status=503, late=True)
    key, version = put(pipeline, sender, message)
    row = pipeline.wait_sent(key, version, seconds=60)
    assert sent(pipeline, key, version, message) == []
    assert inbox(pipeline, other) == [row["message_id"]]
    chunks = pipeline.stack.requests(f"/messageexchange/{sender}/outbox/[^/]+/2")
    lost, *again = [entry["status"] for entry in chunks]
    # Twice where tracking says for a moment that a complete message is still uploading.
    assert lost == 503
    assert set(again) == {423}


# In between, something answers in MESH's place: of a chunk that got through, and of one that did not.
@pytest.mark.parametrize("chunk", [3, 2], ids=["last", "earlier"])
def test_a_gateways_refusal_of_a_chunk_is_no_word_of_mesh(pipeline, sender, other, chunk):
    message = Message(sender, other, b"x" * 12 * MIB, content_type="text/plain", chunks=3)
    path = f"/messageexchange/{sender}/outbox/[^/]+/{chunk}"
    page = {"headers": {"content-type": "text/html"}, "body": "<html>Request blocked</html>"}
    pipeline.stack.script("POST", path, status=400, late=chunk == 3, **page)
    key, version = put(pipeline, sender, message)
    row = pipeline.wait_sent(key, version, seconds=60)
    assert sent(pipeline, key, version, message) == []
    assert inbox(pipeline, other) == [row["message_id"]]
    assert posts(pipeline, sender) == 1


def test_what_can_not_be_known_is_held_for_an_operator(pipeline, sender, other):
    message = Message(sender, other, b"b", content_type="text/plain", headers={"mex-localid": "used-before"})
    for _ in range(2):
        message.send(pipeline.stack)
    pipeline.stack.script("POST", f"/messageexchange/{sender}/outbox", status=503, late=True)
    key, version = put(pipeline, sender, message)
    row = pipeline.wait_error(key, version)
    execution = pipeline.wait(row["execution"])
    row = pipeline.row_of(key, version)
    assert (execution["status"], execution["error"]) == ("FAILED", "UncertainSend")
    assert row["status"] == "held"
    assert "expires_at" not in row
    for text in (row["error"], execution["cause"]):
        assert "ask the recipient" in text
    assert pipeline.get(key)["Body"] == message.body


# Trailing spaces, and an en dash, which MESH reads as three characters.
@pytest.mark.parametrize(("local_id", "status"), [("REF123  ", "sent"), ("ref\u20131", "held")], ids=["space", "dash"])
def test_a_local_id_that_mesh_reads_otherwise_makes_no_second_message(pipeline, sender, other, local_id, status):
    message = Message(sender, other, b"only once", content_type="text/plain", headers={"mex-localid": local_id})
    pipeline.stack.script("POST", f"/messageexchange/{sender}/outbox", status=503, late=True)
    key, version = put(pipeline, sender, message)
    row = pipeline.wait_sent(key, version, status, seconds=60)
    (arrived,) = inbox(pipeline, other)
    assert posts(pipeline, sender) == 1
    if status == "sent":
        assert (row["message_id"], row["local_id"]) == (arrived, "REF123")
    else:
        assert row["error"].startswith("UncertainSend")
        asked = pipeline.stack.requests(f"/messageexchange/{sender}/outbox/tracking/.*")
        assert [entry["status"] for entry in asked] == [404]


@pytest.mark.parametrize("status", [429, 425])
def test_a_pause_that_mesh_asks_for_is_waited_for(pipeline, sender, other, status):
    message = Message(sender, other, b"later", content_type="text/plain")
    refusal = '{"detail": [{"event": "SEND", "code": "slow", "msg": "slow down"}]}'
    pipeline.stack.script(
        "POST", f"/messageexchange/{sender}/outbox", status=status, headers={"Retry-After": "90"}, body=refusal
    )
    key, version = put(pipeline, sender, message)
    row = pipeline.wait_sent(key, version, seconds=60)
    assert sent(pipeline, key, version, message) == []
    assert posts(pipeline, sender) == 2
    waits = [
        event for event in pipeline.history(row["execution"]) if event["type"] == "WaitStateEntered"
    ]
    assert len(waits) == 1


def test_of_two_invocations_of_one_execution_only_the_later_one_counts(pipeline, sender, other):
    message = Message(sender, other, b"x" * 6 * MIB, content_type="text/plain", chunks=2)
    # The first invocation's answer comes while the second one is half-way.
    pipeline.stack.script("POST", f"/messageexchange/{sender}/outbox", delay=4)
    pipeline.stack.script("POST", f"/messageexchange/{sender}/outbox/[^/]+/2", delay=8)
    key, version = put(pipeline, sender, message)
    row = pipeline.wait_sent(key, version, "posting", wait=False)
    # As Step Functions repeats a task whose answer it has lost, while the function still runs.
    task = {"execution": row["execution"], "request": {"row": row["id"]}}
    pipeline.stack.client("lambda").invoke(
        FunctionName=f"{pipeline.name}-send-message-chunk", Payload=json.dumps(task)
    )
    row = pipeline.wait_sent(key, version, seconds=60)
    assert sent(pipeline, key, version, message) == []
    assert inbox(pipeline, other) == [row["message_id"]]
    assert posts(pipeline, sender) == 2
