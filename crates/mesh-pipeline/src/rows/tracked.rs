//! Rows of sent messages: what became of each.

use std::future::Future;

use time::OffsetDateTime;

use super::{Row, Status};
use crate::error::Error;

/// What MESH says of a message that it no longer just holds for its recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `Delivered` or `Undelivered`.
    pub status: Status,
    /// MESH's status code.
    pub status_code: Option<String>,
    /// The report about the message.
    pub linked_message_id: Option<String>,
}

/// What tracking notes in the rows. No change moves a row back, and none touches one that is not tracked.
pub trait TrackedRows: Send + Sync {
    /// The row is looked at now, and not again before the given time; false: another execution looks at it.
    fn look(
        &self,
        row: &Row,
        again_at: OffsetDateTime,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// What became of the message; the event that tells of it is put, and put again from `again_at` on until
    /// [`TrackedRows::announced`]. `None`: the row says so already, or more.
    fn concluded(
        &self,
        row: &str,
        outcome: &Outcome,
        again_at: OffsetDateTime,
    ) -> impl Future<Output = Result<Option<Row>, Error>> + Send;

    /// The event that tells of the status was put. A sent message is looked at again at the given time, or never; a received
    /// one is acknowledged by the next tick.
    fn announced(
        &self,
        row: &str,
        status: Status,
        again_at: Option<OffsetDateTime>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// MESH could not be asked.
    fn not_tracked(
        &self,
        row: &str,
        error: &Error,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// MESH will tell no more of the message.
    fn untracked(&self, row: &str) -> impl Future<Output = Result<(), Error>> + Send;
}
