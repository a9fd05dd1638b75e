#![doc = include_str!("../README.md")]

mod follow;
mod mailboxes;
mod sends;
mod settings;
mod stuck;
mod sweep;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use mesh_pipeline::events::Entry;
use mesh_pipeline::rows::{
    AcknowledgedRows, Cursor, Due, DueRows, Row, SendSwitch, StuckRows, TrackedRows,
};
use mesh_pipeline::state::{Announced, Invocation, Tick, TrackRequest, TrackResponse};
use mesh_pipeline::{Error, Fault, clock};
use time::OffsetDateTime;
use tracing::{error, info};

pub use mailboxes::Mailboxes;
pub use sends::{SendMachine, Sends};
pub use settings::Settings;

/// What the function works with.
pub struct Track<M, R, E> {
    /// MESH.
    pub mesh: M,
    /// What is due, and what became of it.
    pub rows: R,
    /// The state machine that sends.
    pub sends: E,
    /// Names and switches.
    pub settings: Settings,
}

/// What the function does with rows.
pub trait Rows: DueRows + TrackedRows + StuckRows + AcknowledgedRows + SendSwitch {}
impl<R: DueRows + TrackedRows + StuckRows + AcknowledgedRows + SendSwitch> Rows for R {}

// What is left of an invocation must be enough to answer.
const MARGIN: Duration = Duration::from_secs(20);

const PAGE: u32 = 20;
const AT_ONCE: usize = 8;

// Between the states go at most 64 KiB: an event is about 1 KiB.
const MAX_EVENTS: usize = 40;
// PutEvents takes ten.
const EVENTS_AT_ONCE: usize = 10;

// Of an execution's 25,000 events a round takes 48, and 114 where each of its calls is tried as often as it may be.
const MAX_ROUNDS: u32 = 170;

// The rest waits for the next tick: MESH and the account's Lambdas have other things to do. What waited for sending to be switched
// on may be any number, and leaves room for what was interrupted.
const MAX_STARTS: u32 = 1_000;
const MAX_SWITCHED: u32 = MAX_STARTS / 2;

// The sweep starts an open send minutes after it is due, and polling goes on with a message sooner still.
const SEND_OVERDUE: time::Duration = time::Duration::hours(6);
const RECEIVE_OVERDUE: time::Duration = time::Duration::days(1);

/// Answers one request.
///
/// # Errors
/// See the crate's documentation.
pub async fn handle<M: Mailboxes, R: Rows, E: Sends>(
    track: &Track<M, R, E>,
    invocation: Invocation,
    request: TrackRequest,
) -> Result<TrackResponse, Error> {
    for told in &request.announced {
        track.mark(told).await?;
    }
    let mut tick = match request.tick {
        Some(tick) => tick,
        None => track.begin().await?,
    };
    let mut told = Vec::new();
    let mut ended = tick.rounds >= MAX_ROUNDS;
    tick.rounds = tick.rounds.saturating_add(1);
    let by = clock::parse_iso(&tick.by).ok_or_else(|| {
        Error::InvalidInput(Fault::new(
            "the tick's time is none; start the execution with {}",
        ))
    })?;
    while !ended && told.len() + PAGE as usize <= MAX_EVENTS {
        let left = left(&invocation);
        if left.is_zero() {
            break;
        }
        // What is being received has its beginning's time.
        let by = match tick.due {
            Due::Receive | Due::Poison => by - stuck::SETTLED,
            _ => by,
        };
        let after = tick.after.as_ref();
        let page = match track.rows.due(tick.due, by, after, PAGE).await {
            Ok(page) => page,
            // What there is to tell is told first: it would be told minutes later otherwise, since its rows are looked at.
            Err(_) if !told.is_empty() => break,
            Err(failure) => return Err(failure),
        };
        if !track.work(page.rows, &mut tick, &mut told, left).await {
            break;
        }
        ended = go_on(&mut tick, page.next);
    }
    let complete = ended && told.is_empty();
    if complete {
        info!(
            logReference = "MESHTRACK0001",
            rounds = tick.rounds,
            started = tick.started,
            failed = tick.failed,
            "tick done"
        );
        track.take_stock(by).await?;
    }
    let (events, announced): (Vec<Entry>, _) = told.into_iter().unzip();
    Ok(TrackResponse {
        status_code: 200,
        complete,
        tick,
        events: events
            .chunks(EVENTS_AT_ONCE)
            .map(<[Entry]>::to_vec)
            .collect(),
        announced,
    })
}

// Whether that was all.
fn go_on(tick: &mut Tick, next: Option<Cursor>) -> bool {
    let enough = match tick.due {
        Due::Switch => tick.started >= MAX_SWITCHED,
        Due::Send => tick.started >= MAX_STARTS,
        _ => false,
    };
    tick.after = next.filter(|_| !enough);
    if tick.after.is_some() {
        return false;
    }
    tick.due = match tick.due {
        Due::Switch => Due::Send,
        Due::Send => Due::Track,
        Due::Track => Due::Receive,
        Due::Receive => Due::Poison,
        Due::Poison | Due::Held => return true,
    };
    false
}

fn left(invocation: &Invocation) -> Duration {
    let left: OffsetDateTime = invocation.deadline - MARGIN;
    (left - clock::now()).try_into().unwrap_or_default()
}

impl<M: Mailboxes, R: Rows, E: Sends> Track<M, R, E> {
    async fn begin(&self) -> Result<Tick, Error> {
        let sending = self.rows.sending_is_on().await?;
        Ok(Tick {
            by: clock::iso(clock::now()),
            // What is under way goes on while sending is switched off.
            due: if sending { Due::Switch } else { Due::Send },
            after: None,
            rounds: 0,
            started: 0,
            failed: 0,
        })
    }

    // For the alarms.
    async fn take_stock(&self, by: OffsetDateTime) -> Result<(), Error> {
        let held = self.rows.count(Due::Held, None).await?;
        let poison = self.rows.count(Due::Poison, None).await?;
        let waiting = self.rows.count(Due::Switch, None).await?;
        let sends = self.rows.count(Due::Send, Some(by - SEND_OVERDUE)).await?;
        let overdue = sends
            + self
                .rows
                .count(Due::Receive, Some(by - RECEIVE_OVERDUE))
                .await?;
        info!(
            logReference = "MESHTRACK0006",
            held, poison, overdue, waiting, "state of the rows"
        );
        Ok(())
    }

    async fn mark(&self, told: &Announced) -> Result<(), Error> {
        let again_at = told.again_at.as_deref().and_then(clock::parse_iso);
        self.rows.announced(&told.row, told.status, again_at).await
    }

    // Works on the rows, several at once; false: time has run out first.
    async fn work(
        &self,
        mut rows: Vec<Row>,
        tick: &mut Tick,
        told: &mut Vec<(Entry, Announced)>,
        left: Duration,
    ) -> bool {
        // A connection to MESH is a mailbox's.
        rows.sort_by(|a, b| a.mailbox.cmp(&b.mailbox));
        let mut waiting = rows.len();
        let due = tick.due;
        let mut results = stream::iter(&rows)
            .map(|row| async move {
                let result = match due {
                    Due::Switch | Due::Send => self.start(row).await.map(|started| (started, None)),
                    Due::Track => self.follow(row).await.map(|news| (false, news)),
                    Due::Receive | Due::Poison => self.finish(row).await.map(|news| (false, news)),
                    // An operator's.
                    Due::Held => Ok((false, None)),
                };
                (row, result)
            })
            .buffer_unordered(AT_ONCE)
            .take_until(tokio::time::sleep(left))
            .boxed();
        while let Some((row, result)) = results.next().await {
            waiting -= 1;
            match result {
                Ok((started, news)) => {
                    tick.started += u32::from(started);
                    told.extend(news);
                }
                Err(failure) => {
                    tick.failed += u32::from(!failure.is_temporary());
                    error!(
                        logReference = "MESHTRACK0005",
                        row = row.id,
                        mailbox = row.mailbox,
                        message_id = row.message_id,
                        error_name = failure.name(),
                        error = failure.chain(),
                        "left for a later tick"
                    );
                }
            }
        }
        waiting == 0
    }
}

#[cfg(test)]
mod tests;
