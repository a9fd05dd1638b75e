//! Rows of sent objects: the claim on an object version, and how far its sending has come.

use std::future::Future;

use mesh_client::MessageId;
use time::{Duration, OffsetDateTime};

use super::{Row, SendSwitch, Status};
use crate::error::Error;

/// An object version to be sent, with everything pinned that a later step must not decide anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// `out#…`.
    pub row: String,
    /// Bucket of the object.
    pub bucket: String,
    /// Key of the object.
    pub key: String,
    /// Version of the object.
    pub version_id: String,
    /// Bytes of the object.
    pub size: u64,
    /// Bytes of a chunk before compression.
    pub chunk_size: u64,
    /// Number of chunks.
    pub chunks: u32,
    /// Whether chunks are compressed.
    pub compress: bool,
    /// Our mailbox.
    pub mailbox: String,
    /// The receiving mailbox.
    pub recipient: String,
    /// MESH workflow id.
    pub workflow_id: String,
    /// The local id by which the message can be looked up.
    pub local_id: Option<String>,
}

/// A row as this invocation took it: every change is refused once another has taken it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// `out#…`.
    pub row: String,
    /// ARN of the execution.
    pub execution: String,
    /// The fence: taking a row counts an attempt.
    pub attempts: u32,
}

/// What a claim came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The row is this execution's; `attempts` counts this invocation.
    Mine(Row),
    /// The row is closed, or another execution is at work.
    Taken(Row),
}

/// How the first chunk's answer settled a row that was `posting`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posting {
    /// MESH has it under this id.
    Accepted(MessageId),
    /// It certainly had no effect: it can be posted again.
    NotSent,
}

/// How long after a message was sent MESH is first asked what became of it: its recipient looks every few minutes.
pub const FIRST_LOOK: Duration = Duration::minutes(5);

/// What the sending functions do with rows. Every change is refused, as `AwsUnavailable`, when the row is no longer the execution's.
pub trait OutboundRows: SendSwitch {
    /// Makes the row, or takes over one that is this execution's, was released, or whose time has passed.
    fn claim(
        &self,
        claim: &Claim,
        execution: &str,
        until: OffsetDateTime,
    ) -> impl Future<Output = Result<Claimed, Error>> + Send;

    /// Takes over a row that is this execution's, was released, or whose time has passed.
    fn resume(
        &self,
        row: &str,
        execution: &str,
        until: OffsetDateTime,
    ) -> impl Future<Output = Result<Claimed, Error>> + Send;

    /// Makes a closed row for an object that can't be sent; an existing row stays as it is, and is true.
    fn refuse(
        &self,
        row: &str,
        bucket: &str,
        key: &str,
        version_id: &str,
        execution: &str,
        error: &Error,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// The first chunk is about to be posted; its answer comes before `deadline` or never.
    fn posting(
        &self,
        hold: &Hold,
        deadline: OffsetDateTime,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The first chunk's answer was lost.
    fn unanswered(
        &self,
        hold: &Hold,
        error: &Error,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The first chunk's answer is known.
    fn posted(
        &self,
        hold: &Hold,
        outcome: &Posting,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The next chunk to send.
    fn progress(
        &self,
        hold: &Hold,
        next_chunk: u32,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Sending is switched off: the sweep takes the row up once it is on again.
    fn wait_for_switch(&self, hold: &Hold) -> impl Future<Output = Result<(), Error>> + Send;

    /// Nothing is to be done before `until`; then the sweep takes the row up.
    fn postpone(
        &self,
        hold: &Hold,
        until: OffsetDateTime,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// MESH has accepted the whole message; what becomes of it is tracked.
    fn sent(&self, hold: &Hold) -> impl Future<Output = Result<Row, Error>> + Send;

    /// An attempt failed; the sweep takes the row up after `until`. If the error is not temporary, the execution ends
    /// with it, and the row is released: an operator need not wait.
    fn attempt_failed(
        &self,
        hold: &Hold,
        error: &Error,
        until: OffsetDateTime,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The object can't be sent (`failed`), or it can't be known whether it was (`held`).
    fn close(
        &self,
        hold: &Hold,
        status: Status,
        error: &Error,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Whether another send with this local id may be the one that MESH knows.
    fn has_rival(
        &self,
        row: &str,
        local_id: &str,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Whether any row has this message id.
    fn knows_message(
        &self,
        message: &MessageId,
    ) -> impl Future<Output = Result<bool, Error>> + Send;
}
