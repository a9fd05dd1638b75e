"""Terraform on the local stack: the examples as users copy them, with an override file for the local AWS."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from stack.servers import TESTS, StackError

MODULE = TESTS.parent / "terraform"


class Terraform:
    """A root of its own: a copy of an example, and a state."""

    def __init__(self, folder, aws_url, say=lambda text: None):
        self.folder = folder
        self.say = say
        self.env = {
            name: value
            for name, value in os.environ.items()
            # No profile, region or variable of this machine reaches the local AWS.
            if not name.startswith(("AWS_", "TF_")) or name == "TF_PLUGIN_CACHE_DIR"
        } | {
            "AWS_ENDPOINT_URL": aws_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "eu-west-2",
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
        }
        if Path(os.environ.get("TF_CLI_CONFIG_FILE", "/nonexistent")).exists():
            self.env["TF_CLI_CONFIG_FILE"] = os.environ["TF_CLI_CONFIG_FILE"]

    def init(self, example_variables, module_variables, others=None, example="minimal"):
        """Copies an example, writes the variables and further blocks of the module (`others`), initialises."""
        if not shutil.which("terraform"):
            raise StackError("terraform is missing: install Terraform 1.11 or later and put it on the PATH")
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in (MODULE / "examples" / example).iterdir():
            if file.is_file():
                shutil.copy(file, self.folder)
        # Relative: a module at an absolute path is copied, away from dist/.
        source = os.path.relpath(MODULE, self.folder)
        blocks = {block: {"source": source, **variables} for block, variables in (others or {}).items()}
        (self.folder / "others.tf.json").write_text(json.dumps({"module": blocks} if blocks else {}, indent=2))
        (self.folder / "terraform.tfvars.json").write_text(json.dumps(example_variables, indent=2))
        self.override(**({"source": source} | module_variables))

    def override(self, **mesh):
        """Writes what the local AWS needs of the provider, and arguments for the block `mesh`; initialises."""
        provider = {
            "s3_use_path_style": True,
            "skip_credentials_validation": True,
            "skip_metadata_api_check": True,
            "max_retries": 2,
        }
        written = {"provider": {"aws": provider}, "module": {"mesh": mesh}}
        (self.folder / "stack_override.tf.json").write_text(json.dumps(written, indent=2))
        init = subprocess.run(
            [TESTS / "terraform-init.sh", self.folder, "-no-color"], env=self.env, capture_output=True, text=True
        )
        if init.returncode:
            raise StackError(f"terraform init failed:\n{init.stdout}{init.stderr}")

    def apply(self):
        """Applies, telling the progress every few seconds."""
        self._stream("apply", "-auto-approve")

    def destroy(self):
        """Destroys, telling the progress every few seconds."""
        self._stream("destroy", "-auto-approve")

    def changes(self):
        """What a plan would change now: addresses of resources and names of outputs with their actions."""
        lines = [json.loads(line) for line in self._run("plan", "-json", "-lock=false").splitlines()]
        planned = [line["change"] for line in lines if line["type"] == "planned_change"]
        outputs = {name: output for line in lines if line["type"] == "outputs" for name, output in line["outputs"].items()}
        return [f"{change['resource']['addr']}: {change['action']}" for change in planned] + [
            f"output {name}: {output['action']}" for name, output in outputs.items() if output.get("action", "noop") != "noop"
        ]

    def plan(self):
        """What a plan would do now: actions by address."""
        self._run("plan", "-out=plan", "-lock=false")
        planned = json.loads(self._run("show", "-json", "plan"))["resource_changes"]
        return {change["address"]: change["change"]["actions"] for change in planned}

    def resources(self):
        """The addresses in the state."""
        return self._run("state", "list").split()

    def _run(self, *arguments):
        done = subprocess.run(
            ["terraform", f"-chdir={self.folder}", *arguments], env=self.env, capture_output=True, text=True
        )
        if done.returncode:
            raise StackError(f"terraform {arguments[0]} failed:\n{done.stdout[-6000:]}{done.stderr}")
        return done.stdout

    def _stream(self, *arguments):
        process = subprocess.Popen(
            ["terraform", f"-chdir={self.folder}", *arguments, "-json"],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        planned, finished, running, problems = 0, 0, {}, []
        told = started = time.monotonic()
        for text in process.stdout:
            try:
                line = json.loads(text)
            except ValueError:
                problems.append(text)
                continue
            kind, hook = line["type"], line.get("hook", {})
            address = hook.get("resource", {}).get("addr")
            if "read" in (hook.get("action"), line.get("change", {}).get("action")):
                continue
            if kind == "planned_change":
                planned += 1
            elif kind == "apply_start":
                running[address] = True
            elif kind in ("apply_complete", "apply_errored"):
                running.pop(address, None)
                finished += 1
            elif kind == "diagnostic" and line["diagnostic"]["severity"] == "error":
                diagnostic = line["diagnostic"]
                problems.append(f"{diagnostic['summary']}: {diagnostic.get('address', '')} {diagnostic['detail']}")
            if planned and time.monotonic() - told > 5:
                told = time.monotonic()
                waiting = ", ".join(address.removeprefix("module.mesh.") for address in list(running)[:3])
                self.say(f"{finished} of {planned} resources, {told - started:.0f} s; now {waiting or 'planning'}")
        if process.wait():
            raise StackError(f"terraform {arguments[0]} failed:\n" + "\n".join(problems))
        self.say(f"{finished} of {planned} resources, {time.monotonic() - started:.0f} s")
