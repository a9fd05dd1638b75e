"""Deployed zips run behind the Lambda Runtime API as they would on AWS."""

import fcntl
import json
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import botocore
import pytest
import requests
from stack import lambda_local

from .conftest import BOOTSTRAP, zip_of


def invoke(aws, name, event, **settings):
    answer = aws.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event), **settings)
    return json.loads(answer["Payload"].read()), answer.get("FunctionError")


def log_lines(aws, name):
    events = aws.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    return [event["message"] for event in events]


@pytest.fixture(scope="module")
def function(aws):
    return aws.function(Environment={"Variables": {"MESH_URL": "https://localhost:1"}})["FunctionName"]


def test_a_function_sees_its_own_environment_and_nothing_of_the_machine(aws, function):
    before = time.time()
    seen, error = invoke(aws, function, {"do": "context"})
    assert error is None
    env = seen["env"]
    assert env["MESH_URL"] == "https://localhost:1"
    assert env["AWS_ENDPOINT_URL"] == aws.url
    assert env["AWS_ACCESS_KEY_ID"] == f"LAMBDA-{function}"
    assert env["AWS_LAMBDA_FUNCTION_NAME"] == function
    assert env["AWS_EC2_METADATA_DISABLED"] == "true"
    assert env["LAMBDA_TASK_ROOT"] == seen["cwd"]
    assert not {"HOME", "USER", "PYTHONPATH", "VIRTUAL_ENV", "STACK_TIME_SCALE"} & set(env)
    assert 18 < int(seen["Lambda-Runtime-Deadline-Ms"]) / 1000 - before < 21
    assert seen["Lambda-Runtime-Invoked-Function-Arn"].endswith(f":function:{function}")


@pytest.mark.parametrize("error", ["MeshUnavailable", "InvalidParameters"])
def test_an_error_of_the_function_is_its_answer(aws, function, error):
    answer = invoke(aws, function, {"do": "fail", "error": error})
    assert answer == ({"errorType": error, "errorMessage": "told to"}, "Unhandled")


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        ({"do": "exit"}, "Runtime.ExitError", "exit status 3"),
        ({"do": "abort"}, "Runtime.ExitError", "signal: aborted"),
        ({"do": "sleep", "seconds": 30}, "Sandbox.Timedout", "Task timed out after 1.00 seconds"),
        ({"do": "big", "size": 7_000_000}, "Function.ResponseSizeTooLarge", "6291456 bytes"),
    ],
)
def test_a_function_that_dies_hangs_or_says_too_much(aws, event, error, message):
    name = aws.function(Timeout=1, MemorySize=256)["FunctionName"]
    invoke(aws, name, {})
    answer, kind = invoke(aws, name, event)
    assert (answer["errorType"], kind) == (error, "Unhandled")
    assert message in answer["errorMessage"]
    assert invoke(aws, name, {"x": 1}) == ({"x": 1}, None), "the next invocation has a new worker"


def test_memory_is_limited(aws):
    name = aws.function(MemorySize=128)["FunctionName"]
    assert invoke(aws, name, {"do": "memory", "size": 16 << 20})[0] == {"size": 16 << 20}
    assert invoke(aws, name, {"do": "memory", "size": 256 << 20})[0]["errorType"] == "Runtime.ExitError"


def test_a_function_that_writes_a_file_dies(aws, tmp_path):
    name = aws.function()["FunctionName"]
    assert invoke(aws, name, {"do": "write", "file": str(tmp_path / "file")})[0]["errorType"] == "Runtime.ExitError"
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (zip_of(BOOTSTRAP, 0o644), "permission denied"),
        (zip_of(BOOTSTRAP, 0o755, "other"), "Couldn't find valid bootstrap(s)"),
    ],
    ids=["no run bit", "no bootstrap"],
)
def test_a_zip_that_cannot_start(aws, packed, message):
    name = aws.function()["FunctionName"]
    aws.client("lambda").update_function_code(FunctionName=name, ZipFile=packed)
    answer, _ = invoke(aws, name, {})
    assert answer["errorType"] == "Runtime.InvalidEntrypoint"
    assert message in answer["errorMessage"]


def test_a_function_that_fails_to_start(aws):
    name = aws.function(Environment={"Variables": {"FAIL_INIT": "yes"}})["FunctionName"]
    answer, _ = invoke(aws, name, {})
    assert answer["errorType"] == "Runtime.ExitError"
    assert "exit status 7" in answer["errorMessage"]


def test_a_worker_stays_warm_until_it_is_dropped_or_its_settings_change(aws, function):
    pid = lambda: invoke(aws, function, {"do": "context"})[0]["pid"]
    first = pid()
    assert pid() == first
    workers = requests.get(f"{aws.url}/_stack/workers", timeout=10).json()
    assert [w["version"] for w in workers if w["pid"] == first] == ["$LATEST"]
    requests.post(f"{aws.url}/_stack/drop-workers", params={"function": function}, timeout=10).raise_for_status()
    second = pid()
    assert second != first
    aws.client("lambda").update_function_configuration(
        FunctionName=function, Environment={"Variables": {"MESH_URL": "x"}}
    )
    assert invoke(aws, function, {"do": "context"})[0]["env"]["MESH_URL"] == "x"
    assert pid() != second


def test_a_worker_handles_one_invocation_at_a_time_and_workers_are_limited(aws):
    name = aws.function()["FunctionName"]
    with ThreadPoolExecutor(12) as pool:
        start = time.monotonic()
        list(pool.map(lambda _: invoke(aws, name, {"do": "sleep", "seconds": 0.5}), range(12)))
    assert time.monotonic() - start > 1, "twelve at once need two rounds of the eight workers"
    pids = {w["pid"] for w in requests.get(f"{aws.url}/_stack/workers", timeout=10).json()}
    assert 1 < len(pids) <= 8


def test_the_log_has_the_lines_of_an_invocation_when_it_returns(aws, function):
    invoke(aws, function, {"do": "nothing"})
    lines = log_lines(aws, function)
    at = lines.index("handling nothing")
    assert lines[at - 1].startswith("START RequestId: ")
    assert lines[at + 1].startswith("END RequestId: ")
    report = lines[at + 2]
    assert report.startswith("REPORT RequestId: ")
    assert "Memory Size: 128 MB" in report
    assert any("Init Duration" in line for line in lines)


def test_a_published_version_keeps_its_code_and_is_invoked_by_qualifier_or_arn(aws):
    name = aws.function()["FunctionName"]
    client = aws.client("lambda")
    changed = client.update_function_code(
        FunctionName=name, ZipFile=zip_of(BOOTSTRAP.replace('"handling"', '"changed"')), Publish=True
    )
    assert changed["Version"] == "2"
    for version, word in (("1", "handling"), ("2", "changed"), ("$LATEST", "changed")):
        mark = uuid.uuid4().hex
        invoke(aws, name, {"do": mark}, Qualifier=version)
        assert f"{word} {mark}" in log_lines(aws, name)
    arn = client.list_versions_by_function(FunctionName=name)["Versions"][1]["FunctionArn"]
    assert arn.endswith(f"{name}:1")
    assert invoke(aws, arn, {"do": "context"})[0]["env"]["AWS_LAMBDA_FUNCTION_VERSION"] == "1"
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        invoke(aws, name, {}, Qualifier="3")
    assert failed.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_an_asynchronous_invocation_returns_at_once(aws, function):
    mark = uuid.uuid4().hex
    assert (
        aws.client("lambda").invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps({"do": mark}))[
            "StatusCode"
        ]
        == 202
    )
    for _ in range(100):
        if f"handling {mark}" in log_lines(aws, function):
            return
        time.sleep(0.05)
    pytest.fail("the function never ran")


def test_a_python_function_runs(aws):
    """As consumers' functions are; the bytes are read with the AWS SDK, which finds the local AWS by itself."""
    bucket = aws.bucket()
    aws.client("s3").put_object(Bucket=bucket, Key="k", Body=b"12345")
    source = """
import boto3, logging
def handle(event, context):
    logging.getLogger().setLevel(logging.INFO)
    logging.info("for %s", context.function_name)
    return {"size": len(boto3.client("s3").get_object(**event)["Body"].read())}
"""
    name = f"f-{uuid.uuid4().hex[:8]}"
    settings = {"Runtime": "python3.13", "Handler": "code.handle", "Timeout": 20, "MemorySize": 256, "Role": aws.role()}
    aws.client("lambda").create_function(
        FunctionName=name, Code={"ZipFile": zip_of(source, 0o644, "code.py")}, **settings
    )
    assert invoke(aws, name, {"Bucket": bucket, "Key": "k"}) == ({"size": 5}, None)
    assert any(f"for {name}" in line for line in log_lines(aws, name))
    failed, error = invoke(aws, name, {"Bucket": bucket, "Key": "none"})
    assert (failed["errorType"], error) == ("NoSuchKey", "Unhandled")


def test_an_oversized_request_is_refused(aws, function):
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        invoke(aws, function, {"x": "x" * 6 * 1024 * 1024})
    assert failed.value.response["Error"]["Code"] == "RequestTooLargeException"


def test_settings_are_echoed(aws):
    queue = aws.queue().arn
    name = aws.function(
        DeadLetterConfig={"TargetArn": queue},
        LoggingConfig={"LogFormat": "JSON", "LogGroup": "/my/group"},
        TracingConfig={"Mode": "Active"},
    )["FunctionName"]
    client = aws.client("lambda")
    client.update_function_configuration(FunctionName=name, TracingConfig={"Mode": "PassThrough"}, Environment={})
    found = client.get_function_configuration(FunctionName=name)
    assert found["DeadLetterConfig"] == {"TargetArn": queue}
    assert found["LoggingConfig"] == {"LogFormat": "JSON", "LogGroup": "/my/group"}
    assert found["TracingConfig"] == {"Mode": "PassThrough"}
    invoke(aws, name, {"do": "x"})
    assert "handling x" in [
        e["message"] for e in aws.client("logs").filter_log_events(logGroupName="/my/group")["events"]
    ]


def test_a_deleted_function_takes_its_workers_with_it(aws):
    name = aws.function()["FunctionName"]
    pid = invoke(aws, name, {"do": "context"})[0]["pid"]
    aws.client("lambda").delete_function(FunctionName=name)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_output_is_read_from_a_descriptor_beyond_select():
    reader, writer = os.pipe()
    lines = []
    far = fcntl.fcntl(reader, fcntl.F_DUPFD, 1100)
    lambda_local.Output(os.fdopen(far, "rb", buffering=0), lines.extend)
    os.write(writer, b"a line\n")
    os.close(writer)
    for _ in range(100):
        if lines:
            break
        time.sleep(0.05)
    assert lines == ["a line"]
