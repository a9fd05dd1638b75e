//! Message rows: what became of each message, and the claims that keep it from being handled twice.

mod change;
mod due;
mod inbound;
mod inbound_table;
mod outbound;
mod outbound_table;
mod stuck;
mod switch;
mod table;
mod tracked;
mod tracked_table;

pub use due::{Cursor, Due, DueRows, Page};
pub use inbound::{AcknowledgedRows, Begun, KnownRows, Received, ReceivingRows};
pub use outbound::{Claim, Claimed, FIRST_LOOK, Hold, OutboundRows, Posting};
pub use stuck::StuckRows;
pub use switch::SendSwitch;
pub use table::DynamoRows;
pub use tracked::{Outcome, TrackedRows};

use serde::{Deserialize, Serialize};

/// A row of the table `${name}-messages`. Attributes that a row lacks are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// `in#<message id>` or `out#<sha256 of bucket, key, version>`.
    pub id: String,
    /// MESH's message id.
    pub message_id: Option<String>,
    /// `in` or `out`.
    pub direction: Option<String>,
    /// The mailbox of ours: the recipient's of a received message, the sender's of a sent one.
    pub mailbox: Option<String>,
    /// The sending mailbox; a report has none.
    pub sender: Option<String>,
    /// The receiving mailbox.
    pub recipient: Option<String>,
    /// MESH workflow id.
    pub workflow_id: Option<String>,
    /// The sender's own reference.
    pub local_id: Option<String>,
    /// `DATA` or `REPORT`.
    pub message_type: Option<String>,
    /// Where the message is on its way.
    pub status: Option<Status>,
    /// Bucket of the object.
    pub s3_bucket: Option<String>,
    /// Key of the object, unless it is hidden.
    pub s3_key: Option<String>,
    /// SHA-256 of the hidden key: it holds a sender's file name.
    pub s3_key_sha256: Option<String>,
    /// Version of the object.
    pub version_id: Option<String>,
    /// Bytes of the object.
    pub size: Option<u64>,
    /// Chunks of the message; 0 for a report.
    pub chunks: Option<u32>,
    /// Bytes of a sent chunk before compression.
    pub chunk_size: Option<u64>,
    /// Whether sent chunks are compressed.
    pub compress: Option<bool>,
    /// How often work on the message was begun.
    pub attempts: Option<u32>,
    /// ISO 8601: when an open row is due, at the earliest.
    pub next_attempt_at: Option<String>,
    /// Nobody is at work on the open row, and nobody will be before `next_attempt_at`: whoever asks may have it.
    pub released: Option<bool>,
    /// Present while somebody has to look at the row again: key of the sparse index, see [`Due`].
    pub due: Option<String>,
    /// What went wrong last: the error's name, what it is and what to do.
    pub error: Option<String>,
    /// The message that a report is about.
    pub linked_message_id: Option<String>,
    /// MESH's status code.
    pub status_code: Option<String>,
    /// ARN of the execution whose attempt is in `attempts`.
    pub counted_by: Option<String>,
    /// ARN of the execution that worked on it last.
    pub execution: Option<String>,
    /// ISO 8601: when the row was made.
    pub timestamp: Option<String>,
    /// ISO 8601: when the row was changed last.
    pub updated_at: Option<String>,
    /// ISO 8601: when tracking last asked MESH about the received message.
    pub checked_at: Option<String>,
    /// Epoch seconds: when DynamoDB may delete a closed row.
    pub expires_at: Option<i64>,
    /// ISO 8601: when the first chunk was last posted.
    pub posted_at: Option<String>,
    /// ISO 8601: by when an answer to that must have come.
    pub answer_due_at: Option<String>,
    /// ISO 8601: when MESH had accepted the whole message.
    pub sent_at: Option<String>,
    /// The next chunk to fetch or to send.
    pub next_chunk: Option<u32>,
    /// Decoded bytes of the next chunk that are in a part already.
    pub skip: Option<u64>,
    /// The next part of the multipart upload.
    pub next_part: Option<i32>,
    /// The multipart upload in progress.
    pub upload_id: Option<String>,
    /// The service desk has put an acknowledged message back: it is stored once more.
    pub redelivered: Option<bool>,
    /// The event that tells of the status was put.
    pub announced: Option<bool>,
}

/// Where a message is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Status {
    /// In: being fetched, or waiting to be tried again.
    Receiving,
    /// In: safe in S3, not yet acknowledged.
    Received,
    /// In: acknowledged.
    Acknowledged,
    /// In: listed by MESH, but no longer there.
    Gone,
    /// Out: claimed by an execution; nothing was sent.
    Claimed,
    /// Out: the first chunk is under way, or its answer was lost.
    Posting,
    /// Out: MESH has the first chunk; more follow.
    Sending,
    /// Out: MESH has accepted the whole message.
    Sent,
    /// Out: its recipient has acknowledged it.
    Delivered,
    /// Out: its recipient has not collected it in time, or MESH failed to deliver it; the service desk can put it back.
    Undelivered,
    /// Out: can't be sent; `error` says why.
    Failed,
    /// Out: whether MESH has it can't be known; an operator decides.
    Held,
}

impl Status {
    /// The attribute's text.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether a received message may have it.
    pub fn is_inbound(self) -> bool {
        matches!(
            self,
            Self::Receiving | Self::Received | Self::Acknowledged | Self::Gone
        )
    }
}

/// A recipient as rows, logs and events may carry it: `GPPROVIDER_…` holds an NHS number.
pub fn recordable_recipient(recipient: &str) -> &str {
    let recipient = recipient.trim();
    match recipient.split_once('_') {
        Some((provider, _)) if provider.eq_ignore_ascii_case("GPPROVIDER") => "GPPROVIDER",
        _ => recipient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gp_provider_recipient_loses_the_patient() {
        assert_eq!(
            recordable_recipient("GPPROVIDER_9434765919_20000101_SMITH"),
            "GPPROVIDER"
        );
        assert_eq!(recordable_recipient(" gpprovider_9434765919"), "GPPROVIDER");
        assert_eq!(recordable_recipient("X26ABC2"), "X26ABC2");
    }

    #[test]
    fn a_status_is_written_as_it_is_read() {
        for status in [Status::Receiving, Status::Undelivered, Status::Held] {
            let text = serde_json::to_value(status).unwrap();
            assert_eq!(text, status.as_str());
        }
    }
}
