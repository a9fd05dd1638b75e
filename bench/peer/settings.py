"""What both peers are told by their environment, and the rules of MESH and S3 that they share."""

import os
from urllib.parse import quote_plus

MIB = 1024 * 1024
MESH_URL = os.environ["MESH_URL"]
BUCKET = os.environ["BUCKET"]
LEASES = os.environ["LEASES_TABLE"]
PREFIX = os.environ["SECRETS_PREFIX"]
MACHINE = os.environ["GET_MESSAGES_ARN"]
PAGE_LIMIT = int(os.environ["PAGE_LIMIT"])
CHUNK_SIZE = int(os.environ["CHUNK_SIZE"])
ENVIRONMENT_NAMES = ("MESH_CA_CERT", "MESH_CLIENT_CERT", "MESH_CLIENT_KEY", "MESH_SHARED_KEY")
_METADATA = (
    "mex-messageid mex-to mex-from mex-workflowid mex-filename mex-subject mex-localid mex-partnerid mex-messagetype "
    "mex-statuscode mex-statusdescription mex-statussuccess mex-content-checksum mex-content-compressed mex-content-encrypted"
).split()


def parameter_names(mailbox):
    """The SSM parameters that a mailbox needs."""
    return [*(f"{PREFIX}/{name}" for name in ENVIRONMENT_NAMES), f"{PREFIX}/mailboxes/{mailbox}/MAILBOX_PASSWORD"]


def attributes(headers):
    """An object's metadata and type, from a message's headers."""
    metadata = {name: quote_plus(headers[name]) for name in _METADATA if name in headers}
    return {"Metadata": metadata, "ContentType": headers.get("Content-Type") or "application/octet-stream"}


def chunks(headers):
    """How many chunks the message has."""
    return int(headers.get("Mex-Chunk-Range", "1:1").split(":")[1])


def key(mailbox, message_id):
    """Where a message is stored."""
    return f"inbound/{mailbox}/{message_id}.dat"
