"""Many messages both ways while a share of all calls goes wrong: nothing is lost, nothing arrives twice, nothing stays behind."""

import collections
import concurrent.futures
import json
import os
import random
import time

import pytest
from stack import mesh
from stack.chaos import Ageing, any_fault
from stack.checks import MIB, Message, inbox_empty, sha256
from stack.pipeline import outbound_row

pytestmark = pytest.mark.nightly

SHARE = 0.05
PER_MAILBOX = 50
# One in so many each way comes in several chunks, and is stored in several parts.
LARGE = 25
# Mailboxes: with a thousand executions at once the local Step Functions answers nobody in time.
AT_ONCE = 4
ROUNDS = 30
TRACK = "track"


class Soak:
    """Messages to and from a mailbox of ours; the other end is a mailbox of its own."""

    def __init__(self, pipeline, mailbox, other, count, seed):
        self.pipeline, self.stack = pipeline, pipeline.stack
        self.mailbox, self.other, self.count = mailbox, other, count
        self.ageing = Ageing(pipeline)
        self.rng = random.Random(seed)
        self.incoming, self.outgoing = {}, {}
        pipeline.put_secret(f"mailboxes/{mailbox}/MAILBOX_PASSWORD", mesh.password(mailbox))
        self.stack.cell(mailbox, f'[/"]{mailbox}[/"]')
        any_fault(self.stack, mailbox, SHARE, seed)

    def body(self, n):
        least, most = (1, 5_000) if n % LARGE else (9 * MIB, 11 * MIB)
        return self.rng.randbytes(self.rng.randint(least, most))

    def fill(self):
        for n in range(self.count // 2):
            body = self.body(n)
            message_id = Message(self.other, self.mailbox, body).send(self.stack, max_chunk_size=4 * MIB)
            self.incoming[message_id] = body
            body, key = self.body(n), f"outbound/{self.mailbox}/{n}"
            version = self.pipeline.put(key, body, Message(self.mailbox, self.other, body).metadata)
            self.outgoing[outbound_row(self.pipeline.bucket, key, version)] = body
        rows = "|".join(self.outgoing)
        self.stack.cell(self.mailbox, f'[/"]{self.mailbox}[/"]|{rows}')

    def tick(self):
        """What a mailbox's schedule does in a while, and the time that passes then."""
        client = self.stack.client("stepfunctions")
        poll = client.start_execution(
            stateMachineArn=self.pipeline.machine("get-messages"), input=json.dumps({"mailbox": self.mailbox})
        )
        running = [poll["executionArn"]]
        while running:
            self.pipeline.wait(running[-1])
            following = self.pipeline.started_by(running.pop())
            running += [following] if following else []
        self.ageing.lease(self.mailbox)
        for row in self.incoming:
            self.ageing.received(f"in#{row}")
        self.ageing.open_sends(self.outgoing)

    def unfinished(self):
        """What another round is for."""
        rows = [self.pipeline.row(f"in#{one}") or {"id": one} for one in self.incoming]
        found = [row for row in rows if row.get("status") != "acknowledged"]
        rows = [self.pipeline.row(one) or {"id": one} for one in self.outgoing]
        found += [row for row in rows if row.get("status") != "sent" or not row.get("announced")]
        return found + ([{"id": f"lease of {self.mailbox}"}] if self.pipeline.held(self.mailbox) else [])

    def differences(self):
        found = [f"row {row['id']} is {row.get('status')}: {row.get('error')}" for row in self.unfinished()]
        for message_id, body in self.incoming.items():
            versions = self.stack.client("s3").list_object_versions(
                Bucket=self.pipeline.bucket, Prefix=f"inbound/{self.mailbox}/{message_id}"
            ).get("Versions", [])
            if len(versions) != 1:
                found.append(f"{message_id} is {len(versions)} times in the bucket")
            elif sha256(self.pipeline.get(versions[0]["Key"])["Body"]) != sha256(body):
                found.append(f"{message_id} is stored with other bytes")
        uploads = self.stack.client("s3").list_multipart_uploads(Bucket=self.pipeline.bucket, Prefix=f"inbound/{self.mailbox}/")
        found += [f"the upload of {upload['Key']} was left" for upload in uploads.get("Uploads", [])]
        found += inbox_empty(self.pipeline, self.mailbox)
        told = {
            (event["detail-type"], event["detail"]["row"])
            for event in self.pipeline.events()
            if event["source"] == "mesh-client"
        }
        expected = [("MESH message received", f"in#{one}") for one in self.incoming]
        expected += [("MESH message sent", one) for one in self.outgoing]
        found += [f"no event {kind} tells of {row}" for kind, row in expected if (kind, row) not in told]
        with self.stack.party(self.other) as party:
            ids = party.list_messages()
            arrived = collections.Counter(sha256(party.retrieve_message(one).read()) for one in ids)
        expected = collections.Counter(sha256(body) for body in self.outgoing.values())
        found += [f"{count} messages of the recipient were not sent or came twice" for count in [(arrived - expected).total()] if count]
        found += [f"{count} messages did not reach the recipient" for count in [(expected - arrived).total()] if count]
        return found


def soak(pipeline, take, messages, seed, tell):
    began = time.monotonic()
    tell(f"SOAK_SEED={seed} repeats this soak")
    # Before the others: what tracking says of its rows would fit them too.
    pipeline.stack.cell(TRACK, f"{pipeline.name}-track-messages:")
    any_fault(pipeline.stack, TRACK, SHARE, f"{seed} track")
    mailboxes = -(-messages // PER_MAILBOX)
    cells = [Soak(pipeline, take(), take(), min(PER_MAILBOX, messages), f"{seed} {n}") for n in range(mailboxes)]
    rounds, found = 0, []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, mailboxes, AT_ONCE):
            wave = cells[start : start + AT_ONCE]
            list(pool.map(Soak.fill, wave))
            for _ in range(ROUNDS):
                rounds += 1
                list(pool.map(Soak.tick, wave))
                # The schedule's own sweep; it fails where a row needs somebody.
                pipeline.track()
                if not any(pool.map(Soak.unfinished, wave)):
                    break
            found += [problem for problems in pool.map(Soak.differences, wave) for problem in problems]
    calls = [call for cell in (TRACK, *(one.mailbox for one in cells)) for call in pipeline.stack.calls(cell)]
    faults = collections.Counter(call["fault"] for call in calls if call["fault"])
    tell(
        f"soak, seed {seed}: {sum(len(cell.incoming) + len(cell.outgoing) for cell in cells)} messages, {len(calls)} calls,"
        f" {faults.total()} faults {dict(faults)}, {rounds} rounds, {time.monotonic() - began:.0f} s, {len(found)} problems"
    )
    assert not found, "\n".join(found)
    assert faults.total() > len(calls) * SHARE / 2


def test_some_messages_while_calls_go_wrong(pipeline, cell_mailbox, tell):
    soak(pipeline, cell_mailbox, 60, int(os.environ.get("SOAK_SEED", "1")), tell)


def test_2000_messages_while_calls_go_wrong(pipeline, cell_mailbox, tell):
    soak(pipeline, cell_mailbox, 2000, int(os.environ.get("SOAK_SEED", time.time())), tell)
