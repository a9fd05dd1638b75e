"""A stack: both servers, the secrets, and the module applied to them."""

import functools
import json
from pathlib import Path

import boto3
import botocore.config
import mesh_client
import requests

from stack import mesh, servers
from stack.pipeline import Pipeline
from stack.servers import StackError
from stack.terraform import Terraform

CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "eu-west-2"}


class Stack:
    """The servers that run in a folder. Several processes may use one stack."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()

    def start(self, time_scale=1):
        """Starts both servers."""
        servers.start(self.folder, time_scale)

    def stop(self):
        """Stops both servers by their own process ids; with them goes everything that they held in memory."""
        servers.stop(self.folder)

    @property
    def running(self):
        """Whether both servers run."""
        return all(servers.state(self.folder, name) for name in servers.SERVERS)

    @functools.cached_property
    def aws_url(self):
        return self._state("aws")["url"]

    @functools.cached_property
    def mesh_url(self):
        return self._state("mesh")["url"]

    @functools.cached_property
    def mesh_admin(self):
        return self._state("mesh")["admin_url"]

    def _state(self, name):
        found = servers.state(self.folder, name)
        if not found:
            raise StackError(f"stack.{name} does not run in {self.folder}: start the stack again")
        return found

    @functools.cache
    def client(self, service, key="test"):
        """A boto3 client of the local AWS; the access key is an identity of stack.identities, or may do everything."""
        return boto3.client(
            service,
            endpoint_url=self.aws_url,
            config=botocore.config.Config(
                s3={"addressing_style": "path"}, retries={"max_attempts": 1}, read_timeout=900
            ),
            **CREDENTIALS | {"aws_access_key_id": key},
        )

    def drop_workers(self):
        """Makes the next invocation of every function a cold start."""
        requests.post(f"{self.aws_url}/_stack/drop-workers", timeout=30).raise_for_status()

    def file(self, name):
        """The text of a file in certs/, for example client.pem."""
        return (self.folder / "certs" / name).read_text()

    @property
    def shared_key(self):
        return (self.folder / "shared-key").read_text()

    def party(self, mailbox, **options):
        """The NHS's own Python client, as another organisation uses it."""
        certs = self.folder / "certs"
        return mesh_client.MeshClient(
            self.mesh_url,
            mailbox,
            mesh.password(mailbox),
            shared_key=self.shared_key.encode(),
            cert=(str(certs / "client.pem"), str(certs / "client.key")),
            verify=str(certs / "ca.pem"),
            max_retries=0,
            **options,
        )

    def report(self, mailbox, **fields):
        """Makes MESH put a report into the mailbox; returns its id."""
        body = {"mailbox_id": mailbox, **fields}
        answer = requests.post(f"{self.mesh_admin}/messageexchange/admin/report", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()["message_id"]

    def put_back(self, message_id):
        """What the service desk does: the recipient lists an acknowledged message again."""
        url = f"{self.mesh_admin}/admin/message/{message_id}/event"
        requests.post(url, json={"status": "accepted"}, timeout=30).raise_for_status()

    def requests(self, path=".*"):
        """MESH's log of the requests whose whole path fits the pattern."""
        return requests.get(f"{self.mesh_admin}/_requests", params={"path": path}, timeout=30).json()

    def script(self, method, path, **answer):
        """The next request of this method and path pattern gets this answer; the fields are those of stack.mesh.Answer."""
        body = {"method": method, "path": path, **answer}
        requests.post(f"{self.mesh_admin}/_answers", json=body, timeout=30).raise_for_status()

    def faults(self, method, path, **body):
        """Asks the proxy between the functions and what they call; see stack.faults."""
        answer = requests.request(method, f"{self._state('faults')['url']}/{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def cell(self, name, pattern):
        """Counts the calls of invocations whose payload fits the pattern, and of their executions, as this cell's."""
        self.faults("POST", "cells", cell=name, pattern=pattern)

    def fault(self, cell, kind, **fault):
        """Something goes wrong with calls of the cell; the fields are those of stack.faults.Fault."""
        self.faults("POST", "faults", cell=cell, kind=kind, **fault)

    def calls(self, cell):
        """The calls of a cell, in their order."""
        return self.faults("GET", f"calls?cell={cell}")

    def deploy(self, name_prefix, mailboxes, say=lambda text: None, others=None, example="minimal", **module_variables):
        """Puts the secrets and applies an example, with further blocks of the module (`others`); returns the pipeline."""
        pipeline = Pipeline(self, f"{name_prefix}-mesh")
        pipeline.put_secrets(mailboxes)
        variables = {
            "name_prefix": name_prefix,
            "mesh_env": "local",
            "mesh_url": self.mesh_url,
            "mailbox_ids": list(mailboxes),
            "force_destroy": True,
        }
        terraform = self.terraform(name_prefix, say)
        terraform.init(variables, module_variables, others, example)
        terraform.apply()
        return pipeline

    def terraform(self, name_prefix, say=lambda text: None):
        """The Terraform root of an instance of the module."""
        return Terraform(self.folder / f"terraform-{name_prefix}", self.aws_url, say)

    def commands(self, pipeline):
        """Commands to try, as they can be pasted into a shell."""
        name = pipeline.name
        aws = f"aws --endpoint-url {self.aws_url}"
        mailbox = json.dumps({"mailbox": "X26ABC2"})
        metadata = "mex-from=X26ABC1,mex-to=X26ABC2,mex-workflowid=TEST_WORKFLOW,mex-filename=hello.txt"
        machine = f"arn:aws:states:eu-west-2:123456789012:stateMachine:{name}-get-messages"
        return "\n".join(
            [
                "export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=eu-west-2",
                "echo hello > hello.txt",
                f"{aws} s3api put-object --bucket {name} --key outbound/hello.txt --body hello.txt --metadata {metadata}",
                f"{aws} stepfunctions start-execution --state-machine-arn {machine} --input '{mailbox}'",
                f"{aws} s3 ls --recursive s3://{name}/inbound/",
                f"{aws} dynamodb scan --table-name {name}-messages",
                f"{aws} logs filter-log-events --log-group-name /aws/lambda/{name}-send-message-chunk"
                " --query 'events[].[message]' --output text",
                f"{aws} stepfunctions list-executions --state-machine-arn {machine}",
            ]
        )
