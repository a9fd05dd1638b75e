"""The servers that everything is measured against, each in a process of its own, and what is in them."""

import contextlib
import datetime
import hashlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import botocore.config
import requests
from stack import mesh, servers
from stack.control import Stack
from stack.servers import StackError

ROOT = Path(__file__).resolve().parent.parent
NAME = "bench-mesh"
REGION = "eu-west-2"
BUCKET = NAME
MESSAGES, LEASES = f"{NAME}-messages", f"{NAME}-leases"
SWITCH = {"S": "switch#send-messages"}
PREFIX = f"/{NAME}/mesh"
MACHINE = f"arn:aws:states:{REGION}:123456789012:stateMachine:{NAME}-get-messages"
# The local AWS lets keys that are no function's do everything.
KEYS = {"aws_access_key_id": "bench", "aws_secret_access_key": "local-only"}
OURS, OTHER = "X26T001", "X26T002"
MIB = 1024 * 1024
DOWNLOADS = r"/messageexchange/[^/]+/inbox/.*"


class Local(Stack):
    """MESH's sandbox, the local AWS, and S3 and DynamoDB each by itself."""

    def __enter__(self):
        servers.start(self.folder, names=("aws", "mesh"))
        with contextlib.ExitStack() as undo:
            undo.callback(servers.stop, self.folder)
            self.alone = {
                "s3": undo.enter_context(s3_server(self.folder / "s3.out")),
                "dynamodb": undo.enter_context(dynamodb_server(self.folder / "dynamodb.out")),
            }
            self._fill()
            self.undo = undo.pop_all()
        return self

    def __exit__(self, *_):
        self.undo.close()

    def aws(self, service):
        """A boto3 client of the service."""
        return boto3.client(
            service,
            endpoint_url=self.alone.get(service, self.aws_url),
            region_name=REGION,
            config=botocore.config.Config(signature_version="s3v4" if service == "s3" else None, read_timeout=300),
            **KEYS,
        )

    def _fill(self):
        """What Terraform makes, as far as the functions see it, and what users put into SSM."""
        self.s3 = self.aws("s3")
        dynamodb = self.aws("dynamodb")
        for table, key, indexes in (
            (LEASES, "lease_id", {}),
            (
                MESSAGES,
                "id",
                {
                    "message_id": ["message_id"],
                    "mailbox-timestamp": ["mailbox", "timestamp"],
                    "due": ["due", "next_attempt_at"],
                },
            ),
        ):
            attributes = {key, *(name for names in indexes.values() for name in names)}
            options = {
                "GlobalSecondaryIndexes": [
                    {"IndexName": index, "KeySchema": _schema(names), "Projection": {"ProjectionType": "ALL"}}
                    for index, names in indexes.items()
                ]
            }
            dynamodb.create_table(
                TableName=table,
                BillingMode="PAY_PER_REQUEST",
                KeySchema=_schema([key]),
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in sorted(attributes)],
                **(options if indexes else {}),
            )
        dynamodb.put_item(TableName=MESSAGES, Item={"id": SWITCH, "enabled": {"BOOL": True}})
        definition = {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}
        self.aws("stepfunctions").create_state_machine(
            name=f"{NAME}-get-messages",
            definition=json.dumps(definition),
            roleArn="arn:aws:iam::123456789012:role/bench-states",
        )
        ssm = self.aws("ssm")
        for name, value in {
            "MESH_CA_CERT": self.file("ca.pem"),
            "MESH_CLIENT_CERT": self.file("client.pem"),
            "MESH_CLIENT_KEY": self.file("client.key"),
            "MESH_SHARED_KEY": self.shared_key,
            f"mailboxes/{OURS}/MAILBOX_PASSWORD": mesh.password(OURS),
        }.items():
            ssm.put_parameter(Name=f"{PREFIX}/{name}", Value=value, Type="SecureString")
        self.take_uncompressed()

    def take_uncompressed(self):
        """The sandbox compresses on the fly, slowly and with its own CPU, for whoever accepts gzip: here nobody does."""
        self.script("GET", DOWNLOADS, status=None, request_headers={"accept-encoding": "identity"}, times=10**9)

    def take_as_asked(self):
        """Undoes `take_uncompressed`."""
        requests.delete(f"{self.mesh_admin}/_answers", params={"path": DOWNLOADS}, timeout=30).raise_for_status()

    def reset(self):
        """Empties MESH, the tables and the bucket."""
        requests.delete(f"{self.mesh_admin}/messageexchange/admin/reset", timeout=60).raise_for_status()
        dynamodb = self.aws("dynamodb")
        for table, key in ((MESSAGES, "id"), (LEASES, "lease_id")):
            for page in dynamodb.get_paginator("scan").paginate(TableName=table, ProjectionExpression=key):
                for start in range(0, len(page["Items"]), 25):
                    items = [item for item in page["Items"][start : start + 25] if item.get("id") != SWITCH]
                    batch = [{"DeleteRequest": {"Key": item}} for item in items]
                    if batch:
                        dynamodb.batch_write_item(RequestItems={table: batch})
        for key in self.keys():
            self.s3.delete_object(Bucket=BUCKET, Key=key)

    def keys(self, prefix=""):
        """The keys of all objects."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def digests(self, prefix):
        """Sizes and SHA-256 of the objects below a prefix."""
        found = []
        for key in self.keys(prefix):
            digest, size = hashlib.sha256(), 0
            for block in self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].iter_chunks(MIB):
                digest.update(block)
                size += len(block)
            found.append((size, digest.hexdigest()))
        return sorted(found)

    def send(self, bodies, chunk_size, compress=False):
        """Puts messages into our mailbox; returns their ids."""
        with self.party(OTHER) as party:
            return [
                party.send_message(
                    OURS,
                    body,
                    max_chunk_size=chunk_size,
                    workflow_id="BENCH",
                    subject=f"number {number}",
                    compress=compress,
                )
                for number, body in enumerate(bodies)
            ]

    def waiting(self):
        """How many messages wait in our mailbox."""
        with self.party(OURS) as party:
            return party.count_messages()

    def arrived(self):
        """Size and SHA-256 of the one message that the other mailbox got, decompressed."""
        with self.party(OTHER) as party:
            ids = party.list_messages()
            if len(ids) != 1:
                raise StackError(f"one message should have been sent, not {len(ids)}")
            digest, size = hashlib.sha256(), 0
            with party.retrieve_message(ids[0]) as message:
                while block := message.read(MIB):
                    digest.update(block)
                    size += len(block)
            return size, digest.hexdigest()

    def posted(self, since):
        """How many bytes of messages MESH was sent since a time (of `now`)."""
        found = self.requests(f"/messageexchange/{OURS}/outbox.*")
        return sum(entry["received"] for entry in found if entry["method"] == "POST" and entry["time"] >= since)

    def downloaded(self, since):
        """How many bytes of messages MESH answered with since a time (of `now`)."""
        found = self.requests(f"/messageexchange/{OURS}/inbox/.*")
        return sum(entry["sent"] for entry in found if entry["method"] == "GET" and entry["time"] >= since)

    def polls(self, since):
        """How often our inbox was listed since a time (of `now`)."""
        return sum(entry["time"] >= since for entry in self.requests(f"/messageexchange/{OURS}/inbox"))


def s3_server(log):
    """Runs bench.s3; its address."""
    return _server([sys.executable, "-m", "bench.s3"], log)


def dynamodb_server(log):
    """Runs dynoxide; its address."""
    built = subprocess.run([ROOT / "scripts/cargo-tool", "dynoxide"], stdout=subprocess.PIPE, text=True, check=True)
    return _server([built.stdout.strip(), "serve"], log)


@contextlib.contextmanager
def _server(command, log):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [*command, "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        ends = time.monotonic() + 30
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > ends:
                raise StackError(f"{command} did not start; it said:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _schema(names):
    return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(names, ("HASH", "RANGE"), strict=False)]


def now():
    """The time as the sandbox's log writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat()
