//! The memory for parts: one budget for all messages that are at work at once, and memory that is used again.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::parts::Parts;

// One part is written while another is read; of the smaller ones a third waits between them.
const BUDGET: usize = 2 * Parts::S3.later;

/// Memory for parts.
#[derive(Debug, Clone)]
pub struct Buffers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    // A permit for each byte that may be in use.
    permits: Arc<Semaphore>,
    // What was used and is not in use: never more than there are permits.
    free: Mutex<Vec<Vec<u8>>>,
}

impl Default for Buffers {
    /// 32 MiB in all.
    fn default() -> Self {
        Self::with_budget(BUDGET)
    }
}

impl Buffers {
    /// So many bytes in all; no buffer can be larger.
    pub(crate) fn with_budget(bytes: usize) -> Self {
        Self(Arc::new(Shared {
            permits: Arc::new(Semaphore::new(bytes)),
            free: Mutex::default(),
        }))
    }

    /// A buffer of that size, as soon as the budget has room for it. Whoever asked first gets it first.
    pub(crate) async fn take(&self, size: usize) -> Buffer {
        // S3's parts have at most 5 GiB, ours far less.
        let permits = u32::try_from(size).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.0.permits).acquire_many_owned(permits);
        // The semaphore is never closed.
        let permits = permits.await.ok();
        Buffer {
            bytes: self.memory(size),
            size,
            home: Arc::clone(&self.0),
            _permits: permits,
        }
    }

    // The memory that was used last is the likeliest to be in the processor's caches.
    fn memory(&self, size: usize) -> Vec<u8> {
        let mut free = self.0.free();
        if let Some(place) = free.iter().rposition(|bytes| bytes.capacity() == size) {
            return free.remove(place);
        }
        // The permits for the new memory are taken already: what lies idle has to fit into the rest.
        while free.iter().map(Vec::capacity).sum::<usize>() > self.0.permits.available_permits() {
            free.remove(0);
        }
        drop(free);
        Vec::with_capacity(size)
    }

    #[cfg(test)]
    fn idle(&self) -> usize {
        self.0.free().iter().map(Vec::capacity).sum()
    }

    #[cfg(test)]
    fn room(&self) -> usize {
        self.0.permits.available_permits()
    }
}

impl Shared {
    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory for one part. It goes back when the last of the `Bytes` that were made of it is dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    size: usize,
    home: Arc<Shared>,
    _permits: Option<OwnedSemaphorePermit>,
}

impl Buffer {
    /// How many bytes still fit.
    pub(crate) fn room(&self) -> usize {
        self.size - self.bytes.len()
    }

    /// Takes as many of the bytes as fit out of them.
    pub(crate) fn fill_from(&mut self, bytes: &mut Bytes) {
        let fitting = bytes.split_to(bytes.len().min(self.room()));
        self.bytes.extend_from_slice(&fitting);
    }

    /// What is in it, without a copy.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.home.free().push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::time::Duration;

    #[tokio::test]
    async fn memory_is_used_again_and_never_exceeds_the_budget() {
        let buffers = Buffers::with_budget(32);
        let mut held = Vec::new();
        // Sizes in turn, more than the budget holds: each waits for an earlier one.
        for (turn, size) in [8, 8, 8, 8, 16, 8, 16, 16, 8, 8, 8, 16]
            .into_iter()
            .enumerate()
        {
            while buffers.room() < size {
                held.remove(0);
            }
            let mut buffer = buffers.take(size).await;
            assert!(buffer.bytes.is_empty());
            assert!(buffer.bytes.capacity() == size && buffer.room() == size);
            assert!(buffers.idle() <= buffers.room(), "turn {turn}");
            buffer.fill_from(&mut Bytes::from_static(b"left of the part before it"));
            held.push(buffer.freeze());
        }
        held.clear();
        assert_eq!(buffers.room(), 32);
        let before = buffers.idle();
        assert!(before > 0);
        let kept = buffers.take(16).await;
        assert_eq!(buffers.idle(), before - 16);
        drop(kept);
        assert_eq!(buffers.idle(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_finds_no_room_waits_for_it_in_turn() {
        let buffers = Buffers::with_budget(16);
        let first = buffers.take(8).await.freeze();
        let copy = first.clone();
        let large = tokio::spawn({
            let buffers = buffers.clone();
            async move { buffers.take(16).await }
        });
        tokio::task::yield_now().await;
        // There would be room for it, but the larger one was first.
        let mut small = Box::pin(buffers.take(8));
        assert!(small.as_mut().now_or_never().is_none());
        drop(first);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!large.is_finished());
        drop(copy);
        drop(large.await.unwrap());
        assert_eq!(small.await.room(), 8);
    }

    #[test]
    fn a_buffer_takes_what_fits_and_leaves_the_rest() {
        let buffers = Buffers::with_budget(4);
        let mut buffer = buffers.take(4).now_or_never().unwrap();
        let mut bytes = Bytes::from_static(b"abcdef");
        buffer.fill_from(&mut bytes);
        assert_eq!((buffer.room(), &bytes[..]), (0, &b"ef"[..]));
        assert_eq!(&buffer.freeze()[..], b"abcd");
    }
}
