"""Messages from MESH into the bucket."""

import gzip
import json
import random

import pytest
from stack.checks import MIB, Message, inbox_empty, outcome, received, report_received
from stack.pipeline import until

TEXT = {
    "mex-subject": "Results",
    "mex-filename": "results.csv",
    "mex-localid": "batch-7",
    "mex-partnerid": "partner",
}


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def states(pipeline, execution):
    """How many states the execution entered: its billed transitions."""
    history = pipeline.history(execution["executionArn"])
    return sum(event["type"].endswith("StateEntered") for event in history)


def lease(pipeline, mailbox):
    """Who works on the mailbox, or None."""
    return next((row for row in pipeline.rows() if row.get("lease_id") == mailbox), None)


def downloads(pipeline, mailbox):
    """MESH's log of this mailbox's downloads."""
    return [
        entry
        for entry in pipeline.stack.requests(f"/messageexchange/{mailbox}/inbox/.*")
        if entry["method"] == "GET"
    ]


def test_a_small_message_with_metadata(pipeline, mailbox, other):
    message = Message(other, mailbox, b"id,result\n1,negative\n", content_type="text/csv", headers=TEXT)
    message_id = message.send(pipeline.stack)
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    assert execution["output"]["statusCode"] == 200
    assert received(pipeline, message_id, message) == []
    assert inbox_empty(pipeline, mailbox) == []
    lines = pipeline.function_logs("fetch-message-chunk", message_id)
    assert any("MESHFETCH0001" in line for line in lines), lines


def test_nothing_waiting_ends_after_one_poll(pipeline, mailbox):
    (execution,) = pipeline.poll(mailbox)
    assert (execution["status"], execution["output"]["statusCode"]) == ("SUCCEEDED", 204)
    assert states(pipeline, execution) <= 3
    assert lease(pipeline, mailbox) is None


def test_a_handshake_only_shakes_hands(pipeline, mailbox, other):
    Message(other, mailbox, b"waits").send(pipeline.stack)
    (execution,) = pipeline.poll(mailbox, "get-messages-handshake")
    assert (execution["status"], execution["output"]["statusCode"]) == ("SUCCEEDED", 204)
    requests = pipeline.stack.requests(f"/messageexchange/{mailbox}(/.*)?")
    assert [(entry["path"], entry["status"]) for entry in requests] == [(f"/messageexchange/{mailbox}", 200)]
    assert pipeline.keys(f"inbound/{mailbox}/") == []


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_three_chunks_of_2_mib_arrive_whole(pipeline, mailbox, other, compress):
    message = Message(other, mailbox, noise(6 * MIB), chunks=3, headers={"mex-filename": "three.bin"})
    message_id = message.send(pipeline.stack, max_chunk_size=2 * MIB, compress=compress)
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    assert received(pipeline, message_id, message) == []
    assert inbox_empty(pipeline, mailbox) == []


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_25_mib_in_several_chunks(pipeline, mailbox, other, compress):
    # Hexadecimal text: it shrinks to half its size.
    body = noise(13 * MIB).hex().encode()[: 25 * MIB]
    message = Message(other, mailbox, body, content_type="text/csv", chunks=4, headers=TEXT)
    message_id = message.send(pipeline.stack, max_chunk_size=7 * MIB, compress=compress)
    if not compress:
        # The sandbox compresses whatever goes to a client that accepts gzip; another server need not.
        plain = {"accept-encoding": "identity"}
        pipeline.stack.script("GET", f"/messageexchange/{mailbox}/inbox/.*", request_headers=plain, times=4)
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    assert received(pipeline, message_id, message) == []
    assert inbox_empty(pipeline, mailbox) == []
    stored = downloads(pipeline, mailbox)
    assert [entry["status"] for entry in stored] == [206, 206, 206, 200]
    encodings = {entry["response_headers"].get("content-encoding") for entry in stored}
    on_the_wire = sum(entry["sent"] for entry in stored)
    if compress:
        assert encodings == {"gzip"}
        assert on_the_wire < 20 * MIB
    else:
        assert encodings == {None}
        assert on_the_wire == 25 * MIB


def test_a_message_that_says_gzip_is_stored_decoded_whatever_its_flag(pipeline, mailbox, other):
    # Compressed by the sender for itself: the flag passes through, and the content stays compressed.
    content = gzip.compress(b"twice packed " * 1000)
    message = Message(other, mailbox, content, content_type="application/gzip")
    with pipeline.stack.party(other) as party:
        message_id = party.send_message(
            mailbox, content, workflow_id="TEST_WORKFLOW", content_type="application/gzip", compressed=True, compress=True
        )
    pipeline.poll(mailbox)
    assert received(pipeline, message_id, message) == []
    assert pipeline.get(f"inbound/{mailbox}/{message_id}.dat")["Metadata"]["mex-content-compressed"] == "Y"


def test_the_senders_flags_and_checksum_pass_through(pipeline, mailbox, other):
    message = Message(other, mailbox, b"flags")
    with pipeline.stack.party(other) as party:
        message_id = party.send_message(
            mailbox, b"flags", workflow_id="TEST_WORKFLOW", content_type="application/pdf", encrypted=True, checksum="00:ff"
        )
    message.content_type = "application/pdf"
    message.headers = {"mex-content-encrypted": "Y", "mex-content-checksum": "00:ff"}
    pipeline.poll(mailbox)
    assert received(pipeline, message_id, message) == []


def test_a_report_is_stored_and_acknowledged(pipeline, mailbox, other):
    sent = Message(mailbox, other, b"will not be collected").send(pipeline.stack)
    report = pipeline.stack.report(
        mailbox,
        code="21",
        status="error",
        description="The reason in words",
        workflow_id="TEST_WORKFLOW",
        subject="about it",
        local_id="job-9",
        linked_message_id=sent,
    )
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    headers = {
        "mex-linkedmsgid": sent,
        "mex-statuscode": "21",
        "mex-statusdescription": "The reason in words",
        "mex-statussuccess": "ERROR",
        "mex-workflowid": "TEST_WORKFLOW",
        "mex-localid": "job-9",
        "mex-subject": "about it",
    }
    columns = {"linked_message_id": sent, "status_code": "21", "local_id": "job-9", "workflow_id": "TEST_WORKFLOW"}
    assert report_received(pipeline, mailbox, report, headers, **columns) == []
    assert inbox_empty(pipeline, mailbox) == []


def test_more_messages_than_a_page_holds(pipeline, mailbox, other):
    messages = [
        Message(other, mailbox, b"number %d" % number, headers={"mex-localid": f"n{number}"}) for number in range(45)
    ]
    ids = [message.send(pipeline.stack) for message in messages]
    executions = pipeline.poll(mailbox)
    assert [outcome(execution) for execution in executions] == ["SUCCEEDED"] * 3
    assert [execution["output"]["statusCode"] for execution in executions] == [200] * 3
    # Poll, choice, map, release, choice, start, choice and done; and for each batch of ten fetch, choice, announce, acknowledge.
    assert max(states(pipeline, execution) for execution in executions) <= 9 + 2 * 4
    differences = [
        difference
        for message_id, message in zip(ids, messages, strict=True)
        for difference in received(pipeline, message_id, message)
    ]
    assert differences == []
    assert inbox_empty(pipeline, mailbox) == []
    assert lease(pipeline, mailbox) is None


def raw_send(pipeline, sender, recipient, headers, body=b"odd headers"):
    """Sends header bytes that the NHS's client would not; returns the message id."""
    with pipeline.stack.party(sender) as party:
        given = {"Mex-To": recipient, "Mex-WorkflowID": "TEST_WORKFLOW", "Content-Type": "text/plain"} | headers
        answer = party._session.post(f"{party.mailbox_url}/outbox", data=body, headers=given, timeout=60)
    assert answer.status_code == 202, answer.text
    return answer.json()["message_id"]


@pytest.mark.parametrize(
    ("subject", "encoding"),
    [
        ("costs £5", "latin-1"),
        ("costs £5", "utf-8"),
        ("żółw – 100 % + 🐢", "utf-8"),
        ("a+b %20 100% & =?;,~_.-'\"()", "ascii"),
    ],
    ids=["pound sign in ISO-8859-1", "pound sign in UTF-8", "UTF-8", "plus, percent and punctuation"],
)
def test_header_text_becomes_quoted_metadata(pipeline, mailbox, other, subject, encoding):
    headers = {"mex-subject": subject, "mex-filename": f"{subject}.txt"}
    sent = {"Mex-Subject": subject.encode(encoding), "Mex-FileName": f"{subject}.txt".encode(encoding)}
    message_id = raw_send(pipeline, other, mailbox, sent)
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    message = Message(other, mailbox, b"odd headers", content_type="text/plain", headers=headers)
    assert received(pipeline, message_id, message) == []


def test_headers_beyond_2_kb_are_kept_beside_the_object(pipeline, mailbox, other):
    # A pound sign takes six bytes once it is quoted.
    headers = {
        "mex-subject": "£" * 400,
        "mex-partnerid": "p" * 400,
        "mex-filename": "f" * 290 + ".txt",
        "mex-localid": "l" * 280,
    }
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    message_id = raw_send(pipeline, other, mailbox, sent)
    (execution,) = pipeline.poll(mailbox)
    assert outcome(execution) == "SUCCEEDED"
    message = Message(other, mailbox, b"odd headers", content_type="text/plain", headers=headers)
    assert received(pipeline, message_id, message, dropped=["subject"]) == []
    kept = json.loads(pipeline.get(f"headers/{mailbox}/{message_id}.json")["Body"])
    assert {name: kept[name] for name in headers} == headers
    assert inbox_empty(pipeline, mailbox) == []


def test_a_second_execution_leaves_a_mailbox_alone_while_one_works(pipeline, mailbox, other):
    messages = [Message(other, mailbox, b"slow") for _ in range(2)]
    ids = [message.send(pipeline.stack) for message in messages]
    pipeline.stack.script("GET", f"/messageexchange/{mailbox}/inbox/{ids[0]}", delay=3)
    first = pipeline.start(mailbox)
    until(lambda: lease(pipeline, mailbox), f"lease of {mailbox}", pipeline.rows)
    second = pipeline.wait(pipeline.start(mailbox))
    assert (second["status"], second["output"]["statusCode"]) == ("SUCCEEDED", 204)
    assert pipeline.wait(first)["status"] == "SUCCEEDED"
    assert [received(pipeline, message_id, message) for message_id, message in zip(ids, messages, strict=True)] == [[], []]
    log = downloads(pipeline, mailbox)
    assert len(log) == 2, log


def test_a_message_that_fails_does_not_stop_the_others(pipeline, mailbox, other):
    messages = [Message(other, mailbox, b"number %d" % number) for number in range(3)]
    ids = [message.send(pipeline.stack) for message in messages]
    pipeline.stack.script("GET", f"/messageexchange/{mailbox}/inbox/{ids[1]}", status=400, body="{}", times=50)
    (execution,) = pipeline.poll(mailbox)
    assert (execution["status"], execution["error"]) == ("FAILED", "MessagesFailed")
    for part in (mailbox, ids[1], "Rejected", "1 "):
        assert part in execution["cause"], execution["cause"]
    assert received(pipeline, ids[0], messages[0]) == []
    assert received(pipeline, ids[2], messages[2]) == []
    row = pipeline.row(f"in#{ids[1]}")
    assert (row["status"], row["attempts"]) == ("receiving", 1)
    assert row["error"].startswith("Rejected: ")
    with pipeline.stack.party(mailbox) as party:
        assert party.list_messages() == [ids[1]]
