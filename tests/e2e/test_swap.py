"""The module in the place of the NHS's: its README's block, its sender and its rule for received messages, unchanged."""

import json
import uuid
from urllib.parse import quote_plus

import pytest
from stack.checks import Message, inbox_empty, outcome, received, sent
from stack.pipeline import ACCOUNT, until

# The README's example.
SENDER, RECEIVER = "X26ABC123", "X26ABC456"


@pytest.fixture(scope="module")
def new_messages(readme):
    """A consumer's rule as the README has it, with a queue in the place of its function."""
    queue, events = "new-mesh-message", readme.stack.client("events")
    url = readme.stack.client("sqs").create_queue(QueueName=queue)["QueueUrl"]
    pattern = {
        "source": ["aws.s3"],
        "detail": {
            "eventSource": ["s3.amazonaws.com"],
            "eventName": ["PutObject", "CompleteMultipartUpload"],
            "requestParameters": {"bucketName": [readme.bucket], "key": [{"prefix": "inbound/"}]},
        },
    }
    events.put_rule(Name=queue, Description="new mesh message received", EventPattern=json.dumps(pattern))
    events.put_targets(Rule=queue, Targets=[{"Id": "NewMessage", "Arn": f"arn:aws:sqs:eu-west-2:{ACCOUNT}:{queue}"}])
    return url


def about(readme, detail_type, key):
    """The events of S3 or of CloudTrail about an object."""
    return [event for event in readme.events(json.dumps(key)) if event["detail-type"] == detail_type]


def test_the_readmes_sender_sends_one_message_for_both_event_shapes(readme, other):
    my_id = uuid.uuid4().hex
    key = f"outbound/{SENDER}/{my_id}.json"
    metadata = {
        "mex-From": SENDER,
        "mex-To": other,
        "mex-WorkflowId": "PATHOLOGY_RESULT",
        "mex-Subject": "my super subject $£% etc",
        "mex-LocalId": my_id,
    }
    escaped = {name: quote_plus(value) for name, value in metadata.items()}
    body = '{"result": "£5"}'.encode()
    version = readme.stack.client("s3").put_object(
        Bucket=readme.bucket, Key=key, Body=body, ContentType="application/json", Metadata=escaped
    )["VersionId"]
    row = readme.wait_sent(key, version)
    until(lambda: about(readme, "AWS API Call via CloudTrail", key) or None, "CloudTrail's event", lambda: readme.events(key))
    assert len(about(readme, "Object Created", key)) == 1
    # Each shape starts an execution: the second finds the row.
    def started():
        found = readme.executions("send-message", json.dumps(key))
        return found if len(found) == 2 else None

    executions = until(started, "two executions", lambda: readme.executions("send-message", json.dumps(key)))
    kinds = [json.loads(execution["input"])["detail-type"] for execution in executions]
    assert kinds == ["Object Created", "AWS API Call via CloudTrail"]
    assert [outcome(readme.wait(execution["executionArn"])) for execution in executions] == ["SUCCEEDED"] * 2
    assert readme.row_of(key, version)["message_id"] == row["message_id"]
    headers = {name.lower(): value for name, value in metadata.items() if name not in ("mex-From", "mex-To", "mex-WorkflowId")}
    message = Message(SENDER, other, body, "PATHOLOGY_RESULT", "application/json", headers=headers)
    assert sent(readme, key, version, message) == []
    with readme.stack.party(other) as party:
        assert party.list_messages() == [row["message_id"]]


def test_cloudtrails_event_alone_sends_too(readme, other):
    """As where a consumer's own notifications took EventBridge away from the bucket."""
    key = f"outbound/{SENDER}/{uuid.uuid4().hex}"
    message = Message(SENDER, other, b"by CloudTrail", content_type="text/plain")
    s3 = readme.stack.client("s3")
    kept = s3.get_bucket_notification_configuration(Bucket=readme.bucket)
    kept.pop("ResponseMetadata")
    s3.put_bucket_notification_configuration(Bucket=readme.bucket, NotificationConfiguration={})
    try:
        version = readme.put(key, message.body, message.metadata, ContentType="text/plain")
    finally:
        s3.put_bucket_notification_configuration(Bucket=readme.bucket, NotificationConfiguration=kept)
    readme.wait_sent(key, version)
    (execution,) = readme.executions("send-message", json.dumps(key))
    assert json.loads(execution["input"])["detail-type"] == "AWS API Call via CloudTrail"
    assert sent(readme, key, version, message) == []


def test_the_readmes_rule_hears_of_received_messages(readme, new_messages, other):
    message = Message(other, RECEIVER, b'{"result": 1}', "PATHOLOGY_RESULT", "application/json", headers={"mex-subject": "£5"})
    message_id = message.send(readme.stack)
    assert [outcome(execution) for execution in readme.poll(RECEIVER)] == ["SUCCEEDED"]
    assert received(readme, message_id, message) == []
    key = f"inbound/{RECEIVER}/{message_id}.dat"
    sqs = readme.stack.client("sqs")

    def heard():
        for found in sqs.receive_message(QueueUrl=new_messages, MaxNumberOfMessages=10).get("Messages", []):
            detail = json.loads(found["Body"])["detail"]
            sqs.delete_message(QueueUrl=new_messages, ReceiptHandle=found["ReceiptHandle"])
            if detail["requestParameters"]["key"] == key:
                return detail
        return None

    detail = until(heard, f"the consumer's event of {key}", lambda: about(readme, "AWS API Call via CloudTrail", key))
    assert detail["requestParameters"]["bucketName"] == readme.bucket
    assert inbox_empty(readme, RECEIVER) == []


def test_every_mailbox_of_the_block_is_polled_and_shakes_hands(readme):
    for mailbox in (SENDER, RECEIVER):
        assert readme.poll(mailbox)[-1]["status"] == "SUCCEEDED"
        assert readme.poll(mailbox, "get-messages-handshake")[-1]["output"]["statusCode"] == 204
