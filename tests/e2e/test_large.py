"""Messages of any size and number of chunks: neither the memory nor what goes between the states grows with them."""

import concurrent.futures
import hashlib
import random
import re
import time

import pytest
from stack.checks import MIB, Message, inbox_empty, outcome, received, sha256
from stack.pipeline import Pipeline

# MiB of a worker's memory, since it was started.
LIMIT = 64
# Of one that sends: with a chunk of the large message in it, which has 20 MiB, it would have more.
SENDING = 32
# Characters of a state's input for one message that is under way.
PAYLOAD = 1_000
PREFIX = "large"
MAILBOXES = [f"X26T{number}" for number in range(980, 984)]
# For a message of many chunks: the local S3 reads a whole object for each of its ranges.
CHUNK = 100
# Of one execution; Step Functions ends it at 25,000.
EVENTS = 20_000


def peak(pipeline, function="fetch-message-chunk"):
    """The most memory that any worker of the function ever had."""
    found = [
        int(megabytes)
        for line in pipeline.function_logs(function, "REPORT")
        for megabytes in re.findall(r"Max Memory Used: (\d+) MB", line)
    ]
    assert found
    return max(found)


def payloads(pipeline, execution, *states):
    """Sizes of what the states were entered with, one after the other."""
    return [
        len(event["stateEnteredEventDetails"]["input"])
        for event in pipeline.history(execution["executionArn"])
        if event["type"] == "TaskStateEntered" and event["stateEnteredEventDetails"]["name"] in states
    ]


def uploads(pipeline, mailbox):
    found = pipeline.stack.client("s3").list_multipart_uploads(Bucket=pipeline.bucket, Prefix=f"inbound/{mailbox}/")
    return found.get("Uploads", [])


def plain(pipeline, mailbox, delay=0):
    """The sandbox compresses on the fly for whoever accepts gzip, and stands still meanwhile."""
    path = f"/messageexchange/{mailbox}/inbox/.*"
    pipeline.stack.script("GET", path, request_headers={"accept-encoding": "identity"}, delay=delay, times=10**6)


@pytest.mark.parametrize(
    ("instance", "ours", "gzip"),
    [("pipeline", "mailbox", False), ("pipeline", "mailbox", True), ("second", "second_mailbox", False)],
    ids=["plain", "compressed on the way", "in inbox order"],
)
def test_several_large_messages_at_once_take_no_more_memory_than_one(request, other, instance, ours, gzip):
    pipeline, mailbox = request.getfixturevalue(instance), request.getfixturevalue(ours)
    pipeline.put_parameter(f"mailboxes/{mailbox}/INBOUND_FOLDER", f"inbound/{mailbox}")
    bodies = [random.Random(seed).randbytes(27 * MIB) for seed in range(4)]
    ids = [Message(other, mailbox, body).send(pipeline.stack, max_chunk_size=20 * MIB) for body in bodies]
    if not gzip:
        plain(pipeline, mailbox)
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    for message_id, body in zip(ids, bodies, strict=True):
        assert sha256(pipeline.get(f"inbound/{mailbox}/{message_id}.dat")["Body"]) == sha256(body)
        assert pipeline.row(f"in#{message_id}")["status"] == "acknowledged"
    assert (inbox_empty(pipeline, mailbox), uploads(pipeline, mailbox)) == ([], [])
    assert peak(pipeline) < LIMIT


def test_a_message_of_many_small_chunks(pipeline, mailbox, other):
    body = random.Random(1).randbytes(9 * MIB)
    message = Message(other, mailbox, body, chunks=288)
    message_id = message.send(pipeline.stack, max_chunk_size=32 * 1024)
    plain(pipeline, mailbox)
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    assert received(pipeline, message_id, message) == []
    assert (inbox_empty(pipeline, mailbox), uploads(pipeline, mailbox)) == ([], [])
    assert max(payloads(pipeline, execution, "Fetch batch")) < PAYLOAD
    assert peak(pipeline) < LIMIT


@pytest.mark.parametrize("kind", ["kill-after", "reset-after"])
def test_an_upload_that_no_row_knows_is_given_up(pipeline, mailbox, other, kind):
    body = random.Random(kind).randbytes(9 * MIB)
    message_id = Message(other, mailbox, body).send(pipeline.stack)
    plain(pipeline, mailbox)
    pipeline.stack.cell(mailbox, f'"{mailbox}"')
    pipeline.stack.fault(mailbox, kind, call=".*fetch-message-chunk .* POST uploads")
    executions = pipeline.poll(mailbox)
    if kind == "kill-after":
        assert [execution["status"] for execution in executions] == ["FAILED"]
        (left,) = uploads(pipeline, mailbox)
        row = pipeline.row(f"in#{message_id}")
        assert left["UploadId"] and "upload_id" not in row
        executions = pipeline.poll(mailbox)
    assert [outcome(execution) for execution in executions] == ["SUCCEEDED"]
    assert [call["fault"] for call in pipeline.stack.calls(mailbox) if call["fault"]] == [kind]
    assert sha256(pipeline.get(f"inbound/{mailbox}/{message_id}.dat")["Body"]) == sha256(body)
    assert pipeline.row(f"in#{message_id}")["status"] == "acknowledged"
    assert (inbox_empty(pipeline, mailbox), uploads(pipeline, mailbox)) == ([], [])


@pytest.fixture(scope="module")
def hurried(stack):
    """An instance whose invocations are as short as the module lets them be. Beside it one that sends in the smallest chunks."""
    short = {"timeout": {"fetch_message_chunk": 120, "send_message_chunk": 120}}
    local = {"mesh_env": "local", "mesh_url": stack.mesh_url, "cloudtrail_enabled": False}
    tiny = {"name_prefix": "tiny", "mailbox_ids": MAILBOXES[2:3], "chunk_size": CHUNK} | local | short
    pipeline = stack.deploy(PREFIX, MAILBOXES, others={"tiny": tiny}, **short)
    pipeline.capture_events()
    return pipeline


@pytest.fixture(scope="module")
def tiny(hurried):
    found = Pipeline(hurried.stack, "tiny-mesh")
    found.put_secrets(MAILBOXES[2:3])
    found.capture_events()
    return found


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("number", "size", "chunk", "delay"),
    # Of small chunks four parts fit into an invocation, so that one comes also on a machine that has more to do.
    [(0, 1024 * MIB, 90 * MIB, 10), (1, 12_000 * 6144, 6144, 0.006)],
    ids=["1 GiB", "12,000 chunks"],
)
def test_hand_overs_of_a_message_beyond_any_invocation(hurried, other, number, size, chunk, delay, tell):
    mailbox = MAILBOXES[number]
    body = random.Random(1).randbytes(MIB) * (size // MIB + 1)
    message = Message(other, mailbox, body[:size], chunks=-(-size // chunk))
    message_id = message.send(hurried.stack, max_chunk_size=chunk)
    plain(hurried, mailbox, delay)
    started = time.monotonic()
    execution = hurried.wait(hurried.start(mailbox), seconds=3600)
    assert outcome(execution) == "SUCCEEDED"
    sizes = payloads(hurried, execution, "Fetch batch")
    seconds = time.monotonic() - started
    tell(f"{size} bytes in {message.chunks} chunks: {seconds:.0f} s, {len(sizes)} invocations with {sizes} characters, {peak(hurried)} MiB")
    assert received(hurried, message_id, message) == []
    assert (inbox_empty(hurried, mailbox), uploads(hurried, mailbox)) == ([], [])
    assert max(sizes) < PAYLOAD
    # Nothing but the digits of its numbers is longer in the last one.
    assert len(sizes) > 2
    assert max(sizes[1:]) - min(sizes[1:]) < 20
    assert peak(hurried) < LIMIT


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("instance", "size", "chunks", "delay"),
    [("hurried", 1024 * MIB, 52, 4), ("tiny", 9_900 * CHUNK, 9_900, 0)],
    ids=["1 GiB", "9,900 chunks"],
)
def test_a_sent_message_beyond_any_invocation(request, instance, size, chunks, delay, other, tell):
    hurried, sender = request.getfixturevalue(instance), MAILBOXES[2]
    body = (random.Random(2).randbytes(MIB) * (size // MIB + 1))[:size]
    metadata = Message(sender, other, body).metadata | {"mex-content-compress": "no"}
    key = f"outbound/{sender}/large"
    if delay:
        hurried.stack.script("POST", f"/messageexchange/{sender}/outbox.*", delay=delay, times=chunks)
    started = time.monotonic()
    version = hurried.put(key, body, metadata)
    row = hurried.wait_sent(key, version, seconds=3600)
    execution = {"executionArn": row["execution"]}
    sizes = payloads(hurried, execution, "Send", "Go on")
    seconds = time.monotonic() - started
    tell(f"sent {size} bytes in {row['chunks']} chunks: {seconds:.0f} s, {len(sizes)} invocations with {sizes} characters, {peak(hurried, 'send-message-chunk')} MiB")
    with hurried.stack.party(other) as party:
        (message_id,) = party.list_messages()
        digest = hashlib.sha256()
        with party.retrieve_message(message_id) as message:
            while block := message.read(MIB):
                digest.update(block)
    assert (message_id, digest.hexdigest()) == (row["message_id"], sha256(body))
    assert row["chunks"] == chunks
    assert len(sizes) > 2
    assert max(sizes) < PAYLOAD
    assert max(sizes[1:]) - min(sizes[1:]) < 20
    assert peak(hurried, "send-message-chunk") < SENDING


@pytest.mark.nightly
def test_an_object_of_too_many_chunks_is_refused_with_the_size_to_use(tiny, other):
    sender, size = MAILBOXES[2], CHUNK * 10_000 + 1
    key = f"outbound/{sender}/too-many"
    version = tiny.put(key, bytes(size), Message(sender, other, b"").metadata)
    row = tiny.wait_sent(key, version, "failed")
    assert row["error"].startswith("InvalidParameters")
    assert f"set chunk_size to at least {CHUNK + 1}" in row["error"]


@pytest.mark.nightly
def test_one_tick_of_the_schedule_drains_what_waits(hurried, other, tell):
    mailbox, count = MAILBOXES[3], 3_000
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda n: Message(other, mailbox, b"%d" % n).send(hurried.stack), range(count)))
    started = time.monotonic()
    executions = [hurried.wait(hurried.start(mailbox), seconds=1800)]
    while following := hurried.started_by(executions[-1]["executionArn"]):
        executions.append(hurried.wait(following, seconds=1800))
    seconds = time.monotonic() - started
    assert [outcome(execution) for execution in executions] == ["SUCCEEDED"] * len(executions)
    histories = [hurried.history(execution["executionArn"]) for execution in executions]
    events = [len(history) for history in histories]
    transitions = [sum(event["type"].endswith("StateEntered") for event in history) for history in histories]
    details = [value for history in histories for event in history for value in event.values() if isinstance(value, dict)]
    payload = max(len(detail[name]) for detail in details for name in ("input", "output") if name in detail)
    tell(f"{count} messages: {seconds:.0f} s, {len(executions)} executions with {events} events, {transitions} transitions, payloads of {payload} characters")
    assert hurried.keys(f"inbound/{mailbox}/") == sorted(f"inbound/{mailbox}/{message_id}.dat" for message_id in ids)
    assert inbox_empty(hurried, mailbox) == []
    assert max(events) < EVENTS
    assert max(transitions) < 300
    assert payload < 64 * 1024
