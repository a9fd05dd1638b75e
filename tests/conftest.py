"""One local stack for the whole run: whichever worker needs it first starts it, the end of the run stops it."""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from stack.aws import failures
from stack.checks import MIB
from stack.control import Stack
from stack.pipeline import Pipeline

FOLDER = "MESH_AWS_TEST_FOLDER"
PREFIX = "e2e"
# Ours have their passwords in SSM, and those in OURS are polled by schedule; the others are other organisations'.
OURS = [f"X26T{number:03}" for number in range(1, 33)]
SENDERS = [f"X26T{number:03}" for number in range(33, 97)]
OTHERS = [f"X26T{number:03}" for number in range(97, 200)]



def pytest_configure(config):
    # The workers inherit it.
    if not hasattr(config, "workerinput"):
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="mesh-aws-test-")


def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):
        return
    stack = Stack(folder())
    started = stack.running
    problems = failures(stack.folder) if (stack.folder / "aws.log").exists() else []
    stack.stop()
    for problem in problems:
        print(f"\nthe local AWS: {problem}")
    if problems:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        shutil.rmtree(folder())
    elif started:
        print(f"\nthe stack's logs are in {folder()}")


def folder():
    return Path(os.environ[FOLDER])


@contextlib.contextmanager
def only_one(name):
    with (folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def stack():
    """Both servers."""
    found = Stack(folder())
    with only_one("servers"):
        if not found.running:
            found.start(time_scale=0.02)
    return found


@pytest.fixture(scope="session")
def pipeline(stack):
    """The module, applied."""
    outcome = folder() / "applied.json"
    with only_one("apply"):
        if not outcome.exists():
            try:
                found = stack.deploy(
                    PREFIX,
                    OURS,
                    chunk_size=5 * MIB,
                    compress_threshold=8 * MIB,
                    get_messages_page_limit=20,
                    get_message_max_concurrency=2,
                    uncertain_send_wait_seconds=2,
                )
                found.put_secrets(SENDERS)
                found.capture_events()
                outcome.write_text("null")
            except Exception as error:
                outcome.write_text(json.dumps(str(error)))
                raise
    if problem := json.loads(outcome.read_text()):
        pytest.fail(f"the module was not applied: {problem}", pytrace=False)
    return Pipeline(stack, f"{PREFIX}-mesh")


def take(kind, pool):
    with only_one(kind):
        used = folder() / f"{kind}.used"
        number = int(used.read_text()) if used.exists() else 0
        used.write_text(str(number + 1))
    return pool[number]


@pytest.fixture
def mailbox():
    """A mailbox of ours that is polled, and that no other test uses."""
    return take("ours", OURS)


@pytest.fixture
def sender():
    """A mailbox of ours that only sends, and that no other test uses."""
    return take("senders", SENDERS)


@pytest.fixture
def other():
    """A mailbox of another organisation that no other test uses."""
    return take("others", OTHERS)
