"""The calls of a whole run, compared with what the roles may do.

That every call is granted is seen to by the local AWS, which refuses it otherwise (stack.identities). Here is the other way
round: each action and resource that a role is granted was used, or stands in a table with its reason.
"""

import json
import re

from .policies import covers, statements

# What AWS does with a role's permissions, by role (of which a pattern may take in several) and action: no function or machine
# calls these itself.
_FUNCTION, _MACHINE = r"(acknowledge-message|fetch-message-chunk|poll-mailbox|send-message-chunk|track-message)-role", r"(get|send|track)-messages?"
_KEEPS_ROWS = "DynamoDB decrypts a table's key, SSM and Secrets Manager what is read, for the caller alone: kms:ViaService"
_DELIVERS = "Step Functions sets up the delivery of its log"
_TRACES = "Lambda and Step Functions send what they trace"
ON_BEHALF = {
    (_FUNCTION, "kms:Decrypt"): _KEEPS_ROWS,
    ("fetch-message-chunk-role", "kms:GenerateDataKey"): "S3 encrypts what is put, for the caller alone: kms:ViaService",
    ("get-messages", "kms:Decrypt"): "DynamoDB decrypts the key of the leases that the machine releases: kms:ViaService",
    ("send-message", "kms:Decrypt"): "DynamoDB and SQS use the key for the caller alone: kms:ViaService",
    ("send-message", "kms:GenerateDataKey"): "SQS encrypts what is put into the dead-letter queue, for the caller alone: kms:ViaService",
    (_FUNCTION, "logs:CreateLogStream"): "Lambda writes what a function prints",
    (_FUNCTION, "logs:PutLogEvents"): "Lambda writes what a function prints",
    ("cloudtrail", "logs:CreateLogStream"): "CloudTrail writes into the trail's log group",
    ("cloudtrail", "logs:PutLogEvents"): "CloudTrail writes into the trail's log group",
    **{
        (_MACHINE, f"logs:{action}"): _DELIVERS
        for action in (
            "CreateLogDelivery",
            "DeleteLogDelivery",
            "DescribeLogGroups",
            "DescribeResourcePolicies",
            "GetLogDelivery",
            "ListLogDeliveries",
            "PutResourcePolicy",
            "UpdateLogDelivery",
        )
    },
    **{(role, f"xray:{action}"): _TRACES for role in (_FUNCTION, _MACHINE) for action in ("PutTelemetryRecords", "PutTraceSegments")},
    (_MACHINE, "xray:GetSamplingRules"): "Step Functions asks what is to be traced",
    (_MACHINE, "xray:GetSamplingTargets"): "Step Functions asks what is to be traced",
}

# What Lambda does with the role of a function in a VPC (its guide's "Required IAM permissions"), and its code may not
# (NoNetworkForTheCode).
OF_A_VPC = {
    "ec2:AssignPrivateIpAddresses": "Lambda gives an interface further addresses",
    "ec2:CreateNetworkInterface": "Lambda makes the function's interfaces",
    "ec2:DeleteNetworkInterface": "Lambda takes them away after the function",
    "ec2:DescribeNetworkInterfaces": "Lambda looks for those that it may share, and whether one is ready",
    "ec2:DescribeSubnets": "Lambda looks at the subnets before it makes an interface",
    "ec2:UnassignPrivateIpAddresses": "Lambda takes addresses back",
}

# What a run here does not come to, by role, action and resource as `granted_by` names them.
_FETCH, _SEND, _TRACK = "fetch-message-chunk-role", "send-message-chunk-role", "track-message-role"
_TABLE = "arn:aws:dynamodb:eu-west-2:123456789012:table/NAME-messages"
_SECRET = "arn:aws:secretsmanager:eu-west-2:123456789012:secret:/NAME/mesh"
_GIVEN_UP = "an upload that cannot go on, such as that of a message over max_message_size"
_AGAIN = "a message for a legacy location that is tried again, or comes in many parts"
_FOLLOWED = "sent messages are looked at five minutes later: after a run"
RARE = {
    **{
        (_FETCH, "s3:AbortMultipartUpload", f"arn:aws:s3:::{place}"): _GIVEN_UP
        for place in ("NAME/*", "NAME/inbound/*", "second-legacy-inbound/*")
    },
    (_FETCH, "s3:GetObject", "arn:aws:s3:::second-legacy-inbound/*"): _AGAIN,
    (_FETCH, "s3:GetObjectVersion", "arn:aws:s3:::second-legacy-inbound/*"): _AGAIN,
    (_FETCH, "s3:ListBucket", "arn:aws:s3:::second-legacy-inbound"): _AGAIN,
    (_FETCH, "s3:ListBucketMultipartUploads", "arn:aws:s3:::second-legacy-inbound"): _AGAIN,
    (_FETCH, "s3:ListBucketVersions", "arn:aws:s3:::second-legacy-inbound"): _AGAIN,
    (_FETCH, "s3:ListMultipartUploadParts", "arn:aws:s3:::second-legacy-inbound/*"): _AGAIN,
    (_SEND, "dynamodb:BatchGetItem", _TABLE): "an uncertain send that another one with its local id may explain",
    (_SEND, "dynamodb:Query", f"{_TABLE}/index/due"): "the same",
    (_SEND, "s3:GetObject", "arn:aws:s3:::NAME/outbound*"): "an event that names no version",
    (_SEND, "s3:ListBucket", "arn:aws:s3:::NAME"): "an object that is gone: S3 answers 403 without it, not 404",
    **{
        (_TRACK, "secretsmanager:GetSecretValue", f"{_SECRET}/{name}-??????"): _FOLLOWED
        for name in ("MESH_CLIENT_KEY", "MESH_SHARED_KEY", "mailboxes/*/MAILBOX_PASSWORD")
    },
    (
        _TRACK,
        "states:StartExecution",
        "arn:aws:states:eu-west-2:123456789012:stateMachine:NAME-send-message",
    ): "a send that was interrupted; test_lifecycle.py sees it, on an instance that it destroys",
}

# Actions that know no narrower resource, by the service authorisation reference, or (those on network interfaces) for which Lambda
# looks before there is a resource.
NO_NARROWER = {
    "ec2:AssignPrivateIpAddresses",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
}


def roles(stack, name):
    """The roles of an instance: policies' statements by role."""
    iam = stack.client("iam")
    found = {}
    for page in iam.get_paginator("list_roles").paginate():
        for role in page["Roles"]:
            if role["RoleName"].startswith(f"{name}-"):
                attached = iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]
                assert not attached, f"{role['RoleName']} has policies that are not looked at here: {attached}"
                names = iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
                documents = [
                    iam.get_role_policy(RoleName=role["RoleName"], PolicyName=one)["PolicyDocument"] for one in names
                ]
                found[role["RoleName"]] = [one for document in documents for one in statements(json.dumps(document))]
    return found


def callers(stack, name):
    """The access keys that call with a role, by the role's name."""
    found = {}

    def add(arn, key):
        found.setdefault(arn.rpartition("/")[2], set()).add(key)

    for page in stack.client("lambda").get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            if function["FunctionName"].startswith(f"{name}-"):
                add(function["Role"], f"LAMBDA-{function['FunctionName']}")
    states = stack.client("stepfunctions")
    for page in states.get_paginator("list_state_machines").paginate():
        for machine in page["stateMachines"]:
            if machine["name"].startswith(f"{name}-"):
                add(states.describe_state_machine(stateMachineArn=machine["stateMachineArn"])["roleArn"], f"STATES-{machine['name']}")
    events = stack.client("events")
    for page in events.get_paginator("list_rules").paginate(NamePrefix=f"{name}-"):
        for rule in page["Rules"]:
            for target in events.list_targets_by_rule(Rule=rule["Name"])["Targets"]:
                if "RoleArn" in target:
                    add(target["RoleArn"], f"EVENTS-{rule['Name']}")
    return found


def calls(stack):
    """What was called: sets of action and resource by access key."""
    found = {}
    for line in (stack.folder / "calls.jsonl").read_text(encoding="utf-8").splitlines():
        call = json.loads(line)
        found.setdefault(call["key"], set()).add((call["action"], call["resource"]))
    return found


def granted_by(stack, name, called):
    """What the roles of an instance are granted, in terms of every instance, and whether the calls used it."""
    found, keys = {}, callers(stack, name)
    for role, allowed in roles(stack, name).items():
        made = set().union(*(called.get(key, set()) for key in keys.get(role, ())))
        for statement in allowed:
            for action, resource in ((a, r) for a in statement.actions for r in statement.resources if statement.allow):
                generic = re.sub(r"mailboxes/[^/]+/", "mailboxes/*/", resource).replace(name, "NAME")
                used = any(covers(action, resource, one) for one in made)
                entry = (role.removeprefix(f"{name}-"), action, generic)
                found[entry] = found.get(entry, False) or used
    return found


def problems(stack, names):
    """What a whole run shows to be granted and not needed, and what the table has too much."""
    called, found = calls(stack), {}
    for name in names:
        for entry, used in granted_by(stack, name, called).items():
            found[entry] = found.get(entry, False) or used
    if len(found) < 50:
        return [f"only {len(found)} grants were found: the instances are gone"]
    excused = {entry: on_behalf(entry) for entry in found}
    unused = {entry for entry, used in found.items() if not used and not excused[entry]}
    idle = set(ON_BEHALF) - {key for keys in excused.values() for key in keys}
    return (
        [f"granted and never used: {' '.join(entry)}" for entry in sorted(unused - set(RARE))]
        + [f"in the table of rare calls, but not granted: {' '.join(entry)}" for entry in sorted(set(RARE) - set(found))]
        + [f"in the table of what AWS does, but not granted: {' '.join(entry)}" for entry in sorted(idle)]
    )


def on_behalf(entry):
    """The entries of the table that a grant is one of."""
    role, action, _ = entry
    return [key for key in ON_BEHALF if re.fullmatch(key[0], role) and key[1] == action]


def refusals(stack, expected=()):
    """Calls that no policy allowed, but for those of `expected`: pairs of action and resource."""
    lines = (stack.folder / "calls.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [
        f"not granted: {call['key']} {call['action']} {call['resource']}"
        for call in found
        if call["allowed"] is False and (call["action"], call["resource"]) not in expected
    ]
