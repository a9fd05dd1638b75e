//! The chunks of one object version, in order, one at a time.

use mesh_client::MessageId;
use mesh_pipeline::rows::{OutboundRows, Posting, Row, Status};
use mesh_pipeline::state::{Invocation, SendResponse};
use mesh_pipeline::store::{ObjectReader, SourceObject};
use mesh_pipeline::{Error, Fault, clock};
use time::Duration;
use tracing::info;

use crate::Send;
use crate::chunk::{ChunkSource, gone};
use crate::outbox::{ChunkPosted, Outbox, Posted};
use crate::parameters::{self, Parameters};
use crate::plan::Plan;

// What is left of an invocation must be enough for another chunk, and at least this.
const MARGIN: Duration = Duration::seconds(60);

/// What comes next for an object version.
pub(crate) enum Next {
    /// The first chunk: MESH has nothing, or nothing that counts.
    First,
    /// A later chunk of this message; one beyond the last: all is sent.
    Chunk(MessageId, u32),
    /// Nothing before so long.
    Pause(std::time::Duration),
}

/// An object version that is being sent.
pub(crate) struct Work {
    pub(crate) row: String,
    pub(crate) execution: String,
    pub(crate) key: String,
    pub(crate) version_id: String,
    pub(crate) plan: Plan,
    pub(crate) parameters: Parameters,
}

impl<M: Outbox, R: OutboundRows, O: ObjectReader> Send<M, R, O> {
    /// Goes on from what the row says, until all is sent, time runs out, or there is something to wait for.
    pub(crate) async fn transfer(
        &self,
        row: Row,
        known: Option<(SourceObject, Parameters)>,
        invocation: &Invocation,
    ) -> Result<SendResponse, Error> {
        let work = self.work(&row, known, invocation).await?;
        let mut next = match (row.status, message_id(&row)) {
            (Some(Status::Sending), Some(message)) => {
                Next::Chunk(message, row.next_chunk.unwrap_or(2))
            }
            (Some(Status::Posting), _) => self.settle(&work, &row).await?,
            _ => Next::First,
        };
        let mut longest = Duration::ZERO;
        loop {
            let started = clock::now();
            next = match next {
                Next::First => self.first_chunk(&work, invocation).await?,
                Next::Pause(pause) => return Ok(waiting(&work.row, pause)),
                Next::Chunk(message, chunk) if chunk > work.plan.chunks => {
                    let row = self.rows.sent(&work.row, &work.execution).await?;
                    info!(logReference = "MESHSEND0008", row = work.row, message_id = %message, "sent");
                    return Ok(self.sent(&row));
                }
                Next::Chunk(message, chunk)
                    if started + MARGIN.max(longest * 2) > invocation.deadline =>
                {
                    return Ok(unfinished(&work, &message, chunk));
                }
                Next::Chunk(message, chunk) => self.later_chunk(&work, message, chunk).await?,
            };
            longest = longest.max(clock::now() - started);
        }
    }

    async fn work(
        &self,
        row: &Row,
        known: Option<(SourceObject, Parameters)>,
        invocation: &Invocation,
    ) -> Result<Work, Error> {
        let (Some(key), Some(version_id), Some(size), Some(chunk_size), Some(chunks)) = (
            row.s3_key.clone(),
            row.version_id.clone(),
            row.size,
            row.chunk_size,
            row.chunks,
        ) else {
            return Err(Error::InvalidInput(Fault::new(format!(
                "row {} lacks what was pinned when it was claimed; put the object again",
                row.id
            ))));
        };
        let mut parameters = match known {
            Some((_, parameters)) => parameters,
            None => match self.objects.find(&key, Some(&version_id)).await? {
                Some(object) => parameters::read(&object)?,
                None => return Err(gone(&key, &version_id)),
            },
        };
        parameters.message.local_id.clone_from(&row.local_id);
        parameters.message.gzip = row.compress.unwrap_or(false);
        Ok(Work {
            row: row.id.clone(),
            execution: invocation.execution.clone(),
            key,
            version_id,
            plan: Plan {
                size,
                chunk_size,
                chunks,
                compress: row.compress.unwrap_or(false),
            },
            parameters,
        })
    }

    fn chunk<'a>(&'a self, work: &'a Work, chunk: u32) -> ChunkSource<'a, O> {
        ChunkSource {
            objects: &self.objects,
            key: &work.key,
            version_id: &work.version_id,
            range: work.plan.range(chunk),
            compress: work.plan.compress,
        }
    }

    async fn first_chunk(&self, work: &Work, invocation: &Invocation) -> Result<Next, Error> {
        let (row, execution) = (&work.row, &work.execution);
        self.rows
            .posting(row, execution, invocation.deadline)
            .await?;
        log_started(work, 1);
        let posted = self
            .outbox
            .post(
                &work.parameters.mailbox,
                &work.parameters.message,
                work.plan.chunks,
                &self.chunk(work, 1),
            )
            .await;
        match posted {
            Ok(Posted::Accepted(message)) => {
                self.rows
                    .posted(row, execution, &Posting::Accepted(message.clone()))
                    .await?;
                log_sent(work, &message, 1);
                Ok(Next::Chunk(message, 2))
            }
            // Without secrets there was no call.
            Ok(Posted::Refused(error)) | Err(error) => {
                self.rows.posted(row, execution, &Posting::NotSent).await?;
                Err(error)
            }
            Ok(Posted::Unanswered(error)) => {
                self.rows.unanswered(row, execution, &error).await?;
                if work.plan.chunks > 1 {
                    return Err(error);
                }
                let wait = self.settings.uncertain_send_wait;
                Ok(Next::Pause(wait.try_into().unwrap_or_default()))
            }
        }
    }

    async fn later_chunk(
        &self,
        work: &Work,
        message: MessageId,
        chunk: u32,
    ) -> Result<Next, Error> {
        let (mailbox, chunks) = (&work.parameters.mailbox, work.plan.chunks);
        log_started(work, chunk);
        let posted = self
            .outbox
            .post_chunk(
                mailbox,
                &message,
                chunk,
                chunks,
                work.plan.compress,
                &self.chunk(work, chunk),
            )
            .await?;
        match posted {
            ChunkPosted::Stored => {
                self.rows
                    .progress(&work.row, &work.execution, chunk + 1)
                    .await?;
                log_sent(work, &message, chunk);
                Ok(Next::Chunk(message, chunk + 1))
            }
            // Only the last chunk completes a message, so the try before this one has reached MESH; tracking confirms it.
            ChunkPosted::Complete => {
                let tracking = self.outbox.track(mailbox, &message).await?;
                if tracking.status == "uploading" {
                    return Err(Error::MeshUnavailable(Fault::new(format!(
                        "MESH says both that message {message} is complete and that it is still uploading"
                    ))));
                }
                Ok(Next::Chunk(message, chunks + 1))
            }
            ChunkPosted::Gone => {
                self.rows
                    .posted(&work.row, &work.execution, &Posting::NotSent)
                    .await?;
                Ok(Next::First)
            }
        }
    }
}

fn log_started(work: &Work, chunk: u32) {
    info!(
        logReference = "MESHSEND0005",
        row = work.row,
        chunk_num = chunk,
        max_chunk = work.plan.chunks,
        "chunk started"
    );
}

fn log_sent(work: &Work, message: &MessageId, chunk: u32) {
    info!(
        logReference = "MESHSEND0007",
        row = work.row,
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
        row: Some(work.row.clone()),
        message_id: Some(message.to_string()),
        next_chunk: Some(next),
        ..SendResponse::default()
    }
}
