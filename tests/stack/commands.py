"""The commands of a document, run as they stand there by bash, with the AWS CLI on the local stack."""

import functools
import os
import re
import subprocess
from pathlib import Path

from .servers import TESTS


def blocks(document, wanted="sh"):
    """A document's blocks of a language by section and their number in it; commands marked `sh aws` are for AWS alone."""
    found, section = {}, ""
    for heading, language, text in re.findall(r"^## ([^\n]+)$|^ *```([\w ]+)\n(.*?)^ *```$", document.read_text(), re.MULTILINE | re.DOTALL):
        if heading:
            section = heading
        elif language == wanted:
            found[section, sum(1 for one in found if one[0] == section)] = text
    return found


# The variable alone does not keep version 1 from asking AWS itself for SQS.
_BEGIN = """set -euo pipefail
aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }
"""


@functools.cache
def cli():
    """The folder of the AWS CLI."""
    done = subprocess.run([TESTS.parent / "scripts/venv", "tests/cli"], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip()).parent


def run(stack, script, cwd=None, **known):
    """Runs a script, with what its reader knows in variables; what it says."""
    env = {
        "PATH": f"{cli()}:{os.environ['PATH']}",
        "HOME": str(stack.folder),
        "AWS_ENDPOINT_URL": stack.aws_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-west-2",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(["bash", "-c", _BEGIN + script], cwd=cwd, env=env | known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
