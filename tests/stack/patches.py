"""What moto leaves out, for every service. Each service's own gaps are in the patch_* modules.

The patches lean on moto's inside: moto is pinned in requirements.txt and test_patches.py has a test for each of them.
"""

import json
import logging
import re
import sys
import threading
import time

from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.responses import BaseResponse

log = logging.getLogger("stack")

# IAM's names, where they are not moto's.
_IAM_ACTIONS = {"Invoke": "InvokeFunction"}
_IAM_SERVICES = {"awslambda": "lambda", "stepfunctions": "states"}
_RESOURCE_FIELDS = (
    "TableName",
    "Name",
    "Names",
    "FunctionName",
    "stateMachineArn",
    "executionArn",
    "logGroupName",
    "KeyId",
    "SecretId",
    "QueueUrl",
)


def replace_everywhere(old, new):
    """Puts `new` where `old` was bound by a `from … import`, too."""
    for module in list(sys.modules.values()):
        if module is not None and getattr(module, "__name__", "").startswith("moto"):
            for name, value in list(vars(module).items()):
                if value is old:
                    setattr(module, name, new)


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


def access_key(headers):
    match = re.search(r"Credential=([^/]+)/", headers.get("Authorization", ""))
    return match.group(1) if match else ""


def record_calls(path):
    """Writes who called what, one JSON line for each AWS call, in IAM's terms."""
    original = ActionAuthenticatorMixin._authenticate_and_authorize_action
    file = open(path, "a", encoding="utf-8", buffering=1)
    lock = threading.Lock()

    def resource_of(response, resource):
        if resource != "*":
            return resource
        try:
            body = json.loads(response.body)
            return next(body[field] for field in _RESOURCE_FIELDS if field in body)
        except (ValueError, TypeError, StopIteration):
            return getattr(response, "path", "")

    def recorded(self, iam_request_cls, resource="*"):
        action = self._get_action()
        line = json.dumps(
            {
                "time": round(time.time(), 3),
                "key": access_key(self.headers),
                "service": _IAM_SERVICES.get(self.service_name, self.service_name),
                "action": _IAM_ACTIONS.get(action, action),
                "resource": resource_of(self, resource),
            }
        )
        with lock:
            file.write(line + "\n")
        return original(self, iam_request_cls, resource)

    ActionAuthenticatorMixin._authenticate_and_authorize_action = recorded
