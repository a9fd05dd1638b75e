"""What a job takes of AWS, counted from its execution's history and the calls of its functions: docs/cost-and-limits.md says the same."""

import collections
import re

import pytest
from stack.checks import Message
from stack.servers import TESTS

DOCUMENT = TESTS.parent / "docs/cost-and-limits.md"
COLUMNS = ("transitions", "events", "invocations", "table writes", "table reads", "S3 writes", "S3 reads", "events put", "MESH requests")
# Reads of parameters are a worker's, not a job's: it keeps what it read for five minutes.
KINDS = {
    "PutItem": "table writes",
    "UpdateItem": "table writes",
    "DeleteItem": "table writes",
    "TransactWriteItems": "table writes",
    "GetItem": "table reads",
    "BatchGetItem": "table reads",
    "Query": "table reads",
    "PutObject": "S3 writes",
    "CreateMultipartUpload": "S3 writes",
    "UploadPart": "S3 writes",
    "CompleteMultipartUpload": "S3 writes",
    "ListParts": "S3 writes",
    "ListMultipartUploads": "S3 writes",
    "ListObjectVersions": "S3 writes",
    # As S3's requests are where nothing in them names the operation.
    "HEAD": "S3 reads",
    "GetObject": "S3 reads",
}
SERVICES = {"dynamodb:deleteItem": "table writes", "dynamodb:updateItem": "table writes", "events:putEvents": "events put", "states:startExecution": None}


def documented(job):
    """A line of the document's table."""
    (line,) = re.findall(rf"^\| {re.escape(job)} \|(.*)\|$", DOCUMENT.read_text(), re.MULTILINE)
    return dict(zip(COLUMNS, (int(cell.replace(",", "")) for cell in line.split("|")), strict=True))


def counted(pipeline, cell, executions):
    """What the executions took."""
    found = collections.Counter(dict.fromkeys(COLUMNS, 0))
    for execution in executions:
        history = pipeline.history(execution)
        found["events"] += len(history)
        for event in history:
            found["transitions"] += event["type"].endswith("StateEntered")
            details = event.get("taskScheduledEventDetails")
            if not details:
                continue
            task = f"{details['resourceType']}:{details['resource'].partition('.')[0]}"
            if task == "lambda:invoke":
                found["invocations"] += 1
            elif kind := SERVICES[task]:
                found[kind] += 1
    for call in pipeline.stack.calls(cell):
        function, service, operation = call["call"].split(" ", 2)
        # An example's consumer reads the object as well.
        if not function.startswith(f"{pipeline.name}-"):
            continue
        if service == "mesh":
            found["MESH requests"] += 1
        elif operation not in ("GetParameters", "GetParameter"):
            found[KINDS[operation]] += 1
    return dict(found)


@pytest.fixture
def cell(pipeline):
    """Counts the calls for a mailbox."""

    def cell(mailbox):
        pipeline.stack.cell(mailbox, f'[/"]{mailbox}[/"]')
        return mailbox

    return cell


def test_a_poll_of_an_empty_mailbox(pipeline, mailbox, cell):
    cell(mailbox)
    executions = [one["executionArn"] for one in pipeline.poll(mailbox)]
    found = counted(pipeline, mailbox, executions)
    assert found == documented("a poll that finds nothing"), " | ".join(str(found[column]) for column in COLUMNS)


@pytest.mark.parametrize(("count", "job"), [(1, "1 small message received"), (10, "10 small messages received")])
def test_small_messages_received(pipeline, mailbox, other, cell, count, job):
    cell(mailbox)
    for number in range(count):
        Message(other, mailbox, b"%d" % number).send(pipeline.stack)
    executions = [one["executionArn"] for one in pipeline.poll(mailbox)]
    found = counted(pipeline, mailbox, executions)
    assert found == documented(job), " | ".join(str(found[column]) for column in COLUMNS)


def test_a_small_object_sent(pipeline, sender, other, cell):
    cell(sender)
    message = Message(sender, other, b"small")
    key = f"outbound/{sender}/small"
    version = pipeline.put(key, message.body, message.metadata)
    row = pipeline.wait_sent(key, version)
    pipeline.wait(row["execution"])
    found = counted(pipeline, sender, [row["execution"]])
    assert found == documented("1 small object sent"), " | ".join(str(found[column]) for column in COLUMNS)
