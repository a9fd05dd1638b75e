#![doc = include_str!("../README.md")]

mod inbox;
mod settings;

use std::collections::{HashMap, HashSet};

use mesh_client::{InboxPage, MailboxId, MessageId};
use mesh_pipeline::lease::{Held, HeldLeases, Leases, SHORT_PAUSE, kept_pause};
use mesh_pipeline::rows::{KnownRows, Row, Status};
use mesh_pipeline::state::{
    Batch, BatchResult, Invocation, Pending, PollBody, PollRequest, PollResponse,
};
use mesh_pipeline::{Error, Fault, clock, layout};
use tracing::{error, info, warn};

pub use inbox::Inbox;
pub use settings::Settings;

/// What the function works with.
pub struct Poll<I, L, R> {
    /// MESH.
    pub inbox: I,
    /// Who may work on a mailbox.
    pub leases: L,
    /// What is known of messages.
    pub rows: R,
    /// Limits.
    pub settings: Settings,
}

/// Answers one request.
///
/// # Errors
/// See the crate's documentation.
pub async fn handle<I: Inbox, L: HeldLeases + Leases, R: KnownRows>(
    poll: &Poll<I, L, R>,
    invocation: Invocation,
    request: PollRequest,
) -> Result<PollResponse, Error> {
    let named = request.mailbox.ok_or_else(|| {
        Error::InvalidInput(Fault::new(
            r#"the execution's input has no mailbox: it must be {"mailbox": "<mailbox id>"}"#,
        ))
    })?;
    let mailbox: MailboxId = named.parse().map_err(|error| {
        Error::InvalidInput(
            Fault::new("the execution's input names no mailbox that MESH could have")
                .because(error),
        )
    })?;
    // A cold start waits for the two together.
    let (held, ()) = tokio::join!(
        poll.leases.held(&mailbox, &invocation.execution),
        poll.inbox.prepare(&mailbox)
    );
    let held = held?;
    if request.handshake.is_some_and(|flag| flag.is_set()) {
        return shake_hands(poll, mailbox, &invocation, held).await;
    }
    if held != Held::Free {
        return Ok(anothers(mailbox));
    }
    let (limit, size) = (poll.settings.page_limit, poll.settings.batch_size);
    let page = poll.inbox.page(&mailbox, max_results(limit), None).await;
    // Most polls find nothing, and need no lease for it. What is done about messages goes by rows that are read under the lease.
    let leased = !page.as_ref().is_ok_and(is_empty);
    if leased {
        let taken = poll
            .leases
            .take(&mailbox, &invocation.execution, invocation.deadline);
        if !taken.await? {
            return Ok(anothers(mailbox));
        }
    }
    let found = match page {
        Ok(page) => collect(poll, &mailbox, page).await,
        Err(failure) => Err(failure),
    };
    let found = found.map(|found| found.with_stored(limit, size));
    let pause = found.as_ref().err().and_then(kept_pause);
    if let Some(pause) = pause.filter(|pause| *pause > SHORT_PAUSE) {
        return pause_for(poll, &mailbox, &invocation, pause).await;
    }
    if leased && !matches!(&found, Ok(found) if !found.is_empty()) {
        // What failed here must not keep the next tick from trying.
        let released = poll.leases.release(&mailbox, &invocation.execution).await;
        if found.is_ok() {
            released?;
        } else if let Err(failure) = released {
            error!(%mailbox, error = failure.chain(), "the mailbox's lease was not released");
        }
    }
    let found = found?;
    let message_count = found.first.len() + found.again.len();
    info!(logReference = "MESHMBOX0005", %mailbox, message_count = found.listed, "listed");
    if found.unusable > 0 {
        // The ids themselves are not repeated: nothing is known of what is in them.
        error!(
            logReference = "MESHMBOX0007",
            %mailbox,
            message_count = found.unusable,
            "left out: MESH lists ids that can't be used, so these messages stay there; tell the MESH service desk"
        );
    }
    info!(logReference = "MESHPOLL0001", %mailbox, message_count, more = found.more, "polled");
    if found.is_empty() {
        return Ok(nothing(mailbox));
    }
    Ok(PollResponse {
        status_code: 200,
        body: PollBody {
            message_count,
            more: found.more,
            batches: batches(&mailbox, &found, poll.settings.batch_size),
            mailbox,
        },
    })
}

// A handshake changes nothing, so that an execution at work is no reason to wait; a pause that MESH asked for is.
async fn shake_hands<I: Inbox, L: Leases, R>(
    poll: &Poll<I, L, R>,
    mailbox: MailboxId,
    invocation: &Invocation,
    held: Held,
) -> Result<PollResponse, Error> {
    if held == Held::Paused {
        info!(logReference = "MESHPOLL0002", %mailbox, "no handshake: MESH asked to be left alone");
        return Ok(nothing(mailbox));
    }
    let Err(failure) = poll.inbox.handshake(&mailbox).await else {
        info!(logReference = "MESHMBOX0004", %mailbox, http_status = 200, "handshake");
        return Ok(nothing(mailbox));
    };
    let Some(pause) = kept_pause(&failure).filter(|pause| *pause > SHORT_PAUSE) else {
        return Err(failure);
    };
    let (execution, deadline) = (&invocation.execution, invocation.deadline);
    if poll.leases.take(&mailbox, execution, deadline).await? {
        return pause_for(poll, &mailbox, invocation, pause).await;
    }
    // Who works on the mailbox is told so as well.
    Ok(anothers(mailbox))
}

// Step Functions ends an execution at 25,000 history events, and one should end by itself before 20,000. This many are a round of
// a batch (fetch, choice, announce, acknowledge) whose every task is tried as often as it may be, and what a batch takes besides.
const ROUND_EVENTS: usize = 83;
const BATCH_EVENTS: usize = 10;
const BATCHES_EVENTS: usize = 19_900;
const MAX_BATCHES: usize = 210;

// MESH asks to be left alone for longer than a call waits: the lease keeps every execution away until then.
async fn pause_for<I, L: Leases, R>(
    poll: &Poll<I, L, R>,
    mailbox: &MailboxId,
    invocation: &Invocation,
    pause: std::time::Duration,
) -> Result<PollResponse, Error> {
    poll.leases
        .pause(mailbox, &invocation.execution, clock::now() + pause)
        .await?;
    warn!(logReference = "MESHPOLL0003", %mailbox, seconds = pause.as_secs(), "left alone, as MESH asks");
    Ok(nothing(mailbox.clone()))
}

#[derive(Default)]
struct Listing {
    listed: usize,
    unusable: usize,
    first: Vec<MessageId>,
    again: Vec<MessageId>,
    // Stored, but MESH did not take the acknowledgement.
    stored: Vec<MessageId>,
    more: bool,
}

impl Listing {
    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.again.is_empty() && self.stored.is_empty()
    }

    fn batches(&self, size: usize) -> usize {
        self.first.len().div_ceil(size) + self.again.len()
    }

    fn len(&self) -> usize {
        self.first.len() + self.again.len()
    }

    fn is_full(&self, batch_begins: bool, limit: usize, size: usize) -> bool {
        self.len() == limit || batch_begins && self.batches(size) == MAX_BATCHES
    }

    // What is safe in the bucket takes the room that is left: a page of nothing else would keep all others from being stored.
    fn with_stored(mut self, limit: usize, size: usize) -> Self {
        for id in std::mem::take(&mut self.stored) {
            if self.is_full(self.first.len().is_multiple_of(size), limit, size) {
                break;
            }
            self.first.push(id);
        }
        self
    }
}

// A page can be empty and have a next one all the same, by MESH's API. So many of them in a row, and the rest is left.
const FRUITLESS_PAGES: u32 = 10;

// MESH takes no smaller page than ten.
fn max_results(limit: usize) -> u32 {
    u32::try_from(limit.max(10)).unwrap_or(10)
}

fn is_empty(page: &InboxPage) -> bool {
    page.messages.is_empty() && page.unusable == 0 && page.next.is_none()
}

async fn collect<I: Inbox, L, R: KnownRows>(
    poll: &Poll<I, L, R>,
    mailbox: &MailboxId,
    mut page: InboxPage,
) -> Result<Listing, Error> {
    let limit = poll.settings.page_limit;
    let size = poll.settings.batch_size;
    let mut listing = Listing::default();
    let mut seen = HashSet::new();
    let mut links = HashSet::new();
    let mut fruitless = 0;
    loop {
        listing.listed += page.messages.len() + page.unusable;
        listing.unusable += page.unusable;
        page.messages.retain(|id| seen.insert(id.clone()));
        // Links that lead on and on to nothing new would never end.
        let new = !page.messages.is_empty() || page.unusable > 0;
        fruitless = if new { 0 } else { fruitless + 1 };
        let known_link = page
            .next
            .as_ref()
            .is_some_and(|next| !links.insert(next.clone()));
        if fruitless == FRUITLESS_PAGES || known_link {
            page.next = None;
        }
        let rows = if page.messages.is_empty() {
            HashMap::default()
        } else {
            poll.rows.known(&page.messages).await?
        };
        for id in page.messages {
            let row = rows.get(&layout::inbound_row(&id));
            if row.is_some_and(|row| !row.status.is_some_and(Status::is_inbound)) {
                error!(
                    logReference = "MESHPOLL0004",
                    %mailbox,
                    message_id = %id,
                    "left out: its row is none of a received message, somebody has changed it; docs/runbook.md#messages-gone says how to mend it"
                );
                continue;
            }
            if row.is_some_and(|row| waits(row, poll.settings.max_attempts)) {
                warn!(%mailbox, message_id = %id, "left out: its row says not before a later time");
                continue;
            }
            if row.is_some_and(|row| row.status == Some(Status::Received) && row.error.is_some()) {
                if listing.stored.len() < limit {
                    listing.stored.push(id);
                }
                continue;
            }
            let again = row
                .is_some_and(|row| row.status == Some(Status::Receiving) && row.attempts > Some(0));
            let batch_begins = again || listing.first.len().is_multiple_of(size);
            if listing.is_full(batch_begins, limit, size) {
                listing.more = true;
                return Ok(listing);
            }
            if again {
                listing.again.push(id);
            } else {
                listing.first.push(id);
            }
        }
        match page.next {
            Some(_) if listing.len() == limit => {
                listing.more = true;
                return Ok(listing);
            }
            Some(next) => match poll
                .inbox
                .page(mailbox, max_results(limit), Some(&next))
                .await
            {
                Ok(next) => page = next,
                // What was found can be worked on, unless MESH wants to be left alone.
                Err(failure) if !listing.is_empty() && failure.retry_after().is_none() => {
                    warn!(%mailbox, error_name = failure.name(), error = failure.chain(), "the inbox's next page is left for the next poll");
                    listing.more = true;
                    return Ok(listing);
                }
                Err(failure) => return Err(failure),
            },
            None => return Ok(listing),
        }
    }
}

fn waits(row: &Row, max_attempts: u32) -> bool {
    let not_before = row.not_before(max_attempts);
    not_before.is_some_and(|time| time > clock::now())
}

fn batches(mailbox: &MailboxId, found: &Listing, size: usize) -> Vec<Batch> {
    let events = BATCHES_EVENTS / found.batches(size).max(1);
    let rounds = (events.saturating_sub(BATCH_EVENTS) / ROUND_EVENTS).max(1);
    let batch = |messages: &[MessageId]| Batch {
        mailbox: mailbox.clone(),
        messages: messages
            .iter()
            .map(|id| Pending {
                message_id: id.clone(),
                position: None,
                stalled_seconds: 0,
            })
            .collect(),
        rounds: u32::try_from(rounds).unwrap_or(u32::MAX),
        result: BatchResult::default(),
    };
    let first = found.first.chunks(size).map(batch);
    let again = found.again.chunks(1).map(batch);
    first.chain(again).collect()
}

fn anothers(mailbox: MailboxId) -> PollResponse {
    info!(logReference = "MESHPOLL0002", %mailbox, "another execution has the mailbox");
    nothing(mailbox)
}

fn nothing(mailbox: MailboxId) -> PollResponse {
    PollResponse {
        status_code: 204,
        body: PollBody {
            mailbox,
            message_count: 0,
            more: false,
            batches: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests;
