"""What a job takes of AWS: docs/cost-and-limits.md says the same."""

import pytest
from stack.checks import MIB, Message
from stack.counts import check, counted


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
    check(counted(pipeline, mailbox, executions), "a poll that finds nothing")


@pytest.mark.parametrize(("count", "job"), [(1, "1 small message received"), (10, "10 small messages received")])
def test_small_messages_received(pipeline, mailbox, other, cell, count, job):
    cell(mailbox)
    for number in range(count):
        Message(other, mailbox, b"%d" % number).send(pipeline.stack)
    executions = [one["executionArn"] for one in pipeline.poll(mailbox)]
    check(counted(pipeline, mailbox, executions), job)


def test_a_message_of_several_chunks_received(pipeline, mailbox, other, cell):
    cell(mailbox)
    Message(other, mailbox, bytes(11 * MIB)).send(pipeline.stack, max_chunk_size=4 * MIB)
    executions = [one["executionArn"] for one in pipeline.poll(mailbox)]
    check(counted(pipeline, mailbox, executions), "11 MiB received in 3 chunks, stored in 2 parts")


@pytest.mark.parametrize(("size", "job"), [(5, "1 small object sent"), (11 * MIB, "11 MiB sent in 3 chunks")])
def test_an_object_sent(pipeline, sender, other, cell, size, job):
    cell(sender)
    message = Message(sender, other, bytes(size))
    key = f"outbound/{sender}/small"
    version = pipeline.put(key, message.body, message.metadata | {"mex-content-compress": "no"})
    row = pipeline.wait_sent(key, version)
    pipeline.wait(row["execution"])
    check(counted(pipeline, sender, [row["execution"]]), job)
