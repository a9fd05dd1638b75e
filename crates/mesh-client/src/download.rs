//! Downloading a message, chunk by chunk, as a stream.

use std::fmt;
use std::io;
use std::pin::Pin;

use async_compression::tokio::bufread::GzipDecoder;
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt, TryStreamExt};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use tokio::io::{AsyncBufReadExt, AsyncRead};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::client::Mailbox;
use crate::error::Error;
use crate::headers::{MessageHeaders, MessageType};
use crate::id::MessageId;
use crate::transport;

const BUFFER: usize = 64 * 1024;

/// One chunk of a message, while it arrives.
pub struct Download {
    /// The message's headers; MESH repeats them with every chunk.
    pub headers: MessageHeaders,
    /// Which chunk this is, from 1.
    pub chunk: u32,
    /// How many the message has; 0 for a report, which is headers only.
    pub chunks: u32,
    body: Decoded,
}

impl Mailbox {
    /// The first or only chunk.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Gone`] if the message isn't there (any more); otherwise see
    /// [`Error`].
    pub async fn download(&self, id: &MessageId) -> Result<Download, Error> {
        self.download_chunk(id, 1).await
    }

    /// Chunk number `chunk`, from 1.
    ///
    /// # Errors
    /// As [`Mailbox::download`].
    pub async fn download_chunk(&self, id: &MessageId, chunk: u32) -> Result<Download, Error> {
        let asked = id;
        let id = id.path_segment();
        let path = match chunk {
            1 => format!("/inbox/{id}"),
            later => format!("/inbox/{id}/{later}"),
        };
        let mut call = self.call("download", Method::GET, &path);
        let encoding = if self.environment.accept_gzip {
            "gzip"
        } else {
            "identity"
        };
        call.headers
            .insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        let response = self.execute(&call, &Bytes::new()).await?;
        Download::new(response, asked, chunk)
    }
}

impl Download {
    fn new(response: Response, id: &MessageId, asked: u32) -> Result<Self, Error> {
        let more = response.status() == StatusCode::PARTIAL_CONTENT;
        let headers = MessageHeaders::new(response.headers());
        if !is_of(&headers, id, asked) {
            return Err(Error::Malformed(
                "the answer is not the message that was asked for, by its Mex-MessageID".into(),
            ));
        }
        let (chunk, chunks) = position(&headers, asked, more)?;
        Ok(Self {
            headers,
            chunk,
            chunks,
            body: Decoded::new(response)?,
        })
    }

    /// The next piece of the content, decoded; `None` at the end. Keep nothing as complete before
    /// that: a connection cut short shows here.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the connection broke, [`Error::InvalidBody`] if the content isn't
    /// the gzip that its headers announce.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.body.next().await
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("headers", &self.headers)
            .field("chunk", &self.chunk)
            .field("chunks", &self.chunks)
            .finish_non_exhaustive()
    }
}

/// What stands in MESH's place, a page of maintenance say, answers 200 as well. A later chunk is known by its Mex-Chunk-Range.
fn is_of(headers: &MessageHeaders, id: &MessageId, asked: u32) -> bool {
    match headers.message_id() {
        Some(told) => told.eq_ignore_ascii_case(id.as_ref()),
        None => asked > 1,
    }
}

/// Chunk and total. Status (206: more to come) and Mex-Chunk-Range have to agree, since a chunk
/// taken for the last one would end in a message that is acknowledged and incomplete.
fn position(headers: &MessageHeaders, asked: u32, more: bool) -> Result<(u32, u32), Error> {
    let malformed = |text: &str| Err(Error::Malformed(text.into()));
    let report = headers.message_type() == MessageType::Report;
    let range = match headers.get("mex-chunk-range") {
        Some(range) => match range.split_once(':') {
            Some((chunk, chunks)) => (chunk.trim().parse(), chunks.trim().parse()),
            None => return malformed("Mex-Chunk-Range is not `chunk:total`"),
        },
        None if report => return Ok((asked, 0)),
        None if !more && asked == 1 => return Ok((1, 1)),
        None => return malformed("a chunk has no Mex-Chunk-Range"),
    };
    let (Ok(chunk), Ok(chunks)) = range else {
        return malformed("Mex-Chunk-Range is not `chunk:total`");
    };
    if report {
        return Ok((chunk, chunks));
    }
    if chunk != asked {
        return malformed("Mex-Chunk-Range names another chunk than the one asked for");
    }
    if more != (chunk < chunks) || chunk > chunks {
        return malformed("status and Mex-Chunk-Range disagree on whether more chunks follow");
    }
    Ok((chunk, chunks))
}

/// An answer's body with its Content-Encoding undone.
pub(crate) enum Decoded {
    Plain(Response),
    Gzip(Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>),
}

impl Decoded {
    pub(crate) fn new(response: Response) -> Result<Self, Error> {
        let encoding = response
            .headers()
            .get(CONTENT_ENCODING)
            .map(|value| value.as_bytes().to_ascii_lowercase());
        match encoding.as_deref() {
            None | Some(b"" | b"identity") => Ok(Self::Plain(response)),
            Some(b"gzip") => Ok(Self::Gzip(gunzip(response))),
            Some(_) => Err(Error::Malformed(
                "the body has a Content-Encoding other than gzip".into(),
            )),
        }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Plain(response) => response.chunk().await.map_err(transport::classify),
            Self::Gzip(stream) => stream.next().await.transpose(),
        }
    }
}

/// Each chunk is a gzip stream of its own, and a stream may have several members.
fn gunzip(response: Response) -> Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>> {
    let stream = response.bytes_stream().map_err(io::Error::other);
    let mut compressed = StreamReader::new(stream.boxed());
    let start = async move {
        // No body at all, as a report's, is no gzip stream and no fault.
        let reader: Pin<Box<dyn AsyncRead + Send>> = if compressed.fill_buf().await?.is_empty() {
            Box::pin(tokio::io::empty())
        } else {
            let mut decoder = GzipDecoder::new(compressed);
            decoder.multiple_members(true);
            Box::pin(decoder)
        };
        Ok::<_, io::Error>(ReaderStream::with_capacity(reader, BUFFER))
    };
    futures_util::stream::once(start)
        .try_flatten()
        .map_err(decoding_error)
        .boxed()
}

fn decoding_error(error: io::Error) -> Error {
    match error.downcast::<reqwest::Error>() {
        Ok(error) => transport::classify(error),
        Err(error) => Error::InvalidBody(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderMap;

    #[test]
    fn the_place_of_a_chunk_is_certain_or_an_error() {
        for (kind, range, asked, more, expected) in [
            ("DATA", Some("1:1"), 1, false, Some((1, 1))),
            ("DATA", Some("1:3"), 1, true, Some((1, 3))),
            ("DATA", Some("3:3"), 3, false, Some((3, 3))),
            ("DATA", None, 1, false, Some((1, 1))),
            ("REPORT", Some("1:0"), 1, false, Some((1, 0))),
            ("REPORT", None, 1, false, Some((1, 0))),
            ("DATA", Some("1:3"), 1, false, None),
            ("DATA", Some("3:3"), 3, true, None),
            ("DATA", Some("1:3"), 2, true, None),
            ("DATA", Some("4:3"), 4, false, None),
            ("DATA", Some("1:0"), 1, false, None),
            ("DATA", None, 1, true, None),
            ("DATA", None, 2, false, None),
            ("DATA", Some("1"), 1, false, None),
            ("DATA", Some("a:b"), 1, false, None),
            ("DATA", Some("-1:2"), 1, true, None),
        ] {
            let mut map = HeaderMap::new();
            map.insert("mex-messagetype", HeaderValue::from_static(kind));
            if let Some(range) = range {
                map.insert("mex-chunk-range", HeaderValue::from_static(range));
            }
            let result = position(&MessageHeaders::new(&map), asked, more);
            assert_eq!(result.ok(), expected, "{kind} {range:?} {asked} {more}");
        }
    }
}
