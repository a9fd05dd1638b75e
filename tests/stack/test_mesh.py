"""The sandbox behind TLS does what the live service does where the bare sandbox doesn't."""

import datetime
import hashlib
import hmac
import time
import uuid

import pytest
import requests
from mesh_sandbox.store import canned_store
from stack import mesh, servers
from stack.control import Stack


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    stack = Stack(tmp_path_factory.mktemp("mesh"))
    servers.start(stack.folder, names=("mesh",))
    yield stack
    stack.stop()


def token(sandbox, mailbox, when=None, password=None):
    when = (when or datetime.datetime.now(datetime.UTC)).strftime("%Y%m%d%H%M")
    nonce = uuid.uuid4()
    secret = f"{mailbox}:{nonce}:0:{password or mesh.password(mailbox)}:{when}"
    digest = hmac.new(sandbox.shared_key.encode(), secret.encode(), hashlib.sha256).hexdigest()
    return f"NHSMESH {mailbox}:{nonce}:0:{when}:{digest}"


def get(sandbox, path, authorization=None, certificate="client"):
    certs = sandbox.folder / "certs"
    pair = (certs / f"{certificate}.pem", certs / f"{certificate}.key") if certificate else None
    headers = {"Accept": "application/vnd.mesh.v2+json"}
    if authorization:
        headers["Authorization"] = authorization
    return requests.get(
        sandbox.mesh_url + path, headers=headers, cert=pair, verify=certs / "ca.pem", timeout=30
    )


def test_a_client_certificate_of_the_environment_is_accepted(sandbox):
    assert get(sandbox, "/health").status_code == 200


@pytest.mark.parametrize("certificate", [None, "expired", "stranger"])
def test_other_client_certificates_are_refused(sandbox, certificate):
    with pytest.raises(requests.exceptions.ConnectionError):
        get(sandbox, "/health", certificate=certificate)


def test_a_token_is_good_for_one_request(sandbox):
    once = token(sandbox, "X26T001")
    assert get(sandbox, "/messageexchange/X26T001/inbox", once).status_code == 200
    again = get(sandbox, "/messageexchange/X26T001/inbox", once)
    assert again.status_code == 403
    assert again.json()["detail"][0]["msg"] == "Token was used before"


@pytest.mark.parametrize(("minutes", "status"), [(-125, 403), (-110, 200), (110, 200), (125, 403)])
def test_a_tokens_time_is_within_two_hours_of_the_clock(sandbox, minutes, status):
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
    answer = get(sandbox, "/messageexchange/X26T001/inbox", token(sandbox, "X26T001", when))
    assert answer.status_code == status


def test_a_wrong_password_is_refused(sandbox):
    wrong = token(sandbox, "X26T001", password="p:a:s:s w0rd")
    assert get(sandbox, "/messageexchange/X26T001/inbox", wrong).status_code == 403


def test_every_mailbox_has_a_password_of_its_own():
    passwords = {mesh.password(mailbox) for mailbox in mesh.MAILBOXES}
    assert len(passwords) == len(mesh.MAILBOXES) == 2104
    assert ":" in mesh.password("X26T199") and " " in mesh.password("X26T199")


def test_the_installed_sandbox_keeps_its_own_mailboxes():
    folder = canned_store.__file__.removesuffix("canned_store.py")
    with open(f"{folder}data/mailboxes.jsonl", encoding="utf-8") as file:
        assert "X26T001" not in file.read()


def test_scripted_answers_come_once_each_and_in_time(sandbox):
    path = "/messageexchange/X26T002/inbox"
    sandbox.script("GET", path, status=503, headers={"Retry-After": "1"}, body="<soap/>")
    sandbox.script("GET", path, delay=0.3)
    first = get(sandbox, path, token(sandbox, "X26T002"))
    assert (first.status_code, first.headers["Retry-After"], first.text) == (503, "1", "<soap/>")
    started = time.monotonic()
    assert get(sandbox, path, token(sandbox, "X26T002")).status_code == 200
    assert time.monotonic() - started >= 0.3
    started = time.monotonic()
    assert get(sandbox, path, token(sandbox, "X26T002")).status_code == 200
    assert time.monotonic() - started < 0.3


def test_request_headers_can_be_changed_on_the_way(sandbox):
    path = "/messageexchange/X26T009/inbox"
    sandbox.script("GET", path, request_headers={"accept": "application/json"})
    first, second = (get(sandbox, path, token(sandbox, "X26T009")).json() for _ in range(2))
    assert "links" not in first and "links" in second


def test_a_scripted_refusal_comes_after_the_whole_body_was_read(sandbox):
    sandbox.script("POST", "/messageexchange/X26T003/outbox", status=502)
    with pytest.raises(requests.HTTPError, match="502"):
        sandbox.party("X26T003").send_message("X26T004", b"x" * 3_000_000, workflow_id="W")
    assert [entry["received"] for entry in sandbox.requests(".*/X26T003/outbox")] == [3_000_000]


def test_the_request_log_shows_what_was_on_the_wire_but_no_token(sandbox):
    party = sandbox.party("X26T005")
    party.send_message("X26T006", b"a" * 100_000, workflow_id="W", compress=True)
    (entry,) = sandbox.requests(".*/X26T005/outbox")
    assert (entry["method"], entry["status"]) == ("POST", 202)
    assert entry["headers"]["content-encoding"] == "gzip"
    assert entry["received"] < 1_000
    assert "authorization" not in entry["headers"] and "NHSMESH" not in str(entry)


def test_the_other_party_and_reports_reach_the_mailbox(sandbox):
    sent = sandbox.party("X26T007").send_message("X26T008", b"hello", workflow_id="W", subject="greeting")
    report = sandbox.report(
        "X26T008", code="14", description="Not collected", workflow_id="W", linked_message_id=sent
    )
    receiver = sandbox.party("X26T008")
    assert receiver.list_messages() == [sent, report]
    assert receiver.retrieve_message(sent).read() == b"hello"
    assert receiver.retrieve_message(report).mex_header("linkedmsgid") == sent


def test_a_closed_sandbox_leaves_no_process(tmp_path):
    stack = Stack(tmp_path)
    servers.start(stack.folder, names=("mesh",))
    url = stack.mesh_url
    stack.stop()
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(url, timeout=5)
    assert servers.state(stack.folder, "mesh") is None
