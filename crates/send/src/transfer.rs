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
use crate::uncertain::Settled;

// What is left of an invocation must be enough for another chunk, and at least this.
const MARGIN: Duration = Duration::seconds(60);

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
        let (mut message, mut next) = match (row.status, message_id(&row)) {
            (Some(Status::Sending), Some(message)) => (message, row.next_chunk.unwrap_or(2)),
            (Some(Status::Posting), _) => match self.settle(&work, &row).await? {
                Settled::Accepted(message) => (message, 2),
                Settled::Wait(pause) => return Ok(waiting(&work, pause)),
                Settled::NotSent => match self.first_chunk(&work, invocation).await? {
                    Ok(message) => (message, 2),
                    Err(pause) => return Ok(waiting(&work, pause)),
                },
            },
            _ => match self.first_chunk(&work, invocation).await? {
                Ok(message) => (message, 2),
                Err(pause) => return Ok(waiting(&work, pause)),
            },
        };
        let mut longest = Duration::ZERO;
        while next <= work.plan.chunks {
            if clock::now() + MARGIN.max(longest * 2) > invocation.deadline {
                return Ok(unfinished(&work, &message, next));
            }
            let started = clock::now();
            match self.later_chunk(&work, &message, next).await? {
                ChunkPosted::Stored => next += 1,
                ChunkPosted::Complete => next = work.plan.chunks + 1,
                ChunkPosted::Gone => {
                    self.rows
                        .posted(&work.row, &work.execution, &Posting::NotSent)
                        .await?;
                    message = match self.first_chunk(&work, invocation).await? {
                        Ok(message) => message,
                        Err(pause) => return Ok(waiting(&work, pause)),
                    };
                    next = 2;
                }
            }
            longest = longest.max(clock::now() - started);
        }
        let row = self.rows.sent(&work.row, &work.execution).await?;
        info!(logReference = "MESHSEND0008", row = work.row, message_id = %message, "sent");
        Ok(self.sent(&row))
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

    // The message's id, or a pause after which to come back.
    async fn first_chunk(
        &self,
        work: &Work,
        invocation: &Invocation,
    ) -> Result<Result<MessageId, std::time::Duration>, Error> {
        let (row, execution) = (&work.row, &work.execution);
        self.rows
            .posting(row, execution, invocation.deadline)
            .await?;
        info!(
            logReference = "MESHSEND0005",
            row,
            chunk_num = 1,
            max_chunk = work.plan.chunks,
            "chunk started"
        );
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
                Self::log_sent(work, &message, 1);
                Ok(Ok(message))
            }
            // Without secrets there was no call.
            Ok(Posted::Refused(error)) | Err(error) => {
                self.rows.posted(row, execution, &Posting::NotSent).await?;
                match error.retry_after() {
                    Some(pause) if matches!(error, Error::Throttled(_)) => Ok(Err(pause)),
                    _ => Err(error),
                }
            }
            Ok(Posted::Unanswered(error)) => {
                self.rows.unanswered(row, execution, &error).await?;
                if work.plan.chunks > 1 {
                    return Err(error);
                }
                let wait = self.settings.uncertain_send_wait;
                Ok(Err(wait.try_into().unwrap_or_default()))
            }
        }
    }

    async fn later_chunk(
        &self,
        work: &Work,
        message: &MessageId,
        chunk: u32,
    ) -> Result<ChunkPosted, Error> {
        let (mailbox, chunks) = (&work.parameters.mailbox, work.plan.chunks);
        info!(
            logReference = "MESHSEND0005",
            row = work.row,
            chunk_num = chunk,
            max_chunk = chunks,
            "chunk started"
        );
        let posted = self
            .outbox
            .post_chunk(
                mailbox,
                message,
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
                Self::log_sent(work, message, chunk);
            }
            // Only the last chunk completes a message, so the try before this one has reached MESH; tracking confirms it.
            ChunkPosted::Complete => {
                let tracking = self.outbox.track(mailbox, message).await?;
                if tracking.status == "uploading" {
                    return Err(Error::MeshUnavailable(Fault::new(format!(
                        "MESH says both that message {message} is complete and that it is still uploading"
                    ))));
                }
            }
            ChunkPosted::Gone => {}
        }
        Ok(posted)
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
}

fn message_id(row: &Row) -> Option<MessageId> {
    row.message_id.as_deref()?.parse().ok()
}

fn waiting(work: &Work, pause: std::time::Duration) -> SendResponse {
    SendResponse {
        status_code: 200,
        row: Some(work.row.clone()),
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
