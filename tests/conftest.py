"""One local stack for the whole run: whichever worker needs it first starts it, the end of the run stops it."""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from stack import least_privilege
from stack.aws import failures
from stack.checks import MIB
from stack.control import Stack
from stack.pipeline import ACCOUNT, Pipeline
from stack.servers import TESTS

FOLDER = "MESH_AWS_TEST_FOLDER"
PREFIX = "e2e"
# Ours have their passwords in SSM, and those in OURS are polled by schedule; the others are other organisations'.
OURS = [f"X26T{number:03}" for number in range(1, 81)]
SENDERS = [f"X26T{number:03}" for number in range(81, 190)]
OTHERS = [f"X26T{number}" for number in range(1000, 1300)]
CELLS = [f"X26T{number}" for number in (*range(200, 950), *range(1300, 2100))]
# Of the instance `second`; the first are in its legacy mappings.
LEGACY, LEGACY_OTHER, LEGACY_WORKFLOW = "X26T950", "X26T951", "LEGACY_WORKFLOW"
SECOND = [f"X26T{number:03}" for number in range(952, 980)]
SECOND_BUCKET = "second-legacy-inbound"
README = ["X26ABC123", "X26ABC456"]
# Of `second`, and nothing that anybody here needs: keys, a boundary, a share, statements that deny what nobody does.
SECRETS_KEY, LEGACY_KEY = (f"arn:aws:kms:eu-west-2:123456789012:key/{name}" for name in ("secrets", "legacy"))
BOUNDARY, SHARE = "arn:aws:iam::123456789012:policy/boundary", 100
THEIRS = {
    "bucket": {
        "Sid": "Theirs",
        "Effect": "Deny",
        "Principal": {"AWS": "arn:aws:iam::210987654321:root"},
        "Action": "s3:DeleteObject",
        "Resource": "arn:aws:s3:::second-mesh/theirs/*",
    },
    "key": {
        "Sid": "Theirs",
        "Effect": "Deny",
        "Principal": {"AWS": "arn:aws:iam::210987654321:root"},
        "Action": "kms:Decrypt",
        "Resource": "*",
    },
}
# Calls that tests make a role fail at: action and resource.
SECOND_REFUSED_KEY = "outbound/received.csv"
REFUSED = {("s3:PutObject", f"arn:aws:s3:::second-mesh/{SECOND_REFUSED_KEY}")}


def pytest_configure(config):
    # The workers inherit it.
    if not hasattr(config, "workerinput"):
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="mesh-aws-test-")
        config.pluginmanager.register(Figures(config))


class Figures:
    """Writes what tests tell of themselves as soon as they have ended: what a worker prints is seen by nobody."""

    def __init__(self, config):
        self.config = config

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            terminal = self.config.pluginmanager.get_plugin("terminalreporter")
            for text in [value for name, value in report.user_properties if name == "figures"]:
                terminal.ensure_newline()
                terminal.write_line(text)


@pytest.fixture
def tell(record_property):
    """Says something in the run's output."""
    return lambda text: record_property("figures", text)


def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):
        return
    stack = Stack(folder())
    started = stack.running
    problems = failures(stack.folder) if (stack.folder / "aws.log").exists() else []
    if (stack.folder / "calls.jsonl").exists():
        problems += least_privilege.refusals(stack, REFUSED)
    if started and whole(session):
        problems += least_privilege.problems(stack, [one(stack).name for one in (first, second, readme)])
    stack.stop()
    for problem in problems:
        print(f"\nthe local AWS: {problem}")
    if problems:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        shutil.rmtree(folder())
    elif started:
        print(f"\nthe stack's logs are in {folder()}")


def whole(session):
    """Whether every test of the suite has run, and well: only then is what was not called not needed."""
    options = session.config.option
    picked = options.keyword or options.deselect or options.maxfail or any("::" in arg for arg in session.config.args)
    everything = {Path(arg).resolve() for arg in session.config.args} & {TESTS, TESTS / "e2e"}
    return session.exitstatus == pytest.ExitCode.OK and options.markexpr == "not nightly" and everything and not picked


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


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def others(stack):
    """Further instances in the same account, by the names of their module blocks."""
    local = {"mesh_env": "local", "mesh_url": stack.mesh_url}
    return {
        # Everything that is off by default.
        "second": local
        | {
            "name_prefix": "second",
            "mailbox_ids": SECOND,
            "mailboxes": [
                {"id": LEGACY, "outbound_mappings": [{"dest_mailbox": LEGACY_OTHER, "workflow_id": LEGACY_WORKFLOW}]}
            ],
            "use_secrets_manager": True,
            "use_sender_filename": True,
            "use_legacy_inbound_location": True,
            "legacy_inbound_bucket_arns": [f"arn:aws:s3:::{SECOND_BUCKET}"],
            "use_s3_key_for_mex_filename": True,
            "cloudtrail_enabled": False,
            "accept_encoding": "identity",
            "compression_level": 1,
            # Less than the messages of the tests.
            "memory": {"fetch_message_chunk": 128, "send_message_chunk": 128},
            "max_message_size": 200 * MIB,
            "additional_bucket_policy_json": document(THEIRS["bucket"]),
            "additional_kms_key_policy_json": document(THEIRS["key"]),
            "tracing_enabled": True,
            "permissions_boundary": BOUNDARY,
            "secrets_kms_key_arns": [SECRETS_KEY],
            "legacy_inbound_kms_key_arns": [LEGACY_KEY],
            "send_max_concurrency": SHARE,
            "bucket_key_enabled": False,
            "manage_bucket_notifications": False,
        },
        # The block of the NHS module's README without its VPC lines, in another environment.
        "readme": local
        | {
            "name_prefix": "readme-example-project",
            "mailbox_ids": README,
            "verify_ssl": True,
            "get_message_max_concurrency": 10,
            "compress_threshold": 1 * MIB,
        },
    }


def own_notifications(stack):
    """A bucket's, as a caller has them that keeps a queue beside EventBridge."""
    stack.client("sqs").create_queue(QueueName="theirs")
    queue = {"Id": "Theirs", "QueueArn": f"arn:aws:sqs:eu-west-2:{ACCOUNT}:theirs", "Events": ["s3:ObjectRestore:Completed"]}
    return {"QueueConfigurations": [queue], "EventBridgeConfiguration": {}}


@pytest.fixture(scope="session")
def applied(stack):
    """Three instances of the module, by one apply."""
    outcome = folder() / "applied.json"
    with only_one("apply"):
        if not outcome.exists():
            try:
                s3 = stack.client("s3")
                s3.create_bucket(Bucket=SECOND_BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-2"})
                s3.put_bucket_versioning(Bucket=SECOND_BUCKET, VersioningConfiguration={"Status": "Enabled"})
                second(stack).put_secrets([LEGACY, *SECOND, *README])
                readme(stack).put_secrets(README)
                found = stack.deploy(
                    PREFIX,
                    OURS,
                    others=others(stack),
                    example="consumer",
                    chunk_size=5 * MIB,
                    compress_threshold=8 * MIB,
                    get_messages_page_limit=20,
                    get_message_max_concurrency=2,
                    uncertain_send_wait_seconds=2,
                )
                found.put_secrets(SENDERS)
                s3.put_bucket_notification_configuration(
                    Bucket=second(stack).bucket, NotificationConfiguration=own_notifications(stack)
                )
                for one in (found, second(stack), readme(stack)):
                    one.capture_events()
                outcome.write_text("null")
            except Exception as error:
                outcome.write_text(json.dumps(str(error)))
                raise
    if problem := json.loads(outcome.read_text()):
        pytest.fail(f"the module was not applied: {problem}", pytrace=False)
    return stack


@pytest.fixture(scope="session")
def pipeline(applied):
    """An instance as new users have it."""
    return first(applied)


@pytest.fixture(scope="session", name="second")
def second_pipeline(applied):
    """An instance with everything that is off by default."""
    return second(applied)


@pytest.fixture(scope="session", name="readme")
def readme_pipeline(applied):
    """An instance by the block of the NHS module's README."""
    return readme(applied)


def first(stack):
    return Pipeline(stack, f"{PREFIX}-mesh")


def second(stack):
    return Pipeline(stack, "second-mesh", use_secrets_manager=True)


def readme(stack):
    return Pipeline(stack, "readme-example-project-mesh")


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


@pytest.fixture
def second_mailbox():
    """A mailbox that `second` polls, and that no other test uses."""
    return take("second", SECOND)


@pytest.fixture
def cell_mailbox():
    """Gives a mailbox for a cell of the matrix, another one at each call."""
    return lambda: take("cells", CELLS)
