"""Log lines in CloudWatch, as a metric filter or a saved search of the replaced module's users finds them."""

import json

import pytest
from stack.checks import MIB, Message, outcome

# By function: what a message each way, a report, a handshake and an event that comes twice leave in the logs.
EXPECTED = {
    "poll-mailbox": {
        "LAMBDA0002": set(),
        "LAMBDA0003": {"duration", "aws_request_id"},
        "MESHMBOX0004": {"mailbox", "http_status"},
        "MESHMBOX0005": {"mailbox", "message_count"},
        "MESHPOLL0001": {"mailbox", "message_count"},
    },
    "fetch-message-chunk": {
        "MESHFETCH0001": {"message_id"},
        "MESHFETCH0001c": {"s3_bucket", "s3_key"},
        "MESHFETCH0002": {"message_id"},
        "MESHFETCH0004": {"message_id"},
        "MESHFETCH0005a": {"message_id"},
        "MESHFETCH0010": {"message_id"},
        "MESHFETCH0011": {"message_id"},
        "MESHFETCH0013": {"message_id"},
    },
    "acknowledge-message": {"MESHMBOX0006": {"message_id"}, "MESHFETCH0012": {"message_id"}},
    "send-message-chunk": {
        "LAMBDA0003": {"duration", "aws_request_id"},
        "MESHSEND0001": {"bucket", "file"},
        "MESHSEND0003": set(),
        "MESHSEND0004": {"file", "file_size", "chunks", "dest_mailbox", "src_mailbox", "workflow_id"},
        "MESHSEND0005": {"chunk_num", "max_chunk"},
        "MESHSEND0007": {"chunk_num", "max_chunk", "message_id", "http_status"},
        "MESHSEND0008": {"message_id"},
    },
}


@pytest.fixture(scope="module")
def executions(pipeline, request):
    """The executions that moved the messages."""
    # Mailboxes of this module's own, once.
    from conftest import OTHERS, OURS, take

    mailbox, other = take("ours", OURS), take("others", OTHERS)
    Message(other, mailbox, b"in one piece").send(pipeline.stack)
    Message(other, mailbox, b"in three" * MIB).send(pipeline.stack, max_chunk_size=6 * MIB)
    pipeline.stack.report(mailbox, status="error", code="14", description="Not collected", workflow_id="TEST_WORKFLOW", linked_message_id="1")
    found = pipeline.poll(mailbox) + pipeline.poll(mailbox, "get-messages-handshake")
    message = Message(mailbox, other, b"out of two chunks" * MIB)
    key = f"outbound/{mailbox}/logged.bin"
    version = pipeline.put(key, message.body, message.metadata)
    row = pipeline.wait_sent(key, version)
    (first,) = pipeline.executions("send-message", json.dumps(key))
    again = pipeline.stack.client("stepfunctions").start_execution(
        stateMachineArn=pipeline.machine("send-message"), input=first["input"]
    )["executionArn"]
    found += [pipeline.wait(row["execution"]), pipeline.wait(again)]
    assert {outcome(execution) for execution in found} == {"SUCCEEDED"}
    return {execution["executionArn"] for execution in found}


@pytest.mark.parametrize("function", EXPECTED)
def test_lines_are_found_by_code_and_carry_its_fields(pipeline, executions, function):
    lines = [json.loads(line) for line in pipeline.function_logs(function, "logReference")]
    mine = [line for line in lines if line.get("execution") in executions]
    found = {line["logReference"] for line in mine}
    assert set(EXPECTED[function]) <= found, sorted(set(EXPECTED[function]) - found)
    names = {execution.rpartition(":")[2] for execution in executions}
    for line in mine:
        assert EXPECTED[function].get(line["logReference"], set()) <= set(line), line
        assert line["Log_Level"] in ("INFO", "WARN"), line
        assert line["internal_id"] in names, line


def test_a_cold_start_says_so(pipeline, executions):
    assert pipeline.function_logs("poll-mailbox", '"LAMBDA0001"')
