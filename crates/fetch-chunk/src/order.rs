//! Inbox order: what comes later in a batch may be downloaded before its turn, and is not stored before it.

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// A message's place in its batch.
#[derive(Debug)]
pub(crate) struct Place {
    // `None`: any moment is as good.
    before: Option<Shared<oneshot::Receiver<()>>>,
    next: Option<oneshot::Sender<()>>,
}

/// The places of so many messages, in their order if that matters.
pub(crate) fn places(count: usize, in_order: bool) -> Vec<Place> {
    let mut before = None;
    (0..count)
        .map(|_| {
            if !in_order {
                return Place {
                    before: None,
                    next: None,
                };
            }
            let (next, after) = oneshot::channel();
            Place {
                before: before.replace(after.shared()),
                next: Some(next),
            }
        })
        .collect()
}

impl Place {
    /// Whether nothing has to be waited for.
    pub(crate) fn is_next(&self) -> bool {
        let before = self.before.clone();
        before.is_none_or(|before| before.now_or_never() == Some(Ok(())))
    }

    /// Waits for its turn; `false` if that does not come in this invocation.
    pub(crate) async fn turn(&self, until: Instant) -> bool {
        match self.before.clone() {
            None => true,
            Some(before) => timeout_at(until, before).await == Ok(Ok(())),
        }
    }

    /// Lets the next one have its turn, as soon as those before this one have had theirs.
    pub(crate) async fn pass_on(self) {
        let Some(next) = self.next else { return };
        let had_theirs = match self.before {
            None => true,
            Some(before) => before.await.is_ok(),
        };
        if had_theirs {
            // Nobody may come next.
            let _ = next.send(());
        }
    }
}
