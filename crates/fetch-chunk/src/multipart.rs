//! A message that is larger than one part, as a multipart upload that reads and writes at the same time.

use bytes::Bytes;
use mesh_client::MessageHeaders;
use mesh_pipeline::layout::{Kind, inbound_key};
use mesh_pipeline::lease::Leases;
use mesh_pipeline::rows::{Received, ReceivingRows};
use mesh_pipeline::state::Position;
use mesh_pipeline::store::{Attributes, Found, ObjectWriter, Written};
use mesh_pipeline::{Error, Fault};
use tracing::info;

use crate::Outcome;
use crate::destination::{free_key, is_message, known};
use crate::messages::Messages;
use crate::parts::{End, Filled, MAX_PARTS, Source, part_size};
use crate::receive::Receive;

// 32 MiB: what a worker that dies costs at most, for a row change now and then.
const CHECKPOINT_PARTS: i32 = 4;

/// A multipart upload under way, and where the part that is being written will end.
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) next_part: i32,
    pub(crate) end: End,
}
impl<M, L, R, W> Receive<'_, M, L, R, W>
where
    M: Messages,
    L: Leases,
    R: ReceivingRows,
    W: ObjectWriter,
{
    /// Stores a message with content.
    pub(crate) async fn data(
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
        let key = if self.again || self.overwrite {
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
