//! Whole acknowledgements through the handler, with MESH and the tables in memory.

use std::sync::Mutex;

use mesh_client::{MailboxId, MessageId};
use mesh_pipeline::lease::Leases;
use mesh_pipeline::rows::AcknowledgedRows;
use mesh_pipeline::state::{AckRequest, Invocation};
use mesh_pipeline::{Error, Fault, clock};
use time::OffsetDateTime;

use super::{Ack, Inbox, handle};

#[derive(Default)]
struct Mesh(Mutex<Vec<String>>);

impl Inbox for Mesh {
    async fn acknowledge(&self, _: &MailboxId, message: &MessageId) -> Result<(), Error> {
        match message.as_ref() {
            "gone" => Err(Error::MessageGone(Fault::new("gone"))),
            "down" => Err(Error::MeshUnavailable(Fault::new("down"))),
            id => {
                self.0.lock().unwrap().push(id.to_owned());
                Ok(())
            }
        }
    }
}

struct Lease(bool);

impl Leases for Lease {
    async fn take(&self, _: &MailboxId, _: &str, _: OffsetDateTime) -> Result<bool, Error> {
        Ok(self.0)
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
        leases: Lease(leased),
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
}
