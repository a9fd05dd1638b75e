//! Bodies to send: bytes or a stream, compressed on the way or not.

use std::future::Future;
use std::io::Write;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};

/// Any cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

const BUFFER: usize = 64 * 1024;

/// A request's body.
pub struct Body {
    pub(crate) inner: reqwest::Body,
    pub(crate) length: Option<u64>,
    pub(crate) failure: Failure,
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self {
            length: Some(bytes.len() as u64),
            inner: bytes.into(),
            failure: Failure::default(),
        }
    }
}

impl Body {
    /// A body that is read while it is sent. With a `length` it goes with a Content-Length, and a
    /// stream of another length fails the call; without, with chunked transfer coding.
    ///
    /// The last piece is held back until the stream has ended well: a stream that fails after its
    /// last byte, as one with a wrong checksum does, leaves the request incomplete too.
    pub fn from_stream<S>(stream: S, length: Option<u64>) -> Self
    where
        S: Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
    {
        let failure = Failure::default();
        let stream = held_back(stream, length, failure.clone());
        Self {
            inner: reqwest::Body::wrap_stream(stream),
            length,
            failure,
        }
    }

    /// A body that is compressed while it is read and sent. `level` is 0 (none) to 9 (smallest).
    /// Set `gzip` of the message or chunk as well.
    pub fn gzip<S>(stream: S, level: u8) -> Self
    where
        S: Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
    {
        Self::from_stream(gzipped(stream, level), None)
    }
}

/// async-compression's encoder flushes whenever its source pauses, and each flush costs size: a body that comes over a
/// network pauses all the time.
fn gzipped<S>(stream: S, level: u8) -> impl Stream<Item = Result<Bytes, BoxError>> + Send
where
    S: Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
{
    let level = Compression::new(u32::from(level.min(9)));
    let encoder = GzEncoder::new(Vec::with_capacity(BUFFER), level);
    stream::try_unfold(
        (stream.boxed(), Some(encoder)),
        async |(mut stream, encoder)| {
            let Some(mut encoder) = encoder else {
                return Ok(None);
            };
            while encoder.get_ref().len() < BUFFER {
                let Some(piece) = stream.try_next().await? else {
                    let last = encoder.finish()?;
                    return Ok(Some((Bytes::from(last), (stream, None))));
                };
                encoder.write_all(&piece)?;
            }
            let ready = mem::replace(encoder.get_mut(), Vec::with_capacity(BUFFER));
            Ok(Some((Bytes::from(ready), (stream, Some(encoder)))))
        },
    )
}

/// A body that can be sent again, because a repeated attempt needs it from its start.
pub trait BodySource: Send + Sync {
    /// The body from its start.
    fn open(&self) -> impl Future<Output = Result<Body, BoxError>> + Send;
}

impl BodySource for Bytes {
    async fn open(&self) -> Result<Body, BoxError> {
        Ok(self.clone().into())
    }
}

/// Where a failed stream leaves its error: the HTTP library would hand it back as one of many
/// causes of a broken request.
#[derive(Clone, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<BoxError>>>);

impl Failure {
    pub(crate) fn take(&self) -> Option<BoxError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, error: BoxError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

#[derive(Debug, Clone, Copy, thiserror::Error)]
enum StreamError {
    #[error("the stream failed")]
    Failed,
    #[error("the stream has {0} bytes, not the {1} announced")]
    Length(u64, u64),
}

struct HeldBack<S> {
    stream: S,
    held: Option<Bytes>,
    seen: u64,
    ended: bool,
}

fn held_back<S>(
    stream: S,
    length: Option<u64>,
    failure: Failure,
) -> impl Stream<Item = Result<Bytes, StreamError>> + Send
where
    S: Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
{
    let start = HeldBack {
        stream: stream.boxed(),
        held: None,
        seen: 0,
        ended: false,
    };
    stream::try_unfold(start, move |mut state| {
        let failure = failure.clone();
        async move {
            while !state.ended {
                let piece = match state.stream.next().await {
                    Some(Ok(piece)) => piece,
                    Some(Err(error)) => {
                        failure.put(error);
                        return Err(StreamError::Failed);
                    }
                    None => {
                        state.ended = true;
                        Bytes::new()
                    }
                };
                state.seen += piece.len() as u64;
                if let Some(length) = length
                    && (state.seen > length || state.ended && state.seen < length)
                {
                    let error = StreamError::Length(state.seen, length);
                    failure.put(error.into());
                    return Err(error);
                }
                if piece.is_empty() {
                    continue;
                }
                if let Some(ready) = state.held.replace(piece) {
                    return Ok(Some((ready, state)));
                }
            }
            Ok(state.held.take().map(|last| (last, state)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pieces = Vec<Result<Bytes, BoxError>>;

    /// What went out, and the error that was left behind.
    async fn sent(pieces: Pieces, length: Option<u64>) -> (Vec<u8>, bool, Option<String>) {
        let failure = Failure::default();
        let stream = held_back(stream::iter(pieces), length, failure.clone());
        let results: Vec<_> = stream.collect().await;
        let broken = results.iter().any(Result::is_err);
        let bytes = results.into_iter().flatten().flatten().collect();
        (bytes, broken, failure.take().map(|error| error.to_string()))
    }

    fn pieces(texts: &[&'static str]) -> Pieces {
        texts
            .iter()
            .map(|text| Ok(Bytes::from_static(text.as_bytes())))
            .collect()
    }

    #[tokio::test]
    async fn a_source_that_pauses_is_compressed_as_well_as_one_that_does_not() {
        let mut text = Vec::new();
        for number in 0..100_000_u32 {
            writeln!(text, "{number},{}", number.wrapping_mul(2_654_435_761)).unwrap();
        }
        let text = Bytes::from(text);
        let mut found = Vec::new();
        for pauses in [false, true] {
            let pieces: Pieces = text
                .chunks(10_000)
                .map(|piece| Ok(text.slice_ref(piece)))
                .collect();
            let source = stream::iter(pieces).then(move |piece| async move {
                if pauses {
                    tokio::task::yield_now().await;
                }
                piece
            });
            let compressed: Vec<Bytes> = gzipped(source, 6).try_collect().await.unwrap();
            assert!(compressed.iter().all(|piece| piece.len() < 2 * BUFFER));
            found.push(compressed.concat());
        }
        assert_eq!(found[0].len(), found[1].len());
        let mut decoded = Vec::new();
        std::io::Read::read_to_end(
            &mut flate2::read::GzDecoder::new(&found[1][..]),
            &mut decoded,
        )
        .unwrap();
        assert!(decoded == text);
    }

    #[tokio::test]
    async fn a_good_stream_passes_whole() {
        for length in [None, Some(4)] {
            let result = sent(pieces(&["a", "", "bc", "d", ""]), length).await;
            assert_eq!(result, (b"abcd".to_vec(), false, None));
        }
        assert_eq!(sent(pieces(&[]), Some(0)).await, (vec![], false, None));
    }

    #[tokio::test]
    async fn a_stream_that_fails_after_its_last_byte_is_not_sent_whole() {
        let mut failing = pieces(&["a", "b"]);
        failing.push(Err("checksum".into()));
        let result = sent(failing, Some(2)).await;
        assert_eq!(result, (b"a".to_vec(), true, Some("checksum".to_owned())));
    }

    #[tokio::test]
    async fn a_stream_of_another_length_is_not_sent_whole() {
        for (texts, bytes, seen) in [(&["a", "b"][..], "a", 2), (&["a", "b", "cd"], "a", 4)] {
            let error = format!("the stream has {seen} bytes, not the 3 announced");
            let result = sent(pieces(texts), Some(3)).await;
            assert_eq!(result, (bytes.as_bytes().to_vec(), true, Some(error)));
        }
    }
}
