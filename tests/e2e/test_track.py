"""What becomes of a message after it was sent: the tracking schedule asks MESH, and tells."""

import pytest
from stack.chaos import Ageing
from stack.checks import Message


def send(pipeline, sender, other, body=b"on its way"):
    key = f"outbound/{sender}/tracked.txt"
    version = pipeline.put(key, body, Message(sender, other, body).metadata)
    return pipeline.wait_sent(key, version)


def track(pipeline, row):
    """A run of the schedule after the row's time has come; the row afterwards."""
    Ageing(pipeline).row(row["id"])
    assert pipeline.track()["status"] == "SUCCEEDED"
    return pipeline.row(row["id"])


@pytest.fixture
def row(pipeline, sender, other):
    return send(pipeline, sender, other)


def test_a_message_that_its_recipient_acknowledged_is_delivered_and_told_of_once(pipeline, other, row):
    assert row["due"] == "track"
    # Nobody has collected it yet.
    waiting = track(pipeline, row)
    assert (waiting["status"], waiting["due"]) == ("sent", "track")
    with pipeline.stack.party(other) as party:
        party.retrieve_message(row["message_id"]).acknowledge()
    delivered = track(pipeline, row)
    assert delivered["status"] == "delivered"
    assert "due" not in delivered
    assert delivered["expires_at"]
    (told,) = pipeline.told_of(row["id"], "MESH message delivered")
    assert (told["message_id"], told["mailbox"], told["recipient"]) == (row["message_id"], row["sender"], other)
    # A further run has nothing to ask and nothing to tell.
    asked = len(pipeline.stack.requests(f"/messageexchange/{row['sender']}/outbox/tracking.*"))
    assert pipeline.track()["status"] == "SUCCEEDED"
    assert len(pipeline.told_of(row["id"], "MESH message delivered")) == 1
    assert len(pipeline.stack.requests(f"/messageexchange/{row['sender']}/outbox/tracking.*")) == asked
