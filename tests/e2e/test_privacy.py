"""A message's content, subject and file name are in S3 and MESH, and nowhere else."""

import json

from stack.checks import Message, received, sent

CONTENT, SUBJECT, FILE = "marker-content-7f3a", "marker-subject-7f3a", "marker-file-7f3a"
SECRETS_OF_A_PATIENT = ("9434765919", "marker-surname")
HEADERS = {"mex-subject": SUBJECT, "mex-filename": f"{FILE}.txt", "mex-localid": "job-1"}


def everything_an_operator_can_see(pipeline):
    """Texts by the place where they are."""
    yield from (("log line", line) for line in pipeline.logs())
    yield from (("row", json.dumps(row, default=str)) for row in pipeline.rows())
    yield from (("event", json.dumps(event)) for event in pipeline.events())
    for machine in ("get-messages", "send-message"):
        for execution in pipeline.executions(machine):
            history = pipeline.history(execution["executionArn"])
            yield from (("execution history", json.dumps(event, default=str)) for event in history)
    url = pipeline.stack.client("sqs").get_queue_url(QueueName=f"{pipeline.name}-send-messages-dead-letter")["QueueUrl"]
    queued = pipeline.stack.client("sqs").receive_message(QueueUrl=url, VisibilityTimeout=0, MaxNumberOfMessages=10)
    yield from (("dead letter", message["Body"]) for message in queued.get("Messages", []))


def test_content_subject_and_file_name_leave_no_trace(pipeline, mailbox, sender, other):
    body = f"{CONTENT} ".encode() * 50
    incoming = Message(other, mailbox, body, content_type="text/plain", headers=HEADERS)
    arrived = incoming.send(pipeline.stack)
    report = pipeline.stack.report(
        mailbox, code="14", description="late", workflow_id="TEST_WORKFLOW", subject=SUBJECT, file_name=f"{FILE}.txt"
    )
    failing = Message(other, mailbox, body, headers=HEADERS).send(pipeline.stack)
    pipeline.stack.script("GET", f"/messageexchange/{mailbox}/inbox/{failing}", status=400, body=CONTENT, times=50)
    (execution,) = pipeline.poll(mailbox)
    assert execution["error"] == "MessagesFailed"
    assert received(pipeline, arrived, incoming) == []
    assert pipeline.row(f"in#{report}")["status"] == "acknowledged"

    outgoing = Message(sender, other, body, content_type="text/plain", headers=HEADERS)
    key = f"outbound/{sender}/private.txt"
    version = pipeline.put(key, body, outgoing.metadata, ContentType="text/plain")
    pipeline.wait_sent(key, version)
    assert sent(pipeline, key, version, outgoing) == []
    # Refused by us, and refused by MESH with an answer that repeats what was sent.
    for name, changes in (
        ("control", {"mex-subject": f"{SUBJECT}\t"}),
        ("lost", {"mex-to": "X26NOBODY"}),
        ("too-long", {"mex-filename": FILE * 30}),
        ("patient", {"mex-to": "GPPROVIDER_{}_20000101_{}".format(*SECRETS_OF_A_PATIENT)}),
    ):
        key = f"outbound/{sender}/{name}.txt"
        version = pipeline.put(key, body, outgoing.metadata | changes)
        row = pipeline.wait_sent(key, version, "failed")
        assert row["error"], name
    assert row["recipient"] == "GPPROVIDER"

    searched = {}
    for where, text in everything_an_operator_can_see(pipeline):
        searched[where] = searched.get(where, 0) + 1
        for marker in (CONTENT, SUBJECT, FILE, *SECRETS_OF_A_PATIENT):
            assert marker not in text, f"{where}: {text}"
    # The search has looked into each place.
    assert {"log line", "row", "event", "execution history"} <= searched.keys()


def test_no_secret_leaves_a_trace(pipeline, mailbox, other):
    Message(other, mailbox, b"hello").send(pipeline.stack)
    pipeline.poll(mailbox)
    secrets = [
        pipeline.stack.shared_key,
        "w0rd",
        "BEGIN PRIVATE KEY",
        "NHSMESH ",
    ]
    state = (pipeline.stack.terraform("e2e").folder / "terraform.tfstate").read_text()
    places = [("Terraform state", state), *everything_an_operator_can_see(pipeline)]
    for where, text in places:
        for secret in secrets:
            assert secret not in text, f"{where}: {text}"
