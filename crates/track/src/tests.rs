//! Whole ticks through the handler, with MESH, the rows and the state machine in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use mesh_client::{MailboxId, MessageId, Tracking};
use mesh_pipeline::events::EventLabels;
use mesh_pipeline::rows::{
    AcknowledgedRows, Cursor, Due, DueRows, Outcome, Page, Row, SendSwitch, Status, StuckRows,
    TrackedRows,
};
use mesh_pipeline::settings::{MeshSettings, RowSettings};
use mesh_pipeline::state::{Invocation, TrackRequest, TrackResponse};
use mesh_pipeline::{Error, Fault, clock};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::{MAX_ROUNDS, MAX_STARTS, MAX_SWITCHED, Mailboxes, Sends, Settings, Track, handle};

#[derive(Default)]
struct State {
    rows: HashMap<String, Row>,
    // What MESH says by message id; a mailbox that is named refuses us.
    says: HashMap<String, &'static str>,
    refused: Option<&'static str>,
    asked: Vec<String>,
    slow: bool,
    starts: Vec<(String, String)>,
    starts_fail: bool,
    sending_is_off: bool,
    // Pages of it can't be had.
    unread: Option<Due>,
    // Received messages that MESH still has, and those that it was told of.
    holds: Vec<String>,
    acknowledged: Vec<String>,
}

#[derive(Clone, Default)]
struct World(Arc<Mutex<State>>);

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn row(&self, id: &str) -> Row {
        self.state().rows[id].clone()
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Row)) {
        change(self.state().rows.get_mut(id).unwrap());
    }

    fn tracked(&self, id: &str, from: &[Status], change: impl FnOnce(&mut Row)) -> Option<Row> {
        let mut state = self.state();
        let row = state.rows.get_mut(id)?;
        if row.due.as_deref() != Some("track") || !from.contains(&row.status?) {
            return None;
        }
        change(row);
        Some(row.clone())
    }
}

const TRACKED: [Status; 3] = [Status::Sent, Status::Undelivered, Status::Delivered];

fn close(row: &mut Row) {
    row.due = None;
    row.next_attempt_at = None;
    row.expires_at = Some(1);
}

impl DueRows for World {
    async fn due(
        &self,
        due: Due,
        by: OffsetDateTime,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page, Error> {
        if self.state().unread == Some(due) {
            return Err(Error::AwsUnavailable(Fault::new("busy")));
        }
        let by = clock::iso(by);
        let mut found: Vec<_> = self
            .state()
            .rows
            .values()
            .filter(|row| row.due.as_deref() == Some(due.as_str()))
            .filter(|row| row.next_attempt_at.as_ref().is_some_and(|at| *at <= by))
            .cloned()
            .collect();
        let key = |row: &Row| (row.next_attempt_at.clone().unwrap(), row.id.clone());
        found.sort_by_key(key);
        if let Some(after) = after {
            let after = (after.next_attempt_at.clone(), after.row.clone());
            found.retain(|row| key(row) > after);
        }
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map(|row| Cursor {
            row: row.id.clone(),
            next_attempt_at: row.next_attempt_at.clone().unwrap(),
        });
        Ok(Page { rows: found, next })
    }

    async fn count(&self, due: Due, by: Option<OffsetDateTime>) -> Result<u64, Error> {
        let by = by.unwrap_or_else(|| clock::now() + Duration::days(1_000));
        let found = self.due(due, by, None, u32::MAX).await?;
        Ok(found.rows.len() as u64)
    }
}

impl SendSwitch for World {
    async fn sending_is_on(&self) -> Result<bool, Error> {
        Ok(!self.state().sending_is_off)
    }
}

impl StuckRows for World {
    async fn waits(&self, row: &Row, poison: bool) -> Result<(), Error> {
        self.change(&row.id, |row| {
            row.checked_at = Some(clock::iso(clock::now()));
            if poison {
                row.due = Some("poison".to_owned());
            }
        });
        Ok(())
    }

    async fn unanswered(&self, row: &Row) -> Result<(), Error> {
        self.change(&row.id, |row| {
            row.checked_at = Some(clock::iso(clock::now()));
        });
        Ok(())
    }

    async fn lost(&self, row: &Row, error: &Error) -> Result<(), Error> {
        self.change(&row.id, |row| {
            row.status = Some(Status::Gone);
            row.error = Some(error.row_text());
            row.due = None;
            row.expires_at = Some(1);
        });
        Ok(())
    }
}

impl AcknowledgedRows for World {
    async fn acknowledged(&self, message: &MessageId) -> Result<(), Error> {
        self.change(&format!("in#{message}"), |row| {
            row.status = Some(Status::Acknowledged);
            row.error = None;
            close(row);
        });
        Ok(())
    }

    async fn not_acknowledged(&self, message: &MessageId, error: &Error) -> Result<(), Error> {
        self.change(&format!("in#{message}"), |row| {
            row.error = Some(error.row_text());
        });
        Ok(())
    }
}

impl TrackedRows for World {
    async fn look(&self, row: &Row, again_at: OffsetDateTime) -> Result<bool, Error> {
        if self.row(&row.id).next_attempt_at != row.next_attempt_at {
            return Ok(false);
        }
        let looked = self.tracked(&row.id, &TRACKED, |row| {
            row.next_attempt_at = Some(clock::iso(again_at));
            row.error = None;
        });
        Ok(looked.is_some())
    }

    async fn concluded(
        &self,
        row: &str,
        outcome: &Outcome,
        again_at: OffsetDateTime,
    ) -> Result<Option<Row>, Error> {
        let from: &[Status] = match outcome.status {
            Status::Delivered => &[Status::Sent, Status::Undelivered],
            _ => &[Status::Sent],
        };
        Ok(self.tracked(row, from, |row| {
            row.status = Some(outcome.status);
            row.status_code.clone_from(&outcome.status_code);
            row.next_attempt_at = Some(clock::iso(again_at));
            row.announced = None;
        }))
    }

    async fn announced(
        &self,
        row: &str,
        status: Status,
        again_at: Option<OffsetDateTime>,
    ) -> Result<(), Error> {
        if status == Status::Received {
            self.change(row, |row| row.announced = Some(true));
            return Ok(());
        }
        self.tracked(row, &[status], |row| {
            row.announced = Some(true);
            match again_at {
                Some(again_at) => row.next_attempt_at = Some(clock::iso(again_at)),
                None => close(row),
            }
        });
        Ok(())
    }

    async fn not_tracked(&self, row: &str, error: &Error) -> Result<(), Error> {
        self.tracked(row, &TRACKED, |row| row.error = Some(error.row_text()));
        Ok(())
    }

    async fn untracked(&self, row: &str) -> Result<(), Error> {
        self.tracked(row, &TRACKED, close);
        Ok(())
    }
}

impl Mailboxes for World {
    async fn track(&self, mailbox: &MailboxId, message: &MessageId) -> Result<Tracking, Error> {
        if self.state().slow {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        let mut state = self.state();
        state.asked.push(message.to_string());
        if state.refused == Some(mailbox.as_str()) {
            return Err(Error::NotAuthorised(Fault::new("password")));
        }
        match state.says.get(message.as_ref()).copied() {
            None => Err(Error::MessageGone(Fault::new("unknown"))),
            Some("busy") => Err(Error::MeshUnavailable(Fault::new("503"))),
            Some(status) => Ok(serde_json::from_value(json!({
                "message_id": message.as_ref(), "status": status, "status_code": "14",
            }))
            .unwrap()),
        }
    }

    async fn holds(&self, mailbox: &MailboxId, message: &MessageId) -> Result<bool, Error> {
        let mut state = self.state();
        state.asked.push(message.to_string());
        if state.refused == Some(mailbox.as_str()) {
            return Err(Error::NotAuthorised(Fault::new("password")));
        }
        Ok(state.holds.contains(&message.to_string()))
    }

    async fn acknowledge(&self, mailbox: &MailboxId, message: &MessageId) -> Result<(), Error> {
        let mut state = self.state();
        if state.refused == Some(mailbox.as_str()) {
            return Err(Error::NotAuthorised(Fault::new("password")));
        }
        state.acknowledged.push(message.to_string());
        if state.holds.contains(&message.to_string()) {
            return Ok(());
        }
        Err(Error::MessageGone(Fault::new("no such message")))
    }
}

impl Sends for World {
    async fn start(&self, name: &str, row: &str) -> Result<bool, Error> {
        let mut state = self.state();
        if state.starts_fail {
            return Err(Error::AwsRefused(Fault::new("no grant")));
        }
        let start = (name.to_owned(), row.to_owned());
        let is_new = !state.starts.contains(&start);
        if is_new {
            state.starts.push(start);
        }
        Ok(is_new)
    }
}

fn track() -> (World, Track<World, World, World>) {
    let world = World::default();
    let track = Track {
        mesh: world.clone(),
        rows: world.clone(),
        sends: world.clone(),
        settings: Settings {
            mesh: MeshSettings::default(),
            rows: RowSettings::default(),
            labels: EventLabels {
                source: "mesh-client".to_owned(),
                bucket_arn: "arn:aws:s3:::live-mesh".to_owned(),
            },
            send_message_arn: String::new(),
            max_attempts: 5,
        },
    };
    (world, track)
}

fn ago(duration: Duration) -> String {
    clock::iso(clock::now() - duration)
}

fn id(number: usize) -> String {
    format!("out#{number:064}")
}

// A row that is due since so many minutes.
fn due(world: &World, number: usize, status: Status, due: Due, minutes: i64) -> String {
    let row = Row {
        id: id(number),
        mailbox: Some("X26ABC1".to_owned()),
        message_id: Some(format!("M{number}")),
        status: Some(status),
        attempts: Some(3),
        due: Some(due.as_str().to_owned()),
        next_attempt_at: Some(ago(Duration::minutes(minutes))),
        sent_at: Some(ago(Duration::minutes(10))),
        announced: (status == Status::Sent).then_some(true),
        ..Row::default()
    };
    world.state().rows.insert(id(number), row);
    id(number)
}

fn sent(world: &World, number: usize, says: &'static str) -> String {
    world.state().says.insert(format!("M{number}"), says);
    due(world, number, Status::Sent, Due::Track, 1)
}

type Function = Track<World, World, World>;

async fn call(track: &Function, seconds: i64, request: TrackRequest) -> TrackResponse {
    let invocation = Invocation {
        execution: "e1".to_owned(),
        deadline: clock::now() + Duration::seconds(seconds),
    };
    handle(track, invocation, request).await.unwrap()
}

// As the state machine does it: the answer is the next request.
fn next(answer: &TrackResponse) -> TrackRequest {
    serde_json::from_value(serde_json::to_value(answer).unwrap()).unwrap()
}

// Calls until the tick is done; what was told, as (event, row).
async fn tick(track: &Function) -> (TrackResponse, Vec<(String, String)>) {
    let mut told = Vec::new();
    let mut request = TrackRequest::default();
    for _ in 0..=MAX_ROUNDS {
        let answer = call(track, 300, request).await;
        for entry in answer.events.iter().flatten() {
            let row = entry.detail["row"].as_str().unwrap().to_owned();
            told.push((entry.detail_type.clone(), row));
        }
        if answer.complete {
            assert_eq!(answer.events.len(), 0);
            return (answer, told);
        }
        request = next(&answer);
    }
    panic!("the tick has no end");
}

#[tokio::test]
async fn open_sends_that_are_due_are_started_the_longest_due_first() {
    let (world, track) = track();
    due(&world, 1, Status::Claimed, Due::Send, 5);
    due(&world, 2, Status::Posting, Due::Send, 60);
    due(&world, 3, Status::Sending, Due::Send, -1);
    let before = world.state().rows.clone();
    let (answer, _) = tick(&track).await;
    assert_eq!((answer.tick.started, answer.tick.failed), (2, 0));
    let starts = world.state().starts.clone();
    let rows: Vec<_> = starts.iter().map(|(_, row)| row.clone()).collect();
    assert_eq!(rows, [id(2), id(1)]);
    // Step Functions takes 80 characters.
    assert!(starts.iter().all(|(name, _)| name.len() <= 80));
    assert!(starts[1].0.starts_with(&format!("{}-3-", &id(1)[4..])));
    // The execution takes the row; until then the next tick asks for the very same execution.
    assert_eq!(world.state().rows, before);
    tick(&track).await;
    let mut names: Vec<_> = world
        .state()
        .starts
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 2);
}

#[tokio::test]
async fn an_attempt_more_is_another_execution() {
    let (world, track) = track();
    let row = due(&world, 1, Status::Claimed, Due::Send, 5);
    tick(&track).await;
    world.change(&row, |row| row.attempts = Some(4));
    tick(&track).await;
    let starts = world.state().starts.clone();
    assert_ne!(starts[0].0, starts[1].0);
}

#[tokio::test]
async fn what_is_held_is_left_to_an_operator() {
    let (world, track) = track();
    due(&world, 1, Status::Held, Due::Held, 60);
    let (answer, told) = tick(&track).await;
    assert_eq!((answer.tick.started, told.len()), (0, 0));
    assert!(world.state().starts.is_empty() && world.state().asked.is_empty());
}

#[tokio::test]
async fn while_sending_is_switched_off_nothing_is_started_but_tracking_goes_on() {
    let (world, track) = track();
    world.state().sending_is_off = true;
    let waits = due(&world, 1, Status::Claimed, Due::Switch, 60);
    let under_way = due(&world, 3, Status::Sending, Due::Send, 60);
    let row = sent(&world, 2, "acknowledged");
    let (_, told) = tick(&track).await;
    let started = || {
        world
            .state()
            .starts
            .iter()
            .map(|(_, row)| row.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(started(), std::slice::from_ref(&under_way));
    assert_eq!(told, [("MESH message delivered".to_owned(), row)]);
    world.state().sending_is_off = false;
    world.state().starts.clear();
    tick(&track).await;
    assert_eq!(started(), [waits, under_way]);
}

#[tokio::test]
async fn a_sent_message_whose_event_was_not_put_is_told_of_before_mesh_is_asked() {
    let (world, track) = track();
    let row = sent(&world, 1, "acknowledged");
    world.change(&row, |row| row.announced = None);
    let (_, told) = tick(&track).await;
    assert_eq!(told, [("MESH message sent".to_owned(), row.clone())]);
    assert!(world.state().asked.is_empty());
    assert_eq!(world.row(&row).announced, Some(true));
    world.change(&row, |row| {
        row.next_attempt_at = Some(ago(Duration::minutes(1)));
    });
    let (_, told) = tick(&track).await;
    assert_eq!(told, [("MESH message delivered".to_owned(), row)]);
}

// A received message whose execution has ended, so many minutes ago.
fn stuck(world: &World, status: Status, minutes: i64) -> String {
    let row = Row {
        id: "in#M1".to_owned(),
        mailbox: Some("X26ABC1".to_owned()),
        message_id: Some("M1".to_owned()),
        status: Some(status),
        attempts: Some(1),
        due: Some(Due::Receive.as_str().to_owned()),
        next_attempt_at: Some(ago(Duration::minutes(minutes))),
        updated_at: Some(ago(Duration::minutes(minutes))),
        ..Row::default()
    };
    world.state().rows.insert(row.id.clone(), row);
    "in#M1".to_owned()
}

#[tokio::test]
async fn a_stored_message_whose_acknowledgement_is_not_in_its_row_is_told_of_and_acknowledged() {
    for in_mesh in [true, false] {
        let (world, track) = track();
        if in_mesh {
            world.state().holds.push("M1".to_owned());
        }
        let row = stuck(&world, Status::Received, 61);
        let (_, told) = tick(&track).await;
        assert_eq!(told, [("MESH message received".to_owned(), row.clone())]);
        assert!(
            world.state().acknowledged.is_empty(),
            "not before it is told of"
        );
        let (answer, told) = tick(&track).await;
        assert_eq!((told.len(), answer.tick.failed), (0, 0));
        assert_eq!(world.state().acknowledged, ["M1"]);
        let closed = world.row(&row);
        assert_eq!(
            (closed.status, closed.due),
            (Some(Status::Acknowledged), None)
        );
    }
}

#[tokio::test]
async fn a_message_whose_execution_may_be_at_work_is_left_alone() {
    let (world, track) = track();
    for status in [Status::Received, Status::Receiving] {
        let row = stuck(&world, status, 59);
        assert_eq!(tick(&track).await.1, []);
        // Begun long ago, but at work a moment ago.
        world.change(&row, |row| {
            row.next_attempt_at = Some(ago(Duration::hours(5)));
        });
        assert_eq!(tick(&track).await.1, []);
    }
    let state = world.state();
    assert!(state.acknowledged.is_empty() && state.asked.is_empty());
}

#[tokio::test]
async fn an_acknowledgement_that_mesh_refuses_is_noted_and_counted() {
    let (world, track) = track();
    let row = stuck(&world, Status::Received, 61);
    world.change(&row, |row| row.announced = Some(true));
    world.state().refused = Some("X26ABC1");
    let (answer, _) = tick(&track).await;
    assert_eq!(answer.tick.failed, 1);
    let noted = world.row(&row);
    assert_eq!(noted.status, Some(Status::Received));
    assert!(noted.error.unwrap().starts_with("NotAuthorised"));
    // MESH is left alone for an hour, which is as long as it may ask for.
    assert_eq!(tick(&track).await.0.tick.failed, 0);
    world.change(&row, |row| {
        row.checked_at = Some(ago(Duration::minutes(61)));
    });
    assert_eq!(tick(&track).await.0.tick.failed, 1);
}

#[tokio::test]
async fn a_mailbox_that_refuses_us_fails_one_tick_and_not_each() {
    let (world, track) = track();
    let row = stuck(&world, Status::Receiving, 61);
    world.state().refused = Some("X26ABC1");
    assert_eq!(tick(&track).await.0.tick.failed, 1);
    assert_eq!(tick(&track).await.0.tick.failed, 0);
    assert_eq!(world.state().asked, ["M1"]);
    assert_eq!(world.row(&row).status, Some(Status::Receiving));
}

#[tokio::test]
async fn a_message_that_was_begun_and_is_gone_is_closed() {
    let (world, track) = track();
    let row = stuck(&world, Status::Receiving, 61);
    tick(&track).await;
    let row = world.row(&row);
    assert_eq!((row.status, row.due), (Some(Status::Gone), None));
    let error = row.error.unwrap();
    assert!(error.starts_with("MessageGone"), "{error}");
    // It may have been stored all the same, by a worker that died before it could say so.
    assert!(error.contains("below inbound/X26ABC1/ for M1"), "{error}");
    assert!(row.expires_at.is_some());
}

#[tokio::test]
async fn a_message_that_was_begun_and_waits_is_left_to_polling_and_asked_for_rarely() {
    let (world, track) = track();
    world.state().holds.push("M1".to_owned());
    let id = stuck(&world, Status::Receiving, 61);
    let before = world.row(&id);
    tick(&track).await;
    tick(&track).await;
    assert_eq!(world.state().asked, ["M1"]);
    let after = world.row(&id);
    // When it is tried again follows from these.
    assert_eq!(
        (
            after.updated_at,
            after.next_attempt_at,
            after.due.as_deref()
        ),
        (before.updated_at, before.next_attempt_at, Some("receive"))
    );
    // One that kills its workers leaves nothing behind but its count.
    world.change(&id, |row| {
        row.attempts = Some(5);
        row.checked_at = Some(ago(Duration::hours(7)));
    });
    tick(&track).await;
    assert_eq!(world.row(&id).due.as_deref(), Some("poison"));
    assert_eq!(world.state().asked.len(), 2);
}

#[tokio::test]
async fn a_tick_starts_a_bounded_number_and_then_tracks() {
    let (world, track) = track();
    let many = MAX_STARTS as usize + 50;
    for number in 0..many {
        due(&world, number, Status::Claimed, Due::Send, 5);
    }
    sent(&world, many, "acknowledged");
    let (answer, told) = tick(&track).await;
    assert_eq!(answer.tick.started, MAX_STARTS);
    assert_eq!(world.state().starts.len(), MAX_STARTS as usize);
    assert_eq!(told.len(), 1);
    // What was started and has not come to its row is not started again, and in the way of no other.
    let (answer, _) = tick(&track).await;
    assert_eq!(answer.tick.started, 50);
}

#[tokio::test]
async fn what_waited_for_the_switch_leaves_room_for_what_was_interrupted() {
    let (world, track) = track();
    let waited = MAX_STARTS as usize + 50;
    for number in 0..waited {
        due(&world, number, Status::Claimed, Due::Switch, 5);
    }
    let interrupted = due(&world, waited, Status::Claimed, Due::Send, 5);
    let (answer, _) = tick(&track).await;
    assert!(answer.tick.started < MAX_STARTS);
    let starts = &world.state().starts;
    assert!(starts.iter().any(|(_, row)| *row == interrupted));
    assert!(starts.len() >= MAX_SWITCHED as usize);
}

#[tokio::test]
async fn sends_that_can_not_be_started_stop_no_tracking_and_are_counted() {
    let (world, track) = track();
    world.state().starts_fail = true;
    due(&world, 1, Status::Claimed, Due::Send, 5);
    due(&world, 2, Status::Claimed, Due::Send, 5);
    sent(&world, 3, "acknowledged");
    let (answer, told) = tick(&track).await;
    assert_eq!((answer.tick.started, answer.tick.failed), (0, 2));
    assert_eq!(told.len(), 1);
}

#[tokio::test]
async fn a_collected_message_is_delivered_told_of_once_and_closed() {
    let (world, track) = track();
    let row = sent(&world, 1, "acknowledged");
    let (_, told) = tick(&track).await;
    assert_eq!(told, [("MESH message delivered".to_owned(), row.clone())]);
    let closed = world.row(&row);
    assert_eq!(closed.status, Some(Status::Delivered));
    assert_eq!((closed.due, closed.announced), (None, Some(true)));
    assert!(closed.expires_at.is_some());
    let (_, told) = tick(&track).await;
    assert_eq!(told, []);
    assert_eq!(world.state().asked.len(), 1);
}

#[tokio::test]
async fn a_message_that_waits_or_has_a_new_status_is_asked_for_again_later() {
    let (world, track) = track();
    for (number, says) in ["accepted", "uploading", "pondering"]
        .into_iter()
        .enumerate()
    {
        let row = sent(&world, number, says);
        let (_, told) = tick(&track).await;
        assert_eq!(told, []);
        let row = world.row(&row);
        assert_eq!((row.status, row.expires_at), (Some(Status::Sent), None));
        assert!(row.next_attempt_at.unwrap() > clock::iso(clock::now() + Duration::minutes(4)));
        tick(&track).await;
        assert_eq!(world.state().asked.len(), number + 1);
    }
}

#[tokio::test]
async fn an_undelivered_message_can_still_become_delivered_and_moves_back_never() {
    let (world, track) = track();
    let row = sent(&world, 1, "undeliverable");
    let (_, told) = tick(&track).await;
    assert_eq!(told, [("MESH message undelivered".to_owned(), row.clone())]);
    let after = world.row(&row);
    assert_eq!(after.status, Some(Status::Undelivered));
    assert_eq!(after.status_code.as_deref(), Some("14"));
    assert_eq!(after.expires_at, None);
    assert!(after.next_attempt_at.unwrap() > clock::iso(clock::now() + Duration::hours(23)));
    // The service desk puts it back, and a day later it is collected.
    for (says, told_of) in [("undeliverable", 0), ("accepted", 0), ("acknowledged", 1)] {
        world.state().says.insert("M1".to_owned(), says);
        world.change(&row, |row| {
            row.next_attempt_at = Some(ago(Duration::minutes(1)));
        });
        let (_, told) = tick(&track).await;
        assert_eq!(told.len(), told_of, "{says}");
    }
    assert_eq!(world.row(&row).status, Some(Status::Delivered));
    assert_eq!(world.row(&row).due, None);
}

#[tokio::test]
async fn an_error_at_mesh_is_undelivered() {
    let (world, track) = track();
    let row = sent(&world, 1, "error");
    tick(&track).await;
    assert_eq!(world.row(&row).status, Some(Status::Undelivered));
}

#[tokio::test]
async fn an_event_that_was_not_put_is_told_again_and_mesh_is_not_asked_again() {
    for says in ["acknowledged", "undeliverable"] {
        let (world, track) = track();
        let row = sent(&world, 1, says);
        // The execution ends before the event is put.
        let answer = call(&track, 300, TrackRequest::default()).await;
        assert_eq!(answer.events.len(), 1);
        assert_eq!(tick(&track).await.1, [], "not before its time");
        world.change(&row, |row| {
            row.next_attempt_at = Some(ago(Duration::minutes(1)));
        });
        let (_, told) = tick(&track).await;
        assert_eq!(told.len(), 1, "{says}");
        assert_eq!(world.state().asked.len(), 1);
        assert_eq!(world.row(&row).announced, Some(true));
    }
}

#[tokio::test]
async fn what_there_is_to_tell_does_not_wait_for_rows_that_can_not_be_read() {
    let (world, track) = track();
    let row = sent(&world, 1, "acknowledged");
    world.state().unread = Some(Due::Receive);
    let answer = call(&track, 300, TrackRequest::default()).await;
    assert_eq!((answer.events.len(), answer.complete), (1, false));
    let invocation = || Invocation {
        execution: "e1".to_owned(),
        deadline: clock::now() + Duration::minutes(5),
    };
    // The next invocation notes that it was told, and says what is wrong.
    let failure = handle(&track, invocation(), next(&answer)).await;
    assert_eq!(failure.unwrap_err().name(), "AwsUnavailable");
    assert_eq!(world.row(&row).announced, Some(true));
    world.state().unread = None;
    tick_on(&track, &answer).await;
}

#[tokio::test]
async fn a_message_that_mesh_does_not_know_yet_is_asked_for_again() {
    let (world, track) = track();
    let row = due(&world, 1, Status::Sent, Due::Track, 1);
    for hours in [0, 6 * 24 - 1] {
        world.change(&row, |row| {
            row.sent_at = Some(ago(Duration::hours(hours)));
            row.next_attempt_at = Some(ago(Duration::minutes(1)));
        });
        let (answer, told) = tick(&track).await;
        assert_eq!((told.len(), answer.tick.failed), (0, 0));
        let row = world.row(&row);
        assert_eq!(row.due.as_deref(), Some("track"));
        assert!(row.next_attempt_at.unwrap() > clock::iso(clock::now()));
        assert!(row.error.unwrap().starts_with("MessageGone"));
    }
    // It was there all the time.
    let message = world.row(&row).message_id.unwrap();
    world.state().says.insert(message, "acknowledged");
    world.change(&row, |row| {
        row.next_attempt_at = Some(ago(Duration::minutes(1)));
    });
    let (_, told) = tick(&track).await;
    assert_eq!(told.len(), 1);
    assert_eq!(world.row(&row).status, Some(Status::Delivered));
}

#[tokio::test]
async fn a_message_that_mesh_no_longer_knows_is_closed_as_it_is() {
    let (world, track) = track();
    let row = due(&world, 1, Status::Sent, Due::Track, 1);
    world.change(&row, |row| row.sent_at = Some(ago(Duration::days(6))));
    let (answer, told) = tick(&track).await;
    assert_eq!((told.len(), answer.tick.failed), (0, 0));
    let row = world.row(&row);
    assert_eq!((row.status, row.due), (Some(Status::Sent), None));
    assert!(row.expires_at.is_some());
}

#[tokio::test]
async fn a_message_without_end_is_not_asked_for_for_ever() {
    let (world, track) = track();
    let [young, old] = [(1, 34), (2, 36)].map(|(number, days)| {
        let row = sent(&world, number, "accepted");
        world.change(&row, |row| row.sent_at = Some(ago(Duration::days(days))));
        row
    });
    tick(&track).await;
    assert_eq!(world.state().asked.len(), 1);
    assert_eq!(world.row(&young).due.as_deref(), Some(Due::Track.as_str()));
    assert_eq!(world.row(&old).due, None);
}

#[tokio::test]
async fn what_goes_wrong_with_one_row_stops_no_other() {
    let (world, track) = track();
    let refused = sent(&world, 1, "acknowledged");
    world.change(&refused, |row| row.mailbox = Some("X26ABC9".to_owned()));
    world.state().refused = Some("X26ABC9");
    let busy = sent(&world, 2, "busy");
    let broken = sent(&world, 3, "acknowledged");
    world.change(&broken, |row| row.message_id = None);
    let fine = sent(&world, 4, "acknowledged");
    let (answer, told) = tick(&track).await;
    assert_eq!(told, [("MESH message delivered".to_owned(), fine)]);
    // What passes by itself needs nobody.
    assert_eq!(answer.tick.failed, 2);
    for (row, name) in [
        (&refused, "NotAuthorised"),
        (&busy, "MeshUnavailable"),
        (&broken, "InvalidInput"),
    ] {
        let row = world.row(row);
        assert!(row.error.unwrap().starts_with(name));
        assert!(row.next_attempt_at.unwrap() > clock::iso(clock::now()));
    }
    // And the next look that goes well takes the error away.
    world.state().refused = None;
    world.change(&refused, |row| {
        row.next_attempt_at = Some(ago(Duration::minutes(1)));
    });
    tick(&track).await;
    assert_eq!(world.row(&refused).error, None);
    assert_eq!(world.row(&refused).status, Some(Status::Delivered));
}

#[tokio::test]
async fn of_two_ticks_at_once_one_looks_at_a_row() {
    let (world, track) = track();
    let row = sent(&world, 1, "acknowledged");
    let stale = world.row(&row);
    tick(&track).await;
    // The other tick has read the row before.
    assert_eq!(track.follow(&stale).await.unwrap(), None);
    assert_eq!(world.state().asked.len(), 1);
}

#[tokio::test]
async fn many_events_go_in_lists_of_ten_over_several_calls_of_bounded_size() {
    let (world, track) = track();
    for number in 0..95 {
        sent(&world, number, "acknowledged");
    }
    let mut sizes = Vec::new();
    let mut request = TrackRequest::default();
    loop {
        let answer = call(&track, 300, request).await;
        assert!(answer.events.iter().all(|list| list.len() <= 10));
        let bytes = serde_json::to_vec(&answer).unwrap().len();
        assert!(bytes < 64 * 1024, "{bytes}");
        sizes.push(answer.events.iter().flatten().count());
        if answer.complete {
            break;
        }
        request = next(&answer);
    }
    assert_eq!(sizes, [40, 40, 15, 0]);
    let state = world.state();
    assert_eq!(state.asked.len(), 95);
    assert!(state.rows.values().all(|row| row.due.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_call_answers_before_its_deadline_and_the_next_goes_on() {
    let (world, track) = track();
    world.state().slow = true;
    for number in 0..30 {
        sent(&world, number, "accepted");
    }
    // Two and a half seconds beside the margin: two rounds of eight.
    let started = tokio::time::Instant::now();
    let invocation = Invocation {
        execution: "e1".to_owned(),
        deadline: clock::now() + Duration::milliseconds(22_500),
    };
    let answer = handle(&track, invocation, TrackRequest::default()).await;
    let answer = answer.unwrap();
    assert!(started.elapsed() < std::time::Duration::from_secs(3));
    assert!(!answer.complete);
    assert_eq!(world.state().asked.len(), 16);
    tick_on(&track, &answer).await;
    let mut asked = world.state().asked.clone();
    asked.sort();
    asked.dedup();
    // Those that were under way when time ran out are asked for at their next time.
    assert!(asked.len() >= 22, "{}", asked.len());
    assert!(
        world
            .state()
            .rows
            .values()
            .all(|row| { row.next_attempt_at.clone().unwrap() > clock::iso(clock::now()) })
    );
}

async fn tick_on(track: &Function, answer: &TrackResponse) {
    let mut request = next(answer);
    loop {
        let answer = call(track, 300, request).await;
        if answer.complete {
            return;
        }
        request = next(&answer);
    }
}

#[tokio::test]
async fn a_tick_has_an_end_however_much_is_due() {
    let (world, track) = track();
    sent(&world, 1, "acknowledged");
    let mut request = TrackRequest::default();
    let mut tick = track.begin().await.unwrap();
    tick.rounds = MAX_ROUNDS;
    request.tick = Some(tick);
    let answer = call(&track, 300, request).await;
    assert!(answer.complete);
    assert!(world.state().asked.is_empty());
}
