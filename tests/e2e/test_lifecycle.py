"""The module's whole life, on an instance of its own: apply, sending off and on, no drift, secrets that go bad, destroy."""

import json
import time

import pytest
from stack.chaos import Ageing
from stack.checks import Message, inbox_empty, outcome, received, sent
from stack.counts import check, counted
from stack.metrics import figures
from stack.pipeline import Pipeline

PREFIX = "lifecycle"
MAILBOXES = [f"X26T{number}" for number in range(191, 198)]
OTHER = "X26T199"


@pytest.fixture(scope="module")
def instance(stack):
    """Another instance of the module in the same account, with all its defaults but one: it may not send yet."""
    pipeline = stack.deploy(PREFIX, MAILBOXES, send_messages_enabled=False)
    pipeline.capture_events()
    return pipeline


def test_objects_wait_while_sending_is_off_and_go_out_once_when_it_is_on(stack, instance):
    sender, small = MAILBOXES[0], b"waits for the switch"
    messages = {
        f"outbound/{sender}/{name}": Message(sender, OTHER, body, content_type="text/plain", headers={"mex-localid": name})
        for name, body in (("one.txt", small), ("two.txt", small), ("three.txt", b"x" * 100_000))
    }
    versions = {
        key: instance.put(key, message.body, message.metadata, ContentType=message.content_type)
        for key, message in messages.items()
    }
    for key, version in versions.items():
        row = instance.wait_sent(key, version, "claimed")
        assert row["due"] == "switch"
        assert instance.wait(row["execution"])["status"] == "SUCCEEDED"
    # The sweep may send no more than the event.
    assert instance.track()["status"] == "SUCCEEDED"
    assert [len(instance.executions("send-message", json.dumps(key))) for key in messages] == [1, 1, 1]
    assert stack.requests(f"/messageexchange/{sender}/outbox.*") == []
    with stack.party(OTHER) as party:
        assert party.list_messages() == []
    stack.deploy(PREFIX, MAILBOXES, send_messages_enabled=True)
    for _ in range(2):
        assert instance.track()["status"] == "SUCCEEDED"
        for key, version in versions.items():
            instance.wait_sent(key, version)
    for key, message in messages.items():
        assert sent(instance, key, versions[key], message) == []
    assert len(stack.requests(f"/messageexchange/{sender}/outbox.*")) == 3
    with stack.party(OTHER) as party:
        arrived = party.list_messages()
        assert sorted(arrived) == sorted(instance.row_of(key, version)["message_id"] for key, version in versions.items())
        for message_id in arrived:
            party.acknowledge_message(message_id)


def switch(instance, on):
    """As Terraform writes it."""
    item = {"id": {"S": "switch#send-messages"}, "enabled": {"BOOL": on}}
    instance.stack.client("dynamodb").put_item(TableName=f"{instance.name}-messages", Item=item)


def test_an_execution_that_waits_sends_nothing_once_sending_is_off(stack, instance):
    sender = MAILBOXES[1]
    posts, message = f"/messageexchange/{sender}/outbox", Message(sender, OTHER, b"in the middle")
    refusal = '{"detail": [{"event": "SEND", "code": "slow", "msg": "slow down"}]}'
    stack.script("POST", posts, status=429, headers={"Retry-After": "250"}, body=refusal)
    key = f"outbound/{sender}/waits.txt"
    version = instance.put(key, message.body, message.metadata)
    row = instance.wait_error(key, version, wait=False)
    # It waits for MESH now, and goes on with the function version that it began with.
    switch(instance, on=False)
    try:
        assert instance.wait(row["execution"])["output"]["outcome"] == "waiting"
        assert instance.track()["status"] == "SUCCEEDED"
        row = instance.row(row["id"])
        assert (row["status"], row["due"]) == ("claimed", "switch")
        assert len(stack.requests(posts)) == 1
    finally:
        switch(instance, on=True)
    assert instance.track()["status"] == "SUCCEEDED"
    row = instance.wait_sent(key, version)
    with stack.party(OTHER) as party:
        assert party.list_messages() == [row["message_id"]]
        party.acknowledge_message(row["message_id"])


def test_without_the_switch_nothing_is_sent_and_the_error_says_what_to_do(stack, instance):
    sender = MAILBOXES[2]
    table, id = f"{instance.name}-messages", {"id": {"S": "switch#send-messages"}}
    stack.client("dynamodb").delete_item(TableName=table, Key=id)
    key = f"outbound/{sender}/waits.txt"
    message = Message(sender, OTHER, b"in the middle")
    version = instance.put(key, message.body, message.metadata)
    row = instance.wait_error(key, version)
    assert row["status"] == "claimed"
    assert "apply the Terraform module" in row["error"]
    stack.terraform(PREFIX).apply()
    # As an operator does it who does not want to wait.
    stack.client("stepfunctions").start_execution(
        stateMachineArn=instance.machine("send-message"), input=json.dumps({"row": row["id"]})
    )
    row = instance.wait_sent(key, version)
    with stack.party(OTHER) as party:
        party.acknowledge_message(row["message_id"])


def test_what_tracking_takes(stack, instance):
    ageing, cell = Ageing(instance), f"{instance.name}-track"
    stack.cell(cell, f"{instance.name}-track-messages:")

    def run():
        since = round(time.time(), 3)
        execution = instance.track()
        assert outcome(execution) == "SUCCEEDED"
        return counted(instance, cell, [execution["executionArn"]], since)

    def all_come_due():
        for row in instance.rows():
            if row.get("due") == "track":
                ageing.row(row["id"])

    # As the tests before this one leave it, and what they have sent was collected.
    switch(instance, on=True)
    all_come_due()
    run()
    check(run(), "a tracking run that finds nothing to do")
    sender = MAILBOXES[3]
    key = f"outbound/{sender}/collected.txt"
    version = instance.put(key, b"collected", Message(sender, OTHER, b"collected").metadata)
    row = instance.wait_sent(key, version)
    with stack.party(OTHER) as party:
        party.acknowledge_message(row["message_id"])
    all_come_due()
    found = run()
    assert instance.row(row["id"])["status"] == "delivered"
    check(found, "a tracking run that finds one message collected")


def test_a_plan_after_apply_changes_nothing(stack, instance):
    assert stack.terraform(PREFIX).changes() == []


def test_no_rule_has_more_than_five_targets(stack, instance):
    events = stack.client("events")
    rules = events.list_rules(NamePrefix=f"{instance.name}-get-messages")["Rules"]
    targets = {rule["Name"]: len(events.list_targets_by_rule(Rule=rule["Name"])["Targets"]) for rule in rules}
    assert targets == {
        f"{instance.name}-get-messages": 5,
        f"{instance.name}-get-messages-2": 2,
        f"{instance.name}-get-messages-handshake": 5,
        f"{instance.name}-get-messages-handshake-2": 2,
    }
    for mailbox in MAILBOXES:
        assert instance.schedule(mailbox)["Arn"] == instance.machine("get-messages")


def test_each_of_seven_mailboxes_is_polled(stack, instance):
    messages = {mailbox: Message(OTHER, mailbox, f"to {mailbox}".encode()) for mailbox in MAILBOXES}
    sent_ids = {mailbox: message.send(stack) for mailbox, message in messages.items()}
    started = {mailbox: instance.start(mailbox) for mailbox in MAILBOXES}
    for mailbox, execution in started.items():
        assert instance.wait(execution)["status"] == "SUCCEEDED"
        assert received(instance, sent_ids[mailbox], messages[mailbox]) == []
    assert inbox_empty(instance, *MAILBOXES) == []


def swap(instance, name, value):
    instance.put_secret(name, value)
    # A warm function would use what it has read for up to five minutes.
    instance.stack.drop_workers()


@pytest.mark.parametrize(
    ("name", "bad", "error", "parts"),
    [
        ("MESH_SHARED_KEY", "wrong", "NotAuthorised", ["MESH_SHARED_KEY"]),
        ("MESH_CLIENT_CERT", "expired.pem", "InvalidConfiguration", ["MESH_CLIENT_CERT", "expired"]),
        ("MESH_CLIENT_KEY", "not a key", "InvalidConfiguration", ["MESH_CLIENT_KEY"]),
        ("MESH_CA_CERT", "not a certificate", "InvalidConfiguration", ["MESH_CA_CERT"]),
    ],
    ids=["wrong shared key", "expired certificate", "bad key", "bad CA certificate"],
)
def test_a_bad_secret_fails_both_ways_until_it_is_mended(stack, instance, name, bad, error, parts):
    mailbox = MAILBOXES[0]
    incoming = Message(OTHER, mailbox, b"waits in MESH")
    message_id = incoming.send(stack)
    outgoing = Message(mailbox, OTHER, b"waits in S3")
    files = {"MESH_CLIENT_CERT": "client.pem", "MESH_CLIENT_KEY": "client.key", "MESH_CA_CERT": "ca.pem"}
    good = stack.file(files[name]) if name in files else stack.shared_key
    if bad.endswith(".pem"):
        instance.put_secret("MESH_CLIENT_KEY", stack.file(bad.replace(".pem", ".key")))
        bad = stack.file(bad)
    swap(instance, name, bad)
    try:
        poll = instance.poll(mailbox)[-1]
        key = f"outbound/{message_id}.txt"
        version = instance.put(key, outgoing.body, outgoing.metadata)
        row = instance.wait_error(key, version)
        send = instance.wait(row["execution"])
    finally:
        instance.put_secret("MESH_CLIENT_KEY", stack.file("client.key"))
        swap(instance, name, good)
    for execution in (poll, send):
        assert execution["status"] == "FAILED"
        assert execution["error"] == error
        for part in (*parts, f"/{instance.name}/mesh/"):
            assert part in execution["cause"], execution["cause"]
    assert row["error"].startswith(send["error"])
    assert "message_id" not in row
    assert [line for line in instance.function_logs("poll-mailbox", poll["error"]) if all(part in line for part in parts)]
    assert [line for line in instance.function_logs("send-message-chunk", send["executionArn"]) if send["error"] in line]
    # Nothing is lost: the message waits in MESH, and is fetched now.
    assert instance.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    assert received(instance, message_id, incoming) == []
    assert instance.get(key)["Body"] == outgoing.body


def test_a_certificate_that_expires_soon_is_told_of(stack, instance):
    def told(function):
        found = [json.loads(line) for line in instance.function_logs(function, "MESHMBOX0008")]
        assert all(figures(instance, line, function) == {"certificate-expires": 1.0} for line in found)
        return [line["days_left"] for line in found]

    def send(name):
        message = Message(MAILBOXES[2], OTHER, b"sent before the certificate expires")
        return instance.wait_sent(name, instance.put(name, message.body, message.metadata))

    assert instance.poll(MAILBOXES[2])[-1]["status"] == "SUCCEEDED"
    send("outbound/valid for long.txt")
    assert told("poll-mailbox") + told("send-message-chunk") == []
    instance.put_secret("MESH_CLIENT_KEY", stack.file("expiring.key"))
    swap(instance, "MESH_CLIENT_CERT", stack.file("expiring.pem"))
    try:
        assert instance.poll(MAILBOXES[2])[-1]["status"] == "SUCCEEDED"
        # A mailbox that only sends has no polls.
        send("outbound/valid for days.txt")
    finally:
        instance.put_secret("MESH_CLIENT_KEY", stack.file("client.key"))
        swap(instance, "MESH_CLIENT_CERT", stack.file("client.pem"))
    assert told("poll-mailbox") == [19]
    assert told("send-message-chunk") == [19]


def test_a_certificate_of_another_ca_fails_the_poll(stack, instance):
    instance.put_secret("MESH_CLIENT_KEY", stack.file("stranger.key"))
    swap(instance, "MESH_CLIENT_CERT", stack.file("stranger.pem"))
    try:
        poll = instance.poll(MAILBOXES[1])[-1]
    finally:
        instance.put_secret("MESH_CLIENT_KEY", stack.file("client.key"))
        swap(instance, "MESH_CLIENT_CERT", stack.file("client.pem"))
    # The sandbox breaks the connection without a TLS alert: a fault of the line looks the same.
    assert (poll["status"], poll["error"]) == ("FAILED", "MeshUnavailable")
    assert "client certificate belongs to this environment" in poll["cause"]


def test_destroy_leaves_nothing(stack, instance):
    """Also of the objects, versions and rows that the tests above have made."""
    assert instance.keys("inbound/")
    terraform = stack.terraform(PREFIX)
    assert len(terraform.resources()) > 40
    # Otherwise the listing would prove nothing.
    assert all(left_over(instance).values()), left_over(instance)
    terraform.destroy()
    assert terraform.resources() == []
    assert {kind: names for kind, names in left_over(instance).items() if names} == {}


def left_over(pipeline: Pipeline):
    """Resources of the instance by kind, as AWS lists them; the tests' own queue and rule excepted."""
    client, name = pipeline.stack.client, pipeline.name

    def pages(service, operation, key, **arguments):
        return [item for page in client(service).get_paginator(operation).paginate(**arguments) for item in page[key]]

    listed = {
        "buckets": [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]],
        "tables": pages("dynamodb", "list_tables", "TableNames"),
        "functions": [one["FunctionName"] for one in pages("lambda", "list_functions", "Functions")],
        "machines": [one["name"] for one in pages("stepfunctions", "list_state_machines", "stateMachines")],
        "rules": [one["Name"] for one in pages("events", "list_rules", "Rules")],
        "roles": [one["RoleName"] for one in pages("iam", "list_roles", "Roles")],
        "log groups": [one["logGroupName"] for one in pages("logs", "describe_log_groups", "logGroups")],
        "queues": client("sqs").list_queues().get("QueueUrls", []),
        "aliases": [one["AliasName"] for one in pages("kms", "list_aliases", "Aliases")],
    }
    tests_own = f"{name}-seen"
    return {kind: [one for one in found if name in one and tests_own not in one] for kind, found in listed.items()}
