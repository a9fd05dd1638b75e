"""What must be true of a message that went through the pipeline. Each check returns the differences that it found."""

import dataclasses
import hashlib
import json
import time
from urllib.parse import unquote_plus

import requests
from stack.pipeline import outbound_row

MIB = 1024 * 1024
DAY = 86400
# The default of message_row_retention_in_days.
RETENTION_DAYS = 400


@dataclasses.dataclass
class Message:
    """A message as one end gave it and the other end must get it; `headers` are the optional mex-* values."""

    sender: str
    recipient: str
    body: bytes = dataclasses.field(repr=False)
    workflow_id: str = "TEST_WORKFLOW"
    content_type: str = "application/octet-stream"
    chunks: int = 1
    headers: dict = dataclasses.field(default_factory=dict)

    @property
    def metadata(self):
        """The metadata of an object that is to be sent as this message."""
        return {
            "mex-from": self.sender,
            "mex-to": self.recipient,
            "mex-workflowid": self.workflow_id,
            **self.headers,
        }

    def send(self, stack, **options):
        """Sends it as another organisation does, with the NHS's client; returns its id."""
        names = {f"mex-{name.replace('_', '')}": name for name in ("subject", "filename", "local_id", "partner_id")}
        given = {names[name]: value for name, value in self.headers.items()}
        with stack.party(self.sender) as party:
            return party.send_message(
                self.recipient, self.body, workflow_id=self.workflow_id, content_type=self.content_type, **given, **options
            )


def compare(what, found, expected):
    """The names under which the two differ."""
    return [
        f"{what}: {name} is {found.get(name)!r}, not {value!r}"
        for name, value in expected.items()
        if found.get(name) != value
    ]


def outcome(execution):
    """Its status, and with a failed one the error and its cause."""
    if execution["status"] != "FAILED":
        return execution["status"]
    return f"FAILED with {execution.get('error')}: {execution.get('cause')}"


def sha256(body):
    return hashlib.sha256(body).hexdigest()


def sent(pipeline, key, version, message):
    """An object of ours was sent: its row, the message at MESH as the recipient reads it, the event, the object."""
    row = pipeline.row_of(key, version)
    if not row:
        return [f"{key}: there is no row {outbound_row(pipeline.bucket, key, version)}"]
    local_id = message.headers.get("mex-localid", row["id"].removeprefix("out#"))
    common = {
        "mailbox": message.sender,
        "sender": message.sender,
        "recipient": message.recipient,
        "workflow_id": message.workflow_id,
        "local_id": local_id,
        "size": len(message.body),
        "chunks": message.chunks,
        "message_id": row.get("message_id"),
    }
    found = compare(
        f"row of {key}",
        row,
        common
        | {
            "direction": "out",
            "status": "sent",
            "s3_bucket": pipeline.bucket,
            "s3_key": key,
            "version_id": version,
            "error": None,
        },
    )
    execution = pipeline.wait(row["execution"])
    found += compare(f"execution of {key}", execution, {"status": "SUCCEEDED"})
    events = pipeline.told_of(row["id"], "MESH message sent")
    found += compare(f"events of {key}", {"count": len(events)}, {"count": 1})
    for event in events:
        found += compare(f"event of {key}", event, common | {"row": row["id"], "bucket": pipeline.bucket, "key": key})
    if sha256(pipeline.get(key)["Body"]) != sha256(message.body):
        found.append(f"{key}: the object is no longer what was put")
    if "message_id" not in row:
        return [*found, f"row of {key}: it has no message_id"]
    with pipeline.stack.party(message.recipient) as party:
        arrived = party.retrieve_message(row["message_id"])
        headers = {f"mex-{name}": decoded(value) for name, value in arrived.mex_headers()}
        body = arrived.read()
    if sha256(body) != sha256(message.body):
        found.append(f"{key}: the recipient gets {len(body)} other bytes")
    expected = message.metadata | {
        "mex-localid": local_id,
        "mex-total-chunks": str(message.chunks),
        "mex-messagetype": "DATA",
        "mex-content-type": message.content_type,
    }
    return found + compare(f"message from {key} at MESH", headers, expected)


def received(pipeline, message_id, message, dropped=(), attempts=1):
    """A message is in the bucket: object and metadata, row, event, and MESH's acknowledgement."""
    key = f"inbound/{message.recipient}/{message_id}.dat"
    if key not in pipeline.keys(f"inbound/{message.recipient}/"):
        return [f"{key}: there is no such object"]
    stored = pipeline.get(key)
    metadata = {name: unquote_plus(value) for name, value in stored["Metadata"].items()}
    # Set by a server that compressed in transit as well as by the sender; section 5.3 of the API's description.
    if "mex-content-compressed" not in message.headers:
        metadata.pop("mex-content-compressed", None)
    expected = message.metadata | {
        "mex-messageid": message_id,
        "mex-messagetype": "DATA",
        "mex-statuscode": "00",
        "mex-statussuccess": "SUCCESS",
        "mex-statusevent": "TRANSFER",
        "mex-statusdescription": "Transferred to recipient mailbox",
        "mex-filename": message.headers.get("mex-filename", f"{message_id}.dat"),
    }
    expected = {name: value for name, value in expected.items() if name.removeprefix("mex-") not in dropped}
    if dropped:
        expected["mex-dropped"] = ",".join(dropped)
    found = []
    if metadata != expected:
        extra = {name: None for name in metadata if name not in expected}
        found += compare(f"metadata of {key}", metadata, expected | extra)
    if sha256(stored["Body"]) != sha256(message.body):
        found.append(f"{key}: {len(stored['Body'])} bytes are not the {len(message.body)} that were sent")
    found += compare(key, stored, {"ContentType": message.content_type, "ServerSideEncryption": "aws:kms"})
    common = {
        "message_id": message_id,
        "mailbox": message.recipient,
        "sender": message.sender,
        "recipient": message.recipient,
        "workflow_id": message.workflow_id,
        "local_id": message.headers.get("mex-localid"),
        "message_type": "DATA",
        "status_code": "00",
        "size": len(message.body),
        "chunks": message.chunks,
        "version_id": stored["VersionId"],
    }
    return found + _closed(pipeline, key, message_id, common, attempts)


def report_received(pipeline, mailbox, message_id, headers, **columns):
    """A report is in the bucket: its headers are the object's content."""
    key = f"inbound/{mailbox}/{message_id}.ctl"
    if key not in pipeline.keys(f"inbound/{mailbox}/"):
        return [f"{key}: there is no such object"]
    stored = pipeline.get(key)
    metadata = {name: unquote_plus(value) for name, value in stored["Metadata"].items()}
    expected = {"mex-messageid": message_id, "mex-messagetype": "REPORT", "mex-to": mailbox, **headers}
    found = compare(f"content of {key}", json.loads(stored["Body"]), expected)
    found += compare(f"metadata of {key}", metadata, expected)
    found += compare(key, stored, {"ContentType": "application/json"})
    common = {
        "message_id": message_id,
        "mailbox": mailbox,
        "sender": None,
        "recipient": mailbox,
        "message_type": "REPORT",
        "size": len(stored["Body"]),
        "chunks": 0,
        "version_id": stored["VersionId"],
        **columns,
    }
    return found + _closed(pipeline, key, message_id, common)


def _closed(pipeline, key, message_id, common, attempts=1):
    row = pipeline.row(f"in#{message_id}") or {}
    expected = {
        "direction": "in",
        "status": "acknowledged",
        "attempts": attempts,
        "s3_bucket": pipeline.bucket,
        "s3_key": key,
        "error": None,
        "next_attempt_at": None,
    }
    found = compare(f"row in#{message_id}", row, common | expected)
    if abs(row.get("expires_at", 0) - time.time() - RETENTION_DAYS * DAY) > DAY:
        found.append(f"row in#{message_id}: a closed row must expire in {RETENTION_DAYS} days, not at {row.get('expires_at')}")
    events = pipeline.told_of(f"in#{message_id}", "MESH message received")
    found += compare(f"events of {message_id}", {"count": len(events)}, {"count": 1})
    for event in events:
        found += compare(
            f"event of {message_id}",
            event,
            common | {"row": f"in#{message_id}", "bucket": pipeline.bucket, "key": key},
        )
    at_mesh = requests.get(f"{pipeline.stack.mesh_admin}/admin/message/{message_id}", timeout=30).json()
    return found + compare(f"{message_id} at MESH", at_mesh, {"status": "Acknowledged"})


def inbox_empty(pipeline, *mailboxes):
    """MESH has nothing more for the mailboxes."""
    found = []
    for mailbox in mailboxes:
        with pipeline.stack.party(mailbox) as party:
            found += [f"mailbox {mailbox} still holds {message_id}" for message_id in party.list_messages()]
    return found


def decoded(value):
    """A header's text: http.client reads the bytes as ISO-8859-1, and they may be UTF-8."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return value
