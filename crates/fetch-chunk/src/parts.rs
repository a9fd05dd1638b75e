//! Which bytes become which part.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use mesh_client::{MailboxId, MessageHeaders, MessageId};
use mesh_pipeline::{Error, Fault};
use tokio::time::{Instant, timeout, timeout_at};

use crate::buffers::{Buffer, Buffers};
use crate::messages::{Chunk, Messages};

const MIB: usize = 1024 * 1024;

/// How large the parts of an upload are.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// Bytes of each part of the first half.
    pub first: usize,
    /// Bytes of each part of the second half.
    pub later: usize,
    /// How many an upload may have.
    pub most: i32,
}

impl Parts {
    /// 8 MiB for the first half of S3's 10,000 parts, 16 MiB for the rest: 117 GiB in all, above MESH's 100 GB and what
    /// `MAX_MESSAGE_SIZE` may be.
    pub const S3: Self = Self {
        first: 8 * MIB,
        later: 16 * MIB,
        most: 10_000,
    };

    pub(crate) fn size(&self, number: i32) -> usize {
        if number <= self.most / 2 {
            self.first
        } else {
            self.later
        }
    }

    /// Bytes of the parts before this one: all but a message's last are full.
    pub(crate) fn before(&self, number: i32) -> u64 {
        (1..number.min(self.most + 1))
            .map(|part| self.size(part) as u64)
            .sum()
    }
}

/// What makes no progress in so long, in one invocation or in several, is a failure, not a matter of more time.
pub(crate) const PATIENCE: Duration = Duration::from_mins(5);

/// Where in the message a part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// The chunk in which it ended.
    pub(crate) chunk: u32,
    /// Decoded bytes of that chunk up to there.
    pub(crate) offset: u64,
}

impl End {
    /// Nothing is in a part yet.
    pub(crate) const START: Self = Self {
        chunk: 1,
        offset: 0,
    };
}

/// What was read for a part.
pub(crate) enum Filled {
    /// A whole part.
    Part(Bytes, End),
    /// The rest of the message: less than a part, perhaps nothing.
    Rest(Bytes),
    /// Time ran out before the part was full.
    OutOfTime,
}

/// The decoded bytes of a message across its chunks.
pub(crate) struct Source<'a, M> {
    messages: &'a M,
    buffers: &'a Buffers,
    mailbox: &'a MailboxId,
    message: &'a MessageId,
    until: Instant,
    headers: MessageHeaders,
    chunk: Chunk,
    number: u32,
    offset: u64,
    // Read, but beyond the end of the last part.
    over: Bytes,
    ended: bool,
    // Time that other messages' parts took.
    waited: Duration,
}

impl<'a, M: Messages> Source<'a, M> {
    /// Opens the message at a chunk.
    pub(crate) async fn open(
        messages: &'a M,
        buffers: &'a Buffers,
        mailbox: &'a MailboxId,
        message: &'a MessageId,
        number: u32,
        until: Instant,
    ) -> Result<Self, Error> {
        let chunk = download(messages, mailbox, message, number).await?;
        // Only the NHS's sandbox was seen to repeat them all with every chunk.
        let headers = if number > 1 && chunk.headers.message_id().is_none() {
            download(messages, mailbox, message, 1).await?.headers
        } else {
            chunk.headers.clone()
        };
        Ok(Self {
            messages,
            buffers,
            mailbox,
            message,
            until,
            headers,
            chunk,
            number,
            offset: 0,
            over: Bytes::new(),
            ended: false,
            waited: Duration::ZERO,
        })
    }

    /// The message's headers.
    pub(crate) fn headers(&self) -> &MessageHeaders {
        &self.headers
    }

    /// Chunks of the message; 0 for a report.
    pub(crate) fn total(&self) -> u32 {
        self.chunk.total
    }

    /// How long it had to wait for memory.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// Fails if the message has not as many chunks as when it was begun: what is in the parts may be another content then.
    pub(crate) fn expect_total(&self, begun: u32) -> Result<(), Error> {
        same_total(self.message, begun, self.chunk.total)
    }

    /// Skips so many of the opened chunk's decoded bytes, before anything is read.
    pub(crate) async fn skip(&mut self, mut bytes: u64) -> Result<(), Error> {
        while bytes > 0 {
            let Some(mut read) = self.chunk.body.next().await.transpose()? else {
                return Err(Error::InvalidMessage(Fault::new(format!(
                    "chunk {} of message {} is {bytes} bytes shorter than when it was begun; it is fetched from its beginning next time",
                    self.number, self.message
                ))));
            };
            let skipped = bytes.min(read.len() as u64);
            // skipped <= read.len(), so it fits.
            let _ = read.split_to(usize::try_from(skipped).unwrap_or(read.len()));
            bytes -= skipped;
            self.offset += skipped + read.len() as u64;
            self.over = read;
        }
        Ok(())
    }

    /// Reads until a part of that size is full, the message ends, or time runs out.
    pub(crate) async fn fill(&mut self, size: usize) -> Result<Filled, Error> {
        let Some(mut buffer) = self.buffer(size).await else {
            return Ok(Filled::OutOfTime);
        };
        loop {
            buffer.fill_from(&mut self.over);
            if buffer.room() == 0 {
                let end = End {
                    chunk: self.number,
                    offset: self.offset - self.over.len() as u64,
                };
                return Ok(Filled::Part(buffer.freeze(), end));
            }
            if self.ended {
                return Ok(Filled::Rest(buffer.freeze()));
            }
            let silent = Instant::now() + PATIENCE;
            match timeout_at(self.until.min(silent), self.next()).await {
                Err(_) if silent < self.until => {
                    return Err(nothing_came(self.message, self.number));
                }
                Err(_) => return Ok(Filled::OutOfTime),
                Ok(next) => match next? {
                    Some(bytes) => self.over = bytes,
                    None => self.ended = true,
                },
            }
        }
    }

    async fn buffer(&mut self, size: usize) -> Option<Buffer> {
        let asked = Instant::now();
        let buffer = timeout_at(self.until, self.buffers.take(size)).await.ok();
        self.waited += asked.elapsed();
        buffer
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(bytes) = self.chunk.body.next().await.transpose()? {
                self.offset += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            if self.number >= self.chunk.total {
                return Ok(None);
            }
            let next = download(self.messages, self.mailbox, self.message, self.number + 1).await?;
            same_total(self.message, self.chunk.total, next.total)?;
            self.chunk = next;
            self.number += 1;
            self.offset = 0;
        }
    }
}

fn same_total(message: &MessageId, begun: u32, now: u32) -> Result<(), Error> {
    if begun == now {
        return Ok(());
    }
    Err(Error::InvalidMessage(Fault::new(format!(
        "message {message} had {begun} chunks and now has {now}; tell the MESH service desk if it is so again at the next attempt"
    ))))
}

fn nothing_came(message: &MessageId, chunk: u32) -> Error {
    Error::MeshUnavailable(Fault::new(format!(
        "nothing of chunk {chunk} of message {message} came for {} seconds; it is tried again, and if that does not help, tell the MESH service desk",
        PATIENCE.as_secs()
    )))
}

// MESH answers for a chunk that it lacks as for a message that it lacks. Whether it has the message, the first chunk tells.
async fn download<M: Messages>(
    messages: &M,
    mailbox: &MailboxId,
    message: &MessageId,
    number: u32,
) -> Result<Chunk, Error> {
    let download = messages.download(mailbox, message, number);
    let Ok(answer) = timeout(PATIENCE, download).await else {
        return Err(nothing_came(message, number));
    };
    match answer {
        Err(Error::MessageGone(fault)) if number > 1 => Err(Error::InvalidMessage(
            Fault::new(format!(
                "chunk {number} of message {message} is missing in MESH; ask its sender to send it again"
            ))
            .because(fault),
        )),
        answer => answer,
    }
}
