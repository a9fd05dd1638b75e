"""What docs/moving-in.md says is better than before, where no other test shows it."""

import base64
import gzip
import time

import pytest
from stack.chaos import Ageing
from stack.checks import MIB, Message, inbox_empty, outcome, received, sent, sha256


def steps(pipeline, execution):
    """How many events the execution took, and the longest text that went between two states."""
    history = pipeline.history(execution)
    details = [value for event in history for value in event.values() if isinstance(value, dict)]
    texts = [detail[name] for detail in details for name in ("input", "output") if name in detail]
    return len(history), max(map(len, texts))


def lease(pipeline, mailbox):
    return next((row for row in pipeline.rows() if row.get("lease_id") == mailbox), None)


def uploads(pipeline, prefix):
    found = pipeline.stack.client("s3").list_multipart_uploads(Bucket=pipeline.bucket, Prefix=prefix)
    return found.get("Uploads", [])


@pytest.fixture
def folder(second, second_mailbox):
    """Where the messages of a mailbox of `second` go."""
    second.put_parameter(f"mailboxes/{second_mailbox}/INBOUND_FOLDER", f"inbound/{second_mailbox}/")
    return f"inbound/{second_mailbox}"


def test_a_message_that_kills_its_worker_is_in_nobodys_way(pipeline, mailbox, other):
    """One such message ended the whole page, and met the next poll again."""
    stack = pipeline.stack
    bodies = [b"before it", b"kills", b"after it"]
    ids = [Message(other, mailbox, body).send(stack) for body in bodies]
    poison, fine = ids[1], [ids[0], ids[2]]
    # An execution's later calls are the cell's that it was first seen in, unless they fit another.
    stack.cell(f"kills-{mailbox}", poison)
    stack.cell(f"fine-{mailbox}", "|".join(fine))
    stack.fault(f"kills-{mailbox}", "kill-before", call=".* mesh download", times=1000)
    # They come in one batch, and with the worker all of them fail; an execution that starts at once takes them one by one.
    executions = pipeline.poll(mailbox)
    assert [(one["status"], one["error"]) for one in executions] == [("FAILED", "MessagesFailed")] * 2
    for message_id, body in zip(ids, bodies, strict=True):
        if message_id in fine:
            assert pipeline.get(f"inbound/{mailbox}/{message_id}.dat")["Body"] == body
            assert pipeline.row(f"in#{message_id}")["status"] == "acknowledged"
    with stack.party(mailbox) as party:
        assert party.list_messages() == [poison]
    row = pipeline.row(f"in#{poison}")
    assert (row["status"], row["attempts"]) == ("receiving", 2)
    stack.faults("DELETE", f"faults?cell=kills-{mailbox}")
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    assert pipeline.get(f"inbound/{mailbox}/{poison}.dat")["Body"] == b"kills"


def test_of_polls_that_start_together_one_works_and_none_fails(pipeline, mailbox, other):
    """Each looked for the other among all running executions; both gave up, as failed executions."""
    stack = pipeline.stack
    messages = [Message(other, mailbox, b"%d" % number) for number in range(5)]
    ids = [message.send(stack) for message in messages]
    stack.cell(mailbox, f'[/"]{mailbox}[/"]')
    # Whichever is first is at work when the others come.
    stack.script("GET", f"/messageexchange/{mailbox}/inbox/{ids[0]}", delay=3)
    executions = [pipeline.wait(one) for one in [pipeline.start(mailbox) for _ in range(4)]]
    assert [outcome(execution) for execution in executions] == ["SUCCEEDED"] * 4
    assert [received(pipeline, message_id, message) for message_id, message in zip(ids, messages, strict=True)] == [[]] * 5
    assert inbox_empty(pipeline, mailbox) == []
    calls = [call["call"] for call in stack.calls(mailbox)]
    assert len([call for call in calls if call.endswith("mesh download")]) == 5
    assert not [call for call in calls if "Execution" in call], calls


def test_an_aborted_poll_holds_its_mailbox_for_a_time_only(pipeline, mailbox, other):
    """A lock in a table would be held for ever by an execution that was aborted."""
    stack = pipeline.stack
    message_id = Message(other, mailbox, b"in the end").send(stack)
    stack.cell(mailbox, f'[/"]{mailbox}[/"]')
    stack.fault(mailbox, "abort", call=".* mesh download")
    (execution,) = pipeline.poll(mailbox)
    # The local engine calls it failed, since it was amid a Map; what fails by itself gives the lease back.
    assert execution["status"] in ("ABORTED", "FAILED")
    held = lease(pipeline, mailbox)
    assert held["owner"] == execution["executionArn"]
    # The function's time limit and a minute.
    assert 0 < held["until"] - time.time() <= 900 + 60
    # Until its time has passed the mailbox is left alone, and nothing fails.
    (second,) = pipeline.poll(mailbox)
    assert (second["status"], second["output"]["statusCode"]) == ("SUCCEEDED", 204)
    Ageing(pipeline).lease(mailbox)
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    assert pipeline.get(f"inbound/{mailbox}/{message_id}.dat")["Body"] == b"in the end"
    assert pipeline.row(f"in#{message_id}")["status"] == "acknowledged"
    assert lease(pipeline, mailbox) is None


def test_many_chunks_take_as_many_steps_as_one(pipeline, mailbox, sender, other):
    """Seven events of history for each chunk, and part ETags in the state, gave a message a largest size."""
    found = []
    for chunks in (1, 60):
        message = Message(other, mailbox, bytes(60_000), chunks=chunks)
        message_id = message.send(pipeline.stack, max_chunk_size=60_000 // chunks)
        (execution,) = pipeline.poll(mailbox)
        assert received(pipeline, message_id, message) == []
        found.append(steps(pipeline, execution["executionArn"]))
    (few_events, few_bytes), (many_events, many_bytes) = found
    assert many_events == few_events
    assert abs(many_bytes - few_bytes) < 10
    found = []
    for size, chunks in ((1, 1), (11 * MIB, 3)):
        message = Message(sender, other, bytes(size), chunks=chunks)
        key = f"outbound/{sender}/{chunks}"
        version = pipeline.put(key, message.body, message.metadata, ContentType=message.content_type)
        row = pipeline.wait_sent(key, version)
        assert sent(pipeline, key, version, message) == []
        found.append(steps(pipeline, row["execution"])[0])
    assert len(set(found)) == 1


def test_a_message_larger_than_the_functions_memory_each_way(second, second_mailbox, folder, other):
    """A fetched chunk was kept on disk and a sent one in memory. Here a worker that writes a file dies."""
    for function in ("fetch-message-chunk", "send-message-chunk"):
        found = second.stack.client("lambda").get_function_configuration(FunctionName=f"{second.name}-{function}")
        assert found["MemorySize"] == 128
        assert found.get("EphemeralStorage", {"Size": 512}) == {"Size": 512}
    body = bytes(130 * MIB)
    incoming = Message(other, second_mailbox, body, headers={"mex-filename": "large.bin"})
    message_id = incoming.send(second.stack, max_chunk_size=len(body))
    assert second.poll(second_mailbox)[-1]["status"] == "SUCCEEDED"
    row = second.row(f"in#{message_id}")
    assert (row["status"], row["attempts"], row["size"]) == ("acknowledged", 1, len(body))
    assert sha256(second.get(f"{folder}/large.bin")["Body"]) == sha256(body)
    outgoing = Message(second_mailbox, other, body, chunks=7, headers={"mex-filename": "large.bin"})
    key = f"outbound/{second_mailbox}/large.bin"
    metadata = outgoing.metadata | {"mex-content-compress": "no"}
    version = second.put(key, body, metadata, ContentType=outgoing.content_type)
    row = second.wait_sent(key, version)
    assert row["attempts"] == 1
    assert sent(second, key, version, outgoing) == []


def test_a_few_bytes_that_become_many_are_not_stored(second, second_mailbox, folder, other):
    """A gzip bomb: 1 MiB that is 1 GiB, where a message may have 200 MiB."""
    stack = second.stack
    bomb = Message(other, second_mailbox, b"says nothing").send(stack)
    fine = Message(other, second_mailbox, b"arrives", headers={"mex-filename": "fine.txt"}).send(stack)
    headers = {
        "content-encoding": "gzip",
        "content-type": "application/octet-stream",
        "mex-messageid": bomb,
        "mex-messagetype": "DATA",
        "mex-from": other,
        "mex-to": second_mailbox,
        "mex-workflowid": "TEST_WORKFLOW",
        "mex-filename": "bomb.bin",
    }
    packed = base64.b64encode(gzip.compress(bytes(64 * MIB)) * 16).decode()
    path = f"/messageexchange/{second_mailbox}/inbox/{bomb}"
    stack.script("GET", path, status=200, headers=headers, base64=packed)
    execution = second.poll(second_mailbox)[-1]
    assert (execution["status"], execution["error"]) == ("FAILED", "MessagesFailed")
    # The message's own error: its worker lived on.
    assert f"{bomb} (InvalidMessage)" in execution["cause"]
    row = second.row(f"in#{bomb}")
    assert (row["status"], row["attempts"]) == ("receiving", 1)
    for part in ("InvalidMessage", bomb, "max_message_size", str(200 * MIB), "ask its sender"):
        assert part in row["error"], row["error"]
    assert second.get(f"{folder}/fine.txt")["Body"] == b"arrives"
    assert second.row(f"in#{fine}")["status"] == "acknowledged"
    assert second.keys(folder) == [f"{folder}/fine.txt"]
    assert uploads(second, folder) == []
    # It stays in MESH, and what it is really is stored when MESH says so.
    with stack.party(second_mailbox) as party:
        assert party.list_messages() == [bomb]
    assert second.poll(second_mailbox)[-1]["status"] == "SUCCEEDED"
    assert second.row(f"in#{bomb}")["status"] == "acknowledged"
