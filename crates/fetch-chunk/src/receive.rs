//! One message, from MESH into the bucket.

use bytes::Bytes;
use mesh_client::{MailboxId, MessageHeaders, MessageId, MessageType};
use mesh_pipeline::layout::{RecordedKey, headers_key};
use mesh_pipeline::lease::Leases;
use mesh_pipeline::metadata::Metadata;
use mesh_pipeline::rows::{Begun, Received, ReceivingRows, Row};
use mesh_pipeline::state::{Pending, Position};
use mesh_pipeline::store::{Attributes, Condition, Found, ObjectWriter, Written};
use mesh_pipeline::{Error, Fault, clock};
use time::{Duration, OffsetDateTime};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::destination::{Destination, Key, condition, is_message};
use crate::messages::Messages;
use crate::multipart::Upload;
use crate::order::Place;
use crate::parts::{End, Filled, Source};
use crate::{Attempt, Fetch, Outcome, Turn};

/// Fetches and stores one message, or a stretch of it; an error comes with the number of attempts, if one was begun.
pub(crate) async fn receive<M, L, R, W, S>(
    fetch: &Fetch<M, L, R, W, S>,
    destination: &Destination<W>,
    mailbox: &MailboxId,
    pending: Pending,
    place: &Place,
    turn: &Turn<'_>,
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
        place,
        overwrite: false,
        replaces: None,
        again: false,
        since: clock::now() - Duration::DAY,
        started: Instant::now(),
        stalled: std::time::Duration::from_secs(pending.stalled_seconds),
        until: turn.until,
        patience: turn.patience,
    };
    let row = match fetch
        .rows
        .begin(mailbox, message, turn.execution)
        .await
        .map_err(|error| (None, error))?
    {
        Begun::Stored(row) => return Ok(Outcome::Stored(Box::new(row))),
        Begun::Fetch { row, again } => {
            work.again = again && pending.position.is_none();
            row
        }
    };
    if let Some(begun) = row.timestamp.as_deref().and_then(clock::parse_iso) {
        work.since = begun - CLOCKS_APART;
    }
    let noted = noted_position(&row);
    let position = match pending.position {
        // The state machine repeats a call that failed with what it was first called with.
        Some(given) => Some(
            noted
                .filter(|noted| goes_beyond(noted, &given))
                .unwrap_or(given),
        ),
        None => noted,
    };
    if let Some(position) = &position {
        work.overwrite = position.overwrite;
        work.replaces.clone_from(&position.replaces);
    } else {
        work.overwrite = row.redelivered == Some(true);
        work.replaces = row.version_id.clone().filter(|_| work.overwrite);
    }
    let attempt = Attempt {
        number: row.attempts.unwrap_or(1),
        gone_before: row
            .error
            .as_deref()
            .is_some_and(|error| error.starts_with("MessageGone")),
        upload_id: position
            .as_ref()
            .map(|position| position.upload_id.clone())
            .or(row.upload_id),
    };
    work.run(position)
        .await
        .map_err(|error| (Some(attempt), error))
}

/// An object to be written.
struct Put<'a> {
    body: &'a Bytes,
    attributes: &'a Attributes,
    condition: Condition,
}

/// What became of it.
enum Stored {
    /// By this write.
    Now(Written),
    /// By one whose answer was lost.
    Before(Box<Received>),
}

/// Between tries of what the SDK must not repeat by itself; as long as it would.
pub(crate) const PAUSES: [std::time::Duration; 3] = [
    std::time::Duration::from_millis(200),
    std::time::Duration::from_secs(1),
    std::time::Duration::from_secs(4),
];

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
        chunks: row.chunks,
        upload_id: row.upload_id.clone()?,
        key,
        overwrite: row.redelivered == Some(true),
        replaces: row
            .version_id
            .clone()
            .filter(|_| row.redelivered == Some(true)),
    })
}

fn goes_beyond(noted: &Position, given: &Position) -> bool {
    noted.upload_id == given.upload_id && noted.next_part > given.next_part
}

/// One message on its way.
pub(crate) struct Receive<'a, M, L, R, W, S> {
    pub(crate) fetch: &'a Fetch<M, L, R, W, S>,
    pub(crate) destination: &'a Destination<W>,
    pub(crate) mailbox: &'a MailboxId,
    pub(crate) message: &'a MessageId,
    pub(crate) place: &'a Place,
    pub(crate) overwrite: bool,
    // The version that a redelivered message has already, if that is known.
    pub(crate) replaces: Option<String>,
    // The message may be in the bucket already.
    pub(crate) again: bool,
    // No object of this message is older.
    pub(crate) since: OffsetDateTime,
    pub(crate) started: Instant,
    // How long earlier invocations have tried in vain to store the next part.
    pub(crate) stalled: std::time::Duration,
    pub(crate) until: Instant,
    pub(crate) patience: std::time::Duration,
}

// More than this is read once more rather than held while those before it need the memory, and have the time.
const AHEAD: usize = 1024 * 1024;

pub(crate) const NO_TIME: std::time::Duration = std::time::Duration::ZERO;

impl<'a, M, L, R, W, S> Receive<'a, M, L, R, W, S>
where
    M: Messages,
    L: Leases,
    R: ReceivingRows,
    W: ObjectWriter,
    S: Sync,
{
    async fn run(&mut self, position: Option<Position>) -> Result<Outcome, Error> {
        let message_id = self.message;
        let destination = self.destination;
        let begun = position.is_some();
        let first = position.as_ref().map_or(1, |position| position.next_chunk);
        if begun {
            if !self.place.turn(self.until).await {
                return Ok(self.not_its_turn(position));
            }
            self.started = Instant::now();
        }
        let by_id = destination.keys(message_id, None);
        // The sender's name comes with the message alone: the state keeps no more of the key than its SHA-256.
        let noted_by_name = position
            .as_ref()
            .is_some_and(|position| !by_id.iter().any(|key| position.key.is(&key.text)));
        let mut opened = None;
        if destination.by_name || noted_by_name {
            let Ok(source) = timeout_at(self.until, self.open(first)).await else {
                return self.out_of_time(position, false, NO_TIME);
            };
            opened = Some(source?);
        }
        let headers = opened.as_ref().map(Source::headers);
        let keys = destination.keys(message_id, headers);
        // The setting may have been another one when the message was begun.
        let mut possible = keys.clone();
        for key in destination.keys_by_name(message_id, headers) {
            if !possible.contains(&key) {
                possible.push(key);
            }
        }
        let upload = match position {
            Some(position) => self.resume(position, &possible).await?,
            None => None,
        };
        // An upload that is no longer open may have been completed, and the answer to that lost.
        let look = self.again || begun && upload.is_none();
        if look && let Some(received) = self.stored_before(&possible).await? {
            if let Some(Upload { id, key, .. }) = &upload {
                destination.bucket(key).abort(&key.text, id).await?;
            }
            return self.note(received).await;
        }
        let anew = look && upload.is_none();
        if anew {
            destination.give_up_uploads(message_id, &possible).await;
        }
        let end = upload.as_ref().map_or(End::START, |upload| upload.end);
        let headers_were_known = opened.is_some();
        let download = async {
            let mut source = match opened {
                Some(source) if end.chunk == first => source,
                _ => self.open(end.chunk).await?,
            };
            if let Some(chunks) = upload.as_ref().and_then(|upload| upload.chunks) {
                source.expect_total(chunks)?;
            }
            source.skip(end.offset).await?;
            Ok(source)
        };
        let Ok(source) = timeout_at(self.until, download).await else {
            let position = upload.as_ref().map(|upload| self.position(upload));
            return self.out_of_time(position, false, NO_TIME);
        };
        let source: Source<'_, M> = source?;
        if anew && !headers_were_known {
            let named = destination.keys_by_name(message_id, Some(source.headers()));
            if !named.is_empty() {
                if let Some(received) = self.stored_before(&named).await? {
                    return self.note(received).await;
                }
                destination.give_up_uploads(message_id, &named).await;
            }
        }
        if source.headers().message_type() == MessageType::Report || source.total() == 0 {
            info!(logReference = "MESHFETCH0010", %message_id, "report received");
            if !self.place.turn(self.until).await {
                return Ok(self.not_its_turn(None));
            }
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
        if self.place.is_next() {
            return self.data(source, keys, upload).await;
        }
        self.ahead(source, keys).await
    }

    // Before its turn: a small message is held until then, a larger one is downloaded when its turn comes.
    async fn ahead(&mut self, mut source: Source<'_, M>, keys: Vec<Key>) -> Result<Outcome, Error> {
        let headers = source.headers().clone();
        let chunks = source.total();
        let filled = source.fill(AHEAD).await?;
        let waited = source.waited();
        drop(source);
        let held = match filled {
            Filled::OutOfTime => return self.out_of_time(None, false, waited),
            // Its memory is for those before it.
            Filled::Part(part, _) => {
                drop(part);
                None
            }
            Filled::Rest(bytes) => Some(bytes),
        };
        if !self.place.turn(self.until).await {
            return Ok(self.not_its_turn(None));
        }
        self.started = Instant::now();
        if let Some(bytes) = held {
            self.check_size(bytes.len() as u64)?;
            let attributes = self.attributes(&headers).await?;
            return self.whole(&headers, &keys, bytes, attributes, chunks).await;
        }
        match timeout_at(self.until, self.open(1)).await {
            Ok(source) => self.data(source?, keys, None).await,
            Err(_) => self.out_of_time(None, false, NO_TIME),
        }
    }

    // What others took is no time of its own.
    fn not_its_turn(&self, position: Option<Position>) -> Outcome {
        info!(message_id = %self.message, "waits for those before it; the next invocation goes on");
        self.unfinished(position, self.stalled)
    }

    // What an earlier attempt has stored, if it has.
    async fn stored_before(&self, keys: &[Key]) -> Result<Option<Received>, Error> {
        let message_id = self.message;
        let destination = self.destination;
        let mut keys = keys.to_vec();
        keys.extend(destination.report_keys(message_id));
        let stored = match &self.replaces {
            Some(earlier) => destination.find_newer(message_id, &keys, earlier).await?,
            None if self.overwrite => None,
            None => {
                destination
                    .find_stored(message_id, &keys, self.since)
                    .await?
            }
        };
        if stored.is_some() {
            info!(%message_id, "was stored already");
        }
        Ok(stored)
    }

    async fn open(&self, chunk: u32) -> Result<Source<'a, M>, Error> {
        info!(logReference = "MESHFETCH0001", mailbox = %self.mailbox, message_id = %self.message, chunk, "downloading");
        Source::open(
            &self.fetch.messages,
            &self.fetch.buffers,
            self.mailbox,
            self.message,
            chunk,
            self.until,
        )
        .await
    }

    // The upload, if it is one of a key that the message may have, and still open.
    async fn resume(&self, position: Position, keys: &[Key]) -> Result<Option<Upload>, Error> {
        let Some(key) = keys.iter().find(|key| position.key.is(&key.text)) else {
            return Ok(None);
        };
        let open = self
            .destination
            .bucket(key)
            .is_open(&key.text, &position.upload_id)
            .await?;
        Ok(open.then(|| Upload {
            id: position.upload_id,
            key: key.clone(),
            next_part: position.next_part,
            chunks: position.chunks,
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
        keys: &[Key],
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
            // A trail records a refused write as well, and a consumer of its events may not look at how it ended.
            let looks = destination.by_name && before.is_none();
            if looks && destination.is_anothers(key, self.message).await? {
                continue;
            }
            self.tell_destination(key);
            let condition = condition(before.as_ref());
            let put = Put {
                body: &body,
                attributes: &attributes,
                condition,
            };
            let received = match self.put(key, keys, &put).await? {
                Stored::Before(received) => *received,
                Stored::Now(Written::Stored(version_id)) => Received {
                    version_id,
                    size: Some(body.len() as u64),
                    ..destination.at(key)
                },
                Stored::Now(Written::Taken) => {
                    let found = destination.bucket(key).head(&key.text).await?;
                    match found {
                        Found::Object(object) if !is_message(&object, self.message) => continue,
                        Found::Object(object) if before.as_ref() != Some(&object) => {
                            destination.known(key, &object)
                        }
                        // It may be this message's object that was there, and that a consumer has taken away since.
                        _ => {
                            return Err(Error::AwsUnavailable(Fault::new(format!(
                                "s3://{}/{} was taken when message {} was written to it, and is not any more; it is tried again",
                                destination.location.bucket,
                                key.recorded(),
                                self.message
                            ))));
                        }
                    }
                }
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

    // A write whose answer was lost may have been made, and a consumer may have taken the object away since, so that its
    // condition holds once more: before it is repeated the versions are looked at.
    async fn put(&self, key: &Key, keys: &[Key], put: &Put<'_>) -> Result<Stored, Error> {
        let bucket = self.destination.bucket(key);
        let mut pauses = PAUSES.into_iter();
        loop {
            let body = put.body.clone();
            let failure = match bucket
                .put(&key.text, body, put.attributes, &put.condition)
                .await
            {
                Err(failure) if failure.is_temporary() => failure,
                other => return other.map(Stored::Now),
            };
            let Some(pause) = pauses.next() else {
                return Err(failure);
            };
            warn!(
                message_id = %self.message,
                error_name = failure.name(),
                error = failure.chain(),
                "not stored, as far as is known; it is looked for, and then tried again"
            );
            tokio::time::sleep(pause).await;
            if let Some(received) = self.stored_before(keys).await? {
                return Ok(Stored::Before(Box::new(received)));
            }
        }
    }

    pub(crate) fn all_taken(&self) -> Error {
        let location = &self.destination.location;
        Error::InvalidMessage(Fault::new(format!(
            "all keys of message {} in folder \"{}\" of bucket {} are other objects; move these away",
            self.message, location.folder, location.bucket
        )))
    }

    pub(crate) fn tell_destination(&self, key: &Key) {
        let recorded = key.recorded();
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
            content_type: headers.content_type().map(storable_type),
            metadata: metadata.entries,
        })
    }

    pub(crate) async fn note(&self, received: Received) -> Result<Outcome, Error> {
        let row = self.fetch.rows.received(self.message, &received).await?;
        Ok(Outcome::Stored(Box::new(row)))
    }

    // `waited`: time that other messages took is not the message's.
    pub(crate) fn out_of_time(
        &self,
        position: Option<Position>,
        moved: bool,
        waited: std::time::Duration,
    ) -> Result<Outcome, Error> {
        let message_id = self.message;
        let stalled = if moved {
            NO_TIME
        } else {
            // A second at least, so that there is an end however short the invocations are.
            let tried = self.started.elapsed().saturating_sub(waited);
            self.stalled + tried.max(std::time::Duration::from_secs(1))
        };
        if stalled > self.patience {
            return Err(Error::MeshUnavailable(Fault::new(format!(
                "message {message_id} came so slowly that not one part of it was stored in {} seconds; it is tried again, and if that does not help, look at the way to MESH",
                stalled.as_secs()
            ))));
        }
        info!(%message_id, "out of time; the next invocation goes on");
        Ok(self.unfinished(position, stalled))
    }

    pub(crate) fn unfinished(
        &self,
        position: Option<Position>,
        stalled: std::time::Duration,
    ) -> Outcome {
        Outcome::Unfinished(Pending {
            message_id: self.message.clone(),
            position,
            stalled_seconds: stalled.as_secs(),
        })
    }
}

// S3 refuses what is no header value, and the message with it.
fn storable_type(content_type: &str) -> String {
    let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if content_type.bytes().all(printable) {
        content_type.to_owned()
    } else {
        "application/octet-stream".to_owned()
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
