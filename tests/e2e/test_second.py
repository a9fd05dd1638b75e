"""An instance beside the first, with what is off by default: Secrets Manager, file names by the sender and from the key,
legacy mappings and places."""

import gzip
import json
import random
import uuid

import pytest
from conftest import LEGACY, LEGACY_OTHER, LEGACY_WORKFLOW
from stack import mesh
from stack.checks import MIB, Message, inbox_empty, outcome, sent


def test_the_keys_and_passwords_come_from_secrets_manager(second):
    secrets = second.stack.client("secretsmanager").list_secrets(MaxResults=100)["SecretList"]
    names = {secret["Name"] for secret in secrets if secret["Name"].startswith(f"/{second.name}/")}
    assert {f"/{second.name}/mesh/{name}" for name in ("MESH_CLIENT_KEY", "MESH_SHARED_KEY")} < names
    pages = second.stack.client("ssm").get_paginator("describe_parameters").paginate()
    parameters = {p["Name"] for page in pages for p in page["Parameters"] if p["Name"].startswith(f"/{second.name}/")}
    assert {f"/{second.name}/mesh/{name}" for name in ("MESH_CA_CERT", "MESH_CLIENT_CERT")} <= parameters
    assert not [name for name in parameters if name.endswith(("_KEY", "PASSWORD"))]


def test_a_message_each_way(second, second_mailbox, other):
    second.put_parameter(f"mailboxes/{second_mailbox}/INBOUND_FOLDER", f"inbound/{second_mailbox}")
    second.put_parameter(f"mailboxes/{second_mailbox}/INBOUND_BUCKET", second.bucket)
    name = f"{uuid.uuid4().hex}.txt"
    incoming = Message(other, second_mailbox, b"to us", headers={"mex-filename": name})
    message_id = incoming.send(second.stack)
    assert [outcome(execution) for execution in second.poll(second_mailbox)] == ["SUCCEEDED"]
    assert second.get(f"inbound/{second_mailbox}/{name}")["Body"] == b"to us"
    assert second.row(f"in#{message_id}")["status"] == "acknowledged"
    assert inbox_empty(second, second_mailbox) == []
    outgoing = Message(second_mailbox, other, b"from us", headers={"mex-filename": "given.txt"})
    key = f"outbound/{uuid.uuid4().hex}.txt"
    version = second.put(key, outgoing.body, outgoing.metadata, ContentType=outgoing.content_type)
    second.wait_sent(key, version)
    assert sent(second, key, version, outgoing) == []


def test_two_instances_with_one_mailbox_lose_nothing(pipeline, second, cell_mailbox, other):
    """As while a team moves from one to another: neither knows of the other."""
    mailbox, stack = cell_mailbox(), pipeline.stack
    second.put_parameter(f"mailboxes/{mailbox}/INBOUND_FOLDER", f"inbound/{mailbox}")
    second.put_parameter(f"mailboxes/{mailbox}/INBOUND_BUCKET", second.bucket)
    both = (pipeline, second)
    for one in both:
        one.put_secret(f"mailboxes/{mailbox}/MAILBOX_PASSWORD", mesh.password(mailbox))
    bodies = {Message(other, mailbox, body).send(stack): body for body in (b"%d" % n * 100_000 for n in range(12))}

    def start(one):
        given = {"stateMachineArn": one.machine("get-messages"), "input": json.dumps({"mailbox": mailbox})}
        return stack.client("stepfunctions").start_execution(**given)["executionArn"]

    for _ in range(3):
        for one, execution in [(one, start(one)) for one in both]:
            one.wait(execution)
    assert inbox_empty(pipeline, mailbox) == []
    for message_id, body in bodies.items():
        keys = [(one, key) for one in both for key in one.keys(f"inbound/{mailbox}/") if message_id in key]
        assert keys and all(one.get(key)["Body"] == body for one, key in keys)
        # Which one was told to be stored is: whoever came too late found it gone, or acknowledged it once more.
        rows = [one.row(f"in#{message_id}") for one in both]
        stored = [row for row in rows if row and row["status"] == "acknowledged"]
        assert len(stored) == len(keys)
        assert all(row["status"] in ("acknowledged", "receiving", "gone") for row in rows if row)


def test_messages_are_stored_in_the_order_of_their_inbox(second, second_mailbox, other):
    second.put_parameter(f"mailboxes/{second_mailbox}/INBOUND_FOLDER", f"inbound/{second_mailbox}")
    second.put_parameter(f"mailboxes/{second_mailbox}/INBOUND_BUCKET", second.bucket)
    # Each larger than the one after it.
    sizes = [20 * MIB, 1, 9 * MIB, MIB, 1]
    sent_ids = [Message(other, second_mailbox, bytes(size)).send(second.stack) for size in sizes]
    with second.stack.party(second_mailbox) as party:
        ids = party.list_messages()
    assert sorted(ids) == sorted(sent_ids)
    assert [outcome(execution) for execution in second.poll(second_mailbox)] == ["SUCCEEDED"]
    events = [event["detail"] for event in second.events(f"inbound/{second_mailbox}/") if event["detail-type"] == "Object Created"]
    created = [detail["object"]["key"].rpartition("/")[2] for detail in events if detail["bucket"]["name"] == second.bucket]
    assert created == [f"{message_id}.dat" for message_id in ids]


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_with_identity_bodies_come_as_they_are_to_be_stored(second, second_mailbox, other, compress):
    second.put_parameter(f"mailboxes/{second_mailbox}/INBOUND_FOLDER", f"inbound/{second_mailbox}")
    second.put_parameter(f"mailboxes/{second_mailbox}/INBOUND_BUCKET", second.bucket)
    body = b"much of a muchness " * 1_000
    message_id = Message(other, second_mailbox, body).send(second.stack, compress=compress)
    assert [outcome(execution) for execution in second.poll(second_mailbox)] == ["SUCCEEDED"]
    stored = second.get(f"inbound/{second_mailbox}/{message_id}.dat")
    assert stored["Body"] == body
    # MESH says so of what comes compressed, by its sender or by itself.
    assert "mex-content-compressed" not in stored["Metadata"]


def test_the_default_level_compresses_as_the_nhs_client_does_and_a_lower_one_less(pipeline, second, sender, second_mailbox, other):
    chance = random.Random(1)
    rows = (f"{n},{chance.randrange(10**9):010},{chance.choice('MF')},{chance.uniform(0, 200):.2f},mmol/L,final\n" for n in range(30_000))
    body = "".join(rows).encode()
    sizes = []
    for instance, mailbox in ((pipeline, sender), (second, second_mailbox)):
        message = Message(mailbox, other, body, content_type="text/csv")
        key = f"outbound/{uuid.uuid4().hex}.csv"
        version = instance.put(key, body, message.metadata | {"mex-content-compress": "yes"}, ContentType="text/csv")
        instance.wait_sent(key, version)
        (request,) = instance.stack.requests(f"/messageexchange/{mailbox}/outbox.*")
        assert request["headers"]["content-encoding"] == "gzip"
        sizes.append(request["received"])
    # mesh-client uses Python's default, the highest level.
    assert sizes[0] < len(gzip.compress(body)) * 1.03
    assert sizes[0] < sizes[1] < len(body)


def test_the_keys_base_name_is_the_file_name_unless_one_is_given(second, second_mailbox, other):
    name = f"two words £ {uuid.uuid4().hex}.txt"
    key = f"outbound/some/folder/{name}"
    message = Message(second_mailbox, other, b"named by its key", headers={"mex-filename": name})
    given = {header: value for header, value in message.metadata.items() if header != "mex-filename"}
    version = second.put(key, message.body, given, ContentType=message.content_type)
    second.wait_sent(key, version)
    assert sent(second, key, version, message) == []


def test_a_legacy_mapping_sends_what_has_no_sender(second):
    name = f"{uuid.uuid4().hex}.dat"
    key = f"outbound_{LEGACY}_to_{LEGACY_OTHER}/{name}"
    version = second.put(key, b"by its folder")
    second.wait_sent(key, version)
    message = Message(LEGACY, LEGACY_OTHER, b"by its folder", LEGACY_WORKFLOW, "binary/octet-stream", headers={"mex-filename": name})
    assert sent(second, key, version, message) == []


def test_a_folder_without_a_mapping_names_the_parameters(second):
    key = f"outbound_nowhere/{uuid.uuid4().hex}.dat"
    version = second.put(key, b"to nobody")
    row = second.wait_error(key, version)
    assert row["status"] == "failed"
    assert f"/{second.name}/mesh/mapping/{second.bucket}/outbound_nowhere/" in row["error"], row["error"]


def test_any_mailbox_with_a_password_sends_and_no_other(second, pipeline, other):
    """Polled or not."""
    unpolled = LEGACY
    rules = second.stack.client("events").list_rules(NamePrefix=f"{second.name}-get-messages")["Rules"]
    targets = [t for rule in rules for t in second.stack.client("events").list_targets_by_rule(Rule=rule["Name"])["Targets"]]
    assert not [target for target in targets if json.loads(target["Input"])["mailbox"] == unpolled]
    key = f"outbound/{uuid.uuid4().hex}"
    message = Message(unpolled, other, b"polls nothing", headers={"mex-filename": "x"})
    version = second.put(key, message.body, message.metadata, ContentType=message.content_type)
    second.wait_sent(key, version)
    assert sent(second, key, version, message) == []
    # A mailbox of another instance has its password there, not here.
    stranger = Message(other, unpolled, b"has no password here")
    version = second.put(f"{key}-2", stranger.body, stranger.metadata)
    row = second.wait_error(f"{key}-2", version)
    assert f"/{second.name}/mesh/mailboxes/{other}/MAILBOX_PASSWORD" in row["error"], row["error"]
    assert mesh.password(other) not in json.dumps(row)
