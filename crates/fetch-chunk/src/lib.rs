#![doc = include_str!("../README.md")]

mod buffers;
mod destination;
mod location;
mod messages;
mod multipart;
mod order;
mod parts;
mod receive;
mod settings;

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use mesh_client::MailboxId;
use mesh_pipeline::events::RECEIVED;
use mesh_pipeline::lease::{Leases, SHORT_PAUSE, kept_pause};
use mesh_pipeline::rows::{ReceivingRows, Row, Status};
use mesh_pipeline::secrets::SecretSource;
use mesh_pipeline::state::{Batch, Failed, FetchResponse, Invocation, Pending, Stored};
use mesh_pipeline::store::ObjectWriter;
use mesh_pipeline::{Error, Fault, clock};
use tokio::time::Instant;
use tracing::{error, info, warn};

pub use buffers::Buffers;
use destination::Destination;
pub use location::Locations;
pub use messages::{Chunk, Messages};
use order::Place;
use parts::PATIENCE;
pub use parts::Parts;
pub use settings::{AcceptEncoding, Settings};

/// What the function works with.
pub struct Fetch<M, L, R, W, S> {
    /// MESH.
    pub messages: M,
    /// Who may work on a mailbox.
    pub leases: L,
    /// What is known of messages.
    pub rows: R,
    /// The module's bucket.
    pub bucket: W,
    /// What parts are held in.
    pub buffers: Buffers,
    /// How large they are.
    pub parts: Parts,
    /// Where a mailbox's messages go.
    pub locations: Locations<S>,
    /// Names and limits.
    pub settings: Settings,
}

// The part that is being written when time runs out and the one that waits still have to be stored, and the answer given.
const MARGIN: std::time::Duration = std::time::Duration::from_secs(45);

// The buffers bound the memory; each download is a connection besides.
const AT_ONCE: usize = 4;

// What is known of an attempt that failed.
struct Attempt {
    number: u32,
    // The one before found that MESH no longer has the message.
    gone_before: bool,
    // What the one before has begun.
    upload_id: Option<String>,
}

/// One invocation.
struct Turn<'a> {
    execution: &'a str,
    until: Instant,
    /// In so long a message must have come on.
    patience: Duration,
    /// MESH has asked to be left alone for so long, longer than a call waits.
    pause: OnceLock<Duration>,
}

impl Turn<'_> {
    // The pause that MESH asks for, which is noted for the messages that follow.
    fn asked_by(&self, failure: &Error) -> Option<time::Duration> {
        let pause = kept_pause(failure)?;
        self.pause.get_or_init(|| pause);
        pause.try_into().ok()
    }
}

enum Outcome {
    Stored(Box<Row>),
    Unfinished(Pending),
    Failed(Failed, Error),
}

/// Answers one request.
///
/// # Errors
/// See the crate's documentation.
pub async fn handle<M, L, R, W, S>(
    fetch: &Fetch<M, L, R, W, S>,
    invocation: Invocation,
    batch: Batch,
) -> Result<FetchResponse, Error>
where
    M: Messages,
    L: Leases,
    R: ReceivingRows,
    W: ObjectWriter,
    S: SecretSource,
{
    let mailbox = batch.mailbox;
    let mut response = FetchResponse {
        mailbox: mailbox.clone(),
        messages: Vec::new(),
        rounds: batch.rounds.saturating_sub(1),
        stored: Vec::new(),
        stored_count: 0,
        result: batch.result,
        events: Vec::new(),
    };
    if !fetch
        .leases
        .take(&mailbox, &invocation.execution, invocation.deadline)
        .await?
    {
        info!(logReference = "MESHPOLL0002", %mailbox, "another execution has taken the mailbox over");
        // Or it is left alone, as MESH asks. Neither is an attempt of what this execution has begun.
        for Pending { message_id, .. } in &batch.messages {
            fetch
                .rows
                .uncounted(message_id, &invocation.execution)
                .await?;
        }
        return Ok(response);
    }
    let destination = destination(fetch, &mailbox).await?;
    let until = end_of_work(&invocation);
    let turn = Turn {
        execution: &invocation.execution,
        until,
        patience: patience(until, response.rounds == 0),
        pause: OnceLock::new(),
    };
    let places = order::places(batch.messages.len(), fetch.settings.in_order);
    let work = stream::iter(batch.messages.into_iter().zip(places).enumerate()).map(
        |(index, (pending, place))| {
            let (destination, mailbox, turn) = (&destination, &mailbox, &turn);
            async move {
                let outcome = attempt(fetch, destination, mailbox, pending, &place, turn).await;
                if !matches!(outcome, Outcome::Unfinished(_)) {
                    place.pass_on().await;
                }
                (index, outcome)
            }
        },
    );
    // Who waits for others to be stored first, its place knows.
    let mut outcomes: Vec<_> = work.buffer_unordered(AT_ONCE).collect().await;
    outcomes.sort_unstable_by_key(|(index, _)| *index);
    let outcomes: Vec<_> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    if let Some(pause) = turn.pause.get().filter(|pause| **pause > SHORT_PAUSE) {
        let until = clock::now() + *pause;
        let execution = &invocation.execution;
        fetch.leases.pause(&mailbox, execution, until).await?;
        warn!(logReference = "MESHPOLL0003", %mailbox, seconds = pause.as_secs(), "left alone, as MESH asks");
    }
    // Where MESH asks for a pause, the state machine would be back too soon.
    let around = turn.pause.get().is_none()
        && outcomes.iter().all(
            |outcome| matches!(outcome, Outcome::Failed(_, error) if !error.is_of_the_message()),
        );
    for outcome in outcomes {
        match outcome {
            Outcome::Stored(row) => {
                response.stored.extend(
                    row.message_id
                        .as_deref()
                        .and_then(|id| id.parse().ok())
                        .map(|message_id| Stored { message_id }),
                );
                let told = row.announced == Some(true) || row.status == Some(Status::Acknowledged);
                if !told {
                    let event = fetch.settings.labels.entry(RECEIVED, &row);
                    response.events.push(event);
                }
            }
            // Left to the next execution, which finds in the row where to go on: that is no attempt.
            Outcome::Unfinished(Pending { message_id, .. }) if response.rounds == 0 => {
                info!(logReference = "MESHFETCH0015", %message_id, "left to the next execution, whose history is empty");
                let execution = &invocation.execution;
                fetch.rows.uncounted(&message_id, execution).await?;
                // One is enough for the state machine to go on, and keeps its state small.
                if response.result.left.is_empty() {
                    response.result.left.push(message_id);
                }
            }
            Outcome::Unfinished(pending) => response.messages.push(pending),
            // Nothing is lost by failing as a whole: the state machine waits, or names the cause.
            Outcome::Failed(_, error) if around => return Err(error),
            Outcome::Failed(failed, _) => response.result.failed.push(failed),
        }
    }
    response.stored_count = response.stored.len();
    Ok(response)
}

async fn destination<M, L, R, W: ObjectWriter, S: SecretSource>(
    fetch: &Fetch<M, L, R, W, S>,
    mailbox: &MailboxId,
) -> Result<Destination<W>, Error> {
    let found = fetch.locations.of(mailbox).await?;
    let bucket = fetch.bucket.other(&found.location.bucket, &found.named_by);
    let by_name = fetch.settings.use_sender_filename;
    Ok(Destination::new(found.location, bucket, by_name))
}

// Deadlines come as wall-clock times, waits are measured on the monotonic clock.
fn end_of_work(invocation: &Invocation) -> Instant {
    let left: Duration = (invocation.deadline - clock::now())
        .try_into()
        .unwrap_or_default();
    Instant::now() + left.saturating_sub(MARGIN)
}

// In the last round there is no later invocation to go on in: what has had most of this one got nowhere. Half, since a message
// that is left has the next execution's all to itself, and must come to an end there.
fn patience(until: Instant, last: bool) -> Duration {
    if !last {
        return PATIENCE;
    }
    PATIENCE.min(until.saturating_duration_since(Instant::now()) / 2)
}

async fn attempt<M, L, R, W, S>(
    fetch: &Fetch<M, L, R, W, S>,
    destination: &Destination<W>,
    mailbox: &MailboxId,
    pending: Pending,
    place: &Place,
    turn: &Turn<'_>,
) -> Outcome
where
    M: Messages,
    L: Leases,
    R: ReceivingRows,
    W: ObjectWriter,
    S: Sync,
{
    if Instant::now() >= turn.until {
        return Outcome::Unfinished(pending);
    }
    let message_id = pending.message_id.clone();
    if turn.pause.get().is_some() {
        let failure = Error::Throttled(Fault::new("MESH asks to be left alone"));
        if let Err(unnoted) = fetch.rows.uncounted(&message_id, turn.execution).await {
            error!(%message_id, error = unnoted.chain(), "the row could not be told");
        }
        let error = failure.name().to_owned();
        return Outcome::Failed(Failed { message_id, error }, failure);
    }
    match receive::receive(fetch, destination, mailbox, pending, place, turn).await {
        Ok(outcome) => outcome,
        // Nothing was begun, so there is nothing to note either.
        Err((None, failure)) => {
            error!(%mailbox, %message_id, error_name = failure.name(), error = failure.chain(), "not begun; it stays in MESH");
            let error = failure.name().to_owned();
            Outcome::Failed(Failed { message_id, error }, failure)
        }
        Err((
            Some(Attempt {
                number: attempts,
                gone_before,
                upload_id,
            }),
            failure,
        )) => {
            error!(
                %mailbox,
                %message_id,
                attempts,
                error_name = failure.name(),
                error = failure.chain(),
                "not stored; it stays in MESH"
            );
            let gone = is_gone(&failure, gone_before);
            // What was begun can't be gone on with, and no later attempt need come.
            if matches!(failure, Error::InvalidMessage(_)) || gone {
                destination.give_up_uploads(&message_id, &[]).await;
                if let Some(upload_id) = upload_id {
                    destination.give_up_upload(&message_id, &upload_id).await;
                }
            }
            if gone {
                error!(logReference = "MESHFETCH0014", %mailbox, %message_id, "MESH lists the message, and does not have it");
            }
            let noted = match failure {
                _ if gone => {
                    // Not there once, and once more.
                    let wait = clock::backoff(attempts.saturating_sub(2));
                    let again_at = clock::now() + wait;
                    fetch.rows.gone(&message_id, &failure, again_at).await
                }
                _ => {
                    let wait = attempts
                        .checked_sub(fetch.settings.max_attempts)
                        .filter(|_| failure.counts_against_the_message())
                        .map(clock::backoff);
                    let wait = turn.asked_by(&failure).or(wait);
                    let wait = wait.map(|wait| clock::now() + wait);
                    fetch
                        .rows
                        .attempt_failed(&message_id, turn.execution, &failure, wait)
                        .await
                }
            };
            if let Err(unnoted) = noted {
                error!(%message_id, error = unnoted.chain(), "the row could not be told");
            }
            Outcome::Failed(
                Failed {
                    message_id,
                    error: failure.name().to_owned(),
                },
                failure,
            )
        }
    }
}

// Listed once more after it was not there: MESH's list is wrong, not late.
fn is_gone(failure: &Error, gone_before: bool) -> bool {
    gone_before && matches!(failure, Error::MessageGone(_))
}

#[cfg(test)]
mod tests;
