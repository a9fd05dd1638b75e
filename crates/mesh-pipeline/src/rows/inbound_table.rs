//! Rows of received messages in DynamoDB.

use std::collections::HashMap;

use mesh_client::{MailboxId, MessageId};
use time::OffsetDateTime;

use super::change::Change;
use super::due::Due;
use super::inbound::{AcknowledgedRows, Begun, KnownRows, Received, ReceivingRows};
use super::stuck::StuckRows;
use super::table::{Changed, DynamoRows};
use super::{Row, Status};
use crate::clock;
use crate::error::{Error, Fault};
use crate::layout::{RecordedKey, inbound_row};
use crate::state::Position;

const PROGRESS: [&str; 4] = ["upload_id", "next_chunk", "skip", "next_part"];

// Within this time a listed message that was acknowledged is one whose acknowledgement MESH has yet to take in.
const REDELIVERY_AFTER: time::Duration = time::Duration::hours(24);

impl KnownRows for DynamoRows {
    async fn known(&self, messages: &[MessageId]) -> Result<HashMap<String, Row>, Error> {
        let ids: Vec<_> = messages.iter().map(inbound_row).collect();
        self.load_many(&ids).await
    }
}

impl AcknowledgedRows for DynamoRows {
    async fn acknowledged(&self, message: &MessageId) -> Result<(), Error> {
        let change = Change::of(&inbound_row(message))
            .status(Status::Acknowledged)
            .number("expires_at", self.expiry())
            .remove(&["error", "due", "next_attempt_at", "checked_at"])
            .when_status(&[Status::Received, Status::Acknowledged], false);
        self.change(change).await.map(drop)
    }

    async fn not_acknowledged(&self, message: &MessageId, error: &Error) -> Result<(), Error> {
        let change = Change::of(&inbound_row(message))
            .text("error", error.row_text())
            .flag("announced")
            .when_status(&[Status::Received], false);
        self.change(change).await.map(drop)
    }
}

impl ReceivingRows for DynamoRows {
    async fn begin(
        &self,
        mailbox: &MailboxId,
        message: &MessageId,
        execution: &str,
    ) -> Result<Begun, Error> {
        let id = inbound_row(message);
        let now = clock::iso(clock::now());
        let begin = || {
            Change::of(&id)
                .text("direction", "in")
                .text("mailbox", mailbox.as_ref())
                .text("message_id", message.as_ref())
                .text("execution", execution)
                .text_once("timestamp", now.as_str())
                .status(Status::Receiving)
                // Tracking looks for rows that were begun long ago. Storing the message changes neither: each change
                // of an index's key is two writes more.
                .text("due", Due::Receive.as_str())
                .text("next_attempt_at", clock::iso(clock::now()))
                // An open row must not expire.
                .remove(&["expires_at", "checked_at"])
        };
        let first = begin()
            .add("attempts", 1)
            .text("counted_by", execution)
            .when_status(&[Status::Receiving, Status::Gone], true)
            .when_not("counted_by", execution);
        let row = match self.change(first).await? {
            Changed::Done(row) => {
                // Attempts don't tell: what was not the message's fault has been taken off the count again.
                let again = row.timestamp.as_deref() != Some(&now);
                return Ok(Begun::Fetch { row, again });
            }
            Changed::Refused(Some(row)) => row,
            Changed::Refused(None) => return Err(vanished(&id)),
        };
        let closed_at = row.updated_at.as_deref().and_then(clock::parse_iso);
        match row.status {
            Some(Status::Receiving) => Ok(Begun::Fetch { row, again: true }),
            // This execution has counted it and found it gone, and is called again.
            Some(Status::Gone) => match self
                .change(begin().when_status(&[Status::Gone], false))
                .await?
            {
                Changed::Done(row) | Changed::Refused(Some(row)) => {
                    Ok(Begun::Fetch { row, again: true })
                }
                Changed::Refused(None) => Err(vanished(&id)),
            },
            Some(Status::Acknowledged)
                if closed_at.is_none_or(|at| clock::now() - at >= REDELIVERY_AFTER) =>
            {
                let again = begin()
                    .number("attempts", 1)
                    .text("counted_by", execution)
                    .flag("redelivered")
                    .remove(&["error", "announced"])
                    .remove(&PROGRESS)
                    .when_status(&[Status::Acknowledged], false);
                match self.change(again).await? {
                    Changed::Done(row) => Ok(Begun::Fetch { row, again: false }),
                    // The same change, repeated because its answer was lost.
                    Changed::Refused(Some(row)) if row.counted_by.as_deref() == Some(execution) => {
                        Ok(Begun::Fetch { row, again: false })
                    }
                    Changed::Refused(_) => Err(vanished(&id)),
                }
            }
            Some(Status::Received | Status::Acknowledged) => Ok(Begun::Stored(row)),
            // Not taken for stored, or MESH would be told to remove what is nowhere else.
            _ => Err(Error::InvalidMessage(Fault::new(format!(
                "row {id} has a status that no received message has: somebody has changed it; docs/runbook.md#messages-gone says how to mend it"
            )))),
        }
    }

    async fn checkpoint(&self, message: &MessageId, position: &Position) -> Result<(), Error> {
        let change = recorded(Change::of(&inbound_row(message)), &position.key)
            .text("upload_id", position.upload_id.as_str())
            .number("next_chunk", position.next_chunk)
            .number("skip", position.skip)
            .number("next_part", position.next_part)
            .when_status(&[Status::Receiving], false);
        let change = match position.chunks {
            Some(chunks) => change.number("chunks", chunks),
            None => change,
        };
        self.change(change).await.map(drop)
    }

    async fn received(&self, message: &MessageId, received: &Received) -> Result<Row, Error> {
        let id = inbound_row(message);
        let mut change = recorded(Change::of(&id), &received.key)
            .status(Status::Received)
            .text_if("sender", received.sender.as_deref())
            .text_if("recipient", received.recipient.as_deref())
            .text_if("workflow_id", received.workflow_id.as_deref())
            .text_if("local_id", received.local_id.as_deref())
            .text_if("message_type", received.message_type.as_deref())
            .text_if("status_code", received.status_code.as_deref())
            .text_if("linked_message_id", received.linked_message_id.as_deref())
            .text("s3_bucket", received.bucket.as_str())
            // Tracking may have closed the row: what it did not find in MESH was on its way.
            .remove(&["error", "redelivered", "expires_at"])
            .remove(&PROGRESS);
        // Of a redelivered message the row still has the earlier version.
        change = match &received.version_id {
            Some(version) => change.text("version_id", version.as_str()),
            None => change.remove(&["version_id"]),
        };
        if let Some(size) = received.size {
            change = change.number("size", size);
        }
        if let Some(chunks) = received.chunks {
            change = change.number("chunks", chunks);
        }
        let change = change
            .text("due", Due::Receive.as_str())
            .when_status(&[Status::Receiving, Status::Received, Status::Gone], false);
        match self.change(change).await? {
            Changed::Done(row) | Changed::Refused(Some(row)) => Ok(row),
            Changed::Refused(None) => Err(vanished(&id)),
        }
    }

    async fn attempt_failed(
        &self,
        message: &MessageId,
        execution: &str,
        error: &Error,
        next_attempt_at: Option<OffsetDateTime>,
    ) -> Result<(), Error> {
        let id = inbound_row(message);
        let mut change = Change::of(&id)
            .text("error", error.row_text())
            .text_if("next_attempt_at", next_attempt_at.map(clock::iso))
            .when_status(&[Status::Receiving], false);
        // A wait that MESH did not ask for is that of a message which has failed too often.
        if next_attempt_at.is_some() && error.retry_after().is_none() {
            change = change.text("due", Due::Poison.as_str());
        }
        if matches!(error, Error::InvalidMessage(_)) {
            // What was begun can't be gone on with.
            change = change.remove(&["upload_id", "next_chunk", "skip", "next_part"]);
        }
        self.change(change).await?;
        if error.counts_against_the_message() {
            return Ok(());
        }
        self.uncounted(message, execution).await
    }

    async fn uncounted(&self, message: &MessageId, execution: &str) -> Result<(), Error> {
        // Taken off once: what this execution begins next is counted again.
        let uncounted = Change::of(&inbound_row(message))
            .add("attempts", -1)
            .remove(&["counted_by"])
            .when_status(&[Status::Receiving], false)
            .when("counted_by", execution)
            .when_at_least("attempts", 1);
        self.change(uncounted).await.map(drop)
    }

    async fn gone(
        &self,
        message: &MessageId,
        error: &Error,
        again_at: OffsetDateTime,
    ) -> Result<(), Error> {
        let change = Change::of(&inbound_row(message))
            .status(Status::Gone)
            .text("error", error.row_text())
            .text("next_attempt_at", clock::iso(again_at))
            .number("expires_at", self.expiry())
            .remove(&["due"])
            .when_status(&[Status::Receiving], false);
        self.change(change).await.map(drop)
    }
}

impl StuckRows for DynamoRows {
    async fn waits(&self, row: &Row, poison: bool) -> Result<(), Error> {
        // `updated_at` stays: the next attempt's time follows from it.
        let change = Change::unnoted(&row.id)
            .text("checked_at", clock::iso(clock::now()))
            .when("updated_at", row.updated_at.as_deref().unwrap_or_default())
            .when_status(&[Status::Receiving], false);
        let change = if poison {
            change.text("due", Due::Poison.as_str())
        } else {
            change
        };
        self.change(change).await.map(drop)
    }

    async fn unanswered(&self, row: &Row) -> Result<(), Error> {
        let change = Change::unnoted(&row.id)
            .text("checked_at", clock::iso(clock::now()))
            .when_status(&[Status::Receiving, Status::Received], false);
        self.change(change).await.map(drop)
    }

    async fn lost(&self, row: &Row, error: &Error) -> Result<(), Error> {
        let change = Change::of(&row.id)
            .status(Status::Gone)
            .text("error", error.row_text())
            .number("expires_at", self.expiry())
            .remove(&["due", "checked_at"])
            .when("updated_at", row.updated_at.as_deref().unwrap_or_default())
            .when_status(&[Status::Receiving], false);
        self.change(change).await.map(drop)
    }
}

// A row has the one or the other: the setting may have been changed since it was made.
fn recorded(change: Change, key: &RecordedKey) -> Change {
    match key {
        RecordedKey::Key(key) => change
            .text("s3_key", key.as_str())
            .remove(&["s3_key_sha256"]),
        RecordedKey::KeySha256(digest) => change
            .text("s3_key_sha256", digest.as_str())
            .remove(&["s3_key"]),
    }
}

fn vanished(id: &str) -> Error {
    Error::AwsUnavailable(Fault::new(format!(
        "row {id} was changed by someone else at the same time; it is tried again"
    )))
}

impl Row {
    /// When a listed message may be worked on again; `None`: now.
    pub fn not_before(&self, max_attempts: u32) -> Option<OffsetDateTime> {
        let noted = self.next_attempt_at.as_deref().and_then(clock::parse_iso);
        // A message that killed its worker left no time behind: it follows from its attempts.
        let over = self.attempts.unwrap_or(0).checked_sub(max_attempts);
        let counted = match (self.status, over) {
            (Some(Status::Receiving), Some(over)) => self
                .updated_at
                .as_deref()
                .and_then(clock::parse_iso)
                .map(|at| at + clock::backoff(over)),
            _ => None,
        };
        match self.status {
            Some(Status::Receiving | Status::Gone) => noted.max(counted),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: Status, attempts: u32) -> Row {
        Row {
            status: Some(status),
            attempts: Some(attempts),
            updated_at: Some("2026-01-15T12:00:00.000Z".to_owned()),
            ..Row::default()
        }
    }

    #[test]
    fn a_message_that_killed_its_workers_waits_though_nothing_noted_it() {
        let waits = row(Status::Receiving, 5).not_before(5).unwrap();
        assert_eq!(clock::iso(waits), "2026-01-15T12:15:00.000Z");
        let longer = row(Status::Receiving, 7).not_before(5).unwrap();
        assert_eq!(clock::iso(longer), "2026-01-15T13:00:00.000Z");
    }

    #[test]
    fn a_first_try_and_a_stored_message_wait_for_nothing() {
        assert_eq!(row(Status::Receiving, 1).not_before(5), None);
        assert_eq!(row(Status::Received, 9).not_before(5), None);
    }
}
