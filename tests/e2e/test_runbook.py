"""The commands of docs/runbook.md do what it says, run as they stand there by bash and the AWS CLI."""

import datetime
import functools
import json
import re
import uuid

import pytest
from conftest import README
from stack import commands
from stack.checks import Message, received, sent
from stack.pipeline import outbound_row
from stack.servers import TESTS

RUNBOOK = TESTS.parent / "docs/runbook.md"
# What has been run, by section and number.
RAN = set()
# On an instance of its own: test_moving_in.py::test_sending_is_switched_off_and_on.
ELSEWHERE = {("Switching sending off and on", number) for number in range(3)}


BLOCKS = commands.blocks(RUNBOOK)
BEGIN = ("", 0)


def run_at(pipeline, section, number=0, **known):
    """Runs a section's commands after those that the runbook begins with."""
    named = BLOCKS[BEGIN].replace("NAME=live-pathology-mesh ", f"NAME={pipeline.name} ")
    assert named != BLOCKS[BEGIN]
    said = commands.run(pipeline.stack, named + BLOCKS[section, number], **known)
    RAN.update({BEGIN, (section, number)})
    return said


@pytest.fixture
def run(pipeline):
    return functools.partial(run_at, pipeline)


def put_unsent(pipeline, sender, other):
    """An object below `outbound` whose event came to nobody: a copy. The message, its key and its version."""
    message = Message(sender, other, b"nobody sends it", content_type="text/plain")
    s3, key = pipeline.stack.client("s3"), f"outbound/{sender}/unsent \u00e9.txt"
    pipeline.put("staged", message.body, message.metadata, ContentType=message.content_type)
    version = s3.copy_object(Bucket=pipeline.bucket, Key=key, CopySource=f"{pipeline.bucket}/staged")["VersionId"]
    return message, key, version


@pytest.fixture
def unsent(pipeline, sender, other):
    return put_unsent(pipeline, sender, other)


def put(pipeline, sender, other, name="object.txt", **changes):
    """Puts an object; the message, its key and its version."""
    message = Message(sender, other, b"for the runbook", content_type="text/plain")
    key = f"outbound/{sender}/{name}"
    return message, key, pipeline.put(key, message.body, message.metadata | changes, ContentType=message.content_type)


def event(bucket, key, version):
    detail = {"reason": "PutObject", "bucket": {"name": bucket}, "object": {"key": key, "version-id": version}}
    return {"source": "aws.s3", "detail-type": "Object Created", "time": "2026-01-15T12:00:00Z", "detail": detail}


def change(pipeline, row, **values):
    """Sets attributes of a row; None removes one."""
    gone = [name for name, value in values.items() if value is None]
    there = {name: value for name, value in values.items() if value is not None}
    expression = "SET " + ", ".join(f"#{name} = :{name}" for name in there) + ("".join([" REMOVE ", ", ".join(f"#{one}" for one in gone)]) if gone else "")
    pipeline.stack.client("dynamodb").update_item(
        TableName=f"{pipeline.name}-messages",
        Key={"id": {"S": row}},
        UpdateExpression=expression,
        ExpressionAttributeNames={f"#{name}": name for name in values},
        ExpressionAttributeValues={f":{name}": {"N" if isinstance(value, int) else "S": str(value)} for name, value in there.items()},
    )


def arrived(pipeline, other):
    """The bodies of what a recipient has."""
    with pipeline.stack.party(other) as party:
        return [party.retrieve_message(one).read() for one in party.list_messages()]


def test_an_event_of_the_dead_letter_queue_is_sent(readme, other):
    """From an instance whose queue no other test puts anything into."""
    message, key, version = put_unsent(readme, README[0], other)
    sqs = readme.stack.client("sqs")
    queue = sqs.get_queue_url(QueueName=f"{readme.name}-send-messages-dead-letter")["QueueUrl"]
    why = {name: {"DataType": "String", "StringValue": value} for name, value in (("ERROR_CODE", "SDK_CLIENT_ERROR"), ("ERROR_MESSAGE", "too many"))}
    # Over several lines, as the rule's template has it.
    body = json.dumps(event(readme.bucket, key, version), indent=1)
    sqs.send_message(QueueUrl=queue, MessageBody=body, MessageAttributes=why)
    assert run_at(readme, "dead-letter", 0).split("\t") == ["SDK_CLIENT_ERROR", "too many", body]
    assert readme.wait(run_at(readme, "dead-letter", 1).splitlines()[0])["status"] == "SUCCEEDED"
    readme.wait_sent(key, version)
    assert sent(readme, key, version, message) == []
    count = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert (count["ApproximateNumberOfMessages"], count["ApproximateNumberOfMessagesNotVisible"]) == ("0", "0")


def test_an_object_whose_event_was_lost_is_found_and_sent(pipeline, run, sender, other, unsent):
    message, key, version = unsent
    _, known, known_version = put(pipeline, sender, other)
    pipeline.wait_sent(known, known_version)
    put_at = pipeline.stack.client("s3").head_object(Bucket=pipeline.bucket, Key=key)["LastModified"]

    def lost(since):
        return {line.split(" ", 2)[0]: line.split(" ", 2)[1:] for line in run("event-lost", 0, SINCE=f"{since:%Y-%m-%dT%H:%M:%S}").splitlines()}

    with pytest.raises(AssertionError, match="SINCE"):
        run("event-lost", 0, SINCE="")
    assert version not in lost(put_at + datetime.timedelta(seconds=2))
    found = lost(put_at)
    assert known_version not in found
    (time, found_key) = found[version]
    assert found_key == key
    # Twice is once.
    for _ in range(2):
        assert pipeline.wait(run("event-lost", 1, KEY=key, VERSION=version, TIME=time))["status"] == "SUCCEEDED"
    pipeline.wait_sent(key, version)
    assert arrived(pipeline, other).count(message.body) == 1


def test_an_execution_that_somebody_stopped_is_found_and_started_again(pipeline, run, other, unsent):
    message, key, version = unsent
    client, given = pipeline.stack.client("stepfunctions"), json.dumps(event(pipeline.bucket, key, version))
    stopped = client.start_execution(stateMachineArn=pipeline.machine("send-message"), input=given)["executionArn"]
    # Before its first task has ended.
    client.stop_execution(executionArn=stopped)
    assert stopped in run("send-message-aborted", 0)
    assert pipeline.wait(run("send-message-aborted", 1, EXECUTION=stopped))["status"] == "SUCCEEDED"
    pipeline.wait_sent(key, version)
    assert arrived(pipeline, other) == [message.body]


def test_a_failed_poll_is_found_and_repeated(pipeline, run, mailbox, other):
    waiting = Message(other, mailbox, b"waits in MESH")
    message_id = waiting.send(pipeline.stack)
    password = f"mailboxes/{mailbox}/MAILBOX_PASSWORD"
    pipeline.put_secret(password, "wrong")
    pipeline.stack.drop_workers()
    try:
        failed = pipeline.poll(mailbox)[-1]
    finally:
        pipeline.put_secrets([mailbox])
        pipeline.stack.drop_workers()
    assert failed["executionArn"] in run("get-messages-failed", 0)
    told = run("get-messages-failed", 1, EXECUTION=failed["executionArn"])
    assert mailbox in told
    assert "NotAuthorised" in told
    assert pipeline.wait(run("get-messages-failed", 2, MAILBOX=mailbox))["status"] == "SUCCEEDED"
    assert received(pipeline, message_id, waiting) == []
    again = run("Starting a failed execution again", MACHINE="get-messages", EXECUTION=failed["executionArn"])
    assert pipeline.wait(again)["status"] == "SUCCEEDED"


def test_a_send_that_failed_for_want_of_a_secret_is_started_again(pipeline, run, sender, other):
    password = f"mailboxes/{sender}/MAILBOX_PASSWORD"
    pipeline.put_secret(password, "wrong")
    pipeline.stack.drop_workers()
    try:
        message, key, version = put(pipeline, sender, other)
        failed = pipeline.wait(pipeline.wait_error(key, version)["execution"])
    finally:
        pipeline.put_secrets([sender])
        pipeline.stack.drop_workers()
    assert failed["executionArn"] in run("send-message-failed", 0)
    assert "NotAuthorised" in run("send-message-failed", 1, EXECUTION=failed["executionArn"])
    assert pipeline.wait(run("send-message-failed", 2, KEY=key, VERSION=version))["status"] == "SUCCEEDED"
    assert sent(pipeline, key, version, message) == []


def test_lines_of_failures_are_found(pipeline, run, sender, other):
    _, key, version = put(pipeline, sender, other, "refused.txt", **{"mex-to": "X26NOBODY"})
    row = pipeline.wait_sent(key, version, "failed")
    pipeline.wait(row["execution"])
    lines = [json.loads(line) for line in re.split(r"[\t\n]", run("function-errors")) if line]
    assert [line for line in lines if line["execution"] == row["execution"]]
    assert {line["logReference"] for line in lines} == {"LAMBDA9999"}
    run("track-messages-failed")


def test_the_follow_up_is_looked_at_and_switched_on(pipeline, run):
    events, rule = pipeline.stack.client("events"), f"{pipeline.name}-track-messages"
    events.disable_rule(Name=rule)
    told = run("track-not-running", 0)
    assert told.splitlines()[0].split("\t") == ["DISABLED", "rate(5 minutes)"]
    started = run("track-not-running", 1)
    assert events.describe_rule(Name=rule)["State"] == "ENABLED"
    assert pipeline.wait(started)["status"] == "SUCCEEDED"


def test_what_a_schedule_starts_is_shown(pipeline, run):
    rule = f"{pipeline.name}-track-messages"
    assert run("schedule-failed", RULE=rule).split("\t")[0] == pipeline.machine("track-messages")
    assert [rule, "ENABLED"] not in [line.split("\t")[:2] for line in run("polls-stopped").splitlines()]
    assert [f"{pipeline.name}-get-messages", "ENABLED", "rate(1 minute)"] in [line.split("\t") for line in run("polls-stopped").splitlines()]


@pytest.mark.parametrize("outcome", ["delivered", "failed"])
def test_a_held_row_is_found_closed_and_its_object_sent_again(pipeline, run, sender, other, outcome):
    message, key, version = put(pipeline, sender, other)
    row = pipeline.wait_sent(key, version)["id"]
    # As after an answer that was lost and that MESH could not tell of.
    change(pipeline, row, status="held", due="held", error="UncertainSend: it can't be known", expires_at=None)
    assert row in run("held", 0).split()
    assert json.loads(run("held", 1, ROW=row))["status"] == {"S": "held"}
    held = pipeline.row(row)
    assert run("held", 2, ROW=row, OUTCOME=f"{outcome}.", OPERATOR="A. Nurse") == "OUTCOME must be delivered or failed"
    with pytest.raises(AssertionError, match="OPERATOR"):
        run("held", 2, ROW=row, OUTCOME=outcome, OPERATOR="")
    assert pipeline.row(row) == held
    run("held", 2, ROW=row, OUTCOME=outcome, OPERATOR="A. Nurse")
    closed = pipeline.row(row)
    assert (closed["status"], closed["error"]) == (outcome, "Closed by A. Nurse after asking the recipient")
    assert "due" not in closed
    assert closed["expires_at"]
    assert row not in run("held", 0).split()
    again = run("Sending again on purpose", KEY=key, VERSION=version)
    pipeline.wait_sent(key, again)
    assert sent(pipeline, key, again, message) == []
    assert arrived(pipeline, other) == [message.body] * 2


def test_a_row_that_is_not_held_is_not_closed(pipeline, run, sender, other):
    _, key, version = put(pipeline, sender, other)
    row = pipeline.wait_sent(key, version)
    with pytest.raises(AssertionError, match="ConditionalCheckFailed"):
        run("held", 2, ROW=row["id"], OUTCOME="failed", OPERATOR="A. Nurse")
    assert pipeline.row(row["id"]) == row


def test_an_overdue_send_is_found_and_started(pipeline, run, sender, other, unsent):
    message, key, version = unsent
    row = outbound_row(pipeline.bucket, key, version)
    arn = pipeline.stack.client("stepfunctions").start_execution(
        stateMachineArn=pipeline.machine("send-message"), input=json.dumps(event(pipeline.bucket, key, version))
    )["executionArn"]
    pipeline.wait(arn)
    first = pipeline.row(row)
    # As an execution leaves it that came to its end too early.
    change(
        pipeline, row, status="claimed", due="send", next_attempt_at="2026-01-01T00:00:00.000Z", next_chunk=1, message_id=None, sent_at=None, expires_at=None
    )
    assert row in run("overdue", 0)
    assert pipeline.wait(run("overdue", 1, ROW=row))["status"] == "SUCCEEDED"
    again = pipeline.row(row)
    assert again["status"] == "sent"
    assert again["message_id"] != first["message_id"]


def test_a_message_that_comes_to_no_end_is_found(pipeline, run):
    item = {"id": "in#begun_long_ago", "status": "receiving", "due": "receive", "next_attempt_at": "2026-01-15T12:00:00.000Z"}
    dynamodb, table = pipeline.stack.client("dynamodb"), f"{pipeline.name}-messages"
    dynamodb.put_item(TableName=table, Item={name: {"S": value} for name, value in item.items()})
    try:
        assert "in#begun_long_ago\t2026-01-15T12:00:00.000Z" in run("overdue", 2).splitlines()
    finally:
        dynamodb.delete_item(TableName=table, Key={"id": {"S": "in#begun_long_ago"}})


def test_a_poison_message_is_found_and_tried_again(pipeline, run, mailbox, other):
    message = Message(other, mailbox, b"not poison after all")
    message_id = message.send(pipeline.stack)
    row = f"in#{message_id}"
    table = f"{pipeline.name}-messages"
    # As after attempts that killed their workers.
    item = {"id": row, "direction": "in", "mailbox": mailbox, "message_id": message_id, "status": "receiving", "due": "poison", "error": "InvalidMessage: x"}
    times = {"timestamp": "2026-01-15T12:00:00.000Z", "updated_at": "2036-01-15T12:00:00.000Z", "next_attempt_at": "2036-01-15T12:00:00.000Z"}
    item = {name: {"S": value} for name, value in (item | times).items()} | {"attempts": {"N": "9"}}
    dynamodb = pipeline.stack.client("dynamodb")
    dynamodb.put_item(TableName=table, Item=item)
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    assert pipeline.row(row)["status"] == "receiving"
    assert row in run("poison", 0).split()
    assert run("poison", 1, MAILBOX=mailbox).split("\t") == [row, "9", "2026-01-15T12:00:00.000Z", "InvalidMessage: x"]
    assert pipeline.wait(run("poison", 2, MAILBOX=mailbox, ROW=row).splitlines()[-1])["status"] == "SUCCEEDED"
    assert received(pipeline, message_id, message) == []
    assert row not in run("poison", 0).split()


def test_a_message_that_is_gone_or_left_out_is_found(pipeline, run, mailbox, other):
    dynamodb, table = pipeline.stack.client("dynamodb"), f"{pipeline.name}-messages"
    begun, text = "2026-01-15T12:00:00.000Z", "MessageGone: MESH no longer has the message"
    item = {"id": f"in#GONE{mailbox}", "mailbox": mailbox, "message_id": f"GONE{mailbox}", "timestamp": begun, "status": "gone", "error": text}
    dynamodb.put_item(TableName=table, Item={name: {"S": value} for name, value in item.items()})
    assert run("messages-gone", 0, MAILBOX=mailbox).split("\t") == [f"GONE{mailbox}", begun, text]
    message = Message(other, mailbox, b"left out")
    message_id = message.send(pipeline.stack)
    row = {"id": {"S": f"in#{message_id}"}}
    dynamodb.put_item(TableName=table, Item=row | {"status": {"S": "unheard of"}})
    assert pipeline.poll(mailbox)[-1]["output"]["statusCode"] == 204
    lines = [json.loads(line) for line in re.split(r"[\t\n]", run("messages-gone", 1)) if line]
    assert ("MESHPOLL0004", message_id) in [(line["logReference"], line.get("message_id")) for line in lines]
    # Without the row the message is a new one.
    dynamodb.delete_item(TableName=table, Key=row)
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    assert received(pipeline, message_id, message) == []


def test_an_undelivered_message_is_found(pipeline, run, sender, other):
    _, key, version = put(pipeline, sender, other)
    row = pipeline.wait_sent(key, version)
    change(pipeline, row["id"], status="undelivered", status_code="14")
    found = run("undelivered", MAILBOX=sender)
    assert found.split("\t") == [row["id"], row["message_id"], other, "14", key]


def test_secrets_are_rotated(pipeline, run, mailbox, tmp_path):
    ssm = pipeline.stack.client("ssm")

    def stored(name):
        return ssm.get_parameter(Name=f"/{pipeline.name}/mesh/{name}", WithDecryption=True)["Parameter"]["Value"]

    password = f"mailboxes/{mailbox}/MAILBOX_PASSWORD"
    before = stored(password)
    (tmp_path / "password").write_text("another")
    run("Rotating secrets", 0, MAILBOX=mailbox, PASSWORD_FILE=str(tmp_path / "password"))
    assert stored(password) == "another"
    (tmp_path / "password").write_text(before)
    run("Rotating secrets", 0, MAILBOX=mailbox, PASSWORD_FILE=str(tmp_path / "password"))
    certs = pipeline.stack.folder / "certs"
    run("Rotating secrets", 1, KEY_FILE=str(certs / "client.key"), CERT_FILE=str(certs / "client.pem"))
    assert stored("MESH_CLIENT_KEY") == (certs / "client.key").read_text()
    pipeline.stack.drop_workers()
    shaken = pipeline.wait(run("Rotating secrets", 3, MAILBOX=mailbox))
    assert (shaken["status"], shaken["output"]["statusCode"]) == ("SUCCEEDED", 204)


def test_a_secret_of_secrets_manager_is_rotated(pipeline, run, tmp_path):
    secrets, mailbox = pipeline.stack.client("secretsmanager"), f"M{uuid.uuid4().hex[:8]}"
    name = f"/{pipeline.name}/mesh/mailboxes/{mailbox}/MAILBOX_PASSWORD"
    secrets.create_secret(Name=name, SecretString="old")
    (tmp_path / "password").write_text("new")
    run("Rotating secrets", 2, MAILBOX=mailbox, PASSWORD_FILE=str(tmp_path / "password"))
    assert secrets.get_secret_value(SecretId=name)["SecretString"] == "new"


def test_a_deleted_message_comes_back(pipeline, run, mailbox, other):
    message = Message(other, mailbox, b"deleted by mistake")
    message_id = message.send(pipeline.stack)
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    key = f"inbound/{mailbox}/{message_id}.dat"
    pipeline.stack.client("s3").delete_object(Bucket=pipeline.bucket, Key=key)
    assert pipeline.keys(key) == []
    run("Getting a deleted message back", 0, KEY=key)
    assert pipeline.get(key)["Body"] == message.body
    assert received(pipeline, message_id, message) == []


def test_a_message_that_was_deleted_for_good_is_delivered_again(pipeline, run, mailbox, other):
    message = Message(other, mailbox, b"deleted with its version")
    message_id = message.send(pipeline.stack)
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    key, s3 = f"inbound/{mailbox}/{message_id}.dat", pipeline.stack.client("s3")
    s3.delete_object(Bucket=pipeline.bucket, Key=key, VersionId=s3.head_object(Bucket=pipeline.bucket, Key=key)["VersionId"])
    run("Getting a deleted message back", 1, MESSAGE_ID=message_id)
    pipeline.stack.put_back(message_id)
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    assert pipeline.get(key)["Body"] == message.body
    assert len(pipeline.told_of(f"in#{message_id}", "MESH message received")) == 2


def test_polls_are_switched_off_and_on(pipeline, run):
    events = pipeline.stack.client("events")

    def states():
        rules = events.list_rules(NamePrefix=f"{pipeline.name}-get-messages")["Rules"]
        return {("handshake" in rule["Name"], rule["State"]) for rule in rules}

    run("Switching polls off and on", 0)
    assert states() == {(False, "DISABLED"), (True, "ENABLED")}
    run("Switching polls off and on", 1)
    assert states() == {(False, "ENABLED"), (True, "ENABLED")}


def test_each_alarm_has_its_section(pipeline):
    alarms = [
        alarm
        for page in pipeline.stack.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{pipeline.name}-")
        for alarm in page["MetricAlarms"]
    ]
    assert len(alarms) >= 30
    sections = set(re.findall(r"^## (.+)$", RUNBOOK.read_text(), re.MULTILINE))
    pointed = {alarm["AlarmDescription"].rpartition(" docs/runbook.md#")[2] for alarm in alarms}
    assert pointed <= sections
    begin = RUNBOOK.read_text().partition("# Tasks")[0]
    assert pointed == set(re.findall(r"^## (.+)$", begin, re.MULTILINE))


def test_anchors_lead_somewhere():
    text = RUNBOOK.read_text()
    headings = {re.sub(r"[^a-z0-9 -]", "", one.lower()).replace(" ", "-") for one in re.findall(r"^##? (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_all_commands_were_run():
    """Last: what no test above runs may have rotted."""
    assert set(BLOCKS) - RAN == ELSEWHERE


