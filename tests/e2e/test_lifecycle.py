"""The module's whole life, on a second instance: apply, no drift, secrets that go bad, destroy."""

import pytest
from stack.checks import Message, received
from stack.pipeline import Pipeline

PREFIX = "second"
MAILBOXES = [f"X26T{number}" for number in range(191, 198)]
OTHER = "X26T199"


@pytest.fixture(scope="module")
def second(stack):
    """Another instance of the module in the same account, with all its defaults."""
    pipeline = stack.deploy(PREFIX, MAILBOXES)
    pipeline.capture_events()
    return pipeline


def test_a_plan_after_apply_changes_nothing(stack, second):
    assert stack.terraform(PREFIX).changes() == []


def test_no_rule_has_more_than_five_targets(stack, second):
    events = stack.client("events")
    rules = events.list_rules(NamePrefix=f"{second.name}-get-messages")["Rules"]
    targets = {rule["Name"]: len(events.list_targets_by_rule(Rule=rule["Name"])["Targets"]) for rule in rules}
    assert targets == {
        f"{second.name}-get-messages": 5,
        f"{second.name}-get-messages-2": 2,
        f"{second.name}-get-messages-handshake": 5,
        f"{second.name}-get-messages-handshake-2": 2,
    }
    for mailbox in MAILBOXES:
        assert second.schedule(mailbox)["Arn"] == second.machine("get-messages")


def swap(second, name, value):
    second.put_secret(name, value)
    # A warm function would use what it has read for up to five minutes.
    second.stack.drop_workers()


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
def test_a_bad_secret_fails_both_ways_until_it_is_mended(stack, second, name, bad, error, parts):
    mailbox = MAILBOXES[0]
    incoming = Message(OTHER, mailbox, b"waits in MESH")
    message_id = incoming.send(stack)
    outgoing = Message(mailbox, OTHER, b"waits in S3")
    files = {"MESH_CLIENT_CERT": "client.pem", "MESH_CLIENT_KEY": "client.key", "MESH_CA_CERT": "ca.pem"}
    good = stack.file(files[name]) if name in files else stack.shared_key
    if bad.endswith(".pem"):
        second.put_secret("MESH_CLIENT_KEY", stack.file(bad.replace(".pem", ".key")))
        bad = stack.file(bad)
    swap(second, name, bad)
    try:
        poll = second.poll(mailbox)[-1]
        key = f"outbound/{message_id}.txt"
        version = second.put(key, outgoing.body, outgoing.metadata)
        row = second.wait_error(key, version)
        send = second.wait(row["execution"])
    finally:
        second.put_secret("MESH_CLIENT_KEY", stack.file("client.key"))
        swap(second, name, good)
    for execution in (poll, send):
        assert execution["status"] == "FAILED"
        assert execution["error"] == error
        for part in (*parts, f"/{second.name}/mesh/"):
            assert part in execution["cause"], execution["cause"]
    assert row["error"].startswith(send["error"])
    assert "message_id" not in row
    assert [line for line in second.function_logs("poll-mailbox", poll["error"]) if all(part in line for part in parts)]
    assert [line for line in second.function_logs("send-message-chunk", send["executionArn"]) if send["error"] in line]
    # Nothing is lost: the message waits in MESH, and is fetched now.
    assert second.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    assert received(second, message_id, incoming) == []
    assert second.get(key)["Body"] == outgoing.body


def test_a_certificate_of_another_ca_fails_the_poll(stack, second):
    second.put_secret("MESH_CLIENT_KEY", stack.file("stranger.key"))
    swap(second, "MESH_CLIENT_CERT", stack.file("stranger.pem"))
    try:
        poll = second.poll(MAILBOXES[1])[-1]
    finally:
        second.put_secret("MESH_CLIENT_KEY", stack.file("client.key"))
        swap(second, "MESH_CLIENT_CERT", stack.file("client.pem"))
    # The sandbox breaks the connection without a TLS alert: a fault of the line looks the same.
    assert (poll["status"], poll["error"]) == ("FAILED", "MeshUnavailable")
    assert "client certificate belongs to this environment" in poll["cause"]


def test_destroy_leaves_nothing(stack, second):
    """Also of the objects, versions and rows that the tests above have made."""
    assert second.keys("inbound/")
    terraform = stack.terraform(PREFIX)
    assert len(terraform.resources()) > 40
    # Otherwise the listing would prove nothing.
    assert all(left_over(second).values()), left_over(second)
    terraform.destroy()
    assert terraform.resources() == []
    assert {kind: names for kind, names in left_over(second).items() if names} == {}


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
