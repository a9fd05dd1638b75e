"""CloudTrail: while a trail logs a bucket's data events, EventBridge gets them, too, and later than S3's own."""

import json
import threading
import uuid

from moto.cloudtrail import models, responses
from moto.events import models as events_models

from . import patch_events

# AWS promises an average of 5 minutes; the stack's time scale shortens it.
DELAY_SECONDS = 60

_CALLS = {
    "s3:ObjectCreated:Put": "PutObject",
    "s3:ObjectCreated:Copy": "CopyObject",
    "s3:ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
}
_OPERATORS = {
    "Equals": lambda value, given: value == given,
    "StartsWith": str.startswith,
    "EndsWith": str.endswith,
    "NotEquals": lambda value, given: value != given,
    "NotStartsWith": lambda value, given: not value.startswith(given),
    "NotEndsWith": lambda value, given: not value.endswith(given),
}


def selects(selector, values):
    """Whether an advanced event selector takes an event: all of its fields, and of a field's positive values any."""
    for field in selector["FieldSelectors"]:
        value = values.get(field["Field"], "")
        for operator, matches in _OPERATORS.items():
            given = field.get(operator) or []
            every = all if operator.startswith("Not") else any
            if given and not every(matches(value, one) for one in given):
                return False
    return True


def logs_write(trail, arn, call):
    """Whether a trail logs this call that writes an S3 object."""
    if not trail.status.is_logging:
        return False
    for selector in trail.event_selectors or []:
        if selector.get("ReadWriteType", "All") != "ReadOnly":
            for resource in selector.get("DataResources") or []:
                if resource["Type"] == "AWS::S3::Object" and any(arn.startswith(value) for value in resource["Values"]):
                    return True
    values = {
        "eventCategory": "Data",
        "eventName": call,
        "eventSource": "s3.amazonaws.com",
        "readOnly": "false",
        "resources.ARN": arn,
        "resources.type": "AWS::S3::Object",
    }
    return any(selects(selector, values) for selector in trail.advanced_event_selectors or [])


def event_body(account_id, bucket, call, key):
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/cloudtrail-logging-understanding-s3-entries.html"""
    arn, now = f"{bucket.arn}/{key.name}", patch_events.iso_time()
    answered = {"x-amz-server-side-encryption": key.encryption or "AES256"}
    if bucket.is_versioned and key.version_id not in (None, "null"):
        answered["x-amz-version-id"] = key.version_id
    detail = {
        "eventVersion": "1.09",
        "userIdentity": {"type": "IAMUser", "accountId": account_id},
        "eventTime": now,
        "eventSource": "s3.amazonaws.com",
        "eventName": call,
        "awsRegion": bucket.region_name,
        "sourceIPAddress": "127.0.0.1",
        "requestParameters": {"bucketName": bucket.name, "Host": "127.0.0.1", "key": key.name},
        "responseElements": answered,
        "requestID": uuid.uuid4().hex[:16].upper(),
        "eventID": str(uuid.uuid4()),
        "readOnly": False,
        "resources": [
            {"type": "AWS::S3::Object", "ARN": arn},
            {"accountId": account_id, "type": "AWS::S3::Bucket", "ARN": bucket.arn},
        ],
        "eventType": "AwsApiCall",
        "managementEvent": False,
        "recipientAccountId": account_id,
        "eventCategory": "Data",
    }
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.s3",
        "account": account_id,
        "time": now,
        "region": bucket.region_name,
        "resources": [],
        "detail": detail,
    }


def apply(time_scale):
    def record(account_id, bucket, event_name, key):
        call = _CALLS.get(event_name)
        if not call:
            return
        trails = models.cloudtrail_backends[account_id][bucket.region_name].describe_trails(include_shadow_trails=True)
        if any(logs_write(trail, f"{bucket.arn}/{key.name}", call) for trail in trails):
            backend = events_models.events_backends[account_id][bucket.region_name]
            event = event_body(account_id, bucket, call, key)
            later = threading.Timer(DELAY_SECONDS * time_scale, patch_events.publish, (backend, event))
            later.daemon = True
            later.start()

    patch_events.observers.append(record)

    description = models.Trail.description

    # moto says that there are none, and Terraform asks for them no more.
    def described(self, include_region=False):
        chosen = bool(self.event_selectors or self.advanced_event_selectors)
        return description(self, include_region) | {"HasCustomEventSelectors": chosen}

    models.Trail.description = described

    # A trail that goes over to the other kind of selectors keeps none of the first.
    def put_event_selectors(self, event_selectors, advanced_event_selectors):
        self.event_selectors, self.advanced_event_selectors = event_selectors or [], advanced_event_selectors or []

    models.Trail.put_event_selectors = put_event_selectors

    # moto describes all trails, whichever were asked for.
    def describe_trails(self):
        asked = set(self._get_param("trailNameList") or [])
        found = self.cloudtrail_backend.describe_trails(self._get_bool_param("includeShadowTrails", True))
        trails = [one for one in found if not asked or asked & {one.arn, one.trail_name}]
        return json.dumps({"trailList": [one.description(include_region=True) for one in trails]})

    responses.CloudTrailResponse.describe_trails = describe_trails
