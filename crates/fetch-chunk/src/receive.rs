//! One message, from MESH into the bucket.

use bytes::Bytes;
use mesh_client::{MailboxId, MessageHeaders, MessageId, MessageType};
use mesh_pipeline::layout::{Kind, alternative_key, headers_key, inbound_key};
use mesh_pipeline::lease::Leases;
use mesh_pipeline::metadata::Metadata;
use mesh_pipeline::rows::{Begun, Received, ReceivingRows, Row};
use mesh_pipeline::state::{Pending, Position};
use mesh_pipeline::store::{Attributes, Found, ObjectWriter, Written};
use mesh_pipeline::{Error, Fault};
use tokio::time::{Instant, timeout_at};
use tracing::info;

use crate::destination::{find_stored, free_key, is_message, known};
use crate::messages::Messages;
use crate::parts::{End, Filled, MAX_PARTS, Source, part_size};
use crate::{Fetch, Outcome};

/// Fetches and stores one message, or a stretch of it; an error comes with the number of attempts, if one was begun.
pub(crate) async fn receive<M, L, R, W>(
    fetch: &Fetch<M, L, R, W>,
    mailbox: &MailboxId,
    pending: Pending,
    execution: &str,
    until: Instant,
) -> Result<Outcome, (Option<u32>, Error)>
where
    M: Messages,
    L: Leases,
    R: ReceivingRows,
    W: ObjectWriter,
{
    let message = &pending.message_id;
    let mut work = Receive {
        fetch,
        mailbox,
        message,
        overwrite: false,
        again: false,
        started: Instant::now(),
        until,
    };
    let (attempts, position) = match pending.position {
        Some(position) => {
            work.overwrite = position.overwrite;
            (1, Some(position))
        }
        None => match fetch
            .rows
            .begin(mailbox, message, execution)
            .await
            .map_err(|error| (None, error))?
        {
            Begun::Stored(row) => return Ok(Outcome::Stored(Box::new(row))),
            Begun::Fetch { row, again } => {
                work.overwrite = row.redelivered == Some(true);
                work.again = again && !work.overwrite;
                (row.attempts.unwrap_or(1), noted_position(&row))
            }
        },
    };
    work.run(position)
        .await
        .map_err(|error| (Some(attempts), error))
}

fn noted_position(row: &Row) -> Option<Position> {
    Some(Position {
        next_chunk: row.next_chunk?,
        skip: row.skip?,
        next_part: row.next_part?,
        upload_id: row.upload_id.clone()?,
        key: row.s3_key.clone()?,
        overwrite: row.redelivered == Some(true),
    })
}

struct Receive<'a, M, L, R, W> {
    fetch: &'a Fetch<M, L, R, W>,
    mailbox: &'a MailboxId,
    message: &'a MessageId,
    overwrite: bool,
    // The message may be in the bucket already.
    again: bool,
    started: Instant,
    until: Instant,
}

// What makes no progress in so long is a failure, not a matter of more time.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);

// 32 MiB: what a worker that dies costs at most, for a row change now and then.
const CHECKPOINT_PARTS: i32 = 4;

// A multipart upload under way, and where the part that is being written will end.
struct Upload {
    id: String,
    key: String,
    next_part: i32,
    end: End,
}

impl<M, L, R, W> Receive<'_, M, L, R, W>
where
    M: Messages,
    L: Leases,
    R: ReceivingRows,
    W: ObjectWriter,
{
    async fn run(&self, position: Option<Position>) -> Result<Outcome, Error> {
        let message_id = self.message;
        let begun = position.is_some();
        let position = match position {
            Some(position)
                if self
                    .fetch
                    .bucket
                    .is_open(&position.key, &position.upload_id)
                    .await? =>
            {
                Some(position)
            }
            _ => None,
        };
        // An upload that is no longer open may have been completed, and the answer to that lost.
        if (self.again || begun && position.is_none() && !self.overwrite)
            && let Some(received) = self.stored_already().await?
        {
            info!(logReference = "MESHFETCH0012", %message_id, "was stored already");
            return self.note(received).await;
        }
        let (chunk, skip) = position
            .as_ref()
            .map_or((1, 0), |position| (position.next_chunk, position.skip));
        info!(logReference = "MESHFETCH0001", mailbox = %self.mailbox, %message_id, chunk, "downloading");
        let open = Source::open(
            &self.fetch.messages,
            self.mailbox,
            self.message,
            chunk,
            skip,
            self.until,
        );
        let Ok(source) = timeout_at(self.until, open).await else {
            return self.out_of_time(position, false);
        };
        let source = source?;
        let upload = position.map(|position| Upload {
            id: position.upload_id,
            key: position.key,
            next_part: position.next_part,
            end: End {
                chunk: position.next_chunk,
                offset: position.skip,
            },
        });
        if source.headers().message_type() == MessageType::Report || source.total() == 0 {
            info!(logReference = "MESHFETCH0010", %message_id, "report received");
            return self.report(source.headers()).await;
        }
        self.data(source, upload).await
    }

    async fn stored_already(&self) -> Result<Option<Received>, Error> {
        find_stored(
            &self.fetch.bucket,
            &self.fetch.settings.bucket,
            self.mailbox,
            self.message,
        )
        .await
    }

    async fn report(&self, headers: &MessageHeaders) -> Result<Outcome, Error> {
        let mut attributes = self.attributes(headers).await?;
        attributes.content_type = Some("application/json".to_owned());
        let body = headers_as_json(headers)?;
        self.whole(headers, Kind::Report, body, attributes, 0).await
    }

    async fn data(
        &self,
        mut source: Source<'_, M>,
        mut upload: Option<Upload>,
    ) -> Result<Outcome, Error> {
        let headers = source.headers().clone();
        let chunks = source.total();
        let attributes = self.attributes(&headers).await?;
        let message_id = self.message;
        let mut writing: Option<(Bytes, End)> = None;
        let mut moved = false;
        loop {
            let number = upload.as_ref().map_or(1, |upload| upload.next_part);
            let reading = number + i32::from(writing.is_some());
            let (written, filled) = tokio::join!(
                self.write(upload.as_ref(), writing.as_ref().map(|(part, _)| part)),
                source.fill(part_size(reading)),
            );
            written?;
            if let (Some(upload), Some((_, end))) = (upload.as_mut(), writing.take()) {
                upload.next_part += 1;
                upload.end = end;
                moved = true;
                if upload.next_part % CHECKPOINT_PARTS == 0 {
                    let position = self.position(upload);
                    self.fetch.rows.checkpoint(self.message, &position).await?;
                }
            }
            match filled? {
                Filled::Part(part, end) => {
                    if reading > MAX_PARTS {
                        return Err(Error::InvalidMessage(Fault::new(format!(
                            "message {message_id} is larger than {MAX_PARTS} parts of an S3 upload can hold"
                        ))));
                    }
                    if upload.is_none() {
                        upload = Some(self.start(&attributes).await?);
                    }
                    writing = Some((part, end));
                }
                Filled::OutOfTime => {
                    let position = upload.as_ref().map(|upload| self.position(upload));
                    if let Some(position) = &position {
                        self.fetch.rows.checkpoint(self.message, position).await?;
                    }
                    return self.out_of_time(position, moved);
                }
                Filled::Rest(rest) => {
                    return match upload {
                        None => {
                            info!(logReference = "MESHFETCH0011", %message_id, chunks, "received in one piece");
                            self.whole(&headers, Kind::Data, rest, attributes, chunks)
                                .await
                        }
                        Some(upload) => self.complete(&headers, upload, rest, chunks).await,
                    };
                }
            }
        }
    }

    async fn start(&self, attributes: &Attributes) -> Result<Upload, Error> {
        let key = if self.again {
            free_key(&self.fetch.bucket, self.mailbox, self.message, Kind::Data).await?
        } else {
            inbound_key(self.mailbox, self.message, Kind::Data)
        };
        let id = self.fetch.bucket.start(&key, attributes).await?;
        let upload = Upload {
            id,
            key,
            next_part: 1,
            end: End {
                chunk: 1,
                offset: 0,
            },
        };
        let message_id = self.message;
        info!(logReference = "MESHFETCH0005a", %message_id, "multipart upload started");
        let position = self.position(&upload);
        self.fetch.rows.checkpoint(self.message, &position).await?;
        Ok(upload)
    }

    async fn write(&self, upload: Option<&Upload>, part: Option<&Bytes>) -> Result<(), Error> {
        let (Some(upload), Some(part)) = (upload, part) else {
            return Ok(());
        };
        self.fetch
            .bucket
            .part(&upload.key, &upload.id, upload.next_part, part.clone())
            .await?;
        info!(
            logReference = "MESHFETCH0002",
            message_id = %self.message,
            part = upload.next_part,
            size_bytes = part.len(),
            "part stored"
        );
        Ok(())
    }

    async fn complete(
        &self,
        headers: &MessageHeaders,
        upload: Upload,
        rest: Bytes,
        chunks: u32,
    ) -> Result<Outcome, Error> {
        let mut last = upload.next_part - 1;
        if !rest.is_empty() {
            self.write(Some(&upload), Some(&rest)).await?;
            last += 1;
        }
        let bucket = &self.fetch.bucket;
        let written = bucket
            .complete(&upload.key, &upload.id, last, self.overwrite)
            .await?;
        let found = bucket.head(&upload.key).await?;
        if written == Written::Taken {
            bucket.abort(&upload.key, &upload.id).await?;
        }
        let received = match found {
            Found::Object(object) if is_message(&object, self.message) => {
                known(&self.fetch.settings.bucket, upload.key, &object)
            }
            Found::Object(_) => {
                return Err(Error::InvalidMessage(Fault::new(format!(
                    "s3://{}/{} is another object; the next attempt stores message {} under another key",
                    self.fetch.settings.bucket, upload.key, self.message
                ))));
            }
            _ if written == Written::Taken => {
                return Err(Error::AwsUnavailable(Fault::new(format!(
                    "the multipart upload of s3://{}/{} could not be completed and nothing is there; it is tried again",
                    self.fetch.settings.bucket, upload.key
                ))));
            }
            // Completed, and taken away by a consumer since.
            Found::Deleted | Found::Absent => Received {
                bucket: self.fetch.settings.bucket.clone(),
                key: upload.key,
                ..Received::default()
            },
        };
        let message_id = self.message;
        info!(logReference = "MESHFETCH0004", %message_id, parts = last, chunks, "multipart message stored");
        self.note(Received {
            chunks: Some(chunks),
            ..received.with_headers(headers)
        })
        .await
    }

    async fn whole(
        &self,
        headers: &MessageHeaders,
        kind: Kind,
        body: Bytes,
        attributes: Attributes,
        chunks: u32,
    ) -> Result<Outcome, Error> {
        let bucket = &self.fetch.bucket;
        for key_of in [inbound_key, alternative_key] {
            let key = key_of(self.mailbox, self.message, kind);
            let size = body.len() as u64;
            let received = match bucket
                .put(&key, body.clone(), &attributes, self.overwrite)
                .await?
            {
                Written::Stored(version_id) => Received {
                    bucket: self.fetch.settings.bucket.clone(),
                    key,
                    version_id,
                    size: Some(size),
                    ..Received::default()
                },
                Written::Taken => match bucket.head(&key).await? {
                    Found::Object(object) if is_message(&object, self.message) => {
                        known(&self.fetch.settings.bucket, key, &object)
                    }
                    _ => continue,
                },
            };
            return self
                .note(Received {
                    chunks: Some(chunks),
                    ..received.with_headers(headers)
                })
                .await;
        }
        Err(Error::InvalidMessage(Fault::new(format!(
            "both keys of message {} below inbound/{}/ are other objects; move these away",
            self.message, self.mailbox
        ))))
    }

    async fn attributes(&self, headers: &MessageHeaders) -> Result<Attributes, Error> {
        let metadata = Metadata::of(self.message, headers);
        if metadata.truncated {
            let key = headers_key(self.mailbox, self.message);
            let json = Attributes {
                content_type: Some("application/json".to_owned()),
                ..Attributes::default()
            };
            self.fetch
                .bucket
                .put(&key, headers_as_json(headers)?, &json, true)
                .await?;
        }
        Ok(Attributes {
            content_type: headers.content_type().map(str::to_owned),
            metadata: metadata.entries,
        })
    }

    async fn note(&self, received: Received) -> Result<Outcome, Error> {
        info!(
            logReference = "MESHFETCH0001c",
            message_id = %self.message,
            s3_bucket = received.bucket,
            s3_key = received.key,
            "stored"
        );
        let row = self.fetch.rows.received(self.message, &received).await?;
        Ok(Outcome::Stored(Box::new(row)))
    }

    fn out_of_time(&self, position: Option<Position>, moved: bool) -> Result<Outcome, Error> {
        let message_id = self.message;
        if !moved && self.started.elapsed() > PATIENCE {
            return Err(Error::MeshUnavailable(Fault::new(format!(
                "message {message_id} came so slowly that not one part of it was stored in a whole invocation"
            ))));
        }
        info!(%message_id, "out of time; the next invocation goes on");
        Ok(Outcome::Unfinished(Pending {
            message_id: message_id.clone(),
            position,
        }))
    }

    fn position(&self, upload: &Upload) -> Position {
        Position {
            next_chunk: upload.end.chunk,
            skip: upload.end.offset,
            next_part: upload.next_part,
            upload_id: upload.id.clone(),
            key: upload.key.clone(),
            overwrite: self.overwrite,
        }
    }
}

fn headers_as_json(headers: &MessageHeaders) -> Result<Bytes, Error> {
    let map: serde_json::Map<String, serde_json::Value> = headers
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value.into()))
        .collect();
    serde_json::to_vec(&map).map(Bytes::from).map_err(|error| {
        Error::InvalidMessage(
            Fault::new("the message's headers can't be written as JSON").because(error),
        )
    })
}
