"""What is measured of each subject, and what has to be true afterwards for a measurement to count."""

import dataclasses
import hashlib
import random
from collections.abc import Callable

from . import local
from .floor import Floor
from .local import BUCKET, MIB, OURS
from .subjects import CHUNK_SIZE, WARM, metadata
from .worker import BenchError

SMALL = 1024


@dataclasses.dataclass(frozen=True)
class Size:
    """How much a run does: bytes of bodies, messages, polls, cold starts in each round, rounds."""

    large: int
    single: int
    text: int
    messages: int
    polls: int
    cold: int
    rounds: int


SIZES = {
    # 95 MiB is the largest chunk that the module lets through, for MESH's 100 MB.
    "full": Size(100 * MIB, 95 * MIB, 100 * MIB, 1000, 200, 5, 4),
    "quick": Size(100 * MIB, 95 * MIB, 25 * MIB, 100, 50, 3, 2),
    # For the harness' own test.
    "tiny": Size(21 * MIB, 9 * MIB, 4 * MIB, 11, 3, 1, 1),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to do; `run` gives what it took by name: wall and cpu in seconds, peak in MiB, and what else it counts."""

    id: str
    name: str
    run: Callable
    with_floor: bool = False
    repeat: int = 1


class Bodies:
    """What is sent and fetched: the same bytes in each run."""

    def __init__(self, size):
        generator = random.Random(20260101)
        self.random = generator.randbytes(size.large)
        self.single = generator.randbytes(size.single)
        self.small = [generator.randbytes(SMALL) for _ in range(size.messages)]
        rows = "".join(
            f"{number},{generator.randrange(10**9):010},{generator.choice(('M', 'F'))},19{generator.randrange(100):02}-"
            f"{generator.randrange(1, 13):02}-{generator.randrange(1, 29):02},{generator.uniform(0, 200):.2f},mmol/L,final\n"
            for number in range(150_000)
        ).encode()
        # gzip looks back 32 KiB: that the rows repeat after megabytes does not help it.
        self.text = (rows * (size.text // len(rows) + 1))[: size.text]


def cases(size, bodies):
    """All cases."""
    chunks = -(-size.large // CHUNK_SIZE)
    return [
        Case("cold-poll", "cold start of a poll", lambda subject: _figures(subject.cold_poll()), repeat=size.cold),
        Case("warm-poll", "warm poll", lambda subject: _figures(subject.warm_polls(size.polls))),
        Case("small-messages", f"{size.messages:,} small messages", lambda subject: _drain(subject, bodies.small)),
        Case(
            "fetch-chunks",
            f"fetch {size.large // MIB} MiB, {chunks} chunks",
            lambda subject: receive(subject, bodies.random, CHUNK_SIZE),
            with_floor=True,
        ),
        Case(
            "fetch-single",
            f"fetch {size.single // MIB} MiB, 1 chunk",
            lambda subject: receive(subject, bodies.single, size.single),
            with_floor=True,
        ),
        Case(
            "send",
            f"send {size.large // MIB} MiB",
            lambda subject: _transmit(subject, bodies.random, False),
            with_floor=True,
        ),
        Case(
            "send-compressed",
            f"send {size.text // MIB} MiB of CSV, compressed",
            lambda subject: _transmit(subject, bodies.text, True),
        ),
    ]


def _figures(cost):
    return {"wall": cost.wall, "cpu": cost.cpu, "peak": cost.peak}


def _expect(found, wanted, what):
    if found != wanted:
        raise BenchError(f"{what}: {found}, not {wanted}")


def digest(body):
    """Size and SHA-256."""
    return len(body), hashlib.sha256(body).hexdigest()


def _drain(subject, bodies):
    subject.place.send(bodies, CHUNK_SIZE)
    cost = subject.drain()
    _expect(
        subject.place.digests(f"inbound/{OURS}/"), sorted(digest(body) for body in bodies), f"{subject.name} stored"
    )
    _expect(subject.place.waiting(), 0, f"{subject.name} left in the inbox")
    return _figures(cost)


def receive(subject, body, chunk_size, compress=False):
    """Has the subject fetch, store and acknowledge one message, whose sender compressed it or not."""
    (message_id,) = subject.place.send([body], chunk_size, compress)
    if isinstance(subject, Floor):
        cost = subject.receive(message_id, body, -(-len(body) // chunk_size))
    else:
        cost = subject.receive(message_id)
    _expect(subject.place.digests(f"inbound/{OURS}/{message_id}"), [digest(body)], f"{subject.name} stored")
    _expect(subject.place.waiting(), 0, f"{subject.name} left in the inbox")
    return _figures(cost)


def _transmit(subject, body, compress):
    place, key, since = subject.place, "outbound/large", local.now()
    place.s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=metadata(compress))
    if isinstance(subject, Floor):
        cost = subject.transmit(key, body)
    else:
        cost = subject.transmit(key, compress)
    _expect(place.arrived(), digest(body), f"{subject.name} sent")
    warm = 0 if isinstance(subject, Floor) else len(WARM)
    return _figures(cost) | {"bytes": place.posted(since) - warm}
