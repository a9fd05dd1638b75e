//! Whole acknowledgements through the handler, with MESH and the tables in memory.

use std::sync::Mutex;

use mesh_client::{MailboxId, MessageId};
use mesh_pipeline::lease::Leases;
use mesh_pipeline::rows::AcknowledgedRows;
use mesh_pipeline::state::{AckRequest, Invocation};
use mesh_pipeline::{Error, Fault, clock};
use time::OffsetDateTime;

use super::{AT_ONCE, Ack, Inbox, handle};

#[derive(Default)]
struct Mesh(Mutex<Vec<String>>);

impl Inbox for Mesh {
    async fn acknowledge(&self, _: &MailboxId, message: &MessageId) -> Result<(), Error> {
        match message.as_ref() {
            "gone" => Err(Error::MessageGone(Fault::new("gone"))),
            "busy" => {
                let asked = Some(std::time::Duration::from_mins(10));
                Err(Error::Throttled(Fault::new("busy").after(asked)))
            }
            "soon" => {
                let asked = Some(std::time::Duration::from_secs(5));
                Err(Error::Throttled(Fault::new("busy").after(asked)))
            }
            "down" => Err(Error::MeshUnavailable(Fault::new("down"))),
            id => {
                self.0.lock().unwrap().push(id.to_owned());
                Ok(())
            }
        }
    }
}

struct Lease(bool, Mutex<Option<OffsetDateTime>>);

impl Leases for Lease {
    async fn take(&self, _: &MailboxId, _: &str, _: OffsetDateTime) -> Result<bool, Error> {
        Ok(self.0)
    }
    async fn pause(&self, _: &MailboxId, _: &str, until: OffsetDateTime) -> Result<(), Error> {
        *self.1.lock().unwrap() = Some(until);
        Ok(())
    }
    async fn release(&self, _: &MailboxId, _: &str) -> Result<(), Error> {
        Ok(())
    }
}

#[derive(Default)]
struct Rows(Mutex<Vec<String>>);

impl AcknowledgedRows for Rows {
    async fn acknowledged(&self, message: &MessageId) -> Result<(), Error> {
        self.0.lock().unwrap().push(message.to_string());
        Ok(())
    }
    async fn not_acknowledged(&self, message: &MessageId, error: &Error) -> Result<(), Error> {
        let mut rows = self.0.lock().unwrap();
        rows.push(format!("{message}: {}", error.name()));
        Ok(())
    }
}

async fn run(ids: &[&str], leased: bool) -> (Result<usize, Error>, Ack<Mesh, Lease, Rows>) {
    let ack = Ack {
        inbox: Mesh::default(),
        leases: Lease(leased, Mutex::default()),
        rows: Rows::default(),
    };
    let request: AckRequest = serde_json::from_value(serde_json::json!({
        "mailbox": "X26ABC1",
        "stored": ids.iter().map(|id| serde_json::json!({"message_id": id})).collect::<Vec<_>>(),
    }))
    .unwrap();
    let invocation = Invocation {
        execution: "execution".to_owned(),
        deadline: clock::now() + time::Duration::minutes(5),
    };
    let result = handle(&ack, invocation, request).await;
    (result.map(|response| response.acknowledged), ack)
}

#[tokio::test]
async fn every_message_is_acknowledged_and_its_row_closed() {
    let (result, ack) = run(&["1", "2", "3"], true).await;
    assert_eq!(result.unwrap(), 3);
    assert_eq!(ack.inbox.0.lock().unwrap().len(), 3);
    assert_eq!(ack.rows.0.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn one_failure_does_not_stop_the_others_and_is_reported() {
    let (result, ack) = run(&["1", "down", "2"], true).await;
    assert_eq!(result.unwrap_err().name(), "MeshUnavailable");
    let mut rows = ack.rows.0.lock().unwrap().clone();
    rows.sort();
    assert_eq!(rows, ["1", "2", "down: MeshUnavailable"]);
}

#[tokio::test]
async fn a_message_that_mesh_no_longer_has_is_done_with() {
    let (result, ack) = run(&["gone"], true).await;
    assert_eq!(result.unwrap(), 1);
    assert_eq!(*ack.rows.0.lock().unwrap(), ["gone"]);
}

#[tokio::test]
async fn without_the_lease_nothing_is_acknowledged() {
    let (result, ack) = run(&["1"], false).await;
    assert_eq!(result.unwrap(), 0);
    assert!(ack.inbox.0.lock().unwrap().is_empty());
    // The event was put: the row says so.
    assert_eq!(*ack.rows.0.lock().unwrap(), ["1: Throttled"]);
}

#[tokio::test]
async fn while_mesh_asks_to_be_left_alone_nothing_further_is_acknowledged() {
    let ids: Vec<_> = (0..9).map(|n| n.to_string()).collect();
    let mut ids: Vec<_> = ids.iter().map(String::as_str).collect();
    ids.insert(0, "busy");
    let (result, ack) = run(&ids, true).await;
    // No error: the state machine would be back too soon.
    let acknowledged = result.unwrap();
    assert!(acknowledged < AT_ONCE, "{acknowledged}");
    let rows = ack.rows.0.lock().unwrap().clone();
    assert_eq!(rows.len(), ids.len());
    let throttled = rows.iter().filter(|row| row.ends_with("Throttled"));
    assert_eq!(throttled.count(), ids.len() - acknowledged);
    let paused = ack.leases.1.lock().unwrap().unwrap() - clock::now();
    assert!((595..=600).contains(&paused.whole_seconds()), "{paused}");
    // A short pause is the state machine's, but none of the others waits as long as this one has.
    ids[0] = "soon";
    let (result, ack) = run(&ids, true).await;
    assert_eq!(result.unwrap_err().name(), "Throttled");
    assert_eq!(*ack.leases.1.lock().unwrap(), None);
    assert!(ack.inbox.0.lock().unwrap().len() < AT_ONCE);
}
