//! Whole polls through the handler, with MESH and the tables in memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use mesh_client::{InboxPage, MailboxId, MeshClient, MessageId, NextPage, RetryPolicy};
use mesh_pipeline::lease::{Held, HeldLeases, Leases};
use mesh_pipeline::rows::{KnownRows, Row, Status};
use mesh_pipeline::settings::{MeshSettings, RowSettings};
use mesh_pipeline::state::{Invocation, PollRequest};
use mesh_pipeline::{Error, Fault, clock};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::{BATCH_EVENTS, BATCHES_EVENTS, Inbox, Poll, ROUND_EVENTS, Settings, handle};

struct Waiting {
    ids: Result<Vec<MessageId>, &'static str>,
    unusable: usize,
    retry_after: Option<u64>,
}

impl Inbox for Waiting {
    async fn prepare(&self, _: &MailboxId) {}
    async fn handshake(&self, mailbox: &MailboxId) -> Result<(), Error> {
        self.page(mailbox, 0, None).await.map(|_| ())
    }
    async fn page(&self, _: &MailboxId, _: u32, _: Option<&NextPage>) -> Result<InboxPage, Error> {
        match &self.ids {
            Ok(messages) => Ok(InboxPage {
                messages: messages.clone(),
                unusable: self.unusable,
                next: None,
                approx_inbox_count: None,
            }),
            Err(what) => Err(Error::MeshUnavailable(
                Fault::new(*what).after(self.retry_after.map(std::time::Duration::from_secs)),
            )),
        }
    }
}

#[derive(Default)]
struct Lease {
    anothers: Option<Held>,
    // Another execution takes it while this one asks MESH.
    lost: bool,
    held: Arc<AtomicBool>,
    until: Mutex<Option<OffsetDateTime>>,
}

impl HeldLeases for Lease {
    async fn held(&self, _: &MailboxId, _: &str) -> Result<Held, Error> {
        Ok(self.anothers.unwrap_or(Held::Free))
    }
}

impl Leases for Lease {
    async fn take(&self, _: &MailboxId, _: &str, until: OffsetDateTime) -> Result<bool, Error> {
        self.held.store(true, Ordering::SeqCst);
        *self.until.lock().unwrap() = Some(until);
        Ok(!self.lost)
    }
    async fn pause(&self, _: &MailboxId, _: &str, until: OffsetDateTime) -> Result<(), Error> {
        *self.until.lock().unwrap() = Some(until);
        Ok(())
    }
    async fn release(&self, _: &MailboxId, _: &str) -> Result<(), Error> {
        self.held.store(false, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Default)]
struct Rows(Mutex<HashMap<String, Row>>, Arc<AtomicBool>);

impl KnownRows for Rows {
    async fn known(&self, _: &[MessageId]) -> Result<HashMap<String, Row>, Error> {
        // What an execution that was quicker has done to the messages is in them.
        assert!(self.1.load(Ordering::SeqCst), "read without the lease");
        Ok(self.0.lock().unwrap().clone())
    }
}

fn poll(ids: &[&str]) -> Poll<Waiting, Lease, Rows> {
    let leases = Lease::default();
    let rows = Rows(Mutex::default(), Arc::clone(&leases.held));
    Poll {
        inbox: Waiting {
            ids: Ok(ids.iter().map(|id| id.parse().unwrap()).collect()),
            unusable: 0,
            retry_after: None,
        },
        leases,
        rows,
        settings: Settings {
            mesh: MeshSettings::default(),
            rows: RowSettings::default(),
            leases_table: String::new(),
            page_limit: 4,
            batch_size: 2,
            max_attempts: 5,
        },
    }
}

async fn run<I: Inbox, L: HeldLeases + Leases>(
    poll: &Poll<I, L, Rows>,
    request: &str,
) -> Result<serde_json::Value, Error> {
    let request: PollRequest = serde_json::from_str(request).unwrap();
    let invocation = Invocation {
        execution: "execution".to_owned(),
        deadline: clock::now() + time::Duration::minutes(5),
    };
    let response = handle(poll, invocation, request).await?;
    Ok(serde_json::to_value(response).unwrap())
}

fn batches(answer: &serde_json::Value) -> Vec<Vec<String>> {
    let batches = answer["body"]["batches"].as_array().unwrap().iter();
    batches
        .map(|batch| {
            let messages = batch["messages"].as_array().unwrap().iter();
            messages
                .map(|message| message["message_id"].as_str().unwrap().to_owned())
                .collect()
        })
        .collect()
}

const REQUEST: &str = r#"{"mailbox": "x26abc1"}"#;
const HANDSHAKE: &str = r#"{"mailbox": "X26ABC1", "handshake": "true"}"#;

#[tokio::test]
async fn a_page_becomes_batches_and_the_rest_is_announced() {
    let poll = poll(&["1", "2", "3", "4", "5"]);
    let answer = run(&poll, REQUEST).await.unwrap();
    assert_eq!(answer["statusCode"], 200);
    assert_eq!(answer["body"]["mailbox"], "X26ABC1");
    assert_eq!(answer["body"]["message_count"], 4);
    assert_eq!(answer["body"]["more"], true);
    assert_eq!(batches(&answer), [["1", "2"], ["3", "4"]]);
    assert!(poll.leases.held.load(Ordering::SeqCst));
}

// Each of the two waits for the other.
struct Together(Arc<Barrier>);

impl Inbox for Together {
    async fn prepare(&self, _: &MailboxId) {
        self.0.wait().await;
    }
    async fn handshake(&self, _: &MailboxId) -> Result<(), Error> {
        unreachable!()
    }
    async fn page(&self, _: &MailboxId, _: u32, _: Option<&NextPage>) -> Result<InboxPage, Error> {
        unreachable!()
    }
}

impl HeldLeases for Together {
    async fn held(&self, _: &MailboxId, _: &str) -> Result<Held, Error> {
        self.0.wait().await;
        Ok(Held::Anothers)
    }
}

impl Leases for Together {
    async fn take(&self, _: &MailboxId, _: &str, _: OffsetDateTime) -> Result<bool, Error> {
        unreachable!()
    }
    async fn pause(&self, _: &MailboxId, _: &str, _: OffsetDateTime) -> Result<(), Error> {
        unreachable!()
    }
    async fn release(&self, _: &MailboxId, _: &str) -> Result<(), Error> {
        unreachable!()
    }
}

#[tokio::test]
async fn secrets_are_read_while_the_lease_is_looked_at() {
    let both = Arc::new(Barrier::new(2));
    let poll = Poll {
        inbox: Together(Arc::clone(&both)),
        leases: Together(both),
        rows: Rows::default(),
        settings: poll(&[]).settings,
    };
    let polled = tokio::time::timeout(std::time::Duration::from_secs(5), run(&poll, REQUEST)).await;
    assert_eq!(polled.unwrap().unwrap()["body"]["message_count"], 0);
}

#[tokio::test]
async fn an_execution_has_no_more_batches_and_rounds_than_its_history_holds() {
    let ids: Vec<_> = (0..600).map(|n| format!("m{n}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    for (again, batch_size, expected) in [(0, 10, 50), (0, 1, 210), (170, 10, 203), (400, 10, 210)]
    {
        let mut poll = poll(&ids);
        poll.settings.page_limit = 500;
        poll.settings.batch_size = batch_size;
        for id in &ids[..again] {
            let row = Row {
                attempts: Some(1),
                status: Some(Status::Receiving),
                ..Row::default()
            };
            poll.rows.0.lock().unwrap().insert(format!("in#{id}"), row);
        }
        let answer = run(&poll, REQUEST).await.unwrap();
        let found = answer["body"]["batches"].as_array().unwrap();
        assert_eq!(found.len(), expected, "{again} {batch_size}");
        assert_eq!(answer["body"]["more"], true);
        let rounds = found[0]["rounds"].as_u64().unwrap();
        assert!(rounds >= 1);
        let rounds = usize::try_from(rounds).unwrap();
        assert!(expected * (BATCH_EVENTS + rounds * ROUND_EVENTS) <= BATCHES_EVENTS);
    }
}

#[tokio::test]
async fn messages_begun_before_go_last_one_by_one_and_poison_waits() {
    let poll = poll(&["poison", "again", "new", "stored"]);
    for (id, attempts, status) in [
        ("poison", 5, Status::Receiving),
        ("again", 1, Status::Receiving),
        ("stored", 1, Status::Received),
    ] {
        let row = Row {
            attempts: Some(attempts),
            status: Some(status),
            updated_at: Some(clock::iso(clock::now())),
            ..Row::default()
        };
        poll.rows.0.lock().unwrap().insert(format!("in#{id}"), row);
    }
    let answer = run(&poll, REQUEST).await.unwrap();
    assert_eq!(batches(&answer), [vec!["new", "stored"], vec!["again"]]);
    assert_eq!(answer["body"]["more"], false);
}

#[tokio::test]
async fn what_is_stored_and_can_not_be_acknowledged_takes_the_room_that_others_leave() {
    let stuck = ["s1", "s2", "s3", "s4", "s5"];
    for (ids, expected) in [
        (
            [stuck.as_slice(), &["new"]].concat(),
            [["new", "s1"], ["s2", "s3"]],
        ),
        (stuck.to_vec(), [["s1", "s2"], ["s3", "s4"]]),
        (
            [stuck.as_slice(), &["a", "b", "c", "d", "e"]].concat(),
            [["a", "b"], ["c", "d"]],
        ),
    ] {
        let poll = poll(&ids);
        for id in stuck {
            let row = Row {
                attempts: Some(1),
                status: Some(Status::Received),
                error: Some("MeshUnavailable: 503".to_owned()),
                ..Row::default()
            };
            poll.rows.0.lock().unwrap().insert(format!("in#{id}"), row);
        }
        let answer = run(&poll, REQUEST).await.unwrap();
        assert_eq!(batches(&answer), expected);
    }
}

#[tokio::test]
async fn a_row_that_can_not_be_read_is_told_of_and_in_the_way_of_no_other() {
    let _guard = tracing::subscriber::set_default(Errors);
    // What is not known, and what only a sent message may have: taken for stored it would be acknowledged.
    for status in [None, Some(Status::Failed), Some(Status::Held)] {
        let poll = poll(&["broken", "good"]);
        let row = Row {
            id: "in#broken".to_owned(),
            status,
            ..Row::default()
        };
        poll.rows.0.lock().unwrap().insert(row.id.clone(), row);
        let answer = run(&poll, REQUEST).await.unwrap();
        assert_eq!(batches(&answer), [["good"]]);
        // An alarm counts it.
        let errors = ERRORS.take();
        assert_eq!(errors.len(), 1, "{errors:?}");
        for part in ["MESHPOLL0004", "X26ABC1", "broken"] {
            assert!(errors[0].contains(part), "{errors:?}");
        }
    }
}

#[tokio::test]
async fn where_nothing_waits_no_lease_is_taken() {
    let poll = poll(&[]);
    let answer = run(&poll, REQUEST).await.unwrap();
    assert_eq!(answer["statusCode"], 204);
    assert!(poll.leases.until.lock().unwrap().is_none());
}

#[tokio::test]
async fn a_failure_gives_the_lease_back() {
    let mut poll = poll(&[]);
    poll.inbox.ids = Err("down");
    assert_eq!(
        run(&poll, REQUEST).await.unwrap_err().name(),
        "MeshUnavailable"
    );
    assert!(!poll.leases.held.load(Ordering::SeqCst));
}

#[tokio::test]
async fn another_executions_mailbox_is_left_alone() {
    for held in [Some(Held::Anothers), Some(Held::Paused), None] {
        let mut poll = poll(&["1"]);
        poll.leases.anothers = held;
        poll.leases.lost = held.is_none();
        let answer = run(&poll, REQUEST).await.unwrap();
        assert_eq!(answer["statusCode"], 204);
        assert_eq!(answer["body"]["message_count"], 0);
        let untouched = poll.leases.until.lock().unwrap().is_none();
        assert_eq!(untouched, held.is_some());
    }
}

#[tokio::test]
async fn a_handshake_takes_no_lease() {
    let poll = poll(&["1"]);
    let answer = run(&poll, HANDSHAKE).await.unwrap();
    assert_eq!(answer["statusCode"], 204);
    assert!(!poll.leases.held.load(Ordering::SeqCst));
}

#[tokio::test]
async fn an_input_without_a_mailbox_that_could_exist_is_named() {
    let error = run(&poll(&[]), r#"{"mailbox": "a/b"}"#).await.unwrap_err();
    assert_eq!(error.name(), "InvalidInput");
}

#[tokio::test]
async fn while_mesh_asks_to_be_left_alone_the_lease_keeps_everybody_away() {
    for request in [REQUEST, HANDSHAKE] {
        for (asked, kept) in [(600, 600), (86_400, 3_600)] {
            let mut poll = poll(&[]);
            poll.inbox.ids = Err("busy");
            poll.inbox.retry_after = Some(asked);
            let answer = run(&poll, request).await.unwrap();
            assert_eq!(answer["statusCode"], 204);
            assert!(poll.leases.held.load(Ordering::SeqCst));
            let left = poll.leases.until.lock().unwrap().unwrap() - clock::now();
            assert!((left.whole_seconds() - kept).abs() <= 1, "{left}");
        }
        // A short pause is the state machine's to wait for.
        let mut poll = poll(&[]);
        poll.inbox.ids = Err("busy");
        poll.inbox.retry_after = Some(60);
        assert_eq!(
            run(&poll, request).await.unwrap_err().name(),
            "MeshUnavailable"
        );
        assert!(!poll.leases.held.load(Ordering::SeqCst));
    }
}

#[tokio::test]
async fn a_handshake_waits_for_no_execution_but_for_mesh() {
    for (held, fails) in [(Held::Anothers, true), (Held::Paused, false)] {
        let mut poll = poll(&[]);
        poll.inbox.ids = Err("down");
        poll.leases.anothers = Some(held);
        assert_eq!(run(&poll, HANDSHAKE).await.is_err(), fails, "{held:?}");
    }
}

thread_local! {
    static ERRORS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

// Keeps the names and values of what is logged at error level.
struct Errors;

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }
    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut |field: &Field, value: &dyn Debug| {
            let _ = write!(text, "{field}={value:?} ");
        });
        ERRORS.with_borrow_mut(|errors| errors.push(text));
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn ids_that_can_not_be_used_are_told_of_and_in_the_way_of_no_other() {
    let _guard = tracing::subscriber::set_default(Errors);
    let mut poll = poll(&["1", "2"]);
    run(&poll, REQUEST).await.unwrap();
    assert_eq!(ERRORS.take(), Vec::<String>::new());
    poll.inbox.unusable = 3;
    let answer = run(&poll, REQUEST).await.unwrap();
    assert_eq!(batches(&answer), [["1", "2"]]);
    assert_eq!(answer["body"]["message_count"], 2);
    let errors = ERRORS.take();
    assert_eq!(errors.len(), 1, "{errors:?}");
    for part in ["MESHMBOX0007", "X26ABC1", "message_count=3 "] {
        assert!(errors[0].contains(part), "{errors:?}");
    }
    // Nothing but such ids is nothing to fetch, and the lease is given back.
    poll.inbox.ids = Ok(Vec::new());
    let answer = run(&poll, REQUEST).await.unwrap();
    assert_eq!(answer["statusCode"], 204);
    assert!(!poll.leases.held.load(Ordering::SeqCst));
}

// A mailbox of MESH's whose pages are answered in turn, the last one again and again.
struct Pages(mesh_client::Mailbox);

impl Inbox for Pages {
    async fn prepare(&self, _: &MailboxId) {}
    async fn handshake(&self, _: &MailboxId) -> Result<(), Error> {
        Ok(())
    }
    async fn page(
        &self,
        _: &MailboxId,
        max_results: u32,
        after: Option<&NextPage>,
    ) -> Result<InboxPage, Error> {
        let page = match after {
            None => self.0.inbox(max_results).await,
            Some(next) => self.0.inbox_next(next).await,
        };
        page.map_err(|error| {
            let asked = error.retry_after();
            Error::MeshUnavailable(Fault::new("a page failed").because(error).after(asked))
        })
    }
}

// An error is a failure of MESH's that asks for a pause of so many seconds, or for none.
async fn pages(script: &[Result<&str, u64>]) -> Poll<Pages, Lease, Rows> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers: Vec<_> = script
        .iter()
        .map(|page| match page {
            Ok(body) => format!("200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
            Err(0) => "500 Fault\r\nContent-Length: 0\r\n\r\n".to_owned(),
            Err(pause) => {
                format!("503 Busy\r\nRetry-After: {pause}\r\nContent-Length: 0\r\n\r\n")
            }
        })
        .collect();
    tokio::spawn(async move {
        let mut answers = answers.into_iter().peekable();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let answer = answers.next().unwrap();
            if answers.peek().is_none() {
                answers = vec![answer.clone()].into_iter().peekable();
            }
            let answer = format!(
                "HTTP/1.1 {}",
                answer.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let client = MeshClient::builder(&url).retry(RetryPolicy::none()).build();
    let mailbox =
        client
            .unwrap()
            .mailbox("X26ABC1".parse().unwrap(), "password".into(), "key".into());
    let Poll {
        leases,
        rows,
        settings,
        ..
    } = poll(&[]);
    Poll {
        inbox: Pages(mailbox),
        leases,
        rows,
        settings,
    }
}

const FIRST: &str =
    r#"{"messages":["1"],"links":{"next":"/messageexchange/X26ABC1/inbox?continue_from=a"}}"#;
const SECOND: &str =
    r#"{"messages":["2"],"links":{"next":"/messageexchange/X26ABC1/inbox?continue_from=b"}}"#;

#[tokio::test]
async fn behind_a_page_of_nothing_but_poison_the_others_are_found() {
    let last = r#"{"messages":["2","3"],"links":{}}"#;
    let poll = pages(&[Ok(FIRST), Ok(last)]).await;
    let poison = Row {
        attempts: Some(5),
        status: Some(Status::Receiving),
        updated_at: Some(clock::iso(clock::now())),
        ..Row::default()
    };
    for id in ["1", "2"] {
        let mut rows = poll.rows.0.lock().unwrap();
        rows.insert(format!("in#{id}"), poison.clone());
    }
    let answer = run(&poll, REQUEST).await.unwrap();
    assert_eq!(batches(&answer), [["3"]]);
}

#[tokio::test]
async fn a_page_that_fails_leaves_those_before_it() {
    let poll = pages(&[Ok(FIRST), Ok(SECOND), Err(0)]).await;
    let answer = run(&poll, REQUEST).await.unwrap();
    assert_eq!(batches(&answer), [["1", "2"]]);
    assert_eq!(answer["body"]["more"], true);
    assert!(poll.leases.held.load(Ordering::SeqCst));
    // Unless MESH asks for a pause, or nothing was found before.
    let poll = pages(&[Ok(FIRST), Err(600)]).await;
    let answer = run(&poll, REQUEST).await.unwrap();
    assert_eq!(answer["statusCode"], 204);
    let poll = pages(&[Err(0)]).await;
    let error = run(&poll, REQUEST).await.unwrap_err();
    assert_eq!(error.name(), "MeshUnavailable");
}

#[tokio::test]
async fn behind_empty_pages_the_others_are_found() {
    let last = r#"{"messages":["2"],"links":{}}"#;
    for (many, found) in [(1, true), (9, true), (10, false)] {
        let empty: Vec<_> = (0..many)
            .map(|n| format!(r#"{{"messages":[],"links":{{"next":"/messageexchange/X26ABC1/inbox?continue_from={n}"}}}}"#))
            .collect();
        let mut script: Vec<_> = empty.iter().map(|page| Ok(page.as_str())).collect();
        script.push(Ok(last));
        let poll = pages(&script).await;
        let answer = run(&poll, REQUEST).await.unwrap();
        assert_eq!(
            answer["statusCode"],
            if found { 200 } else { 204 },
            "{many}"
        );
        assert_eq!(poll.leases.held.load(Ordering::SeqCst), found);
        // They count in a row.
        script.insert(1, Ok(FIRST));
        let poll = pages(&script).await;
        let answer = run(&poll, REQUEST).await.unwrap();
        assert_eq!(batches(&answer), [["1", "2"]], "{many}");
    }
}

#[tokio::test]
async fn links_that_lead_to_nothing_new_are_not_followed_for_ever() {
    let empty = FIRST.replace(r#""1""#, "");
    let unusable = FIRST.replace(r#""1""#, r#""\u0000""#);
    for last in [FIRST, &empty, &unusable] {
        let poll = pages(&[Ok(FIRST), Ok(last)]).await;
        let work = tokio::time::timeout(std::time::Duration::from_secs(10), run(&poll, REQUEST));
        let answer = work.await.unwrap().unwrap();
        assert_eq!(batches(&answer), [["1"]]);
        assert_eq!(answer["body"]["more"], false);
    }
}
