//! Rows of received messages that no execution brings to an end any more.

use std::future::Future;

use super::Row;
use crate::error::Error;

/// What tracking notes in the rows of messages whose receiving was cut short. None of it puts off another attempt.
pub trait StuckRows: Send + Sync {
    /// The message is still in MESH: polling goes on with it. `poison`: it has failed too often.
    fn waits(&self, row: &Row, poison: bool) -> impl Future<Output = Result<(), Error>> + Send;

    /// MESH could not be asked, or told: the row is left alone for a while.
    fn unanswered(&self, row: &Row) -> impl Future<Output = Result<(), Error>> + Send;

    /// The message is in MESH no more, and its row knows of no object; the row is closed.
    fn lost(&self, row: &Row, error: &Error) -> impl Future<Output = Result<(), Error>> + Send;
}
