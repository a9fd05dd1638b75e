//! Rows of received messages.

use std::collections::HashMap;
use std::future::Future;

use mesh_client::{MailboxId, MessageHeaders, MessageId};
use time::OffsetDateTime;

use super::{Row, recordable_recipient};
use crate::error::Error;
use crate::layout::RecordedKey;
use crate::state::Position;

/// What a row says when work on a message is begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// The message is to be fetched; `attempts` counts this one, once for each execution.
    Fetch {
        /// The row.
        row: Row,
        /// Work on it was begun before: it may be in the bucket already.
        again: bool,
    },
    /// It is stored already and only has to be acknowledged.
    Stored(Row),
}

/// What is known of a message once it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The sending mailbox; a report has none.
    pub sender: Option<String>,
    /// `Mex-To`.
    pub recipient: Option<String>,
    /// `Mex-WorkflowID`.
    pub workflow_id: Option<String>,
    /// `Mex-LocalID`.
    pub local_id: Option<String>,
    /// `DATA` or `REPORT`.
    pub message_type: Option<String>,
    /// `Mex-StatusCode`.
    pub status_code: Option<String>,
    /// `Mex-LinkedMsgID`.
    pub linked_message_id: Option<String>,
    /// Bucket of the object.
    pub bucket: String,
    /// Key of the object.
    pub key: RecordedKey,
    /// Version of the object, when it is known.
    pub version_id: Option<String>,
    /// Bytes of the object, when they are known.
    pub size: Option<u64>,
    /// Chunks of the message, when they are known.
    pub chunks: Option<u32>,
}

impl Received {
    /// A message of which no more is known than where it is.
    pub fn at(bucket: impl Into<String>, key: RecordedKey) -> Self {
        Self {
            sender: None,
            recipient: None,
            workflow_id: None,
            local_id: None,
            message_type: None,
            status_code: None,
            linked_message_id: None,
            bucket: bucket.into(),
            key,
            version_id: None,
            size: None,
            chunks: None,
        }
    }

    /// What a message's headers tell, with the given place of its object.
    #[must_use]
    pub fn with_headers(self, headers: &MessageHeaders) -> Self {
        let text = |name: &str| headers.get(name).map(str::to_owned);
        Self {
            sender: text("mex-from"),
            recipient: headers
                .get("mex-to")
                .map(|to| recordable_recipient(to).to_owned()),
            workflow_id: text("mex-workflowid"),
            local_id: text("mex-localid"),
            message_type: text("mex-messagetype"),
            status_code: text("mex-statuscode"),
            linked_message_id: text("mex-linkedmsgid"),
            ..self
        }
    }
}

/// What poll asks of the rows.
pub trait KnownRows: Send + Sync {
    /// The rows of those of the messages that have one.
    fn known(
        &self,
        messages: &[MessageId],
    ) -> impl Future<Output = Result<HashMap<String, Row>, Error>> + Send;
}

/// What ack notes in the rows.
pub trait AcknowledgedRows: Send + Sync {
    /// MESH has the acknowledgement; the row is closed.
    fn acknowledged(&self, message: &MessageId) -> impl Future<Output = Result<(), Error>> + Send;

    /// The message is announced, but MESH has no acknowledgement.
    fn not_acknowledged(
        &self,
        message: &MessageId,
        error: &Error,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What fetch notes in the rows.
pub trait ReceivingRows: Send + Sync {
    /// Counts an attempt before the first byte is fetched, so that a message that kills its worker is counted.
    fn begin(
        &self,
        mailbox: &MailboxId,
        message: &MessageId,
        execution: &str,
    ) -> impl Future<Output = Result<Begun, Error>> + Send;

    /// Notes how far a multipart upload has come.
    fn checkpoint(
        &self,
        message: &MessageId,
        position: &Position,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The object is complete.
    fn received(
        &self,
        message: &MessageId,
        received: &Received,
    ) -> impl Future<Output = Result<Row, Error>> + Send;

    /// The attempt failed; one that was not the message's fault is not counted.
    fn attempt_failed(
        &self,
        message: &MessageId,
        execution: &str,
        error: &Error,
        next_attempt_at: Option<OffsetDateTime>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The attempt of this execution is not counted: another one goes on with it.
    fn uncounted(
        &self,
        message: &MessageId,
        execution: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// MESH lists the message but does not have it; where it still lists it then, it is asked for again.
    fn gone(
        &self,
        message: &MessageId,
        error: &Error,
        again_at: OffsetDateTime,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}
