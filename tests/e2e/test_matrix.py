"""Every call of a function is cut short once, or its answer damaged: nothing is lost, nothing arrives twice, nothing stays behind.

The calls of an undisturbed run are counted first; then each is the end of a worker (before and after it takes effect) or of its
execution, in a cell of its own with a mailbox of its own. Afterwards the schedules run on, and time passes: leases and rows are aged
instead of waited for.
"""

import collections
import concurrent.futures
import json
import os
import random
import re
import time

import pytest
from stack import mesh
from stack.chaos import Ageing
from stack.checks import MIB, Message, inbox_empty, sha256
from stack.pipeline import outbound_row, until

AT_ONCE = 8
ROUNDS = 8
# Which kind comes first where each call meets one only.
SEED = int(os.environ.get("MATRIX_SEED", "1"))

# Seconds after a cell's last call.
STILL = 2
# The longest that a fault is waited for after the cell's end.
LATE = 20

KINDS = ("kill-before", "kill-after", "abort")
DAMAGES = (
    {"kind": "half"},
    {"kind": "long"},
    {"kind": "status", "status": 503, "body": "<Error><Code>ServiceUnavailable</Code></Error>"},
    {"kind": "status", "status": 500, "body": "{", "late": True},
)


def in_turn(kinds, n, everything):
    """What befalls the n-th call: each kind in a run of its own, or one in its turn."""
    return kinds if everything else (kinds[(n + SEED) % len(kinds)],)


class Cell:
    """One message on its way, with at most one thing going wrong."""

    def __init__(self, pipeline, mailbox, other, body, chunks):
        self.pipeline, self.stack = pipeline, pipeline.stack
        self.mailbox, self.other = mailbox, other
        self.body, self.chunks = body, chunks
        self.ageing = Ageing(pipeline)
        pipeline.put_secret(f"mailboxes/{mailbox}/MAILBOX_PASSWORD", mesh.password(mailbox))
        self.stack.cell(mailbox, f'[/"]{mailbox}[/"]')

    def pass_time(self, row_id):
        """What waits for a time has it behind it. The worker of a stopped execution works on: its time is up first."""

        def still():
            calls = self.stack.calls(self.mailbox)
            return True if not calls or time.time() - calls[-1]["time"] > STILL else None

        until(still, f"rest in cell {self.mailbox}", lambda: self.stack.calls(self.mailbox)[-1])
        self.ageing.lease(self.mailbox)
        self.ageing.row(row_id)

    def uploads(self):
        found = self.stack.client("s3").list_multipart_uploads(Bucket=self.pipeline.bucket, Prefix=self.prefix)
        return [f"upload of {upload['Key']} was left" for upload in found.get("Uploads", [])]

    def versions(self):
        found = self.stack.client("s3").list_object_versions(Bucket=self.pipeline.bucket, Prefix=self.prefix)
        return found.get("Versions", [])

    def told(self, row, detail_type):
        return [] if self.pipeline.told_of(row, detail_type) else [f"{row}: no event tells of it"]


class Receive(Cell):
    """From MESH into the bucket."""

    @property
    def prefix(self):
        return f"inbound/{self.mailbox}/"

    def run(self):
        message = Message(self.other, self.mailbox, self.body)
        options = {"max_chunk_size": -(-len(self.body) // self.chunks)} if self.chunks > 1 else {}
        self.message_id = message.send(self.stack, **options)
        for _ in range(ROUNDS):
            machine = self.pipeline.machine("get-messages")
            started = self.stack.client("stepfunctions").start_execution(
                stateMachineArn=machine, input=json.dumps({"mailbox": self.mailbox})
            )
            self.pipeline.wait(started["executionArn"])
            if not (found := self.differences()):
                return []
            self.pass_time(f"in#{self.message_id}")
            self.ageing.received(f"in#{self.message_id}")
            self.pipeline.track()
        return found

    def differences(self):
        row = self.pipeline.row(f"in#{self.message_id}") or {}
        found = [] if row.get("status") == "acknowledged" else [f"the row is {row.get('status')}: {row.get('error')}"]
        versions = self.versions()
        if [version["Key"] for version in versions] != [f"{self.prefix}{self.message_id}.dat"]:
            found.append(f"the bucket holds {[version['Key'] for version in versions]}")
        elif sha256(self.pipeline.get(versions[0]["Key"])["Body"]) != sha256(self.body):
            found.append("the object holds other bytes")
        found += self.told(f"in#{self.message_id}", "MESH message received") if not found else []
        found += inbox_empty(self.pipeline, self.mailbox) + self.uploads()
        return found + (["the lease was left"] if self.pipeline.held(self.mailbox) else [])


class Send(Cell):
    """From the bucket to MESH."""

    @property
    def prefix(self):
        return f"outbound/{self.mailbox}/"

    def run(self):
        message = Message(self.mailbox, self.other, self.body)
        key = f"{self.prefix}message"
        version = self.pipeline.put(key, self.body, message.metadata)
        self.key, self.version = key, version
        row_id = f"out#{self.hash()}"
        self.stack.cell(self.mailbox, f'[/"]{self.mailbox}[/"]|{row_id}')
        first = until(lambda: self.executions() or None, f"execution for {key}", dict)[0]
        for _ in range(ROUNDS):
            for execution in self.executions():
                self.settle(execution["executionArn"], row_id)
            if not (found := self.differences(row_id)):
                return []
            self.pass_time(row_id)
            # The sweep starts a row. What did not come so far an operator starts again, as from the dead-letter queue.
            if self.pipeline.row(row_id):
                self.pipeline.track()
            else:
                self.stack.client("stepfunctions").start_execution(
                    stateMachineArn=self.pipeline.machine("send-message"), input=first["input"]
                )
        return found

    def settle(self, execution, row_id):
        """Waits for an execution; one that waits for a time is helped over it."""
        client = self.stack.client("stepfunctions")

        def ended():
            if client.describe_execution(executionArn=execution)["status"] != "RUNNING":
                return True
            row = self.pipeline.row(row_id) or {}
            if row.get("status") == "posting" and self.ageing.idle(row):
                self.ageing.row(row_id, row["updated_at"])
            return None

        until(ended, f"end of {execution}", lambda: self.pipeline.row(row_id))

    def hash(self):
        return outbound_row(self.pipeline.bucket, self.key, self.version).removeprefix("out#")

    def executions(self):
        row_id = f"out#{self.hash()}"
        return [
            one
            for text in (self.prefix, row_id)
            for one in self.pipeline.executions("send-message", text)
        ]

    def differences(self, row_id):
        row = self.pipeline.row(row_id) or {}
        found = [] if row.get("status") == "sent" else [f"the row is {row.get('status')}: {row.get('error')}"]
        with self.stack.party(self.other) as party:
            arrived = party.list_messages()
            bodies = [party.retrieve_message(message_id).read() for message_id in arrived]
        if arrived != [row.get("message_id")]:
            found.append(f"the recipient has {len(arrived)} messages, {arrived}; the row says {row.get('message_id')}")
        elif sha256(bodies[0]) != sha256(self.body):
            found.append("the recipient gets other bytes")
        return found or self.told(row_id, "MESH message sent")


# Whose calls are cut short.
RECEIVING = {"poll-mailbox", "fetch-message-chunk", "acknowledge-message"}
SENDING = {"send-message-chunk"}

CASES = {
    "receive one chunk": (Receive, 1000, 1),
    # Four parts: one waits while another is written.
    "receive several chunks": (Receive, 26 * MIB, 3),
    "send one chunk": (Send, 1000, 1),
    "send several chunks": (Send, 11 * MIB, 3),
}


def cells(pipeline, take, case, faults, report):
    """Runs a cell for each fault, several at once; returns what was found, by fault."""
    kind_of, size, chunks = CASES[case]

    def one(fault):
        mailbox, other = take(), take()
        cell = kind_of(pipeline, mailbox, other, random.Random(mailbox).randbytes(size), chunks)
        if fault:
            pipeline.stack.fault(mailbox, **fault)
        found = cell.run()
        # The example's consumer comes to its call when it likes.
        late = time.monotonic() + (LATE if fault else STILL)
        while not (struck := [call for call in pipeline.stack.calls(mailbox) if call["fault"]]) and time.monotonic() < late:
            time.sleep(0.2)
        calls = pipeline.stack.calls(mailbox)
        if fault and not struck:
            found = [*found, "the fault befell no call"]
        return fault, found, calls, struck

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(one, faults))
    for fault, found, _, struck in results:
        if found:
            report(f"{case}, {fault} ({[one['call'] for one in struck]}): {'; '.join(found)}")
    return results


def run_matrix(pipeline, cell_mailbox, case, faults_of, tell):
    problems, began = [], time.monotonic()
    ((_, _, calls, _),) = cells(pipeline, cell_mailbox, case, [None], problems.append)
    assert not problems
    names = [call["call"] for call in calls]
    # The example's consumer reads what it is told of besides.
    functions = {name.split()[0].removeprefix(f"{pipeline.name}-") for name in names if name.startswith(f"{pipeline.name}-")}
    assert functions == (RECEIVING if case.startswith("receive") else SENDING)
    faults = faults_of(names)
    results = cells(pipeline, cell_mailbox, case, faults, problems.append)
    kinds = collections.Counter(fault["kind"] for fault in faults)
    tell(
        f"matrix, {case}, seed {SEED}: {len(names)} calls, {len(results)} cells ({dict(kinds)}),"
        f" {time.monotonic() - began:.0f} s, {len(problems)} problems"
    )
    assert not problems, "\n".join(problems)


def cut_short(everything):
    return lambda names: [
        {"kind": kind, "at": n} for n in range(1, len(names) + 1) for kind in in_turn(KINDS, n, everything)
    ]


def damaged(everything):
    """Of calls with the same name the first: their answers have the same form."""
    return lambda names: [
        damage | {"call": re.escape(name)}
        for n, name in enumerate(dict.fromkeys(names))
        for damage in in_turn(DAMAGES, n, everything)
    ]


@pytest.mark.parametrize("case", CASES)
def test_every_call_cut_short_once(pipeline, cell_mailbox, case, tell):
    run_matrix(pipeline, cell_mailbox, case, cut_short(False), tell)


@pytest.mark.parametrize("case", [case for case in CASES if "several" in case])
def test_the_answer_to_every_call_damaged_once(pipeline, cell_mailbox, case, tell):
    run_matrix(pipeline, cell_mailbox, case, damaged(False), tell)


@pytest.mark.nightly
@pytest.mark.parametrize("case", CASES)
def test_every_call_cut_short_in_every_way(pipeline, cell_mailbox, case, tell):
    run_matrix(pipeline, cell_mailbox, case, cut_short(True), tell)


@pytest.mark.nightly
@pytest.mark.parametrize("case", CASES)
def test_the_answer_to_every_call_damaged_in_every_way(pipeline, cell_mailbox, case, tell):
    run_matrix(pipeline, cell_mailbox, case, damaged(True), tell)
