"""What moto leaves out, for every service. Each service's own gaps are in the patch_* modules.

The patches lean on moto's inside: moto is pinned in requirements.txt and test_patches.py has a test for each of them.
"""

import contextlib
import json
import logging
import sys
import threading

from moto.core.responses import BaseResponse
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.sqs.models import Queue, SQSBackend

log = logging.getLogger("stack")


def replace_everywhere(old, new):
    """Puts `new` where `old` was bound by a `from … import`, too."""
    for module in list(sys.modules.values()):
        if module is not None and getattr(module, "__name__", "").startswith("moto"):
            for name, value in list(vars(module).items()):
                if value is old:
                    setattr(module, name, new)


def keep_the_type_of_an_updated_attribute():
    """UpdateItem with AttributeUpdates, as Terraform sends it, makes a text of a boolean."""
    original = Item.update_with_attribute_updates

    def update_with_attribute_updates(self, attribute_updates):
        original(self, attribute_updates)
        for name, update in attribute_updates.items():
            if update.get("Action", "PUT") == "PUT" and "BOOL" in update.get("Value", {}):
                self.attrs[name] = DynamoType(update["Value"])

    Item.update_with_attribute_updates = update_with_attribute_updates


def answer_one_at_a_time():
    """moto goes through its own lists while another request changes them, and fails. Services whose requests wait for something are not among these."""
    locks = {service: threading.RLock() for service in ("cloudwatch", "dynamodb", "events", "iam", "kms", "logs", "secretsmanager", "ssm")}
    original = BaseResponse.call_action

    def call_action(self):
        with locks.get(self.service_name, contextlib.nullcontext()):
            return original(self)

    BaseResponse.call_action = call_action


def send_without_counting():
    """Of a queue that is no FIFO queue, sending needs none of its attributes; moto counts all messages for them each time."""
    attributes, send, sending = Queue.attributes.fget, SQSBackend.send_message, threading.local()

    def attributes_if_asked_for(self):
        return {} if getattr(sending, "now", False) and not self.fifo_queue else attributes(self)

    def send_message(self, *args, **kwargs):
        sending.now = True
        try:
            return send(self, *args, **kwargs)
        finally:
            sending.now = False

    Queue.attributes = property(attributes_if_asked_for)
    SQSBackend.send_message = send_message


def refuse_unknown_actions():
    """AWS answers 400; moto answers 500, which Terraform and the SDKs retry for ten minutes."""
    original = BaseResponse.call_action

    def call_action(self):
        try:
            return original(self)
        except NotImplementedError as error:
            log.error("NOT-IMPLEMENTED %s: %s", self.service_name, error)
            body = {"__type": "NotImplemented", "message": f"The local AWS lacks this: {error}"}
            return 400, {"x-amzn-errortype": "NotImplemented"}, json.dumps(body)

    BaseResponse.call_action = call_action
