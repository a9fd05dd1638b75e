"""Messages that MESH lists though they were received."""

import time

import pytest
from stack.checks import Message, inbox_empty, outcome, received


def versions(pipeline, key):
    found = pipeline.stack.client("s3").list_object_versions(Bucket=pipeline.bucket, Prefix=key)
    return len(found.get("Versions", []))


def test_within_a_day_it_is_only_acknowledged_again(pipeline, mailbox, other):
    message = Message(other, mailbox, b"once", content_type="text/plain")
    message_id = message.send(pipeline.stack)
    pipeline.poll(mailbox)
    pipeline.stack.put_back(message_id)
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    assert inbox_empty(pipeline, mailbox) == []
    assert received(pipeline, message_id, message) == []
    assert versions(pipeline, f"inbound/{mailbox}/{message_id}.dat") == 1


def test_later_it_was_redelivered_and_becomes_a_new_version(pipeline, mailbox, other):
    message = Message(other, mailbox, b"twice", content_type="text/plain")
    message_id = message.send(pipeline.stack)
    pipeline.poll(mailbox)
    pipeline.stack.put_back(message_id)
    pipeline.set_row(message_id, "updated_at", "2026-01-01T00:00:00.000Z")
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    assert inbox_empty(pipeline, mailbox) == []
    assert versions(pipeline, f"inbound/{mailbox}/{message_id}.dat") == 2
    row = pipeline.row(f"in#{message_id}")
    assert (row["status"], "redelivered" in row) == ("acknowledged", False)
    assert len(pipeline.told_of(f"in#{message_id}", "MESH message received")) == 2


def test_a_worker_that_died_after_storing_leaves_one_object(pipeline, mailbox, other):
    message = Message(other, mailbox, b"once", content_type="text/plain")
    message_id = message.send(pipeline.stack)
    pipeline.poll(mailbox)
    pipeline.stack.put_back(message_id)
    key = f"inbound/{mailbox}/{message_id}.dat"
    # As it is when the worker dies between the object and the row, and a consumer has taken the object away.
    pipeline.set_row(message_id, "status", "receiving")
    pipeline.stack.client("s3").delete_object(Bucket=pipeline.bucket, Key=key)
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    assert inbox_empty(pipeline, mailbox) == []
    assert versions(pipeline, key) == 1
    assert pipeline.row(f"in#{message_id}")["status"] == "acknowledged"


@pytest.mark.parametrize("call", ["PutObject", "UpdateItem"])
def test_a_worker_that_died_over_a_redelivery_makes_one_new_version(pipeline, mailbox, other, call):
    message = Message(other, mailbox, b"twice", content_type="text/plain")
    message_id = message.send(pipeline.stack)
    pipeline.poll(mailbox)
    pipeline.stack.put_back(message_id)
    pipeline.set_row(message_id, "updated_at", "2026-01-01T00:00:00.000Z")
    # S3's times are to the second, and a redelivery is a day later.
    time.sleep(1.1)
    pipeline.stack.cell(mailbox, f'"{mailbox}"')
    # After the object, or after the row is begun and nothing more.
    pipeline.stack.fault(mailbox, "kill-after", call=f".*fetch-message-chunk .* {call}", at=2 if call == "UpdateItem" else 1)
    key = f"inbound/{mailbox}/{message_id}.dat"
    pipeline.poll(mailbox)
    assert [one["fault"] for one in pipeline.stack.calls(mailbox) if one["fault"]] == ["kill-after"]
    assert versions(pipeline, key) == (2 if call == "PutObject" else 1)
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    assert inbox_empty(pipeline, mailbox) == []
    assert versions(pipeline, key) == 2
    assert pipeline.row(f"in#{message_id}")["version_id"] == pipeline.get(key)["VersionId"]
