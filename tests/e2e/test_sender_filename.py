"""Messages under the names that their senders gave them, and in places that parameters name."""

import hashlib
import json
import uuid

import pytest
from conftest import SECOND_BUCKET
from stack.checks import MIB, Message, inbox_empty, outcome


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


def versions(pipeline, key, bucket=None):
    """The bodies of a key's versions, newest first."""
    s3, bucket = pipeline.stack.client("s3"), bucket or pipeline.bucket
    found = s3.list_object_versions(Bucket=bucket, Prefix=key).get("Versions", [])
    return [s3.get_object(Bucket=bucket, Key=key, VersionId=one["VersionId"])["Body"].read() for one in found]


@pytest.fixture
def folder(second, second_mailbox):
    """The place of the mailbox, as it is without the legacy one."""
    second.put_parameter(f"mailboxes/{second_mailbox}/INBOUND_FOLDER", f"inbound/{second_mailbox}/")
    return f"inbound/{second_mailbox}"


def send(pipeline, sender, recipient, body, name, **options):
    return Message(sender, recipient, body, headers={"mex-filename": name}).send(pipeline.stack, **options)


def stored(pipeline, message_id, key, body, bucket=None):
    """The message is under the key, its row and event tell of it by the key's SHA-256 alone, and MESH is told."""
    bucket = bucket or pipeline.bucket
    found = pipeline.stack.client("s3").get_object(Bucket=bucket, Key=key)
    assert found["Body"].read() == body
    assert found["Metadata"]["mex-messageid"] == message_id
    row = pipeline.row(f"in#{message_id}")
    assert (row["status"], row["s3_bucket"], row["s3_key_sha256"]) == ("acknowledged", bucket, digest(key))
    assert "s3_key" not in row
    event = pipeline.told_of(f"in#{message_id}", "MESH message received")[-1]
    assert (event["bucket"], event["key_sha256"]) == (bucket, digest(key))
    assert "key" not in event


def test_two_messages_of_one_name_and_one_that_would_leave_its_folder(second, second_mailbox, other, folder):
    first = send(second, other, second_mailbox, b"first", "results 1.csv")
    second.poll(second_mailbox)
    next_one = send(second, other, second_mailbox, b"next", "results 1.csv")
    outside = send(second, other, second_mailbox, b"outside", "../X26T952/results.csv")
    (execution,) = second.poll(second_mailbox)
    assert outcome(execution) == "SUCCEEDED"
    stored(second, first, f"{folder}/results 1.csv", b"first")
    stored(second, next_one, f"{folder}/{next_one}_results 1.csv", b"next")
    stored(second, outside, f"{folder}/{outside}.dat", b"outside")
    assert len(second.keys(f"{folder}/")) == 3
    assert inbox_empty(second, second_mailbox) == []


def test_a_report_keeps_its_id(second, second_mailbox, folder):
    report = second.stack.report(
        second_mailbox, status="error", code="14", description="late", workflow_id="TEST_WORKFLOW", subject="about it", file_name="results.csv"
    )
    second.poll(second_mailbox)
    assert second.keys(f"{folder}/") == [f"{folder}/{report}.ctl"]
    assert second.row(f"in#{report}")["s3_key_sha256"] == digest(f"{folder}/{report}.ctl")


@pytest.mark.parametrize("since", ["nothing", "taken away", "another message"])
@pytest.mark.parametrize("size", [10, 9 * MIB])
def test_a_worker_that_died_after_storing_leaves_one_object(second, second_mailbox, other, folder, since, size):
    body, key = b"x" * size, f"{folder}/daily.csv"
    message_id = send(second, other, second_mailbox, body, "daily.csv")
    second.poll(second_mailbox)
    # As it is when the worker dies between the object and the row.
    second.stack.put_back(message_id)
    second.set_row(message_id, "status", "receiving")
    if since != "nothing":
        second.stack.client("s3").delete_object(Bucket=second.bucket, Key=key)
    if since == "another message":
        later = second.put(key, b"later", {"mex-messageid": "another"})
    (execution,) = second.poll(second_mailbox)
    assert outcome(execution) == "SUCCEEDED"
    assert inbox_empty(second, second_mailbox) == []
    assert versions(second, key).count(body) == 1
    assert second.row(f"in#{message_id}")["status"] == "acknowledged"
    expected = {"nothing": [key], "taken away": [], "another message": [key]}[since]
    assert second.keys(f"{folder}/") == expected
    if since == "another message":
        assert second.get(key)["VersionId"] == later


@pytest.mark.parametrize("size", [10, 9 * MIB])
def test_a_redelivered_message_is_a_new_version_and_replaces_no_other(second, second_mailbox, other, folder, size):
    body, key = b"x" * size, f"{folder}/daily.csv"
    message_id = send(second, other, second_mailbox, body, "daily.csv")
    second.poll(second_mailbox)

    def again():
        second.stack.put_back(message_id)
        second.set_row(message_id, "updated_at", "2026-01-01T00:00:00.000Z")
        (execution,) = second.poll(second_mailbox)
        assert outcome(execution) == "SUCCEEDED"

    again()
    assert versions(second, key) == [body, body]
    # Its place is another message's now.
    second.stack.client("s3").delete_object(Bucket=second.bucket, Key=key)
    later = send(second, other, second_mailbox, b"later", "daily.csv")
    second.poll(second_mailbox)
    again()
    stored(second, later, key, b"later")
    stored(second, message_id, f"{folder}/{message_id}_daily.csv", body)


@pytest.mark.parametrize("given", ["bucket and folder", "nothing"])
def test_parameters_name_the_place(second, second_mailbox, other, given):
    name, bucket, key = f"{uuid.uuid4().hex}.csv", second.bucket, ""
    if given != "nothing":
        bucket, key = SECOND_BUCKET, "legacy/in/"
        second.put_parameter(f"mailboxes/{second_mailbox}/INBOUND_BUCKET", bucket)
        second.put_parameter(f"mailboxes/{second_mailbox}/INBOUND_FOLDER", key)
    message_id = send(second, other, second_mailbox, b"somewhere", name)
    (execution,) = second.poll(second_mailbox)
    assert outcome(execution) == "SUCCEEDED"
    stored(second, message_id, key + name, b"somewhere", bucket)


def test_a_name_leaves_no_trace_outside_of_s3(second, second_mailbox, other, folder):
    """A message in many parts, one that fails, and one whose name is taken."""
    marker = f"marker-{uuid.uuid4().hex}"
    name = f"{marker}.bin"
    large = send(second, other, second_mailbox, b"x" * (17 * MIB), name, max_chunk_size=7 * MIB)
    failing = send(second, other, second_mailbox, b"fails", name)
    second.stack.script("GET", f"/messageexchange/{second_mailbox}/inbox/{failing}", status=400, times=50)
    second.poll(second_mailbox)
    taken = send(second, other, second_mailbox, b"next", name)
    second.poll(second_mailbox)
    stored(second, large, f"{folder}/{name}", b"x" * (17 * MIB))
    stored(second, taken, f"{folder}/{taken}_{name}", b"next")
    executions = second.executions("get-messages", second_mailbox)
    told = [event for event in second.events() if event["source"] == "mesh-client"]
    places = {
        "log": second.logs(),
        "row": second.rows(),
        "event": told,
        "history": [event for execution in executions for event in second.history(execution["executionArn"])],
    }
    for place, texts in places.items():
        assert texts, place
        for text in texts:
            assert marker not in json.dumps(text, default=str), f"{place}: {text}"
    assert any(digest(f"{folder}/{name}") in line for line in second.logs())
