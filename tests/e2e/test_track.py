"""What becomes of a message after it was sent: the tracking schedule asks MESH, and tells."""

import json
import time

import pytest
from stack.chaos import PAST, Ageing
from stack.checks import DAY, RETENTION_DAYS, Message

# Not on the other tests' instance: the schedule's run sweeps all of an instance's open sends.
SENDER = "X26ABC123"


def send(pipeline, sender, other, body=b"on its way"):
    key = f"outbound/{sender}/tracked.txt"
    version = pipeline.put(key, body, Message(sender, other, body).metadata)
    return pipeline.wait_sent(key, version)


def track(pipeline, row):
    """A run of the schedule after the row's time has come; the row afterwards."""
    Ageing(pipeline).row(row["id"])
    assert pipeline.track()["status"] == "SUCCEEDED"
    return pipeline.row(row["id"])


def questions(pipeline, row):
    """MESH's log of what it was asked about the message."""
    log = pipeline.stack.requests(f"/messageexchange/{row['sender']}/outbox/tracking.*")
    return [entry for entry in log if row["message_id"] in entry["query"] + entry["path"]]


def change(pipeline, row, **texts):
    """Changes texts of a row."""
    pipeline.stack.client("dynamodb").update_item(
        TableName=f"{pipeline.name}-messages",
        Key={"id": {"S": row["id"]}},
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in texts),
        ExpressionAttributeNames={f"#{name}": name for name in texts},
        ExpressionAttributeValues={f":{name}": {"S": text} for name, text in texts.items()},
    )


@pytest.fixture
def row(readme, other):
    return send(readme, SENDER, other)


def test_a_message_that_its_recipient_acknowledged_is_delivered_and_told_of_once(readme, other, row):
    assert row["due"] == "track"
    # Nobody has collected it yet.
    waiting = track(readme, row)
    assert (waiting["status"], waiting["due"]) == ("sent", "track")
    with readme.stack.party(other) as party:
        party.retrieve_message(row["message_id"]).acknowledge()
    delivered = track(readme, row)
    assert delivered["status"] == "delivered"
    assert "due" not in delivered
    assert abs(delivered["expires_at"] - time.time() - RETENTION_DAYS * DAY) < DAY
    (told,) = readme.told_of(row["id"], "MESH message delivered")
    assert (told["message_id"], told["mailbox"], told["recipient"]) == (row["message_id"], row["sender"], other)
    # A further run has nothing to ask and nothing to tell.
    asked = questions(readme, row)
    assert len(asked) == 2
    assert readme.track()["status"] == "SUCCEEDED"
    assert len(readme.told_of(row["id"], "MESH message delivered")) == 1
    assert questions(readme, row) == asked


def test_a_message_that_mesh_does_not_know_yet_is_asked_for_again(readme, other, row):
    unknown = '{"detail": [{"event": "", "code": "", "msg": ""}]}'
    readme.stack.script("GET", f"/messageexchange/{SENDER}/outbox/tracking", status=404, body=unknown)
    waiting = track(readme, row)
    assert (waiting["status"], waiting["due"]) == ("sent", "track")
    assert waiting["error"].startswith("MessageGone")
    with readme.stack.party(other) as party:
        party.retrieve_message(row["message_id"]).acknowledge()
    delivered = track(readme, row)
    assert delivered["status"] == "delivered"
    assert "error" not in delivered


def test_a_delivered_message_stays_delivered_whatever_a_late_answer_says(readme, other, row):
    with readme.stack.party(other) as party:
        party.retrieve_message(row["message_id"]).acknowledge()
    assert track(readme, row)["status"] == "delivered"
    # As for a run that read the row before.
    change(readme, row, due="track", next_attempt_at=PAST)
    answer = json.dumps({"message_id": row["message_id"], "status": "undeliverable"})
    readme.stack.script("GET", f"/messageexchange/{SENDER}/outbox/tracking", status=200, body=answer)
    asked = len(questions(readme, row))
    assert track(readme, row)["status"] == "delivered"
    assert len(questions(readme, row)) == asked + 1
    assert readme.told_of(row["id"], "MESH message undelivered") == []


def test_a_message_whose_end_mesh_never_told_is_closed_with_a_warning(readme, row):
    change(readme, row, sent_at=PAST)
    closed = track(readme, row)
    assert (closed["status"], "due" in closed) == ("sent", False)
    assert abs(closed["expires_at"] - time.time() - RETENTION_DAYS * DAY) < DAY
    (line,) = [json.loads(line) for line in readme.function_logs("track-message", "MESHTRACK0010") if row["id"] in line]
    assert (line["Log_Level"], line["message_id"], line["mailbox"]) == ("WARN", row["message_id"], SENDER)
