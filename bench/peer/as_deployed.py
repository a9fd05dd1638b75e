"""The transfers in the way of the Lambdas of terraform-aws-mesh-client 2.1.

All of boto3's clients at the cold start, in its resource style; for each invocation one message or one chunk, a new
MeshClient and so a new TLS connection; a fetched chunk of several by way of a temporary file, a single one and a sent one by way of memory;
running executions listed to find out whether another has the mailbox or the file.
"""

import tempfile
import time
from io import BytesIO
from pathlib import Path

import boto3
import settings
from botocore.config import Config
from mesh_client import MeshClient

PARAMETERS_SECONDS = 60
# As over TLS: boto3 signs bodies on a plain connection only.
_s3 = boto3.resource("s3", config=Config(s3={"payload_signing_enabled": False}))
_ssm, _states = boto3.client("ssm"), boto3.client("stepfunctions")
_secrets, _dynamodb = boto3.client("secretsmanager"), boto3.client("dynamodb")
_folder = Path(tempfile.mkdtemp())
_passwords, _common = {}, {}


def _parameters(mailbox):
    kept = _passwords.get(mailbox)
    if kept and time.time() < kept[1] + PARAMETERS_SECONDS:
        return kept[0]
    names = settings.parameter_names(mailbox)
    wanted = names[-1:] if _common else names
    found = _ssm.get_parameters(Names=wanted, WithDecryption=True)["Parameters"]
    values = {parameter["Name"].rpartition("/")[2]: parameter["Value"] for parameter in found}
    _passwords[mailbox] = (values.pop("MAILBOX_PASSWORD"), time.time())
    for name, value in values.items():
        _common[name] = value
        if name != "MESH_SHARED_KEY":
            (_folder / name).write_text(value)
    return _passwords[mailbox][0]


def _mesh(mailbox):
    password = _parameters(mailbox)
    return MeshClient(
        settings.MESH_URL,
        mailbox,
        password,
        shared_key=_common["MESH_SHARED_KEY"].encode(),
        cert=(str(_folder / "MESH_CLIENT_CERT"), str(_folder / "MESH_CLIENT_KEY")),
        verify=str(_folder / "MESH_CA_CERT"),
        transparent_compress=False,
    )


def _running():
    found = _states.list_executions(stateMachineArn=settings.MACHINE, statusFilter="RUNNING")["executions"]
    return [_states.describe_execution(executionArn=one["executionArn"])["input"] for one in found]


def poll(event, _context):
    """Lists what waits, unless another execution has the mailbox."""
    if sum(event["mailbox"] in text for text in _running()) > 1:
        return []
    with _mesh(event["mailbox"]) as client:
        return client.list_messages(max_results=settings.PAGE_LIMIT)


def fetch(event, _context):
    """Stores one chunk; the last one completes the object and acknowledges the message."""
    message_id, number = event["message_id"], event.get("chunk", 1)
    with _mesh(event["mailbox"]) as client:
        response = client.retrieve_message_chunk(message_id, number)
        response.raw.decode_content = True
        total = settings.chunks(response.headers)
        stored = _s3.Object(settings.BUCKET, settings.key(event["mailbox"], message_id))
        if total == 1:
            body = response.raw.read(decode_content=True)
            stored.put(Body=body, **settings.attributes(response.headers))
            client.acknowledge_message(message_id)
            return event | {"complete": True}
        if number == 1:
            event["upload"] = stored.initiate_multipart_upload(**settings.attributes(response.headers)).id
            event["etags"] = []
        upload = stored.MultipartUpload(event["upload"])
        with tempfile.NamedTemporaryFile() as buffer:
            for block in response.iter_content(chunk_size=settings.CHUNK_SIZE):
                buffer.write(block)
            buffer.flush()
            length = buffer.tell()
            buffer.seek(0)
            etag = upload.Part(number).upload(Body=buffer, ContentLength=length)["ETag"]
        event["etags"].append({"ETag": etag, "PartNumber": number})
        if number == total:
            upload.complete(MultipartUpload={"Parts": event["etags"]})
            client.acknowledge_message(message_id)
        return event | {"complete": number == total, "chunk": number + 1}


def send(event, _context):
    """Sends one chunk."""
    number = event.get("chunk", 1)
    if number == 1 and any(event["key"] in text for text in _running()):
        return event | {"complete": True}
    source = _s3.Object(settings.BUCKET, event["key"])
    size = source.content_length
    total = -(-size // settings.CHUNK_SIZE)
    start, end = (number - 1) * settings.CHUNK_SIZE, min(number * settings.CHUNK_SIZE, size)
    body = BytesIO(source.get(Range=f"bytes={start}-{end - 1}")["Body"].read())
    with _mesh(event["from"]) as client:
        response = client.send_chunk(
            event["to"],
            body,
            number,
            total,
            compress=event["compress"],
            message_id=event.get("message_id"),
            workflow_id="BENCH",
        )
        response.raise_for_status()
        if number == 1:
            event["message_id"] = response.json()["message_id"]
    return event | {"complete": number == total, "chunk": number + 1}
