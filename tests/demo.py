"""The main job on real input, on this machine: `make demo`, `make up`, `make down`."""

import argparse
import hashlib
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from stack import checks
from stack.checks import MIB
from stack.control import Stack, StackError
from stack.pipeline import until

SENDER, RECEIVER, NOBODY = "X26ABC1", "X26ABC2", "X26NOBODY"
STARTED = time.monotonic()


def say(text):
    print(f"{time.monotonic() - STARTED:6.1f} s  {text}", flush=True)


def home():
    """The folder of this checkout's lasting stack."""
    checkout = hashlib.sha256(str(Path(__file__).resolve()).encode()).hexdigest()[:8]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mesh-aws" / f"stack-{checkout}"


def bring_up(stack):
    if not stack.running:
        say("starting the MESH sandbox (TLS, client certificates) and the local AWS")
        stack.start()
    say(f"MESH sandbox at {stack.mesh_url}, AWS at {stack.aws_url}")
    say("putting the secrets, then terraform apply (about 75 s)")
    return stack.deploy("demo", [SENDER, RECEIVER], say=lambda text: say(f"terraform: {text}"), chunk_size=10 * MIB)


def text_message():
    return checks.Message(
        SENDER,
        RECEIVER,
        "A first message: costs £5, 100 % of it.\n".encode(),
        content_type="text/plain",
        headers={"mex-subject": "Demo of £5 + 100 %", "mex-filename": "first.txt", "mex-localid": "demo-1"},
    )


def big_message():
    return checks.Message(
        SENDER, RECEIVER, random.Random(1).randbytes(25 * MIB), chunks=3, headers={"mex-filename": "big.bin"}
    )


def put(pipeline, key, message):
    version = pipeline.put(key, message.body, message.metadata, ContentType=message.content_type)
    say(f"put s3://{pipeline.bucket}/{key} ({len(message.body):,} bytes) for {message.recipient}")
    return key, version


def send(pipeline, messages):
    """Puts the objects, waits until they are sent; returns the rows."""
    objects = [put(pipeline, key, message) for key, message in messages.items()]
    rows = []
    for key, version in objects:
        rows.append(pipeline.wait_sent(key, version))
        say(f"sent {key} as message {rows[-1]['message_id']}")
    return objects, rows


def reject(pipeline):
    """An object for a mailbox that MESH does not know; returns the differences from what must happen."""
    lost = checks.Message(SENDER, NOBODY, b"For a mailbox that does not exist.\n", content_type="text/plain")
    key, version = put(pipeline, "outbound/to-nobody.txt", lost)
    row = pipeline.wait_sent(key, version, "failed")
    execution = pipeline.wait(row["execution"])
    say(f"refused {key}: {row['error']}")
    say(f"  its execution {execution['status']}: {execution.get('error')}: {execution.get('cause')}")
    found = checks.compare(f"execution of {key}", execution, {"status": "FAILED", "error": "Rejected"})
    if NOBODY not in row["error"]:
        found.append(f"row of {key}: its error does not name {NOBODY}: {row['error']}")
    if pipeline.get(key)["Body"] != lost.body:
        found.append(f"{key} has changed")
    return found


def receive(pipeline, mailbox):
    say(f"running get-messages for {mailbox}")
    found = []
    for execution in pipeline.poll(mailbox):
        found += checks.compare(f"get-messages for {mailbox}", execution, {"status": "SUCCEEDED"})
        say(f"get-messages for {mailbox} {execution['status']} {execution.get('cause', '')}")
    return found


def demo(stack):
    pipeline = bring_up(stack)
    pipeline.capture_events()
    messages = {"outbound/first.txt": text_message(), "outbound/big.bin": big_message()}
    objects, rows = send(pipeline, messages)
    found = reject(pipeline)
    first = rows[0]["message_id"]
    report = stack.report(
        SENDER, code="14", description="Not collected", workflow_id="TEST_WORKFLOW", linked_message_id=first
    )
    say(f"MESH issued report {report} to {SENDER} about message {first}")
    found += receive(pipeline, RECEIVER) + receive(pipeline, SENDER)

    say("verifying bytes (SHA-256), metadata, rows, events, acknowledgements, inboxes")
    until(lambda: len(pipeline.events("MESH message")) >= 5 or None, "five events", pipeline.events)
    for (key, version), row, message in zip(objects, rows, messages.values(), strict=True):
        found += checks.sent(pipeline, key, version, message)
        arrived = checks.Message(**vars(message) | {"headers": message.headers | {"mex-localid": row["local_id"]}})
        found += checks.received(pipeline, row["message_id"], arrived)
    about = {"mex-linkedmsgid": first, "mex-statuscode": "14"}
    found += checks.report_received(pipeline, SENDER, report, about, linked_message_id=first, status_code="14")
    found += checks.inbox_empty(pipeline, SENDER, RECEIVER)
    table(pipeline.rows())
    return found


def table(rows):
    columns = ("message", "from", "to", "size", "chunks", "S3 key", "status", "time")
    lines = [columns] + [
        (
            row.get("message_id", "-"),
            row.get("sender", "-"),
            row.get("recipient", "-"),
            f"{row['size']:,}" if "size" in row else "-",
            str(row.get("chunks", "-")),
            row.get("s3_key", "-"),
            row["status"],
            row["updated_at"][11:19],
        )
        for row in sorted((row for row in rows if "timestamp" in row), key=lambda row: row["timestamp"])
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    print()
    for line in lines:
        print("  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip())
    print(flush=True)


def run_demo():
    folder = Path(tempfile.mkdtemp(prefix="mesh-aws-demo-"))
    stack = Stack(folder)
    try:
        found = demo(stack)
    except BaseException:
        say(f"stopped early; the servers' logs are in {folder}")
        raise
    finally:
        stack.stop()
    for difference in found:
        say(f"DIFFERS  {difference}")
    if found:
        say(f"{len(found)} differences; the servers' logs are in {folder}")
        return 1
    shutil.rmtree(folder)
    say("everything is as it must be")
    return 0


def run_up():
    stack = Stack(home())
    if not stack.running:
        # The servers keep everything in memory: a Terraform state that outlived them is of nothing.
        stack.stop()
        shutil.rmtree(stack.folder, ignore_errors=True)
    pipeline = bring_up(stack)
    say(f"running until `make down`; logs in {stack.folder}. To try:")
    print(f"\n{stack.commands(pipeline)}\n")
    return 0


def run_down():
    stack = Stack(home())
    if not stack.folder.exists():
        say("nothing was started with `make up`")
        return 0
    stack.stop()
    shutil.rmtree(stack.folder)
    say("stopped")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--up", action="store_true", help="start a stack that stays")
    choice.add_argument("--down", action="store_true", help="stop it")
    arguments = parser.parse_args()
    try:
        return run_up() if arguments.up else run_down() if arguments.down else run_demo()
    except StackError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
