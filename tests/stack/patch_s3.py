"""S3: limits and answers as AWS has them."""

import base64
import contextlib
import json
import re
import threading
import zlib
from urllib.parse import quote
from xml.etree import ElementTree

from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.s3 import models, notifications, responses
from moto.s3.exceptions import MissingKey, NoSuchUpload, PreconditionFailed, S3ClientError
from moto.s3.responses import S3Response

from . import patch_events

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
METADATA_BYTES = 2048
_METADATA_PREFIX = "x-amz-meta-"
_CRC32_TRAILER = re.compile(rb"x-amz-checksum-crc32:\s*([A-Za-z0-9+/=]+)")


def check_metadata(headers):
    size = sum(
        len(name) - len(_METADATA_PREFIX) + len(value.encode())
        for name, value in headers.items()
        if name.lower().startswith(_METADATA_PREFIX)
    )
    if size > METADATA_BYTES:
        raise S3ClientError(
            "MetadataTooLarge",
            f"Your metadata headers exceed the maximum allowed metadata size ({size} > {METADATA_BYTES})",
        )


def check_crc32(response):
    """A checksum comes in a header or, with a body that was streamed, in a trailer. The SDKs send CRC32 by default."""
    trailer = _CRC32_TRAILER.search(response.raw_body[-200:]) if response.headers.get("x-amz-trailer") else None
    expected = trailer.group(1).decode() if trailer else response.headers.get("x-amz-checksum-crc32")
    if expected and base64.b64encode(zlib.crc32(response.body or b"").to_bytes(4, "big")).decode() != expected:
        raise S3ClientError("BadDigest", "The CRC32 you specified did not match the calculated checksum.")


def check_if_match(response, key_name):
    """Of a completed upload; moto knows it for a whole object only."""
    expected = response.headers.get("If-Match")
    if not expected:
        return
    current = response.backend.get_object(response.bucket_name, key_name)
    if current is None:
        raise MissingKey(key_name)
    if current.etag.strip('"') != expected.strip('"'):
        raise PreconditionFailed("If-Match")


def get_permission(self, action, resource):
    """moto ignores conditions, so a Deny of requests without TLS would refuse everything."""
    if self.policy is None:
        return PermissionResult.NEUTRAL
    policy = json.loads(self.policy.decode())
    statements = policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
    policy["Statement"] = [s for s in statements if not (s["Effect"] == "Deny" and s.get("Condition"))]
    return IAMPolicy(json.dumps(policy)).is_action_permitted(action, resource)


def without_content(self, _):
    """moto lists versions from deep copies of all of a bucket's objects, each with a file of its own on the disk."""
    # It is made from the content when it is first asked for; what is being deleted has none any more.
    with contextlib.suppress(ValueError):
        _ = self.etag
    copied = object.__new__(type(self))
    copied.__dict__.update(self.__dict__, _value_buffer=None, disposed=True)
    return copied


def apply():
    # Queues, topics and functions are told by moto, EventBridge by us.
    notifications._send_event_bridge_message = lambda *_: None
    told = notifications.send_event

    def send_event(account_id, event_name, bucket, key):
        told(account_id, event_name, bucket, key)
        patch_events.s3_event(account_id, event_name, bucket, key)

    notifications.send_event = send_event
    models.FakeBucket.get_permission = get_permission
    models.FakeKey.__deepcopy__ = without_content

    # A condition and the write that depends on it are one step on AWS.
    writing = threading.RLock()
    put, key_put, key_post = S3Response.put_object, S3Response._key_response_put, S3Response._key_response_post

    def put_object(self):
        check_crc32(self)
        with writing:
            return put(self)

    def key_response_put(self, query, key_name):
        check_metadata(self.headers)
        return key_put(self, query, key_name)

    def key_response_post(self, request, body, bucket_name, query, key_name):
        check_metadata(self.headers)
        with writing:
            if query.get("uploadId"):
                check_if_match(self, key_name)
            return key_post(self, request, body, bucket_name, query, key_name)

    S3Response.put_object, S3Response._key_response_put, S3Response._key_response_post = (
        put_object,
        key_response_put,
        key_response_post,
    )

    part = S3Response.upload_part

    def upload_part(self):
        check_crc32(self)
        return part(self)

    S3Response.upload_part = upload_part

    for name in ("upload_part", "complete_multipart_upload"):
        setattr(models.S3Backend, name, known_upload(getattr(models.S3Backend, name)))

    parts, notification = S3Response.list_parts, S3Response.get_bucket_notification

    def list_parts(self):
        status, headers, body = parts(self)
        text = body.decode() if isinstance(body, bytes) else body
        return status, headers, text.replace("ListPartsResponse", "ListPartsResult")

    def get_bucket_notification(self):
        status, headers, body = notification(self)
        configuration = self.backend.get_bucket_notification_configuration(self.bucket_name)
        if configuration and configuration.event_bridge is not None:
            text = body.decode() if isinstance(body, bytes) else body
            root = ElementTree.fromstring(text)
            ElementTree.SubElement(root, root.tag.replace("NotificationConfiguration", "EventBridgeConfiguration"))
            body = ElementTree.tostring(root)
        return status, headers, body

    S3Response.list_parts, S3Response.get_bucket_notification = list_parts, get_bucket_notification

    versions = S3Response.list_object_versions

    # Terraform asks for encoded keys, and empties no bucket with a % in a key without them.
    def list_object_versions(self):
        status, headers, body = versions(self)
        if self.querystring.get("encoding-type") == ["url"]:
            root = ElementTree.fromstring(body)
            namespace = root.tag.removesuffix("ListVersionsResult")
            for name in ("Key", "KeyMarker", "NextKeyMarker", "Prefix"):
                for element in root.iter(namespace + name):
                    element.text = quote(element.text or "")
            ElementTree.SubElement(root, namespace + "EncodingType").text = "url"
            body = ElementTree.tostring(root)
        return status, headers, body

    S3Response.list_object_versions = list_object_versions

    # IAM's action for a HEAD of one version, which moto takes for GetObject.
    responses.ACTION_MAP["KEY"]["HEAD"]["versionId"] = "GetObjectVersion"


def known_upload(function):
    def checked(self, bucket_name, multipart_id, *args, **kwargs):
        if multipart_id not in self.get_bucket(bucket_name).multiparts:
            raise NoSuchUpload(upload_id=multipart_id)
        return function(self, bucket_name, multipart_id, *args, **kwargs)

    return checked
