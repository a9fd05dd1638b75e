"""The README's commands do what it says, run as they stand there with an instance's names."""

import json
import sys

import pytest
from conftest import README as MAILBOXES
from stack import commands
from stack.checks import Message, outcome, sent
from stack.servers import TESTS

README = TESTS.parent / "README.md"
BLOCKS = commands.blocks(README)
# `make test` runs this.
RAN = {("Try it", 0)}
SENDER = MAILBOXES[0]


@pytest.fixture
def run(readme):
    def run(section, number=0, more="", **known):
        script = BLOCKS[section, number].replace("live-pathology-mesh", readme.name)
        RAN.add((section, number))
        return commands.run(readme.stack, script + more, **known)

    return run


def test_secrets_come_from_files(readme, run, tmp_path):
    name, values = "of-the-readme-mesh", {}
    for secret in ("MESH_CA_CERT", "MESH_CLIENT_CERT", "MESH_CLIENT_KEY", "MESH_SHARED_KEY", "MAILBOX_PASSWORD"):
        path = f"mailboxes/{SENDER}/{secret}" if secret == "MAILBOX_PASSWORD" else secret
        values[f"/{name}/mesh/{path}"] = f"-----BEGIN {secret}\nand its end"
        (tmp_path / secret).write_text(values[f"/{name}/mesh/{path}"])
    script = BLOCKS["Use it", 0].replace("live-pathology-mesh", name)
    assert f"MAILBOX={SENDER} " in script
    RAN.add(("Use it", 0))
    commands.run(readme.stack, script, cwd=tmp_path)
    found = readme.stack.client("ssm").get_parameters(Names=list(values), WithDecryption=True)["Parameters"]
    assert {one["Name"]: (one["Type"], one["Value"]) for one in found} == {name: ("SecureString", value) for name, value in values.items()}


def test_a_handshake_says_that_all_is_well(readme, run):
    execution = run("Use it", 1, '\necho "$EXECUTION"').splitlines()[-1]
    assert outcome(readme.wait(execution)) == "SUCCEEDED"
    assert [line for line in readme.function_logs("poll-mailbox", "MESHMBOX0004") if execution in line]


def test_an_object_is_sent_by_either_example_and_its_row_found(readme, run, other, tmp_path):
    key, s3 = "outbound/results/1.json", readme.stack.client("s3")
    (python,) = commands.blocks(README, "python").values()
    ours = python.replace("live-pathology-mesh", readme.name).replace("X26RECIPIENT", other)
    commands.run(readme.stack, f"{sys.executable} - <<'PYTHON'\n{ours}PYTHON")
    version = s3.head_object(Bucket=readme.bucket, Key=key)["VersionId"]
    first = readme.wait_sent(key, version)
    message = Message(SENDER, other, b"{}", "PATHOLOGY_RESULT", "application/json", headers={"mex-subject": "£ & more"})
    assert sent(readme, key, version, message) == []
    script = BLOCKS["Use it", 2].replace("live-pathology-mesh", readme.name).replace("X26RECIPIENT", other)
    RAN.add(("Use it", 2))
    (tmp_path / "1.json").write_bytes(b'{"result": 2}')
    commands.run(readme.stack, script, cwd=tmp_path)
    version = s3.head_object(Bucket=readme.bucket, Key=key)["VersionId"]
    second = readme.wait_sent(key, version)
    assert sent(readme, key, version, Message(SENDER, other, b'{"result": 2}', "PATHOLOGY_RESULT", "application/json")) == []
    rows = json.loads(run("Where to look", 0))["Items"]
    assert {first["id"], second["id"]} <= {row["id"]["S"] for row in rows}
    # What was sent is not sent again.
    started = json.loads(run("Where to look", 1, ROW=second["id"]))["executionArn"]
    assert readme.wait(started)["output"]["outcome"] == "duplicate"


def test_all_commands_were_run():
    assert set(BLOCKS) == RAN
