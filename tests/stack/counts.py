"""What jobs take of AWS, counted from executions' histories and the calls of their functions, and what docs/cost-and-limits.md says of them."""

import collections
import re

from stack.servers import TESTS

DOCUMENT = TESTS.parent / "docs/cost-and-limits.md"
COLUMNS = ("transitions", "events", "payload bytes", "invocations", "table writes", "table reads", "S3 writes", "S3 reads", "events put", "MESH requests")
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
    "UploadPart": "S3 writes",
    "ListParts": "S3 writes",
    "GetObject": "S3 reads",
    # As S3's requests are where nothing in them names the operation. Listing is priced as writing.
    "POST uploads": "S3 writes",
    "POST uploadId": "S3 writes",
    "GET uploads": "S3 writes",
    "GET versions": "S3 writes",
    "HEAD": "S3 reads",
}
SERVICES = {"dynamodb:deleteItem": "table writes", "dynamodb:updateItem": "table writes", "events:putEvents": "events put", "states:startExecution": None}


def documented(job):
    """A line of the document's table."""
    (line,) = re.findall(rf"^\| {re.escape(job)} \|(.*)\|$", DOCUMENT.read_text(), re.MULTILINE)
    return dict(zip(COLUMNS, (int(cell.replace(",", "")) for cell in line.split("|")), strict=True))


def counted(pipeline, cell, executions, since=0):
    """What the executions took, and the calls of the cell from that time on."""
    found = collections.Counter(dict.fromkeys(COLUMNS, 0))
    largest = 0
    for execution in executions:
        history = pipeline.history(execution)
        found["events"] += len(history)
        for event in history:
            if entered := event.get("stateEnteredEventDetails"):
                found["transitions"] += 1
                largest = max(largest, len(entered["input"].encode()))
            details = event.get("taskScheduledEventDetails")
            if not details:
                continue
            task = f"{details['resourceType']}:{details['resource'].partition('.')[0]}"
            if task == "lambda:invoke":
                found["invocations"] += 1
            elif kind := SERVICES[task]:
                found[kind] += 1
    for call in (call for call in pipeline.stack.calls(cell) if call["time"] >= since):
        function, service, operation = call["call"].split(" ", 2)
        # An example's consumer reads the object as well.
        if not function.startswith(f"{pipeline.name}-"):
            continue
        if service == "mesh":
            found["MESH requests"] += 1
        elif operation not in ("GetParameters", "GetParameter"):
            found[KINDS[operation]] += 1
    found["payload bytes"] = largest
    return dict(found)


def check(found, job):
    """That a job took what the document says, which the failure says in the document's form."""
    expected = documented(job)
    line = " | ".join(f"{found[column]:,}" for column in COLUMNS)
    # Ids, ARNs and times are longer by a few bytes in one run than in another.
    if abs(found["payload bytes"] - expected["payload bytes"]) <= 100:
        found = found | {"payload bytes": expected["payload bytes"]}
    assert found == expected, line
