"""EventBridge: targets, input transformers, dead letters and limits as AWS has them."""

import contextlib
import datetime
import json
import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import boto3
from moto.core.exceptions import JsonRESTError
from moto.events import models
from moto.stepfunctions.parser.asl.utils.json_path import NoSuchJsonPathError

from . import patch_states
from .patches import log

# Quotas of EventBridge: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
TARGETS_PER_RULE = 5
PUT_EVENTS_BYTES = 256 * 1024

_VARIABLE = re.compile(r"<([\w.\-]+)>")
_S3_REASONS = {
    "s3:ObjectCreated:Put": "PutObject",
    "s3:ObjectCreated:Post": "POST Object",
    "s3:ObjectCreated:Copy": "CopyObject",
    "s3:ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
    "s3:ObjectRemoved:Delete": "DeleteObject",
    "s3:ObjectRemoved:DeleteMarkerCreated": "DeleteObject",
}
_pool = ThreadPoolExecutor(16, "events")
_pending = threading.local()
# Called with each object that a request made or removed, once the request has ended.
observers = []


def iso_time(value=None):
    if isinstance(value, str) and not re.fullmatch(r"[\d.]+", value):
        return value
    moment = (
        datetime.datetime.now(datetime.UTC)
        if value in (None, "")
        else datetime.datetime.fromtimestamp(float(value), datetime.UTC)
    )
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def transform(transformer, event, rule):
    """The input of a target with an InputTransformer, as JSON text."""
    predefined = {
        "aws.events.rule-arn": rule.arn,
        "aws.events.rule-name": rule.name,
        "aws.events.event.ingestion-time": event.get("time"),
        "aws.events.event": {k: v for k, v in event.items() if k != "detail"},
        "aws.events.event.json": event,
    }
    values = dict(predefined)
    for name, path in (transformer.get("InputPathsMap") or {}).items():
        # AWS doesn't make a variable whose path is not in the event: nothing is put in its place.
        with contextlib.suppress(NoSuchJsonPathError):
            values[name] = patch_states.extract_json(path, event)
    template = transformer["InputTemplate"]
    out, position, quoted = [], 0, False
    for match in _VARIABLE.finditer(template):
        literal = template[position : match.start()]
        quoted ^= len(re.findall(r'(?<!\\)"', literal)) % 2 == 1
        out.append(literal)
        position = match.end()
        if match.group(1) in values:
            value = values[match.group(1)]
            if not quoted:
                out.append(json.dumps(value))
            else:
                text = value if isinstance(value, str) else json.dumps(value)
                out.append(json.dumps(text)[1:-1])
    return "".join(out) + template[position:]


def target_input(target, event, rule):
    if "Input" in target:
        return target["Input"]
    if "InputPath" in target:
        return json.dumps(patch_states.extract_json(target["InputPath"], event))
    if target.get("InputTransformer"):
        text = transform(target["InputTransformer"], event, rule)
        json.loads(text)
        return text
    return json.dumps(event)


class Delivery:
    def __init__(self, url):
        self.url = url
        self.clients = {}
        self.lock = threading.Lock()

    def client(self, service, region, key="EVENTS"):
        with self.lock:
            if (service, region, key) not in self.clients:
                self.clients[service, region, key] = boto3.client(
                    service,
                    region_name=region,
                    endpoint_url=self.url,
                    aws_access_key_id=key,
                    aws_secret_access_key="x",
                )
            return self.clients[service, region, key]

    def send(self, rule, arn, body, target, event):
        _, _, service, region, account, name = arn.split(":", 5)
        if service == "states":
            if not target.get("RoleArn"):
                raise ValueError("a Step Functions target needs a RoleArn")
            client = self.client("stepfunctions", region, f"EVENTS-{rule.name}")
            client.start_execution(stateMachineArn=arn, name=f"{event['id']}_{uuid.uuid4()}", input=body)
            return
        client = self.client(service, region)
        if service == "lambda":
            client.invoke(FunctionName=arn, InvocationType="Event", Payload=body)
        elif service == "sqs":
            group = (target.get("SqsParameters") or {}).get("MessageGroupId")
            queue = client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
            client.send_message(QueueUrl=queue, MessageBody=body, **({"MessageGroupId": group} if group else {}))
        elif service == "sns":
            client.publish(TopicArn=arn, Message=body)
        else:
            raise NotImplementedError(f"targets of type {service}")

    def deliver(self, rule, target, event):
        try:
            self.send(rule, target["Arn"], target_input(target, event, rule), target, event)
        except Exception as error:
            queue = (target.get("DeadLetterConfig") or {}).get("Arn")
            if not queue or isinstance(error, NotImplementedError):
                log.exception("EVENT-TARGET-FAILED rule %s target %s", rule.name, target["Arn"])
                return
            log.info("dead letter of rule %s: %s", rule.name, error)
            self.dead_letter(queue, rule, target, event, error)

    def dead_letter(self, queue_arn, rule, target, event, error):
        code = getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__)
        attributes = {
            "RULE_ARN": rule.arn,
            "TARGET_ARN": target["Arn"],
            "ERROR_CODE": code,
            "ERROR_MESSAGE": str(error),
            "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts",
            "RETRY_ATTEMPTS": str((target.get("RetryPolicy") or {}).get("MaximumRetryAttempts", 185)),
        }
        try:
            _, _, _, region, account, name = queue_arn.split(":", 5)
            client = self.client("sqs", region)
            client.send_message(
                QueueUrl=client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"],
                MessageBody=json.dumps(event),
                MessageAttributes={k: {"DataType": "String", "StringValue": v} for k, v in attributes.items()},
            )
        except Exception:
            log.exception("EVENT-TARGET-LOST rule %s dead letter queue %s", rule.name, queue_arn)


def start_request():
    _pending.s3 = {}


def s3_event(account_id, event_name, bucket, key):
    """Keeps an S3 event until the request has ended: only then has moto stored the object's metadata.

    The last event of a request wins, because moto sends one for the put inside of a completed multipart upload.
    It also tells of the tags and the access list that a put itself brings; AWS does not.
    """
    if event_name.value in _S3_REASONS:
        _pending.s3[bucket.name, key.name, key.version_id] = (account_id, bucket, event_name.value, key)


def end_request():
    for account_id, bucket, event_name, key in _pending.s3.values():
        for observer in observers:
            observer(account_id, bucket, event_name, key)


def publish(backend, event):
    """Puts an AWS service's event on the default bus."""
    for rule in list(backend.event_buses["default"].rules.values()):
        rule.send_to_targets(event)


def to_eventbridge(account_id, bucket, event_name, key):
    """S3's own event, if the bucket's notifications go to EventBridge."""
    configuration = bucket.notification_configuration
    if configuration is not None and configuration.event_bridge is not None:
        backend = models.events_backends[account_id][bucket.region_name]
        publish(backend, s3_event_body(account_id, bucket, event_name, key))


def s3_event_body(account_id, bucket, event_name, key):
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html"""
    created = event_name.startswith("s3:ObjectCreated")
    described = {"key": key.name}
    if created:
        described |= {"size": key.size, "etag": key.etag.strip('"')}
    if bucket.is_versioned and key.version_id not in (None, "null"):
        described["version-id"] = key.version_id
    described["sequencer"] = f"{uuid.uuid4().int >> 64:016X}"
    detail = {
        "version": "0",
        "bucket": {"name": bucket.name},
        "object": described,
        "request-id": uuid.uuid4().hex[:16].upper(),
        "requester": account_id,
        "source-ip-address": "127.0.0.1",
        "reason": _S3_REASONS[event_name],
    }
    if not created:
        detail["deletion-type"] = "Delete Marker Created" if bucket.is_versioned else "Permanently Deleted"
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Object Created" if created else "Object Deleted",
        "source": "aws.s3",
        "account": account_id,
        "time": iso_time(),
        "region": bucket.region_name,
        "resources": [bucket.arn],
        "detail": detail,
    }


def apply(url):
    delivery = Delivery(url)
    observers.append(to_eventbridge)

    def send_to_targets(self, original_event, transform_input=True):
        # A schedule has no pattern, which moto takes for one that matches everything.
        if self.state != "ENABLED" or not self.event_pattern.get_pattern():
            return
        event = {k: v for k, v in original_event.items() if k != "ingestion-time"}
        event["time"] = iso_time(event.get("time"))
        if self.event_pattern.matches_event(event):
            for target in list(self.targets):
                _pool.submit(delivery.deliver, self, target, event)

    models.Rule.send_to_targets = send_to_targets

    put_targets = models.EventsBackend.put_targets

    def limited_targets(self, name, event_bus_arn, targets):
        rule = self.describe_rule(name, event_bus_arn)
        if len({t["Id"] for t in rule.targets} | {t["Id"] for t in targets}) > TARGETS_PER_RULE:
            raise JsonRESTError(
                "LimitExceededException",
                f"The requested resource exceeds the maximum number allowed: {TARGETS_PER_RULE} targets per rule.",
            )
        put_targets(self, name, event_bus_arn, targets)

    models.EventsBackend.put_targets = limited_targets

    put_events = models.EventsBackend.put_events

    def limited_events(self, events):
        if sum(len(json.dumps(event)) for event in events) > PUT_EVENTS_BYTES:
            raise JsonRESTError("ValidationException", "Total size of the entries in the request is over the limit.")
        return put_events(self, events)

    models.EventsBackend.put_events = limited_events
