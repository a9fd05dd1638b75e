"""Works on one received message. handler.zip holds this file: `zip handler.zip handler.py` after a change."""

import logging
from urllib.parse import unquote_plus

import boto3

logging.getLogger().setLevel(logging.INFO)
s3 = boto3.client("s3")


def handle(event, _context):
    """EventBridge delivers an event at least once: what happens here must do no harm a second time."""
    message = event["detail"]
    stored = s3.get_object(Bucket=message["bucket"], Key=message["key"], VersionId=message["version_id"])
    # The message's headers: mex-subject, mex-filename and so on.
    headers = {name: unquote_plus(value) for name, value in stored["Metadata"].items()}
    size = work_on(headers, stored["Body"])
    # Ids and sizes alone: subjects and file names can be personal data.
    logging.info("message %s of workflow %s: %d bytes", message["message_id"], headers["mex-workflowid"], size)


def work_on(_headers, body):
    """Your work: `body` is a stream, and a message can be larger than the function's memory."""
    return sum(len(part) for part in body.iter_chunks(1024 * 1024))
