"""The transfers with mesh-client and boto3 as well as they allow.

One client of each kind for the life of the process, connections kept, batches of messages in one invocation, bodies streamed,
large objects read and written at the same time by boto3's own transfer manager.
"""

import functools
import tempfile
import time
from pathlib import Path

import boto3
import settings
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from mesh_client import MeshClient

PART = 8 * settings.MIB
# As over TLS: boto3 signs bodies on a plain connection only.
_s3 = boto3.client("s3", config=Config(s3={"payload_signing_enabled": False}))


@functools.cache
def mesh(mailbox):
    """A client of the mailbox. requests takes certificates from files alone."""
    names = settings.parameter_names(mailbox)
    found = boto3.client("ssm").get_parameters(Names=names, WithDecryption=True)["Parameters"]
    values = {parameter["Name"].rpartition("/")[2]: parameter["Value"] for parameter in found}
    folder = Path(tempfile.mkdtemp())
    for name in ("MESH_CA_CERT", "MESH_CLIENT_CERT", "MESH_CLIENT_KEY"):
        (folder / name).write_text(values[name])
    return MeshClient(
        settings.MESH_URL,
        mailbox,
        values["MAILBOX_PASSWORD"],
        shared_key=values["MESH_SHARED_KEY"].encode(),
        cert=(str(folder / "MESH_CLIENT_CERT"), str(folder / "MESH_CLIENT_KEY")),
        verify=str(folder / "MESH_CA_CERT"),
    )


@functools.cache
def _leases():
    return boto3.client("dynamodb")


def poll(event, _context):
    """Takes the mailbox's lease and lists what waits."""
    mailbox, owner, now = event["mailbox"], event["execution"], int(time.time())
    _leases().put_item(
        TableName=settings.LEASES,
        Item={"lease_id": {"S": mailbox}, "owner": {"S": owner}, "until": {"N": str(now + 360)}},
        ConditionExpression="attribute_not_exists(lease_id) OR #o = :o OR #u < :now",
        ExpressionAttributeNames={"#o": "owner", "#u": "until"},
        ExpressionAttributeValues={":o": {"S": owner}, ":now": {"N": str(now)}},
    )
    return mesh(mailbox).list_messages(max_results=settings.PAGE_LIMIT)


class Body:
    """A message's chunks as one stream."""

    def __init__(self, client, message_id, first):
        self.client, self.message_id, self.response = client, message_id, first
        self.number, self.last = 1, settings.chunks(first.headers)

    def read(self, size=-1):
        """The next bytes, fewer than `size` at the end alone."""
        blocks, left = [], size
        while left:
            block = self.response.raw.read(left if size >= 0 else None, decode_content=True)
            if block:
                blocks.append(block)
                left -= len(block) if size >= 0 else 0
            elif self.number < self.last:
                self.number += 1
                self.response = self.client.retrieve_message_chunk(self.message_id, self.number)
            else:
                break
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def fetch(event, _context):
    """Stores each message of a batch and acknowledges it."""
    client = mesh(event["mailbox"])
    for message_id in event["messages"]:
        response = client.retrieve_message_chunk(message_id, 1)
        key, options = settings.key(event["mailbox"], message_id), settings.attributes(response.headers)
        if settings.chunks(response.headers) == 1 and int(response.headers.get("Content-Length", PART)) < PART:
            _s3.put_object(Bucket=settings.BUCKET, Key=key, Body=response.content, **options)
        else:
            body, config = Body(client, message_id, response), TransferConfig(multipart_chunksize=PART)
            _s3.upload_fileobj(body, settings.BUCKET, key, ExtraArgs=options, Config=config)
        client.acknowledge_message(message_id)
    return {"stored": len(event["messages"])}


class Range:
    """A part of an object as a stream that knows its length: requests would send it without one otherwise."""

    def __init__(self, body, length):
        self.body, self.length = body, length

    def __len__(self):
        return self.length

    def read(self, size=-1):
        """The next bytes."""
        return self.body.read(None if size < 0 else size)


def send(event, _context):
    """Sends an object, chunk by chunk, each streamed from S3 to MESH."""
    client = mesh(event["from"])
    size = _s3.head_object(Bucket=settings.BUCKET, Key=event["key"])["ContentLength"]
    total = -(-size // settings.CHUNK_SIZE)
    message_id = None
    for number in range(1, total + 1):
        start, end = (number - 1) * settings.CHUNK_SIZE, min(number * settings.CHUNK_SIZE, size)
        part = _s3.get_object(Bucket=settings.BUCKET, Key=event["key"], Range=f"bytes={start}-{end - 1}")
        response = client.send_chunk(
            event["to"],
            Range(part["Body"], end - start),
            number,
            total,
            compress=event["compress"],
            message_id=message_id,
            workflow_id="BENCH",
        )
        response.raise_for_status()
        message_id = message_id or response.json()["message_id"]
    return {"message_id": message_id}
