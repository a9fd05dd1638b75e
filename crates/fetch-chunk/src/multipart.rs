//! A message that is larger than one part, as a multipart upload that reads and writes at the same time.

use bytes::Bytes;
use mesh_client::MessageHeaders;
use mesh_pipeline::lease::Leases;
use mesh_pipeline::rows::{Received, ReceivingRows};
use mesh_pipeline::state::Position;
use mesh_pipeline::store::{Attributes, Found, ObjectWriter, Written};
use mesh_pipeline::{Error, Fault};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use crate::Outcome;
use crate::destination::{Key, condition, is_message};
use crate::messages::Messages;
use crate::parts::{End, Filled, Source};
use crate::receive::{NO_TIME, PAUSES, Receive};

// 32 MiB, or 64 of the larger parts: what a worker that dies costs at most, for a row change now and then.
const CHECKPOINT_PARTS: i32 = 4;

// One part is written, one read, and one waits between them, for neither keeps an even pace.
const PARTS_AHEAD: usize = 1;

/// Why nothing more is read.
enum LastRead {
    /// The rest of the message: less than a part, perhaps nothing.
    Rest(Bytes),
    OutOfTime,
}

/// A multipart upload under way, and where the part that is being written will end.
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) key: Key,
    pub(crate) next_part: i32,
    pub(crate) end: End,
    /// Chunks that the message had when it was begun.
    pub(crate) chunks: Option<u32>,
}

impl<M, L, R, W, S> Receive<'_, M, L, R, W, S>
where
    M: Messages,
    L: Leases,
    R: ReceivingRows,
    W: ObjectWriter,
    S: Sync,
{
    /// Stores a message with content.
    pub(crate) async fn data(
        &self,
        source: Source<'_, M>,
        keys: Vec<Key>,
        mut upload: Option<Upload>,
    ) -> Result<Outcome, Error> {
        let first = upload.as_ref().map_or(1, |upload| upload.next_part);
        let outcome = self.upload(source, keys, &mut upload).await;
        let (Err(failure), Some(upload)) = (&outcome, upload) else {
            return outcome;
        };
        if matches!(failure, Error::InvalidMessage(_)) {
            // Its row may not know it yet.
            self.destination
                .give_up_upload(self.message, &upload.id)
                .await;
        }
        // What has come on has not failed, or a large message on a line that breaks would never be complete.
        if failure.is_temporary() && failure.retry_after().is_none() && upload.next_part > first {
            warn!(
                message_id = %self.message,
                parts = upload.next_part - first,
                error_name = failure.name(),
                error = failure.chain(),
                "interrupted; the next invocation goes on"
            );
            let position = self.position(&upload);
            self.fetch.rows.checkpoint(self.message, &position).await?;
            return Ok(self.unfinished(Some(position), NO_TIME));
        }
        outcome
    }

    async fn upload(
        &self,
        mut source: Source<'_, M>,
        keys: Vec<Key>,
        upload: &mut Option<Upload>,
    ) -> Result<Outcome, Error> {
        let headers = source.headers().clone();
        let chunks = source.total();
        let first = upload.as_ref().map_or(1, |upload| upload.next_part);
        let (queue, parts) = mpsc::channel(PARTS_AHEAD);
        // What was read before reading failed is written; where writing fails, nothing more is read.
        let (end, ()) = tokio::try_join!(
            async { Ok(self.read(&mut source, first, queue).await) },
            self.write_all(parts, upload, &keys, &headers, chunks),
        )?;
        let moved = upload
            .as_ref()
            .is_some_and(|upload| upload.next_part > first);
        match end? {
            // Parts that were queued may have taken the margin's time; then the next invocation reads the rest again.
            LastRead::Rest(rest) if !moved || Instant::now() < self.until => {
                let (last, rest) = match &upload {
                    None => (0, rest),
                    Some(upload) if rest.is_empty() => (upload.next_part - 1, rest),
                    Some(upload) => {
                        self.write(upload, rest).await?;
                        (upload.next_part, Bytes::new())
                    }
                };
                // From here on the upload may be complete, or given up: a failure is none to go on from.
                match upload.take() {
                    None => {
                        let attributes = self.attributes(&headers).await?;
                        self.whole(&headers, &keys, rest, attributes, chunks).await
                    }
                    Some(upload) => self.complete(&headers, upload, last, chunks).await,
                }
            }
            LastRead::Rest(_) | LastRead::OutOfTime => {
                let position = upload.as_ref().map(|upload| self.position(upload));
                if let Some(position) = &position {
                    self.fetch.rows.checkpoint(self.message, position).await?;
                }
                self.out_of_time(position, moved, source.waited())
            }
        }
    }

    /// Reads part after part into the queue, to the message's end or as long as there is time.
    async fn read(
        &self,
        source: &mut Source<'_, M>,
        mut number: i32,
        queue: mpsc::Sender<(Bytes, End)>,
    ) -> Result<LastRead, Error> {
        loop {
            let filled = source.fill(self.fetch.parts.size(number)).await?;
            if let Filled::Part(bytes, _) | Filled::Rest(bytes) = &filled {
                let size = self.fetch.parts.before(number) + bytes.len() as u64;
                self.check_size(size)?;
            }
            match filled {
                Filled::Part(part, end) => {
                    // Beyond that the margin is for what is queued already; this part is read again.
                    match timeout_at(self.until, queue.send((part, end))).await {
                        Ok(Ok(())) => number += 1,
                        Ok(Err(_)) | Err(_) => return Ok(LastRead::OutOfTime),
                    }
                }
                Filled::OutOfTime => return Ok(LastRead::OutOfTime),
                Filled::Rest(rest) => return Ok(LastRead::Rest(rest)),
            }
        }
    }

    /// Writes what comes out of the queue, and keeps in the upload how far it came.
    async fn write_all(
        &self,
        mut parts: mpsc::Receiver<(Bytes, End)>,
        upload: &mut Option<Upload>,
        keys: &[Key],
        headers: &MessageHeaders,
        chunks: u32,
    ) -> Result<(), Error> {
        // The part goes with the write: its memory is free as soon as it is written, or nothing could be read where there is
        // none left.
        while let Some((part, end)) = parts.recv().await {
            let upload = match upload {
                Some(upload) => upload,
                None => upload.insert(self.start(keys, headers, chunks).await?),
            };
            self.write(upload, part).await?;
            upload.next_part += 1;
            upload.end = end;
            if upload.next_part % CHECKPOINT_PARTS == 0 {
                let position = self.position(upload);
                self.fetch.rows.checkpoint(self.message, &position).await?;
            }
        }
        Ok(())
    }

    // A few bytes of gzip can become any number.
    pub(crate) fn check_size(&self, size: u64) -> Result<(), Error> {
        let limit = self.fetch.settings.max_message_size;
        if size <= limit {
            return Ok(());
        }
        Err(Error::InvalidMessage(Fault::new(format!(
            "message {} is larger than max_message_size, {limit} bytes after decoding; ask its sender about it, or raise max_message_size to store it",
            self.message
        ))))
    }

    async fn start(
        &self,
        keys: &[Key],
        headers: &MessageHeaders,
        chunks: u32,
    ) -> Result<Upload, Error> {
        let attributes = self.attributes(headers).await?;
        let destination = self.destination;
        // An id is another message's only by accident: that shows at the end, and the next attempt looks first.
        let key = if self.again || self.overwrite || destination.by_name {
            destination.free_key(self.message, keys).await?
        } else {
            keys.first().cloned()
        };
        let key = key.ok_or_else(|| self.all_taken())?;
        self.tell_destination(&key);
        let id = self.started(&key, &attributes).await?;
        let upload = Upload {
            id,
            key,
            next_part: 1,
            end: End::START,
            chunks: Some(chunks),
        };
        let message_id = self.message;
        info!(logReference = "MESHFETCH0005a", %message_id, "multipart upload started");
        let position = self.position(&upload);
        self.fetch.rows.checkpoint(self.message, &position).await?;
        Ok(upload)
    }

    // An upload whose start was not answered is there, perhaps, and nobody knows its id: it is given up before the next one.
    async fn started(&self, key: &Key, attributes: &Attributes) -> Result<String, Error> {
        let bucket = self.destination.bucket(key);
        let mut pauses = PAUSES.into_iter();
        loop {
            let failure = match bucket.start(&key.text, attributes).await {
                Err(failure) if failure.is_temporary() => failure,
                other => return other,
            };
            let Some(pause) = pauses.next() else {
                return Err(failure);
            };
            warn!(
                message_id = %self.message,
                error_name = failure.name(),
                error = failure.chain(),
                "multipart upload not started; it is tried again"
            );
            tokio::time::sleep(pause).await;
            let own = std::slice::from_ref(key);
            self.destination.give_up_uploads(self.message, own).await;
        }
    }

    async fn write(&self, upload: &Upload, part: Bytes) -> Result<(), Error> {
        let number = upload.next_part;
        let size_bytes = part.len();
        let key = &upload.key;
        self.destination
            .bucket(key)
            .part(&key.text, &upload.id, number, part)
            .await
            .inspect_err(|failure| {
                error!(
                    logReference = "MESHFETCH0006",
                    message_id = %self.message,
                    part = number,
                    error_name = failure.name(),
                    error = failure.chain(),
                    "part not stored"
                );
            })?;
        info!(
            logReference = "MESHFETCH0002",
            message_id = %self.message,
            part = number,
            size_bytes,
            "part stored"
        );
        Ok(())
    }

    async fn complete(
        &self,
        headers: &MessageHeaders,
        upload: Upload,
        last: i32,
        chunks: u32,
    ) -> Result<Outcome, Error> {
        let message_id = self.message;
        let received = self.completed(upload, last).await.inspect_err(|failure| {
            error!(
                logReference = "MESHFETCH0007",
                %message_id,
                error_name = failure.name(),
                error = failure.chain(),
                "multipart upload not completed"
            );
        })?;
        info!(logReference = "MESHFETCH0004", %message_id, parts = last, chunks, "multipart message stored");
        self.note(Received {
            chunks: Some(chunks),
            ..received.with_headers(headers)
        })
        .await
    }

    async fn completed(&self, upload: Upload, last: i32) -> Result<Received, Error> {
        let destination = self.destination;
        let key = &upload.key;
        let bucket = destination.bucket(key);
        let before = if self.overwrite {
            destination.ours(key, self.message).await?
        } else {
            None
        };
        let condition = condition(before.as_ref());
        let written = bucket
            .complete(&key.text, &upload.id, last, &condition)
            .await?;
        let found = bucket.head(&key.text).await?;
        if written == Written::Taken {
            bucket.abort(&key.text, &upload.id).await?;
        }
        let place = || format!("s3://{}/{}", destination.location.bucket, key.recorded());
        match (written, found) {
            // A redelivered message's earlier version is not what was to be written now.
            (_, Found::Object(object))
                if is_message(&object, self.message) && before.as_ref() != Some(&object) =>
            {
                Ok(destination.known(key, &object))
            }
            // Taken away by a consumer since.
            (Written::Stored(version_id), _) => Ok(Received {
                version_id,
                ..destination.at(key)
            }),
            (Written::Taken, Found::Object(object)) if !is_message(&object, self.message) => {
                Err(Error::InvalidMessage(Fault::new(format!(
                    "{} is another object; the next attempt stores message {} under another key",
                    place(),
                    self.message
                ))))
            }
            (Written::Taken, _) => Err(Error::AwsUnavailable(Fault::new(format!(
                "the multipart upload of {} could not be completed and nothing new is there; it is tried again",
                place()
            )))),
        }
    }

    pub(crate) fn position(&self, upload: &Upload) -> Position {
        Position {
            next_chunk: upload.end.chunk,
            skip: upload.end.offset,
            next_part: upload.next_part,
            chunks: upload.chunks,
            upload_id: upload.id.clone(),
            key: upload.key.recorded(),
            overwrite: self.overwrite,
            replaces: self.replaces.clone(),
        }
    }
}
