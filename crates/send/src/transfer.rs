//! The chunks of one object version, in order, one at a time.

use mesh_client::{MailboxId, MessageId, OutgoingMessage, Tracking};
use mesh_pipeline::rows::{Hold, OutboundRows, Posting, Row, Status};
use mesh_pipeline::secrets::SecretSource;
use mesh_pipeline::state::{Invocation, SendResponse};
use mesh_pipeline::store::ObjectReader;
use mesh_pipeline::{Error, Fault, clock};
use time::Duration;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::chunk::{ChunkSource, gone};
use crate::outbox::{ChunkPosted, Outbox, Posted};
use crate::parameters::Parameters;
use crate::plan::Plan;
use crate::{LONGEST_PAUSE, Send, ended};

// What is left of an invocation must be enough for another chunk, and at least this.
const MARGIN: Duration = Duration::seconds(60);

// So much of it is kept for what follows a call that MESH never answers.
const RESERVE: Duration = Duration::seconds(30);

// Longer than a call that MESH answers takes with all its tries, and the minute that it may wait as MESH asks.
const QUESTION: std::time::Duration = std::time::Duration::from_mins(2);

/// What comes next for an object version.
pub(crate) enum Next {
    /// The first chunk: MESH has nothing, or nothing that counts.
    First,
    /// A later chunk of this message; one beyond the last: all is sent.
    Chunk(MessageId, u32),
    /// Nothing before so long.
    Pause(std::time::Duration),
}

/// An object version that is being sent, as its row pins it.
pub(crate) struct Work {
    pub(crate) hold: Hold,
    pub(crate) mailbox: MailboxId,
    pub(crate) row: Row,
    pub(crate) plan: Plan,
    key: String,
    version_id: String,
}

impl<M: Outbox, R: OutboundRows, O: ObjectReader, S: SecretSource> Send<M, R, O, S> {
    /// Goes on from what the row says, until all is sent, time runs out, or there is something to wait for.
    pub(crate) async fn transfer(
        &self,
        row: Row,
        hold: &Hold,
        known: Option<Parameters>,
        invocation: &Invocation,
    ) -> Result<SendResponse, Error> {
        let work = work(&row, hold)?;
        let mut next = match (work.row.status, message_id(&work.row)) {
            (Some(Status::Sending), Some(message)) => {
                Next::Chunk(message, work.row.next_chunk.unwrap_or(2))
            }
            (Some(Status::Posting), _) => self.settle(&work, invocation).await?,
            _ => Next::First,
        };
        let mut longest = Duration::ZERO;
        loop {
            let started = clock::now();
            next = match next {
                Next::First if !self.rows.sending_is_on().await? => {
                    self.rows.wait_for_switch(hold).await?;
                    info!(
                        row = hold.row,
                        "waits: send_messages_enabled is false; it is sent once that is true again"
                    );
                    return Ok(ended("waiting", Some(hold.row.clone())));
                }
                Next::First => self.first_chunk(&work, known.as_ref(), invocation).await?,
                Next::Pause(pause) => {
                    self.rows
                        .postpone(hold, crate::until(invocation) + pause)
                        .await?;
                    return Ok(waiting(&hold.row, pause));
                }
                Next::Chunk(message, chunk) if chunk > work.plan.chunks => {
                    let row = self.rows.sent(hold).await?;
                    info!(logReference = "MESHSEND0008", row = hold.row, message_id = %message, "sent");
                    return Ok(self.sent(&row));
                }
                Next::Chunk(message, chunk)
                    if started + MARGIN.max(longest * 2) > invocation.deadline =>
                {
                    return Ok(unfinished(&work, &message, chunk));
                }
                Next::Chunk(message, chunk) => {
                    self.later_chunk(&work, message, chunk, invocation).await?
                }
            };
            longest = longest.max(clock::now() - started);
        }
    }

    // The object's headers, read anew where this invocation did not begin with its event.
    async fn message(
        &self,
        work: &Work,
        known: Option<&Parameters>,
    ) -> Result<OutgoingMessage, Error> {
        let mut message = match known {
            Some(parameters) => parameters.message.clone(),
            None => match self.objects.find(&work.key, Some(&work.version_id)).await? {
                Some(object) => {
                    let pinned = Some(&work.row);
                    self.parameters(&work.key, &object, pinned).await?.message
                }
                None => return Err(gone(&work.key, &work.version_id)),
            },
        };
        message.local_id.clone_from(&work.row.local_id);
        message.gzip = work.plan.compress;
        Ok(message)
    }

    fn chunk<'a>(&'a self, work: &'a Work, chunk: u32) -> ChunkSource<'a, O> {
        ChunkSource {
            objects: &self.objects,
            key: &work.key,
            version_id: &work.version_id,
            range: work.plan.range(chunk),
            compress: work
                .plan
                .compress
                .then_some(self.settings.compression_level),
        }
    }

    async fn first_chunk(
        &self,
        work: &Work,
        known: Option<&Parameters>,
        invocation: &Invocation,
    ) -> Result<Next, Error> {
        let message = self.message(work, known).await?;
        self.rows.posting(&work.hold, invocation.deadline).await?;
        log_started(work, 1);
        let chunk = self.chunk(work, 1);
        let post = self
            .outbox
            .post(&work.mailbox, &message, work.plan.chunks, &chunk);
        let posted = timeout(for_an_answer(invocation), post).await;
        match posted.unwrap_or_else(|_| Ok(Posted::Unanswered(no_answer(1)))) {
            Ok(Posted::Accepted(message)) => {
                self.rows
                    .posted(&work.hold, &Posting::Accepted(message.clone()))
                    .await?;
                log_sent(work, &message, 1);
                Ok(Next::Chunk(message, 2))
            }
            // Without secrets there was no call.
            Ok(Posted::Refused(error)) | Err(error) => {
                self.rows.posted(&work.hold, &Posting::NotSent).await?;
                Err(error)
            }
            Ok(Posted::Unanswered(error)) => {
                warn!(
                    row = work.hold.row,
                    error = error.chain(),
                    "the answer to the first chunk was lost"
                );
                self.rows.unanswered(&work.hold, &error).await?;
                if work.plan.chunks > 1 {
                    return Err(again("the answer to the first chunk was lost", error));
                }
                let wait = self.settings.uncertain_send_wait;
                let asked_for = error.retry_after().unwrap_or_default().min(LONGEST_PAUSE);
                let wait = wait.try_into().unwrap_or_default();
                Ok(Next::Pause(asked_for.max(wait)))
            }
        }
    }

    async fn later_chunk(
        &self,
        work: &Work,
        message: MessageId,
        chunk: u32,
        invocation: &Invocation,
    ) -> Result<Next, Error> {
        let (mailbox, chunks) = (&work.mailbox, work.plan.chunks);
        log_started(work, chunk);
        let body = self.chunk(work, chunk);
        let gzip = work.plan.compress;
        let post = self
            .outbox
            .post_chunk(mailbox, &message, chunk, chunks, gzip, &body);
        let posted = timeout(for_an_answer(invocation), post).await;
        let posted = match posted.unwrap_or_else(|_| Err(no_answer(chunk))) {
            // A server that answers 423 and breaks off while the chunk is being sent is not heard, and a try before this one may have
            // completed the message whatever is wrong now.
            Err(error) if chunk == chunks => {
                let tracking = self.outbox.track(mailbox, &message);
                return match told(invocation, tracking).await {
                    Ok(tracking) if is_taken(&tracking) => Ok(Next::Chunk(message, chunks + 1)),
                    // Nothing is closed before tracking has answered.
                    _ if error.is_temporary() => Err(error),
                    Ok(tracking) if is_incomplete(&tracking) => Err(error),
                    Ok(_) => Err(unknown_status(&message)),
                    Err(Error::MessageGone(_)) => Err(may_be_complete(&message)),
                    Err(unread) => Err(again(UNREAD, unread)),
                };
            }
            posted => posted?,
        };
        if posted == ChunkPosted::Stored {
            self.rows.progress(&work.hold, chunk + 1).await?;
            log_sent(work, &message, chunk);
            return Ok(Next::Chunk(message, chunk + 1));
        }
        // The try before this one may have completed the message, and may have been collected since: tracking tells.
        let tracking = self.outbox.track(mailbox, &message);
        match told(invocation, tracking).await {
            Ok(tracking) if is_taken(&tracking) => Ok(Next::Chunk(message, chunks + 1)),
            Ok(tracking) if posted == ChunkPosted::Complete => {
                // Whatever became of it, MESH has all of it: tracking tells.
                if tracking.status != "uploading" {
                    return Ok(Next::Chunk(message, chunks + 1));
                }
                Err(Error::MeshUnavailable(Fault::new(format!(
                    "MESH says both that message {message} is complete and that it is still uploading"
                ))))
            }
            // The try before this one may have been the one that completed it.
            Err(Error::MessageGone(_)) if posted == ChunkPosted::Complete || chunk == chunks => {
                Err(may_be_complete(&message))
            }
            Ok(tracking) if !is_incomplete(&tracking) => Err(unknown_status(&message)),
            // MESH has dropped it half-way, and delivers only complete messages: the next try begins a new one.
            Ok(_) | Err(Error::MessageGone(_)) => {
                self.rows.posted(&work.hold, &Posting::NotSent).await?;
                Err(Error::MeshUnavailable(Fault::new(format!(
                    "MESH no longer takes chunks of message {message}; it is begun anew"
                ))))
            }
            Err(error) => Err(again(UNREAD, error)),
        }
    }
}

// MESH has accepted the whole message, whatever became of it since.
fn is_taken(tracking: &Tracking) -> bool {
    matches!(
        tracking.status.as_str(),
        "accepted" | "acknowledged" | "undeliverable"
    )
}

// MESH has not all of the message, or has dropped it.
fn is_incomplete(tracking: &Tracking) -> bool {
    matches!(tracking.status.as_str(), "uploading" | "error")
}

fn unknown_status(message: &MessageId) -> Error {
    Error::MeshUnavailable(Fault::new(format!(
        "MESH no longer takes chunks of message {message}, and gives it a status that is not known"
    )))
}

fn work(row: &Row, hold: &Hold) -> Result<Work, Error> {
    let pinned = (|| {
        Some(Work {
            hold: hold.clone(),
            mailbox: row.mailbox.as_deref()?.parse().ok()?,
            key: row.s3_key.clone()?,
            version_id: row.version_id.clone()?,
            plan: Plan {
                size: row.size?,
                chunk_size: row.chunk_size?,
                chunks: row.chunks?,
                compress: row.compress?,
            },
            row: row.clone(),
        })
    })();
    pinned.ok_or_else(|| {
        Error::InvalidInput(Fault::new(format!(
            "row {} lacks what was pinned when it was claimed: somebody has changed it; correct it, or ask the recipient whether the message came before you put the object again",
            row.id
        )))
    })
}

const UNREAD: &str = "what became of the message can't be read";

fn may_be_complete(message: &MessageId) -> Error {
    Error::UncertainSend(Fault::new(format!(
        "message {message} may be complete, and MESH says that it has none such; ask the recipient, close the row as docs/runbook.md says for held, and then put the object again if the message is missing"
    )))
}

// Definite or not, it is no verdict on the object.
fn again(what: &str, error: Error) -> Error {
    if error.is_temporary() {
        return error;
    }
    Error::MeshUnavailable(Fault::new(what).because(error))
}

fn for_an_answer(invocation: &Invocation) -> std::time::Duration {
    let left = invocation.deadline - clock::now();
    (left - RESERVE.min(left / 2))
        .try_into()
        .unwrap_or_default()
}

/// What MESH says of a message, unless it says nothing for two minutes, or until the invocation is about to end.
pub(crate) async fn told<T>(
    invocation: &Invocation,
    question: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let silence = |_| {
        Err(Error::MeshUnavailable(Fault::new(
            "MESH did not say in time what it knows of the message; if that is so again, look at the way to MESH",
        )))
    };
    timeout(for_an_answer(invocation).min(QUESTION), question)
        .await
        .unwrap_or_else(silence)
}

fn no_answer(chunk: u32) -> Error {
    Error::MeshUnavailable(Fault::new(format!(
        "MESH did not take chunk {chunk} before the invocation's end; if that is so again, look at the way to MESH, or make chunk_size smaller"
    )))
}

fn log_started(work: &Work, chunk: u32) {
    info!(
        logReference = "MESHSEND0005",
        row = work.hold.row,
        chunk_num = chunk,
        max_chunk = work.plan.chunks,
        "chunk started"
    );
}

fn log_sent(work: &Work, message: &MessageId, chunk: u32) {
    info!(
        logReference = "MESHSEND0007",
        row = work.hold.row,
        message_id = %message,
        chunk_num = chunk,
        max_chunk = work.plan.chunks,
        http_status = 202,
        "chunk sent"
    );
}

fn message_id(row: &Row) -> Option<MessageId> {
    row.message_id.as_deref()?.parse().ok()
}

pub(crate) fn waiting(row: &str, pause: std::time::Duration) -> SendResponse {
    SendResponse {
        status_code: 200,
        row: Some(row.to_owned()),
        wait_seconds: Some(pause.as_secs().max(1)),
        ..SendResponse::default()
    }
}

fn unfinished(work: &Work, message: &MessageId, next: u32) -> SendResponse {
    SendResponse {
        status_code: 200,
        row: Some(work.hold.row.clone()),
        message_id: Some(message.to_string()),
        next_chunk: Some(next),
        ..SendResponse::default()
    }
}
