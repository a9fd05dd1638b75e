"""Objects from the bucket to MESH."""

import random

import pytest
from stack.checks import MIB, Message, inbox_empty, outcome, received, sent
from stack.pipeline import until

FULL = {
    "mex-subject": "Referral",
    "mex-filename": "referral.xml",
    "mex-localid": "job-1",
    "mex-partnerid": "partner",
    "mex-content-checksum": "00:ff",
    "mex-content-encrypted": "Y",
}


def outbox(pipeline, mailbox):
    """MESH's log of this mailbox's sends."""
    return pipeline.stack.requests(f"/messageexchange/{mailbox}/outbox.*")


def put(pipeline, key, message, **options):
    return pipeline.put(key, message.body, message.metadata, ContentType=message.content_type, **options)


def test_a_small_object_with_metadata(pipeline, sender, other):
    message = Message(sender, other, b"<referral/>", content_type="application/xml", headers=FULL)
    key = f"outbound/{sender}/referral.xml"
    version = put(pipeline, key, message)
    row = pipeline.wait_sent(key, version)
    assert sent(pipeline, key, version, message) == []
    with pipeline.stack.party(other) as party:
        assert len(party.list_messages()) == 1
    assert any("MESHSEND0008" in line for line in pipeline.function_logs("send-message-chunk", row["id"]))


def test_metadata_names_are_case_insensitive_and_any_outbound_folder_counts(pipeline, sender, other):
    message = Message(sender, other, b"hello", content_type="text/plain")
    key = f"outbound_{sender}_to_{other}/hello.txt"
    quoted = {name.title(): value for name, value in message.metadata.items()}
    version = pipeline.put(key, message.body, quoted, ContentType=message.content_type)
    pipeline.wait_sent(key, version)
    assert sent(pipeline, key, version, message) == []


@pytest.mark.parametrize(
    "compress", [None, "no"], ids=["gzip beyond the threshold", "plain when the metadata says so"]
)
def test_25_mib_in_several_chunks(pipeline, sender, other, compress):
    body = random.Random(2).randbytes(13 * MIB).hex().encode()[: 25 * MIB]
    message = Message(sender, other, body, content_type="text/csv", chunks=5, headers={"mex-filename": "big.csv"})
    key = f"outbound/{sender}/big.csv"
    metadata = message.metadata | ({"mex-content-compress": compress} if compress else {})
    version = upload(pipeline, key, body, metadata, message.content_type)
    pipeline.wait_sent(key, version)
    assert sent(pipeline, key, version, message) == []
    log = outbox(pipeline, sender)
    assert [entry["headers"]["mex-chunk-range"] for entry in log] == [f"{number}:5" for number in range(1, 6)]
    assert [entry["status"] for entry in log] == [202] * 5
    encodings = {entry["headers"].get("content-encoding") for entry in log}
    if compress == "no":
        assert encodings == {None}
        assert [entry["received"] for entry in log] == [5 * MIB] * 5
    else:
        assert encodings == {"gzip"}
        assert sum(entry["received"] for entry in log) < 18 * MIB


def upload(pipeline, key, body, metadata, content_type):
    """A multipart upload, whose event has another reason than a put."""
    s3 = pipeline.stack.client("s3")
    where = {"Bucket": pipeline.bucket, "Key": key}
    started = s3.create_multipart_upload(**where, Metadata=metadata, ContentType=content_type)["UploadId"]
    parts = []
    for number, offset in enumerate(range(0, len(body), 8 * MIB), start=1):
        part = s3.upload_part(**where, UploadId=started, PartNumber=number, Body=body[offset : offset + 8 * MIB])
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    done = s3.complete_multipart_upload(**where, UploadId=started, MultipartUpload={"Parts": parts})
    return done["VersionId"]


def test_below_the_threshold_nothing_is_compressed_unless_the_metadata_says_so(pipeline, sender, other):
    body = b"repeat " * 10_000
    for name, compress, size in (("plain", {}, len(body)), ("packed", {"mex-content-compress": "yes"}, None)):
        message = Message(sender, other, body, content_type="text/plain")
        key = f"outbound/{sender}/{name}.txt"
        version = pipeline.put(key, body, message.metadata | compress, ContentType="text/plain")
        pipeline.wait_sent(key, version)
        assert sent(pipeline, key, version, message) == []
        entry = outbox(pipeline, sender)[-1]
        assert entry["headers"].get("content-encoding") == (None if size else "gzip")
        assert entry["received"] == size if size else entry["received"] < 1_000


@pytest.mark.parametrize(
    "name",
    ["a+b.txt", "100%.txt", "100%25+1%2B1.txt", "£5.txt", "żółw 🐢.txt", "two  spaces & more?#=.txt"],
)
def test_keys_and_values_are_used_as_they_come(pipeline, sender, other, name):
    message = Message(
        sender,
        other,
        name.encode(),
        content_type="text/plain",
        headers={"mex-filename": name, "mex-subject": f"about {name}"},
    )
    key = f"outbound/{sender}/{name}"
    version = put(pipeline, key, message)
    pipeline.wait_sent(key, version)
    assert sent(pipeline, key, version, message) == []


def test_a_second_event_for_the_same_version_sends_nothing(pipeline, sender, other):
    message = Message(sender, other, b"only once", content_type="text/plain")
    key = f"outbound/{sender}/once.txt"
    version = put(pipeline, key, message)
    row = pipeline.wait_sent(key, version)
    (first,) = pipeline.executions("send-message", key)
    again = pipeline.stack.client("stepfunctions").start_execution(
        stateMachineArn=pipeline.machine("send-message"), input=first["input"]
    )
    second = pipeline.wait(again["executionArn"])
    assert second["status"] == "SUCCEEDED"
    assert second["output"]["statusCode"] == 200
    assert second["output"]["outcome"] == "duplicate"
    assert pipeline.row_of(key, version) == row
    assert sent(pipeline, key, version, message) == []
    assert len(outbox(pipeline, sender)) == 1
    assert any("MESHSEND0003" in line for line in pipeline.function_logs("send-message-chunk", row["id"]))


def test_a_new_version_of_the_object_is_another_message(pipeline, sender, other):
    key = f"outbound/{sender}/daily.txt"
    versions = []
    for body in (b"monday", b"tuesday"):
        message = Message(sender, other, body, content_type="text/plain")
        versions.append(put(pipeline, key, message))
        pipeline.wait_sent(key, versions[-1])
        assert sent(pipeline, key, versions[-1], message) == []
    with pipeline.stack.party(other) as party:
        bodies = [party.retrieve_message(message_id).read() for message_id in party.list_messages()]
    assert bodies == [b"monday", b"tuesday"]


def put_and_claimed(pipeline, key, message):
    """Puts an object that has its row and is not read for some seconds; returns its version."""
    pipeline.stack.cell(message.sender, f'[/"]{message.sender}[/"]')
    pipeline.stack.fault(message.sender, "delay", call=".*send-message-chunk .* GetObject", seconds=5)
    version = put(pipeline, key, message)
    until(lambda: pipeline.row_of(key, version), f"row of {key}", lambda: pipeline.executions("send-message", key))
    return version


@pytest.mark.parametrize("size", [1000, 11 * MIB], ids=["small", "three chunks"])
def test_an_object_that_is_overwritten_while_it_is_sent(pipeline, sender, other, size):
    key = f"outbound/{sender}/hourly.bin"
    first, second = (Message(sender, other, random.Random(seed).randbytes(size)) for seed in (5, 6))
    versions = [put_and_claimed(pipeline, key, first), put(pipeline, key, second)]
    assert pipeline.row_of(key, versions[0])["status"] in ("claimed", "posting")
    rows = [pipeline.wait_sent(key, version) for version in versions]
    with pipeline.stack.party(other) as party:
        assert len(party.list_messages()) == 2
        for row, message in zip(rows, (first, second), strict=True):
            assert party.retrieve_message(row["message_id"]).read() == message.body


def test_an_object_that_is_deleted_while_it_is_sent(pipeline, sender, other):
    key = f"outbound/{sender}/withdrawn.txt"
    version = put_and_claimed(pipeline, key, Message(sender, other, b"withdrawn"))
    pipeline.stack.client("s3").delete_object(Bucket=pipeline.bucket, Key=key, VersionId=version)
    row = pipeline.wait_error(key, version)
    assert row["status"] == "failed"
    assert row["error"].startswith("ObjectGone")
    assert inbox_empty(pipeline, other) == []


def test_copies_and_folder_markers_send_nothing(pipeline, sender, other):
    message = Message(sender, other, b"copied", content_type="text/plain")
    pipeline.put(f"elsewhere/{sender}.txt", message.body, message.metadata)
    s3 = pipeline.stack.client("s3")
    s3.copy_object(
        Bucket=pipeline.bucket,
        Key=f"outbound/{sender}/copy.txt",
        CopySource={"Bucket": pipeline.bucket, "Key": f"elsewhere/{sender}.txt"},
    )
    marker = pipeline.put(f"outbound/{sender}/", b"")
    ended = until(
        lambda: next(iter(pipeline.executions("send-message", f"outbound/{sender}/")), None),
        "execution for the folder marker",
        lambda: pipeline.executions("send-message"),
    )
    assert pipeline.wait(ended["executionArn"])["status"] == "SUCCEEDED"
    assert len(pipeline.executions("send-message", f"outbound/{sender}/")) == 1
    assert pipeline.row_of(f"outbound/{sender}/", marker) is None
    assert outbox(pipeline, sender) == []


@pytest.mark.parametrize("size", [12, 12 * MIB], ids=["small", "three chunks"])
def test_a_stack_that_sends_to_itself(pipeline, sender, mailbox, size):
    message = Message(sender, mailbox, random.Random(3).randbytes(size), chunks=1 if size == 12 else 3)
    key = f"outbound/{sender}/to-ourselves.bin"
    version = put(pipeline, key, message)
    row = pipeline.wait_sent(key, version)
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    assert sent(pipeline, key, version, message) == []
    message.headers = {"mex-localid": row["local_id"]}
    assert received(pipeline, row["message_id"], message) == []
    assert inbox_empty(pipeline, mailbox) == []
    found = [one for one in pipeline.rows() if one.get("message_id") == row["message_id"]]
    assert sorted(one["direction"] for one in found) == ["in", "out"]


def test_a_mailbox_that_sends_to_itself(pipeline, mailbox):
    message = Message(mailbox, mailbox, b"note to self", content_type="text/plain")
    key = f"outbound/{mailbox}/note.txt"
    version = put(pipeline, key, message)
    row = pipeline.wait_sent(key, version)
    pipeline.poll(mailbox)
    assert sent(pipeline, key, version, message) == []
    message.headers = {"mex-localid": row["local_id"]}
    assert received(pipeline, row["message_id"], message) == []


def test_the_event_of_a_send_names_no_content(pipeline, sender, other):
    message = Message(sender, other, b"body", content_type="text/plain", headers=FULL)
    key = f"outbound/{sender}/event.txt"
    version = put(pipeline, key, message)
    row = pipeline.wait_sent(key, version)
    (event,) = pipeline.events(row["id"])
    assert (event["source"], event["detail-type"]) == ("mesh-client", "MESH message sent")
    # Step Functions adds the machine and the execution.
    assert event["resources"][0] == f"arn:aws:s3:::{pipeline.bucket}"
    assert "Referral" not in str(event) and "referral.xml" not in str(event)
