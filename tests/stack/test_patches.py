"""The local AWS does what AWS does where moto by itself doesn't: S3, EventBridge, DynamoDB and the server itself."""

import concurrent.futures
import copy
import json
import os
import signal
import socket
import struct
import time
import uuid

import boto3
import botocore
import pytest
import requests
from botocore.config import Config
from moto.awslambda.models import LambdaFunction
from moto.core.responses import BaseResponse
from moto.iam.models import iam_backends
from moto.logs import logs_backends
from moto.sqs.models import Queue, SQSBackend, sqs_backends
from stack import aws as server
from stack import identities, patch_events, patch_lambda, patches, servers

CREATED = {"source": ["aws.s3"], "detail-type": ["Object Created"]}


def error_code(failed):
    return failed.value.response["Error"]["Code"]


def race(function, count=20):
    """Runs the function many times at once; its results, an exception for each failure."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(function, n) for n in range(count)]
    return [future.exception() or future.result() for future in futures]


def of(bucket, **detail):
    return CREATED | {"detail": {"bucket": {"name": [bucket]}} | detail}


# The server


def test_an_action_that_is_not_there_is_refused_at_once_and_fails_the_run(tmp_path):
    servers.start(tmp_path, names=("aws",))
    try:
        url = servers.state(tmp_path, "aws")["url"]
        assert server.failures(tmp_path) == []
        client = boto3.client(
            "stepfunctions",
            region_name=server.REGION,
            endpoint_url=url,
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        with pytest.raises(botocore.exceptions.ClientError) as failed:
            client.redrive_execution(executionArn="arn:aws:states:eu-west-2:123456789012:execution:a:b")
        assert failed.value.response["ResponseMetadata"]["RetryAttempts"] == 0
        assert len(server.failures(tmp_path)) == 1
        assert "NOT-IMPLEMENTED" in server.failures(tmp_path)[0]
    finally:
        servers.stop(tmp_path)


def test_a_stopped_server_leaves_no_process(tmp_path):
    from .conftest import Aws

    servers.start(tmp_path, names=("aws",))
    aws = Aws(tmp_path)
    function = aws.function()["FunctionName"]
    worker = json.loads(
        aws.client("lambda").invoke(FunctionName=function, Payload=b'{"do": "context"}')["Payload"].read()
    )["pid"]
    pid = servers.state(tmp_path, "aws")["pid"]
    os.kill(worker, 0)
    servers.stop(tmp_path)
    for gone in (pid, worker):
        for _ in range(100):
            try:
                os.kill(gone, 0)
            except ProcessLookupError:
                break
            if open(f"/proc/{gone}/stat").read().split(")")[1].split()[0] == "Z":
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"process {gone} is still there")


def test_the_server_listens_on_loopback_only(aws):
    port = int(aws.url.rpartition(":")[2])
    listening = [line.split() for line in open("/proc/net/tcp").read().splitlines()[1:]]
    addresses = {
        fields[1].split(":")[0]
        for fields in listening
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port
    }
    assert addresses == {"0100007F"}


def test_headers_and_body_arrive_together(aws):
    with socket.create_connection(("127.0.0.1", int(aws.url.rpartition(":")[2]))) as connection:
        key = "AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-2/events/aws4_request, SignedHeaders=host, Signature=none"
        headers = f"Host: localhost\r\nAuthorization: {key}\r\nX-Amz-Target: AWSEvents.ListRules\r\nContent-Length: 2"
        connection.sendall(f"POST / HTTP/1.1\r\n{headers}\r\n\r\n{{}}".encode())
        answer = connection.makefile("rb").read()
        assert b" 200 OK" in answer and b'"Rules"' in answer
        # tcpi_data_segs_in of linux/tcp.h.
        assert struct.unpack_from("I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160), 152) == (1,)


def test_the_server_calls_no_other_host(monkeypatch, caplog):
    for name in ("socket", "getaddrinfo"):
        monkeypatch.setattr(socket, name, getattr(socket, name))
    server.guard_loopback()
    for call in (
        lambda: socket.create_connection(("192.0.2.1", 443), timeout=1),
        lambda: socket.socket().connect(("192.0.2.1", 443)),
        lambda: socket.getaddrinfo("s3.eu-west-2.amazonaws.com", 443),
    ):
        with pytest.raises(PermissionError):
            call()
    assert caplog.text.count("OUTSIDE-LOOPBACK") == 3
    with socket.create_server(("127.0.0.1", 0)) as listener:
        socket.create_connection(listener.getsockname()).close()


# S3


@pytest.mark.parametrize(("size", "accepted"), [(2048, True), (2049, False)])
@pytest.mark.parametrize("action", ["put_object", "create_multipart_upload"])
def test_metadata_is_limited_to_2_kb(aws, action, size, accepted):
    call = getattr(aws.client("s3"), action)
    arguments = {"Bucket": aws.bucket(), "Key": "k", "Metadata": {"mex-to": "x" * (size - len("mex-to"))}}
    if accepted:
        call(**arguments)
    else:
        with pytest.raises(botocore.exceptions.ClientError) as failed:
            call(**arguments)
        assert error_code(failed) == "MetadataTooLarge"


def test_one_of_many_racing_conditional_puts_wins(aws):
    bucket, s3 = aws.bucket(), aws.client("s3")
    results = race(lambda n: s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % n, IfNoneMatch="*"))
    codes = [r.response["Error"]["Code"] for r in results if isinstance(r, Exception)]
    assert codes == ["PreconditionFailed"] * 19


def multipart(s3, bucket, key, parts):
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, Metadata={"a": "b"})["UploadId"]
    for n, body in enumerate(parts, 1):
        s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=n, Body=body)
    listed = requests.get(f"{s3.meta.endpoint_url}/{bucket}/{key}?uploadId={upload}", timeout=10).text
    assert "<ListPartsResult" in listed
    found = s3.list_parts(Bucket=bucket, Key=key, UploadId=upload)["Parts"]
    return upload, {"Parts": [{"ETag": part["ETag"], "PartNumber": part["PartNumber"]} for part in found]}


def test_multipart_upload_with_parts_from_list_parts(aws):
    bucket, s3 = aws.bucket(), aws.client("s3")
    parts = [b"a" * 5 * 1024 * 1024, b"b"]
    upload, listed = multipart(s3, bucket, "k", parts)
    done = s3.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=listed, IfNoneMatch="*"
    )
    got = s3.get_object(Bucket=bucket, Key="k", VersionId=done["VersionId"])
    assert got["Body"].read() == b"".join(parts)
    assert got["Metadata"] == {"a": "b"}
    assert s3.get_object(Bucket=bucket, Key="k", Range="bytes=5242879-5242880")["Body"].read() == b"ab"
    upload, listed = multipart(s3, bucket, "k", [b"c"])
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=listed, IfNoneMatch="*")
    assert error_code(failed) == "PreconditionFailed"


def test_an_upload_replaces_only_what_it_is_told_to(aws):
    bucket, s3 = aws.bucket(), aws.client("s3")
    upload, listed = multipart(s3, bucket, "k", [b"a"])
    stored = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=listed)["ETag"]
    for expected, refused in (('"another"', "PreconditionFailed"), (stored, None)):
        upload, listed = multipart(s3, bucket, "k", [b"c"])
        given = {"Bucket": bucket, "Key": "k", "UploadId": upload, "MultipartUpload": listed, "IfMatch": expected}
        if refused:
            with pytest.raises(botocore.exceptions.ClientError) as failed:
                s3.complete_multipart_upload(**given)
            assert error_code(failed) == refused
        else:
            s3.complete_multipart_upload(**given)
    upload, listed = multipart(s3, bucket, "absent", [b"c"])
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        s3.complete_multipart_upload(
            Bucket=bucket, Key="absent", UploadId=upload, MultipartUpload=listed, IfMatch=stored
        )
    assert error_code(failed) == "NoSuchKey"


def test_an_upload_that_is_gone_is_named(aws):
    bucket, s3 = aws.bucket(), aws.client("s3")
    upload, listed = multipart(s3, bucket, "k", [b"c"])
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    common = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    for call in (
        lambda: s3.upload_part(**common, PartNumber=1, Body=b"x"),
        lambda: s3.list_parts(**common),
        lambda: s3.complete_multipart_upload(**common, MultipartUpload=listed),
    ):
        with pytest.raises(botocore.exceptions.ClientError) as failed:
            call()
        assert error_code(failed) == "NoSuchUpload"


def test_a_wrong_checksum_is_refused(aws):
    bucket, s3 = aws.bucket(), aws.client("s3")
    s3.put_object(Bucket=bucket, Key="k", Body=b"123456789", ChecksumCRC32="y/Q5Jg==")
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        s3.put_object(Bucket=bucket, Key="k", Body=b"123456789", ChecksumCRC32="AAAAAA==")
    assert error_code(failed) == "BadDigest"


@pytest.mark.parametrize(("crc32", "status"), [("y/Q5Jg==", 200), ("AAAAAA==", 400)])
def test_a_streamed_body_has_its_checksum_in_a_trailer(aws, crc32, status):
    bucket = aws.bucket()
    headers = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/eu-west-2/s3/aws4_request, SignedHeaders=host, Signature=x",
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "9",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "Content-Encoding": "aws-chunked",
    }
    body = f"4\r\n1234\r\n5\r\n56789\r\n0\r\nx-amz-checksum-crc32:{crc32}\r\n\r\n"
    assert requests.put(f"{aws.url}/{bucket}/k", data=body, headers=headers, timeout=10).status_code == status
    if status == 200:
        got = aws.client("s3").get_object(Bucket=bucket, Key="k")
        assert (got["Body"].read(), got.get("ContentEncoding")) == (b"123456789", None)


def test_head_tells_of_a_delete_marker(aws):
    bucket, s3 = aws.bucket(), aws.client("s3")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    for arguments, status in (({}, 404), ({"VersionId": marker}, 405)):
        with pytest.raises(botocore.exceptions.ClientError) as failed:
            s3.head_object(Bucket=bucket, Key="k", **arguments)
        answer = failed.value.response["ResponseMetadata"]
        assert (answer["HTTPStatusCode"], answer["HTTPHeaders"]["x-amz-delete-marker"]) == (status, "true")
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        s3.head_object(Bucket=bucket, Key="never")
    assert "x-amz-delete-marker" not in failed.value.response["ResponseMetadata"]["HTTPHeaders"]


def test_objects_get_the_encryption_of_their_bucket(aws):
    bucket, s3 = aws.bucket(), aws.client("s3")
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    rule = {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key},
        "BucketKeyEnabled": True,
    }
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    got = s3.head_object(Bucket=bucket, Key="k")
    assert (got["ServerSideEncryption"], got["SSEKMSKeyId"]) == ("aws:kms", key)


def test_a_tls_only_policy_leaves_the_bucket_usable(aws):
    bucket, s3 = aws.bucket(), aws.client("s3")
    tls_only = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": f"arn:aws:s3:::{bucket}/*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/denied/*"}
    s3.put_object(Bucket=bucket, Key="denied/k", Body=b"x")
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [tls_only, denied]}))
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with pytest.raises(botocore.exceptions.ClientError):
        s3.get_object(Bucket=bucket, Key="denied/k")


def test_keys_of_versions_are_encoded_when_that_is_asked_for(aws):
    s3, bucket, key = aws.client("s3"), aws.bucket(), "outbound/a b+c%20\u00a3.txt"
    s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3.delete_object(Bucket=bucket, Key=key)
    # boto3 asks for it, and decodes only if the answer says so.
    found = s3.list_object_versions(Bucket=bucket, Prefix=key)
    assert [entry["Key"] for entry in found["Versions"] + found["DeleteMarkers"]] == [key, key]
    plain = requests.get(f"{aws.url}/{bucket}?versions&encoding-type=url", timeout=10).text
    assert "outbound/a%20b%2Bc%2520%C2%A3.txt" in plain


def test_listed_versions_leave_the_content_where_it_is(aws):
    """moto itself writes all of a bucket's objects to the disk again for each listing."""
    bucket, s3 = aws.bucket(), aws.client("s3")
    # moto keeps more than 16 MiB in a file.
    body = bytes(17 * 2**20)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    before = aws.files()
    for _ in range(5):
        (version,) = s3.list_object_versions(Bucket=bucket)["Versions"]
        assert (version["Key"], version["Size"]) == ("k", len(body))
    assert aws.files() == before
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_the_notification_configuration_tells_of_eventbridge(aws):
    s3 = aws.client("s3")
    on, off = (s3.get_bucket_notification_configuration(Bucket=aws.bucket(events=events)) for events in (True, False))
    assert on["EventBridgeConfiguration"] == {}
    assert "EventBridgeConfiguration" not in off


# DynamoDB


@pytest.fixture(scope="module")
def table(aws):
    name = f"t-{uuid.uuid4().hex[:8]}"
    attributes = ["id", "due", "next_attempt_at"]
    aws.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": a, "AttributeType": "S"} for a in attributes],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "due",
                "KeySchema": [
                    {"AttributeName": "due", "KeyType": "HASH"},
                    {"AttributeName": "next_attempt_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
    return name


def claim(client, table, key, owner):
    return client.update_item(
        TableName=table,
        Key={"id": {"S": key}},
        UpdateExpression="SET #o = :o, #u = :u",
        ConditionExpression="attribute_not_exists(id) OR #o = :o",
        ExpressionAttributeNames={"#o": "owner", "#u": "until"},
        ExpressionAttributeValues={":o": {"S": owner}, ":u": {"N": "1"}},
        ReturnValuesOnConditionCheckFailure="ALL_OLD",
    )


def test_one_of_many_racing_conditional_updates_wins_and_the_others_see_who(aws, table):
    client = aws.client("dynamodb")
    results = race(lambda n: claim(client, table, "race", f"owner-{n}") and n)
    (winner,) = [r for r in results if isinstance(r, int)]
    for lost in (r for r in results if isinstance(r, Exception)):
        assert lost.response["Error"]["Code"] == "ConditionalCheckFailedException"
        assert lost.response["Item"]["owner"] == {"S": f"owner-{winner}"}


def test_a_failed_put_condition_returns_the_row_that_is_there(aws, table):
    client = aws.client("dynamodb")
    put = {
        "TableName": table,
        "ConditionExpression": "attribute_not_exists(id)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    client.put_item(Item={"id": {"S": "put"}, "status": {"S": "sent"}}, **put)
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        client.put_item(Item={"id": {"S": "put"}}, **put)
    assert failed.value.response["Item"] == {"id": {"S": "put"}, "status": {"S": "sent"}}


def test_a_sparse_index_is_queried_by_range_and_rows_come_in_batches(aws, table):
    client = aws.client("dynamodb")
    for n in range(3):
        due = {"due": {"S": "y"}, "next_attempt_at": {"S": f"2026-01-0{n + 1}"}} if n else {}
        client.put_item(TableName=table, Item={"id": {"S": f"row-{n}"}, "more": {"S": "x"}} | due)
    found = client.query(
        TableName=table,
        IndexName="due",
        KeyConditionExpression="due = :y AND next_attempt_at <= :t",
        ExpressionAttributeValues={":y": {"S": "y"}, ":t": {"S": "2026-01-02"}},
    )["Items"]
    assert found == [{"id": {"S": "row-1"}, "due": {"S": "y"}, "next_attempt_at": {"S": "2026-01-02"}}]
    keys = [{"id": {"S": f"row-{n}"}} for n in range(4)]
    batch = client.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})["Responses"][table]
    assert sorted(row["id"]["S"] for row in batch) == ["row-0", "row-1", "row-2"]


# EventBridge


def test_an_s3_event_has_the_shape_that_aws_documents(aws):
    bucket, queue, s3 = aws.bucket(), aws.queue(), aws.client("s3")
    aws.rule(of(bucket), {"Arn": queue.arn})
    put = s3.put_object(Bucket=bucket, Key="outbound/é +", Body=b"hello", Metadata={"a": "b"})
    (event,) = queue.bodies(1)
    volatile = [event.pop(name) for name in ("id", "time")] + [
        event["detail"].pop("request-id"),
        event["detail"]["object"].pop("sequencer"),
    ]
    assert event == {
        "version": "0",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": server.ACCOUNT,
        "region": server.REGION,
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket},
            "object": {
                "key": "outbound/é +",
                "size": 5,
                "etag": put["ETag"].strip('"'),
                "version-id": put["VersionId"],
            },
            "requester": server.ACCOUNT,
            "source-ip-address": "127.0.0.1",
            "reason": "PutObject",
        },
    }
    assert time.strptime(volatile[1], "%Y-%m-%dT%H:%M:%SZ")
    assert len(volatile[2]) == len(volatile[3]) == 16


def test_each_way_to_write_an_object_is_one_event_with_its_reason(aws):
    bucket, queue, s3 = aws.bucket(versioned=False), aws.queue(), aws.client("s3")
    aws.rule({"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket]}}}, {"Arn": queue.arn})
    upload, parts = multipart(s3, bucket, "multi", [b"x"])
    s3.complete_multipart_upload(Bucket=bucket, Key="multi", UploadId=upload, MultipartUpload=parts)
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "multi"})
    s3.delete_object(Bucket=bucket, Key="copy")
    found = {
        (e["detail-type"], e["detail"]["object"]["key"], e["detail"]["reason"]): e["detail"] for e in queue.bodies(3)
    }
    assert set(found) == {
        ("Object Created", "multi", "CompleteMultipartUpload"),
        ("Object Created", "copy", "CopyObject"),
        ("Object Deleted", "copy", "DeleteObject"),
    }
    assert not any("version-id" in detail["object"] for detail in found.values())


def test_a_bucket_without_eventbridge_sends_nothing(aws):
    bucket, queue = aws.bucket(events=False), aws.queue()
    aws.rule(of(bucket), {"Arn": queue.arn})
    aws.client("s3").put_object(Bucket=bucket, Key="k", Body=b"x")
    queue.messages(0, seconds=1)


def test_the_object_has_its_metadata_when_its_event_goes_out(aws):
    bucket, s3 = aws.bucket(), aws.client("s3")
    seen = aws.machine(
        {
            "StartAt": "Head",
            "States": {
                "Head": {
                    "Type": "Task",
                    "Resource": "arn:aws:states:::aws-sdk:s3:headObject",
                    "Parameters": {"Bucket.$": "$.detail.bucket.name", "Key.$": "$.detail.object.key"},
                    "ResultSelector": {"metadata.$": "$.Metadata"},
                    "End": True,
                }
            },
        }
    )
    aws.rule(of(bucket), {"Arn": seen, "RoleArn": aws.role()})
    for n in range(5):
        s3.put_object(Bucket=bucket, Key=f"k{n}", Body=b"x", Metadata={"n": str(n)})
    states = aws.client("stepfunctions")
    for _ in range(200):
        if len(done := states.list_executions(stateMachineArn=seen, statusFilter="SUCCEEDED")["executions"]) == 5:
            break
        time.sleep(0.05)
    outputs = [states.describe_execution(executionArn=e["executionArn"])["output"] for e in done]
    assert sorted(json.loads(o)["metadata"]["n"] for o in outputs) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ({"object": {"key": [{"prefix": "outbound"}]}}, "outbound_a_to_b/x", "inbound/outbound"),
        ({"object": {"key": ["exact"]}}, "exact", "exact2"),
        ({"object": {"key": [{"suffix": ".dat"}, {"wildcard": "a/*/c"}]}}, "a/b/c", "a/c"),
        ({"object": {"key": [{"anything-but": {"prefix": "inbound"}}]}}, "out", "inbound/x"),
        (
            {
                "object": {"size": [{"numeric": [">", 0]}], "key": [{"exists": True}]},
                "reason": ["PutObject", "CompleteMultipartUpload"],
            },
            "full",
            "empty",
        ),
    ],
    ids=["prefix", "equals", "suffix and wildcard", "anything-but", "numeric, exists and one of"],
)
def test_event_patterns(aws, pattern, matching, other):
    bucket, queue, s3 = aws.bucket(), aws.queue(), aws.client("s3")
    aws.rule(of(bucket, **pattern), {"Arn": queue.arn})
    for key in (other, matching):
        s3.put_object(Bucket=bucket, Key=key, Body=b"" if key == "empty" else b"x")
    assert [event["detail"]["object"]["key"] for event in queue.bodies(1)] == [matching]


def test_a_disabled_rule_and_a_schedule_send_nothing(aws):
    bucket, queue = aws.bucket(), aws.queue()
    aws.rule(of(bucket), {"Arn": queue.arn}, State="DISABLED")
    aws.rule("rate(1 minute)", {"Arn": queue.arn, "Input": "{}"})
    aws.client("s3").put_object(Bucket=bucket, Key="k", Body=b"x")
    queue.messages(0, seconds=1)


def custom(**detail):
    source = f"test-{uuid.uuid4().hex[:8]}"
    entry = {"Source": source, "DetailType": "Thing", "Detail": json.dumps(detail), "Resources": ["arn:aws:s3:::x"]}
    return {"source": [source]}, entry


def test_put_events_reaches_every_kind_of_target(aws):
    pattern, entry = custom(x=1)
    queue, topic_queue, function = aws.queue(), aws.queue(), aws.function()
    topic = aws.client("sns").create_topic(Name=f"t-{uuid.uuid4().hex[:8]}")["TopicArn"]
    aws.client("sns").subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=topic_queue.arn, Attributes={"RawMessageDelivery": "true"}
    )
    machine = aws.machine({"StartAt": "P", "States": {"P": {"Type": "Pass", "End": True}}})
    aws.rule(
        pattern,
        *({"Arn": arn} for arn in (queue.arn, topic, function["FunctionArn"])),
        {"Arn": machine, "RoleArn": aws.role(), "InputPath": "$.detail"},
    )
    assert aws.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0
    for bodies in (queue.bodies(1), topic_queue.bodies(1)):
        assert (bodies[0]["detail"], bodies[0]["resources"]) == ({"x": 1}, ["arn:aws:s3:::x"])
        assert time.strptime(bodies[0]["time"], "%Y-%m-%dT%H:%M:%SZ")
    for _ in range(100):
        if executions := aws.client("stepfunctions").list_executions(stateMachineArn=machine)["executions"]:
            break
        time.sleep(0.05)
    assert json.loads(aws.end_of(executions[0]["executionArn"])["input"]) == {"x": 1}
    group = f"/aws/lambda/{function['FunctionName']}"
    for _ in range(100):
        lines = [e["message"] for e in aws.client("logs").filter_log_events(logGroupName=group)["events"]]
        if any(line.startswith("REPORT") for line in lines):
            break
        time.sleep(0.05)
    assert "handling None" in lines


TEMPLATE = '{"detail-type": <type>, "detail": {"bucket": <bucket>, "text": "key <key> of <n>", "n": <n>, "all": <detail>}, "rule": <aws.events.rule-name>}'
PATHS = {
    "type": "$.detail-type",
    "bucket": "$.detail.bucket",
    "key": "$.detail.object.version-id",
    "n": "$.detail.n",
    "detail": "$.detail",
}


def test_an_input_transformer_quotes_and_escapes_as_aws_does(aws):
    detail = {"bucket": 'a "b"', "object": {"version-id": 'x"\\y é'}, "n": 3}
    pattern, entry = custom(**detail)
    queue = aws.queue()
    rule = aws.rule(
        pattern, {"Arn": queue.arn, "InputTransformer": {"InputPathsMap": PATHS, "InputTemplate": TEMPLATE}}
    )
    aws.client("events").put_events(Entries=[entry])
    assert queue.bodies(1) == [
        {
            "detail-type": "Thing",
            "detail": {"bucket": 'a "b"', "text": 'key x"\\y é of 3', "n": 3, "all": detail},
            "rule": rule,
        }
    ]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ('"<a> is <b>"', '"1 is two"'),
        ('{"a": <a>, "b": "<missing>"}', '{"a": 1, "b": ""}'),
        ('{"a": <missing>}', '{"a": }'),
        ('{"escaped": "\\"<b>\\""}', '{"escaped": "\\"two\\""}'),
    ],
)
def test_input_templates(template, text):
    class Rule:
        arn, name = "arn:rule", "rule"

    paths = {"a": "$.detail.a", "b": "$.detail.b", "missing": "$.detail.c"}
    assert (
        patch_events.transform(
            {"InputPathsMap": paths, "InputTemplate": template}, {"detail": {"a": 1, "b": "two"}}, Rule
        )
        == text
    )


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (
            {
                "Arn": f"arn:aws:states:{server.REGION}:{server.ACCOUNT}:stateMachine:gone",
                "RoleArn": "arn:aws:iam::123456789012:role/x",
            },
            "StateMachineDoesNotExist",
        ),
        ({"Arn": f"arn:aws:lambda:{server.REGION}:{server.ACCOUNT}:function:gone"}, "ResourceNotFoundException"),
        ({"Arn": f"arn:aws:sqs:{server.REGION}:{server.ACCOUNT}:gone"}, "AWS.SimpleQueueService.NonExistentQueue"),
    ],
    ids=["states", "lambda", "sqs"],
)
def test_what_cannot_be_delivered_goes_to_the_dead_letter_queue(aws, target, code):
    pattern, entry = custom(x=1)
    queue = aws.queue()
    role = {"RoleArn": aws.role()} if "RoleArn" in target else {}
    aws.rule(pattern, target | role | {"DeadLetterConfig": {"Arn": queue.arn}})
    aws.client("events").put_events(Entries=[entry])
    (message,) = queue.messages(1)
    attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    assert json.loads(message["Body"])["detail"] == {"x": 1}
    assert attributes["TARGET_ARN"] == target["Arn"]
    assert attributes["ERROR_CODE"] == code


def test_what_cannot_be_delivered_and_has_no_queue_fails_the_run(aws):
    before = len(server.failures(aws.folder))
    pattern, entry = custom(x=1)
    aws.rule(
        pattern,
        {"Arn": f"arn:aws:lambda:{server.REGION}:{server.ACCOUNT}:function:gone"},
        {"Arn": f"arn:aws:firehose:{server.REGION}:{server.ACCOUNT}:deliverystream/x"},
    )
    aws.client("events").put_events(Entries=[entry])
    for _ in range(100):
        if len(lines := server.failures(aws.folder)[before:]) == 2:
            break
        time.sleep(0.05)
    assert ["EVENT-TARGET-FAILED" in line for line in lines] == [True, True]


def test_a_rule_takes_five_targets(aws):
    targets = [{"Arn": aws.queue().arn} for _ in range(6)]
    rule = aws.rule({"source": ["none"]}, *targets[:5])
    events = aws.client("events")
    events.put_targets(Rule=rule, Targets=[{"Id": "4"} | targets[5]])
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        events.put_targets(Rule=rule, Targets=[{"Id": "6"} | targets[5]])
    assert error_code(failed) == "LimitExceededException"


@pytest.mark.parametrize(("count", "size"), [(11, 10), (5, 60_000)], ids=["eleven entries", "over 256 KB"])
def test_put_events_limits(aws, count, size):
    _, entry = custom(x="x" * size)
    client = boto3.client(
        "events",
        region_name=server.REGION,
        endpoint_url=aws.url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(parameter_validation=False),
    )
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        client.put_events(Entries=[entry] * count)
    assert error_code(failed) == "ValidationException"
    client.put_events(Entries=[entry])


def test_sigterm_is_a_clean_stop(tmp_path):
    servers.start(tmp_path, names=("aws",))
    os.kill(servers.state(tmp_path, "aws")["pid"], signal.SIGTERM)
    for _ in range(100):
        if servers.state(tmp_path, "aws") is None:
            return
        time.sleep(0.05)
    pytest.fail("the server did not stop")


# CloudTrail


def trail(aws, logs, **selectors):
    client, name = aws.client("cloudtrail"), f"t-{uuid.uuid4().hex[:8]}"
    client.create_trail(Name=name, S3BucketName=logs)
    client.put_event_selectors(TrailName=name, **selectors)
    client.start_logging(Name=name)
    return name


def advanced(**fields):
    selectors = [{"Field": field.replace("_", "."), **condition} for field, condition in fields.items()]
    return {"AdvancedEventSelectors": [{"Name": "s", "FieldSelectors": selectors}]}


DATA = {"eventCategory": {"Equals": ["Data"]}, "resources_type": {"Equals": ["AWS::S3::Object"]}}


def test_a_trail_tells_eventbridge_of_written_objects_after_s3_did(aws):
    bucket, s3 = aws.bucket(), aws.client("s3")
    both, recorded = aws.queue(), aws.queue()
    aws.rule({"source": ["aws.s3"], "resources": [f"arn:aws:s3:::{bucket}"]}, {"Arn": both.arn})
    aws.rule({"source": ["aws.s3"], "detail": {"requestParameters": {"bucketName": [bucket]}}}, {"Arn": recorded.arn})
    arn = {"StartsWith": [f"arn:aws:s3:::{bucket}/"]}
    name = trail(aws, bucket, **advanced(**DATA, readOnly={"Equals": ["false"]}, resources_ARN=arn))
    version = s3.put_object(Bucket=bucket, Key="outbound/a b+£.txt", Body=b"x")["VersionId"]
    assert both.bodies(1)[0]["detail-type"] == "Object Created"
    (event,) = recorded.bodies(1)
    assert event["detail-type"] == "AWS API Call via CloudTrail"
    detail = event["detail"]
    assert (detail["eventSource"], detail["eventName"]) == ("s3.amazonaws.com", "PutObject")
    assert (detail["readOnly"], detail["managementEvent"], detail["eventCategory"]) == (False, False, "Data")
    assert detail["requestParameters"]["bucketName"] == bucket
    assert detail["requestParameters"]["key"] == "outbound/a b+£.txt"
    assert detail["responseElements"]["x-amz-version-id"] == version
    upload, listed = multipart(s3, bucket, "m", [b"x"])
    s3.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=upload, MultipartUpload=listed)
    s3.copy_object(Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "m"})
    s3.delete_object(Bucket=bucket, Key="c")
    names = {event["detail"]["requestParameters"]["key"]: event["detail"]["eventName"] for event in recorded.bodies(2)}
    assert names == {"m": "CompleteMultipartUpload", "c": "CopyObject"}
    assert aws.client("cloudtrail").get_trail(Name=name)["Trail"]["HasCustomEventSelectors"]
    aws.client("cloudtrail").stop_logging(Name=name)
    s3.put_object(Bucket=bucket, Key="later", Body=b"x")
    time.sleep(1)
    recorded.bodies(0)


def test_only_the_trails_that_are_asked_for_are_described(aws):
    bucket = aws.bucket()
    selectors = advanced(**DATA, resources_ARN={"StartsWith": [f"arn:aws:s3:::{bucket}/"]})
    names = [trail(aws, bucket, **selectors) for _ in range(2)]
    client = aws.client("cloudtrail")
    described = client.describe_trails(trailNameList=names[:1])["trailList"]
    assert [one["Name"] for one in described] == names[:1]
    arn = described[0]["TrailARN"]
    assert [one["Name"] for one in client.describe_trails(trailNameList=[arn])["trailList"]] == names[:1]


def test_a_trail_needs_no_notifications_of_the_bucket(aws):
    bucket, queue = aws.bucket(events=False), aws.queue()
    aws.rule({"source": ["aws.s3"], "detail": {"requestParameters": {"bucketName": [bucket]}}}, {"Arn": queue.arn})
    resources = [{"Type": "AWS::S3::Object", "Values": [f"arn:aws:s3:::{bucket}/"]}]
    trail(aws, bucket, EventSelectors=[{"ReadWriteType": "WriteOnly", "DataResources": resources}])
    aws.client("s3").put_object(Bucket=bucket, Key="k", Body=b"x")
    assert queue.bodies(1)[0]["detail"]["eventName"] == "PutObject"


@pytest.mark.parametrize(
    "changed",
    [
        {"readOnly": {"Equals": ["true"]}},
        {"eventName": {"Equals": ["CopyObject"]}},
        {"eventName": {"NotEquals": ["PutObject", "CopyObject"]}},
        {"resources_ARN": {"StartsWith": ["arn:aws:s3:::another/"]}},
        {"eventCategory": {"Equals": ["Management"]}},
    ],
)
def test_a_trail_tells_of_nothing_that_it_does_not_select(aws, changed):
    bucket, queue = aws.bucket(events=False), aws.queue()
    aws.rule({"source": ["aws.s3"], "detail": {"requestParameters": {"bucketName": [bucket]}}}, {"Arn": queue.arn})
    arn = {"StartsWith": [f"arn:aws:s3:::{bucket}/"]}
    trail(aws, bucket, **advanced(**DATA | {"resources_ARN": arn} | changed))
    aws.client("s3").put_object(Bucket=bucket, Key="k", Body=b"x")
    # CloudTrail's delay in this stack.
    time.sleep(1)
    queue.bodies(0)


def test_an_updated_attribute_keeps_its_type(aws, table):
    client, key = aws.client("dynamodb"), {"id": {"S": "switch"}}
    client.put_item(TableName=table, Item=key | {"enabled": {"BOOL": False}})
    # As Terraform changes an item.
    update = {"enabled": {"Action": "PUT", "Value": {"BOOL": True}}}
    client.update_item(TableName=table, Key=key, AttributeUpdates=update)
    assert client.get_item(TableName=table, Key=key)["Item"]["enabled"] == {"BOOL": True}


def test_roles_are_listed_while_others_are_made():
    identities.list_roles_while_they_change()
    backend = iam_backends["123456789012"]["aws"]
    backend.roles = {"first": "one"}
    assert [backend.roles.setdefault("second", role) for role in backend.get_roles()] == ["one"]


def test_a_message_is_sent_to_a_full_queue_without_counting(monkeypatch):
    for name in ("attributes", "messages"):
        monkeypatch.setattr(Queue, name, getattr(Queue, name))
    monkeypatch.setattr(SQSBackend, "send_message", SQSBackend.send_message)
    patches.send_without_counting()
    backend = sqs_backends["123456789012"][server.REGION]
    queue = backend.create_queue("full", {})
    backend.send_message("full", "first")
    assert queue.attributes["ApproximateNumberOfMessages"] == 1
    monkeypatch.setattr(Queue, "messages", property(lambda _: pytest.fail("counted")))
    backend.send_message("full", "second")
    assert len(queue._messages) == 2


def test_requests_of_a_service_wait_for_each_other(monkeypatch):
    inside = []

    def answer(response):
        inside.append(response)
        time.sleep(0.02)
        assert inside == [response]
        inside.remove(response)
        return "answered"

    monkeypatch.setattr(BaseResponse, "call_action", answer)
    patches.answer_one_at_a_time()
    response = BaseResponse.__new__(BaseResponse)
    response.service_name = "iam"
    assert race(lambda _: BaseResponse.call_action(response), 5) == ["answered"] * 5


def test_a_published_version_leaves_the_logs_where_they_are():
    patch_lambda.leave_the_logs_out_of_copies()
    function = LambdaFunction.__new__(LambdaFunction)
    function.logs_backend = logs_backends["123456789012"][server.REGION]
    assert copy.deepcopy(function).logs_backend is function.logs_backend
