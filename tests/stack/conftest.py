"""A local AWS of its own for the tests of the local AWS, and a Lambda function that does as it is told."""

import io
import json
import os
import sys
import time
import uuid
import zipfile
from pathlib import Path

import boto3
import pytest
from stack import aws as server
from stack import servers

# The interpreter's path is the only thing that the function takes from this machine.
BOOTSTRAP = f"""#!{sys.executable}
import json, os, sys, time, urllib.request as http
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime"
if os.environ.get("FAIL_INIT"):
    sys.exit(7)
started = time.time_ns()
while True:
    with http.urlopen(api + "/invocation/next") as answer:
        event, headers = json.loads(answer.read()), answer.headers
    print("handling", event.get("do"), flush=True)
    result, where = event, "response"
    match event.get("do"):
        case "context":
            result = dict(headers) | {{"env": dict(os.environ), "started": started, "pid": os.getpid(), "cwd": os.getcwd()}}
        case "fail":
            result, where = {{"errorType": event["error"], "errorMessage": "told to"}}, "error"
        case "fail-until":
            # Folders, since a function may write no file.
            os.makedirs(f"{{event['folder']}}/{{time.time_ns()}}")
            if len(os.listdir(event["folder"])) < event["times"]:
                result, where = {{"errorType": event["error"], "errorMessage": "not yet"}}, "error"
        case "exit":
            sys.exit(3)
        case "abort":
            os.abort()
        case "sleep":
            time.sleep(event["seconds"])
        case "big":
            result = {{"x": "x" * event["size"]}}
        case "memory":
            result = {{"size": len(bytearray(event["size"]))}}
        case "write":
            with open(event["file"], "w") as file:
                file.write("x")
        case "return":
            result = event["value"]
    id = headers["Lambda-Runtime-Aws-Request-Id"]
    http.urlopen(http.Request(api + f"/invocation/{{id}}/{{where}}", json.dumps(result).encode())).close()
"""


class Aws:
    """The server under test, and short ways to make what the tests need."""

    def __init__(self, folder):
        self.folder = folder
        self.url = servers.state(folder, "aws")["url"]

    def files(self):
        """How many unnamed files the server has open: what moto keeps objects in."""
        fds = Path(f"/proc/{servers.state(self.folder, 'aws')['pid']}/fd")
        return sum(os.readlink(fd).startswith("/tmp/#") for fd in fds.iterdir() if fd.is_symlink())

    def client(self, service, key="test"):
        return boto3.client(
            service,
            region_name=server.REGION,
            endpoint_url=self.url,
            aws_access_key_id=key,
            aws_secret_access_key="test",
        )

    def role(self, *statements):
        """A role that may do what the statements allow, else everything."""
        name, iam = f"role-{uuid.uuid4().hex[:8]}", self.client("iam")
        allowed = [{"Effect": "Allow"} | one for one in statements or ({"Action": "*", "Resource": "*"},)]
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": allowed}))
        return role

    def function(self, bootstrap=BOOTSTRAP, mode=0o755, **settings):
        packed = zip_of(bootstrap, mode)
        settings = {"Runtime": "provided.al2023", "Handler": "bootstrap", "Timeout": 20, "Publish": True} | settings
        name = f"f-{uuid.uuid4().hex[:8]}"
        settings = {"Role": self.role()} | settings
        return self.client("lambda").create_function(FunctionName=name, Code={"ZipFile": packed}, **settings)

    def bucket(self, versioned=True, events=True):
        s3, name = self.client("s3"), f"b-{uuid.uuid4().hex[:8]}"
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": server.REGION})
        if versioned:
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        if events:
            s3.put_bucket_notification_configuration(
                Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}}
            )
        return name

    def queue(self):
        sqs = self.client("sqs")
        url = sqs.create_queue(QueueName=f"q-{uuid.uuid4().hex[:8]}")["QueueUrl"]
        return Queue(sqs, url)

    def rule(self, pattern, *targets, **settings):
        events, name = self.client("events"), f"r-{uuid.uuid4().hex[:8]}"
        trigger = (
            {"EventPattern": json.dumps(pattern)} if isinstance(pattern, dict) else {"ScheduleExpression": pattern}
        )
        events.put_rule(Name=name, **trigger, **settings)
        events.put_targets(Rule=name, Targets=[{"Id": str(n)} | target for n, target in enumerate(targets)])
        return name

    def machine(self, definition, **settings):
        name = f"m-{uuid.uuid4().hex[:8]}"
        return self.client("stepfunctions").create_state_machine(
            name=name, definition=json.dumps(definition), roleArn=self.role(), **settings
        )["stateMachineArn"]

    def run(self, machine, value=None, seconds=60, **settings):
        states = self.client("stepfunctions")
        arn = states.start_execution(stateMachineArn=machine, input=json.dumps(value or {}), **settings)["executionArn"]
        return self.end_of(arn, seconds)

    def end_of(self, execution, seconds=60):
        states = self.client("stepfunctions")
        ends = time.monotonic() + seconds
        while (found := states.describe_execution(executionArn=execution))["status"] == "RUNNING":
            assert time.monotonic() < ends, "the execution did not end"
            time.sleep(0.02)
        return found

    def history(self, execution):
        pages = self.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=execution)
        return [event for page in pages for event in page["events"]]


class Queue:
    def __init__(self, sqs, url):
        self.sqs, self.url = sqs, url
        self.arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def messages(self, count, seconds=10):
        """The messages, `count` of them; a little longer is waited for one too many."""
        found, ends = [], time.monotonic() + seconds
        while time.monotonic() < ends:
            answer = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
            for message in answer.get("Messages", []):
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
                found.append(message)
            if len(found) >= count:
                ends = min(ends, time.monotonic() + 0.3)
            time.sleep(0.02)
        assert len(found) == count, [message["Body"] for message in found]
        return found

    def bodies(self, count):
        return [json.loads(message["Body"]) for message in self.messages(count)]


def zip_of(bootstrap, mode=0o755, name="bootstrap"):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        item = zipfile.ZipInfo(name)
        item.external_attr = mode << 16
        archive.writestr(item, bootstrap)
    return packed.getvalue()


@pytest.fixture(scope="session")
def aws(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aws")
    servers.start(folder, time_scale=0.01, names=("aws",))
    yield Aws(folder)
    servers.stop(folder)
