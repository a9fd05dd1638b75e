"""An applied module as its users and operators see it: objects, executions, rows, events, logs."""

import fcntl
import functools
import hashlib
import json
import time
from urllib.parse import quote_plus

import boto3.dynamodb.types

from stack import mesh
from stack.servers import StackError

ACCOUNT = "123456789012"
SECONDS = 120


def outbound_row(bucket, key, version):
    """The id of the row of an object version that is sent."""
    return "out#" + hashlib.sha256(f"{bucket}\n{key}\n{version}".encode()).hexdigest()


class Pipeline:
    """One instance of the module, named `${name_prefix}-mesh`."""

    def __init__(self, stack, name, use_secrets_manager=False):
        self.stack = stack
        self.name = name
        self.bucket = name
        self.use_secrets_manager = use_secrets_manager

    # Secrets

    def put_parameter(self, name, value, kind="String"):
        """Writes one parameter below the module's prefix."""
        self.stack.client("ssm").put_parameter(
            Name=f"/{self.name}/mesh/{name}", Value=value, Type=kind, Overwrite=True
        )

    def put_secret(self, name, value):
        """Writes one secret, as the module's users do: certificates are no secrets, and stay in SSM."""
        if not self.use_secrets_manager or name.endswith("_CERT"):
            self.put_parameter(name, value, "SecureString")
            return
        secrets, path = self.stack.client("secretsmanager"), f"/{self.name}/mesh/{name}"
        try:
            secrets.create_secret(Name=path, SecretString=value)
        except secrets.exceptions.ResourceExistsException:
            secrets.put_secret_value(SecretId=path, SecretString=value)

    def put_secrets(self, mailboxes):
        """Writes the secrets of the environment and the mailboxes' passwords."""
        self.put_secret("MESH_CA_CERT", self.stack.file("ca.pem"))
        self.put_secret("MESH_CLIENT_CERT", self.stack.file("client.pem"))
        self.put_secret("MESH_CLIENT_KEY", self.stack.file("client.key"))
        self.put_secret("MESH_SHARED_KEY", self.stack.shared_key)
        for mailbox in mailboxes:
            self.put_secret(f"mailboxes/{mailbox}/MAILBOX_PASSWORD", mesh.password(mailbox))

    # Objects

    def put(self, key, body, metadata=None, **options):
        """Puts an object whose metadata values are quoted as HTML forms quote; returns its version id."""
        quoted = {name: quote_plus(value) for name, value in (metadata or {}).items()}
        answer = self.stack.client("s3").put_object(
            Bucket=self.bucket, Key=key, Body=body, Metadata=quoted, **options
        )
        return answer["VersionId"]

    def get(self, key):
        """An object: boto3's answer with Body as bytes."""
        answer = self.stack.client("s3").get_object(Bucket=self.bucket, Key=key)
        return answer | {"Body": answer["Body"].read()}

    def keys(self, prefix):
        """The keys below a prefix."""
        pages = self.stack.client("s3").get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    # Rows

    def row(self, row_id):
        """A message's row, or None."""
        answer = self.stack.client("dynamodb").get_item(
            TableName=f"{self.name}-messages", Key={"id": {"S": row_id}}, ConsistentRead=True
        )
        return plain(answer["Item"]) if "Item" in answer else None

    def set_row(self, message_id, name, value):
        """Changes a text in the row of a received message."""
        self.stack.client("dynamodb").update_item(
            TableName=f"{self.name}-messages",
            Key={"id": {"S": f"in#{message_id}"}},
            UpdateExpression="SET #name = :value",
            ExpressionAttributeNames={"#name": name},
            ExpressionAttributeValues={":value": {"S": value}},
        )

    def rows(self):
        """Every row of both tables."""
        return [
            plain(item)
            for table in ("messages", "leases")
            for page in self.stack.client("dynamodb").get_paginator("scan").paginate(TableName=f"{self.name}-{table}")
            for item in page["Items"]
        ]

    def held(self, mailbox):
        """Whether an execution has the mailbox: a lease whose time is up is nobody's."""
        key = {"lease_id": {"S": mailbox}}
        lease = self.stack.client("dynamodb").get_item(TableName=f"{self.name}-leases", Key=key, ConsistentRead=True).get("Item")
        return bool(lease) and float(lease["until"]["N"]) >= time.time()

    def row_of(self, key, version):
        """The row of an object that is sent, or None."""
        return self.row(outbound_row(self.bucket, key, version))

    def wait_sent(self, key, version, *statuses, seconds=SECONDS, wait=True):
        """The row of an object that is sent, once it has one of the statuses (default sent) and (with `wait`) its execution ended."""
        statuses = statuses or ("sent",)

        def ready():
            row = self.row_of(key, version)
            return row if row and row["status"] in statuses else None

        row = until(ready, f"row of {key} with status {' or '.join(statuses)}", lambda: self.row_of(key, version), seconds)
        if not wait:
            return row
        self.wait(row["execution"])
        return self.row_of(key, version)

    def wait_error(self, key, version, seconds=SECONDS, wait=True):
        """The row of an object that is sent, once it tells of an error and (with `wait`) its execution ended."""

        def ready():
            row = self.row_of(key, version)
            return row if row and "error" in row else None

        def now():
            return self.row_of(key, version) or self.executions("send-message", json.dumps(key))

        row = until(ready, f"row of {key} with an error", now, seconds)
        if wait:
            self.wait(row["execution"])
        return self.row_of(key, version)

    # Executions

    def machine(self, name):
        """A state machine's ARN: get-messages or send-message."""
        return f"arn:aws:states:eu-west-2:{ACCOUNT}:stateMachine:{self.name}-{name}"

    def schedule(self, mailbox, rule="get-messages"):
        """The target that a mailbox's schedule rule starts: ARN, input and the rule's name."""
        events = self.stack.client("events")
        for page in events.get_paginator("list_rules").paginate(NamePrefix=f"{self.name}-{rule}"):
            for found in page["Rules"]:
                for target in events.list_targets_by_rule(Rule=found["Name"])["Targets"]:
                    given = json.loads(target.get("Input", "{}"))
                    if given.get("mailbox") == mailbox and ("handshake" in given) == rule.endswith("handshake"):
                        return target | {"Rule": found["Name"]}
        raise StackError(f"no rule {self.name}-{rule}… has a target for mailbox {mailbox}")

    def start(self, mailbox, rule="get-messages"):
        """Starts what the schedule would start; returns the execution's ARN."""
        target = self.schedule(mailbox, rule)
        # As the rule: its role must allow it.
        started = self.stack.client("stepfunctions", f"EVENTS-{target['Rule']}").start_execution(
            stateMachineArn=target["Arn"], input=target["Input"]
        )
        return started["executionArn"]

    def track(self):
        """Runs what the tracking schedule would start, and waits: the execution."""
        rule = f"{self.name}-track-messages"
        (target,) = self.stack.client("events").list_targets_by_rule(Rule=rule)["Targets"]
        started = self.stack.client("stepfunctions", f"EVENTS-{rule}").start_execution(
            stateMachineArn=target["Arn"], input=target.get("Input", "{}")
        )
        return self.wait(started["executionArn"])

    def poll(self, mailbox, rule="get-messages"):
        """Runs what the schedule would start, and waits: the execution, and those that it started, oldest first."""
        done = [self.wait(self.start(mailbox, rule))]
        while following := self.started_by(done[-1]["executionArn"]):
            done.append(self.wait(following))
        return done

    def started_by(self, execution):
        """The ARN of the execution that this one started, or None."""
        for event in self.history(execution):
            details = event.get("taskSucceededEventDetails", {})
            if details.get("resource", "").startswith("startExecution"):
                found = json.loads(details["output"])
                return found.get("ExecutionArn") or found["executionArn"]
        return None

    def history(self, execution):
        """The events of an execution."""
        pages = self.stack.client("stepfunctions").get_paginator("get_execution_history")
        return [event for page in pages.paginate(executionArn=execution) for event in page["events"]]

    def wait(self, execution, seconds=SECONDS):
        """The execution once it has ended; `output` is parsed."""
        client = self.stack.client("stepfunctions")

        def ended():
            found = client.describe_execution(executionArn=execution)
            return found if found["status"] != "RUNNING" else None

        found = until(ended, f"end of {execution}", lambda: self.history(execution)[-1], seconds)
        return found | {"output": json.loads(found["output"])} if found.get("output") else found

    def executions(self, machine, text=""):
        """The ended and running executions of a machine whose input holds the text, oldest first."""
        pages = self.stack.client("stepfunctions").get_paginator("list_executions")
        found = [
            self._execution_input(execution["executionArn"]) | {"status": execution["status"]}
            for page in pages.paginate(stateMachineArn=self.machine(machine))
            for execution in page["executions"]
        ]
        return sorted((one for one in found if text in one["input"]), key=lambda one: one["startDate"])

    @functools.cache
    def _execution_input(self, execution):
        found = self.stack.client("stepfunctions").describe_execution(executionArn=execution)
        return {name: found[name] for name in ("executionArn", "input", "startDate")}

    # Events

    def capture_events(self):
        """Makes a rule that copies every event of the default bus to a queue, as a consumer's rule would."""
        queue = f"{self.name}-seen"
        events, sqs = self.stack.client("events"), self.stack.client("sqs")
        sqs.create_queue(QueueName=queue)
        events.put_rule(Name=queue, EventPattern=json.dumps({"source": [{"prefix": ""}]}))
        arn = f"arn:aws:sqs:eu-west-2:{ACCOUNT}:{queue}"
        events.put_targets(Rule=queue, Targets=[{"Id": "seen", "Arn": arn}])

    def events(self, text=""):
        """Every event seen so far whose JSON holds the text, oldest first."""
        file = self.stack.folder / f"{self.name}-events.jsonl"
        sqs = self.stack.client("sqs")
        url = sqs.get_queue_url(QueueName=f"{self.name}-seen")["QueueUrl"]
        # Test processes share the queue: whoever drains it keeps the events for all.
        with file.open("a+") as kept:
            fcntl.flock(kept, fcntl.LOCK_EX)
            while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
                for message in messages:
                    kept.write(json.dumps(json.loads(message["Body"])) + "\n")
                    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            kept.flush()
            kept.seek(0)
            return [json.loads(line) for line in kept if text in line]

    def told_of(self, row, detail_type):
        """The details of the module's own events of a type about a row."""
        return [
            event["detail"]
            for event in self.events(row)
            if event["source"] == "mesh-client" and event["detail-type"] == detail_type and event["detail"]["row"] == row
        ]

    # Logs

    def log_groups(self):
        """The module's log groups."""
        pages = self.stack.client("logs").get_paginator("describe_log_groups").paginate()
        return [
            group["logGroupName"] for page in pages for group in page["logGroups"] if self.name in group["logGroupName"]
        ]

    def logs(self, group=None, text=""):
        """The lines of a group (default: of all groups) that hold the text."""
        pages = self.stack.client("logs").get_paginator("filter_log_events")
        return [
            event["message"]
            for name in ([group] if group else self.log_groups())
            for page in pages.paginate(logGroupName=name)
            for event in page["events"]
            if text in event["message"]
        ]

    def function_logs(self, function, text=""):
        """The lines of a function, for example poll-mailbox, that hold the text."""
        return self.logs(f"/aws/lambda/{self.name}-{function}", text)


def plain(item):
    """A DynamoDB item as Python values, whole numbers as int."""
    deserializer = boto3.dynamodb.types.TypeDeserializer()
    values = {name: deserializer.deserialize(value) for name, value in item.items()}
    return {name: int(value) if not isinstance(value, str | bool | list | dict) else value for name, value in values.items()}


def until(look, what, state, seconds=SECONDS):
    """What `look` finds, as soon as it finds something."""
    ends = time.monotonic() + seconds
    while True:
        if (found := look()) is not None:
            return found
        if time.monotonic() > ends:
            raise StackError(f"no {what} within {seconds} s; now: {state()}")
        time.sleep(0.1)
