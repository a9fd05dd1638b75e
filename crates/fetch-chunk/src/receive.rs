//! One message, from MESH into the bucket.

use bytes::Bytes;
use mesh_client::{MailboxId, MessageHeaders, MessageId, MessageType};
use mesh_pipeline::layout::{RecordedKey, headers_key};
use mesh_pipeline::lease::Leases;
use mesh_pipeline::metadata::Metadata;
use mesh_pipeline::rows::{Begun, Received, ReceivingRows, Row};
use mesh_pipeline::state::{Pending, Position};
use mesh_pipeline::store::{Attributes, Condition, ObjectWriter, Written};
use mesh_pipeline::{Error, Fault, clock};
use time::{Duration, OffsetDateTime};
use tokio::time::{Instant, timeout_at};
use tracing::info;

use crate::destination::{Destination, condition};
use crate::messages::Messages;
use crate::multipart::Upload;
use crate::parts::{End, Source};
use crate::{Attempt, Fetch, Outcome};

/// Fetches and stores one message, or a stretch of it; an error comes with the number of attempts, if one was begun.
pub(crate) async fn receive<M, L, R, W, S>(
    fetch: &Fetch<M, L, R, W, S>,
    destination: &Destination<W>,
    mailbox: &MailboxId,
    pending: Pending,
    execution: &str,
    until: Instant,
) -> Result<Outcome, (Option<Attempt>, Error)>
where
    M: Messages,
    L: Leases,
    R: ReceivingRows,
    W: ObjectWriter,
    S: Sync,
{
    let message = &pending.message_id;
    let mut work = Receive {
        fetch,
        destination,
        mailbox,
        message,
        overwrite: false,
        again: false,
        since: clock::now() - Duration::DAY,
        started: Instant::now(),
        until,
    };
    let (attempt, position) = match pending.position {
        Some(position) => {
            work.overwrite = position.overwrite;
            let attempt = Attempt {
                number: 1,
                gone_before: false,
            };
            (attempt, Some(position))
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
                if let Some(begun) = row.timestamp.as_deref().and_then(clock::parse_iso) {
                    work.since = begun - CLOCKS_APART;
                }
                let attempt = Attempt {
                    number: row.attempts.unwrap_or(1),
                    gone_before: row
                        .error
                        .as_deref()
                        .is_some_and(|error| error.starts_with("MessageGone")),
                };
                (attempt, noted_position(&row))
            }
        },
    };
    work.run(position)
        .await
        .map_err(|error| (Some(attempt), error))
}

// S3's clock and ours are compared.
const CLOCKS_APART: Duration = Duration::HOUR;

fn noted_position(row: &Row) -> Option<Position> {
    let key = match (&row.s3_key_sha256, &row.s3_key) {
        (Some(digest), _) => RecordedKey::KeySha256(digest.clone()),
        (None, Some(key)) => RecordedKey::Key(key.clone()),
        (None, None) => return None,
    };
    Some(Position {
        next_chunk: row.next_chunk?,
        skip: row.skip?,
        next_part: row.next_part?,
        upload_id: row.upload_id.clone()?,
        key,
        overwrite: row.redelivered == Some(true),
    })
}

/// One message on its way.
pub(crate) struct Receive<'a, M, L, R, W, S> {
    pub(crate) fetch: &'a Fetch<M, L, R, W, S>,
    pub(crate) destination: &'a Destination<W>,
    pub(crate) mailbox: &'a MailboxId,
    pub(crate) message: &'a MessageId,
    pub(crate) overwrite: bool,
    // The message may be in the bucket already.
    pub(crate) again: bool,
    // No object of this message is older.
    pub(crate) since: OffsetDateTime,
    pub(crate) started: Instant,
    pub(crate) until: Instant,
}

// What makes no progress in so long is a failure, not a matter of more time.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);

impl<M, L, R, W, S> Receive<'_, M, L, R, W, S>
where
    M: Messages,
    L: Leases,
    R: ReceivingRows,
    W: ObjectWriter,
    S: Sync,
{
    async fn run(&self, position: Option<Position>) -> Result<Outcome, Error> {
        let message_id = self.message;
        let begun = position.is_some();
        let first = position.as_ref().map_or(1, |position| position.next_chunk);
        // The sender's name comes with the message alone: the state keeps no more of the key than its SHA-256.
        let mut opened = None;
        if self.destination.by_name {
            let Ok(source) = timeout_at(self.until, self.open(first)).await else {
                return self.out_of_time(position, false);
            };
            opened = Some(source?);
        }
        let headers = opened.as_ref().map(Source::headers);
        let keys = self.destination.keys(message_id, headers);
        let upload = match position {
            Some(position) => self.resume(position, &keys).await?,
            None => None,
        };
        // An upload that is no longer open may have been completed, and the answer to that lost.
        if self.again || begun && upload.is_none() && !self.overwrite {
            let mut possible = keys.clone();
            possible.extend(self.destination.report_keys(message_id));
            let stored = self
                .destination
                .find_stored(message_id, &possible, self.since)
                .await?;
            if let Some(received) = stored {
                info!(%message_id, "was stored already");
                return self.note(received).await;
            }
        }
        let end = upload.as_ref().map_or(End::START, |upload| upload.end);
        let download = async {
            let mut source = match opened {
                Some(source) if end.chunk == first => source,
                _ => self.open(end.chunk).await?,
            };
            source.skip(end.offset).await?;
            Ok(source)
        };
        let Ok(source) = timeout_at(self.until, download).await else {
            let position = upload.as_ref().map(|upload| self.position(upload));
            return self.out_of_time(position, false);
        };
        let source: Source<'_, M> = source?;
        if source.headers().message_type() == MessageType::Report || source.total() == 0 {
            info!(logReference = "MESHFETCH0010", %message_id, "report received");
            return self.report(source.headers()).await;
        }
        if upload.is_none() {
            let chunks = source.total();
            if chunks == 1 {
                info!(logReference = "MESHFETCH0011", %message_id, "single-chunk message received");
            } else {
                info!(logReference = "MESHFETCH0013", %message_id, chunks, "multi-chunk message received");
            }
        }
        self.data(source, keys, upload).await
    }

    async fn open(&self, chunk: u32) -> Result<Source<'_, M>, Error> {
        info!(logReference = "MESHFETCH0001", mailbox = %self.mailbox, message_id = %self.message, chunk, "downloading");
        Source::open(
            &self.fetch.messages,
            self.mailbox,
            self.message,
            chunk,
            self.until,
        )
        .await
    }

    // The upload, if it is one of a key that the message has now, and still open.
    async fn resume(&self, position: Position, keys: &[String]) -> Result<Option<Upload>, Error> {
        let Some(key) = keys.iter().find(|key| position.key.is(key)) else {
            return Ok(None);
        };
        let open = self
            .destination
            .bucket
            .is_open(key, &position.upload_id)
            .await?;
        Ok(open.then(|| Upload {
            id: position.upload_id,
            key: key.clone(),
            next_part: position.next_part,
            end: End {
                chunk: position.next_chunk,
                offset: position.skip,
            },
        }))
    }

    async fn report(&self, headers: &MessageHeaders) -> Result<Outcome, Error> {
        let mut attributes = self.attributes(headers).await?;
        attributes.content_type = Some("application/json".to_owned());
        let body = headers_as_json(headers)?;
        let keys = self.destination.report_keys(self.message);
        self.whole(headers, &keys, body, attributes, 0).await
    }

    pub(crate) async fn whole(
        &self,
        headers: &MessageHeaders,
        keys: &[String],
        body: Bytes,
        attributes: Attributes,
        chunks: u32,
    ) -> Result<Outcome, Error> {
        let destination = self.destination;
        for key in keys {
            let before = if self.overwrite {
                destination.ours(key, self.message).await?
            } else {
                None
            };
            self.tell_destination(key);
            let size = body.len() as u64;
            let written = destination
                .bucket
                .put(key, body.clone(), &attributes, &condition(before.as_ref()))
                .await?;
            let received = match written {
                Written::Stored(version_id) => Received {
                    version_id,
                    size: Some(size),
                    ..destination.at(key)
                },
                Written::Taken => match destination.ours(key, self.message).await? {
                    Some(object) if before.as_ref() != Some(&object) => {
                        destination.known(key, &object)
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
        Err(self.all_taken())
    }

    pub(crate) fn all_taken(&self) -> Error {
        let location = &self.destination.location;
        Error::InvalidMessage(Fault::new(format!(
            "all keys of message {} in folder \"{}\" of bucket {} are other objects; move these away",
            self.message, location.folder, location.bucket
        )))
    }

    pub(crate) fn tell_destination(&self, key: &str) {
        let recorded = self.destination.recorded(key);
        info!(
            logReference = "MESHFETCH0001c",
            message_id = %self.message,
            s3_bucket = self.destination.location.bucket,
            s3_key = recorded.plain(),
            s3_key_sha256 = recorded.sha256(),
            "destination"
        );
    }

    pub(crate) async fn attributes(&self, headers: &MessageHeaders) -> Result<Attributes, Error> {
        let metadata = Metadata::of(self.message, headers);
        if metadata.truncated {
            let key = headers_key(self.mailbox, self.message);
            let json = Attributes {
                content_type: Some("application/json".to_owned()),
                ..Attributes::default()
            };
            self.fetch
                .bucket
                .put(&key, headers_as_json(headers)?, &json, &Condition::Always)
                .await?;
        }
        Ok(Attributes {
            content_type: headers.content_type().map(str::to_owned),
            metadata: metadata.entries,
        })
    }

    pub(crate) async fn note(&self, received: Received) -> Result<Outcome, Error> {
        let row = self.fetch.rows.received(self.message, &received).await?;
        Ok(Outcome::Stored(Box::new(row)))
    }

    pub(crate) fn out_of_time(
        &self,
        position: Option<Position>,
        moved: bool,
    ) -> Result<Outcome, Error> {
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
