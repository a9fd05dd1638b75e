"""Sizes at every boundary, each way: chunks by MESH's sender and by ours, and the sizes around S3's smallest part and ours."""

import dataclasses
import random

import conftest
import pytest
from stack.checks import MIB, Message, inbox_empty, outcome, received, sent

CHUNK = 1000


def noise(size):
    return random.Random(size).randbytes(size)


@dataclasses.dataclass
class Case:
    """A message and what it is known by afterwards."""

    message: Message
    # Of the message at MESH, or of the object in the bucket.
    id: str


RECEIVED = {
    "one byte": (1, CHUNK),
    "a chunk less one": (CHUNK - 1, CHUNK),
    "a chunk": (CHUNK, CHUNK),
    "a chunk and one": (CHUNK + 1, CHUNK),
    "two chunks": (2 * CHUNK, CHUNK),
    "two chunks and one": (2 * CHUNK + 1, CHUNK),
    # S3's smallest part but the last.
    "5 MiB less one": (5 * MIB - 1, 20 * MIB),
    "5 MiB": (5 * MIB, 20 * MIB),
    "5 MiB and one": (5 * MIB + 1, 20 * MIB),
    "5 MiB less one in chunks of 5 MiB": (5 * MIB - 1, 5 * MIB),
    "5 MiB in chunks of 5 MiB": (5 * MIB, 5 * MIB),
    "5 MiB and one in chunks of 5 MiB": (5 * MIB + 1, 5 * MIB),
    # A part of ours.
    "8 MiB less one": (8 * MIB - 1, 5 * MIB),
    "8 MiB": (8 * MIB, 5 * MIB),
    "8 MiB and one": (8 * MIB + 1, 5 * MIB),
}


@pytest.fixture(scope="module")
def inbound(pipeline):
    """Every message of RECEIVED, plain and compressed, fetched by one poll and those that follow it."""
    mailbox, other = conftest.take("ours", conftest.OURS), conftest.take("others", conftest.OTHERS)
    cases = {}
    for name, (size, chunk) in RECEIVED.items():
        for compress in (False, True):
            message = Message(other, mailbox, noise(size), chunks=-(-size // chunk))
            message_id = message.send(pipeline.stack, max_chunk_size=chunk, compress=compress)
            cases[name, compress] = Case(message, message_id)
    executions = pipeline.poll(mailbox)
    assert {outcome(execution) for execution in executions} == {"SUCCEEDED"}
    assert inbox_empty(pipeline, mailbox) == []
    return cases


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", RECEIVED)
def test_a_received_message(pipeline, inbound, name, compress):
    case = inbound[name, compress]
    assert received(pipeline, case.id, case.message) == []


SENT = {
    "one byte": 1,
    "a chunk less one": 5 * MIB - 1,
    "a chunk": 5 * MIB,
    "a chunk and one": 5 * MIB + 1,
    "two chunks less one": 10 * MIB - 1,
    "two chunks": 10 * MIB,
    "two chunks and one": 10 * MIB + 1,
}


@pytest.fixture(scope="module")
def outbound(pipeline):
    """Every object of SENT, plain and compressed, put one after the other."""
    sender, other = conftest.take("senders", conftest.SENDERS), conftest.take("others", conftest.OTHERS)
    cases = {}
    for name, size in SENT.items():
        for compress in ("no", "yes"):
            message = Message(sender, other, noise(size), chunks=-(-size // (5 * MIB)))
            key = f"outbound/{sender}/{compress}/{size}"
            metadata = message.metadata | {"mex-content-compress": compress}
            version = pipeline.put(key, message.body, metadata, ContentType=message.content_type)
            cases[name, compress] = key, Case(message, version)
    return cases


@pytest.mark.parametrize("compress", ["no", "yes"], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", SENT)
def test_a_sent_object(pipeline, outbound, name, compress):
    key, case = outbound[name, compress]
    pipeline.wait_sent(key, case.id)
    assert sent(pipeline, key, case.id, case.message) == []
