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
use crate::multipart::Upload;
use crate::parts::{End, Source};
use crate::{Attempt, Fetch, Outcome};

/// Fetches and stores one message, or a stretch of it; an error comes with the number of attempts, if one was begun.
pub(crate) async fn receive<M, L, R, W>(
    fetch: &Fetch<M, L, R, W>,
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

/// One message on its way.
pub(crate) struct Receive<'a, M, L, R, W> {
    pub(crate) fetch: &'a Fetch<M, L, R, W>,
    pub(crate) mailbox: &'a MailboxId,
    pub(crate) message: &'a MessageId,
    pub(crate) overwrite: bool,
    // The message may be in the bucket already.
    pub(crate) again: bool,
    pub(crate) started: Instant,
    pub(crate) until: Instant,
}

// What makes no progress in so long is a failure, not a matter of more time.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);

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

    pub(crate) async fn whole(
        &self,
        headers: &MessageHeaders,
        kind: Kind,
        body: Bytes,
        attributes: Attributes,
        chunks: u32,
    ) -> Result<Outcome, Error> {
        let bucket = &self.fetch.bucket;
        let mut keys = vec![
            inbound_key(self.mailbox, self.message, kind),
            alternative_key(self.mailbox, self.message, kind),
        ];
        if self.overwrite {
            keys = vec![free_key(bucket, self.mailbox, self.message, kind).await?];
        }
        for key in keys {
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
                .put(&key, headers_as_json(headers)?, &json, true)
                .await?;
        }
        Ok(Attributes {
            content_type: headers.content_type().map(str::to_owned),
            metadata: metadata.entries,
        })
    }

    pub(crate) async fn note(&self, received: Received) -> Result<Outcome, Error> {
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
