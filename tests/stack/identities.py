"""IAM: what a function, a state machine or a rule may not do by its role's policies is refused, and each kind of call is recorded.

Who calls is told by the access key: LAMBDA-<function>, STATES-<machine>, EVENTS-<rule>. Any other key (Terraform's, the tests')
may do everything. KMS and log delivery, which AWS does on the caller's behalf, are no calls here.
"""

import functools
import json
import re
import threading
from urllib.parse import unquote

from moto.awslambda.exceptions import UnknownFunctionException
from moto.awslambda.models import lambda_backends
from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import JsonRESTError
from moto.events.models import events_backends
from moto.iam.exceptions import NotFoundException
from moto.iam.models import IAMBackend, iam_backends
from moto.s3.exceptions import S3AccessDeniedError
from moto.s3.models import s3_backends
from moto.secretsmanager.models import secretsmanager_backends
from moto.stepfunctions.responses import get_backend as stepfunctions_backend

from .policies import granted

_KEY = re.compile(r"Credential=([^/]+)/")
_SERVICES = {"awslambda": "lambda", "stepfunctions": "states"}


def access_key(headers):
    match = _KEY.search(headers.get("Authorization", ""))
    return match.group(1) if match else ""


# What a call needs: IAM's actions and the resources that they are checked against.


class Call:
    """One request, as moto's response object holds it."""

    def __init__(self, response, resource):
        self.response, self.resource = response, resource
        self.account, self.region = response.current_account, response.region
        self.service = _SERVICES.get(response.service_name, response.service_name)
        self.operation = response._get_action()

    @functools.cached_property
    def body(self):
        body = self.response.body
        if isinstance(body, dict):
            return body
        try:
            return json.loads(body)
        except (ValueError, TypeError):
            return {}

    def arn(self, service, rest):
        return f"arn:aws:{service}:{self.region}:{self.account}:{rest}"

    def needs(self):
        """Pairs of action and resource."""
        if self.service == "s3":
            return self.s3()
        action = f"{self.service}:{self.operation}"
        match action:
            case "lambda:Invoke":
                name = unquote(self.response.path).split("/functions/")[1].removesuffix("/invocations")
                return [("lambda:InvokeFunction", name if name.startswith("arn:") else self.arn("lambda", f"function:{name}"))]
            case "ssm:GetParameter" | "ssm:GetParameters":
                names = self.body.get("Names") or [self.body["Name"]]
                return [(action, self.arn("ssm", f"parameter/{name.lstrip('/')}")) for name in names]
            case "secretsmanager:GetSecretValue":
                return [(action, self.secret(self.body["SecretId"]))]
            case "states:StartExecution":
                return [(action, self.body["stateMachineArn"])]
            case "events:PutEvents":
                buses = {entry.get("EventBusName", "default") for entry in self.body["Entries"]}
                return [(action, self.arn("events", f"event-bus/{bus}")) for bus in sorted(buses)]
        if self.service == "dynamodb":
            return [(action, self.arn("dynamodb", f"table/{table}")) for table in self.tables()]
        return [(action, self.resource)]

    def tables(self):
        """Names of tables, with the index if one is asked."""
        if "TransactItems" in self.body:
            return sorted({operation["TableName"] for item in self.body["TransactItems"] for operation in item.values()})
        if "RequestItems" in self.body:
            return sorted(self.body["RequestItems"])
        index = self.body.get("IndexName")
        return [self.body.get("TableName", "*") + (f"/index/{index}" if index else "")]

    def secret(self, name):
        secrets = secretsmanager_backends[self.account][self.region].secrets
        known = secrets.get(name) if name in secrets else None
        # Six characters of AWS's own end a secret's ARN.
        return known.arn if known else name if name.startswith("arn:") else self.arn("secretsmanager", f"secret:{name}-000000")

    def s3(self):
        found = [(f"s3:{self.operation}", self.resource)]
        bucket, _, key = self.resource.partition(":::")[2].partition("/")
        if self.operation in ("GetObject", "GetObjectVersion") and key and not self.object_is_there(bucket, key):
            # Otherwise S3 answers 403 instead of 404.
            found.append(("s3:ListBucket", f"arn:aws:s3:::{bucket}"))
        return found

    def object_is_there(self, bucket, key):
        known = s3_backends[self.account]["aws"].buckets.get(bucket)
        return known is not None and known.keys.get(key) is not None


# What the roles' policies grant


def role_of(key, account, region, call=None):
    """The ARN of the role that an access key stands for; None if it is not checked, or its owner is gone."""
    kind, _, name = key.partition("-")
    if kind == "LAMBDA":
        try:
            return lambda_backends[account][region].get_function(name).role
        except UnknownFunctionException:
            return None
    if kind == "STATES":
        machines = stepfunctions_backend(account, region).state_machines
        return next((machine.roleArn for machine in machines if machine.name == name), None)
    if kind == "EVENTS" and name:
        rule = events_backends[account][region].event_buses["default"].rules.get(name)
        started = call.body.get("stateMachineArn") if call else None
        return next((t.get("RoleArn") for t in rule.targets if t["Arn"] == started), None) if rule else None
    return None


def documents(account, role_arn):
    """The policy documents of a role, as JSON text."""
    try:
        role = iam_backends[account]["aws"].get_role(role_arn.rpartition("/")[2])
    except NotFoundException:
        return []
    attached = [policy.document for policy in role.managed_policies.values()]
    return [document if isinstance(document, str) else json.dumps(document) for document in [*role.policies.values(), *attached]]


def list_roles_while_they_change():
    """A check of one role goes through all of them while Terraform makes others."""
    IAMBackend.get_roles = lambda self: list(self.roles.values())


def apply(path):
    list_roles_while_they_change()
    file = open(path, "a", encoding="utf-8", buffering=1)
    lock, written = threading.Lock(), set()

    def record(key, action, resource, allowed):
        with lock:
            if (key, action, resource, allowed) not in written:
                written.add((key, action, resource, allowed))
                line = {"key": key, "action": action, "resource": resource, "allowed": allowed}
                file.write(json.dumps(line) + "\n")

    def check(self, iam_request_cls, resource="*"):
        key = access_key(self.headers)
        if not key.startswith(("LAMBDA-", "STATES-", "EVENTS-")):
            return
        call = Call(self, resource)
        role = role_of(key, call.account, call.region, call)
        refused = None
        for action, needed in call.needs():
            allowed = granted(documents(call.account, role), action, needed) if role else None
            record(key, action, needed, allowed)
            if allowed is False:
                refused = refused or (action, needed)
        if refused:
            if call.service == "s3":
                raise S3AccessDeniedError
            action, needed = refused
            raise JsonRESTError("AccessDeniedException", f"User: {role} is not authorized to perform: {action} on resource: {needed}")

    ActionAuthenticatorMixin._authenticate_and_authorize_action = check
