use mesh_client::{Error, LocalIdLookup, MessageId};

use crate::server::{Server, answer};

const FOUND: &str = r#"{"message_id":"M1","status":"accepted","recipient":"X26ABC2"}"#;
const MESHS_404: &str = r#"{"detail":[{"event":"","code":"","msg":"Not Found"}]}"#;

#[tokio::test]
async fn a_message_is_tracked_by_its_id() {
    let server = Server::start([answer(200).body(FOUND).into()]).await;
    let id = MessageId::try_from("a&b=c").unwrap();
    let tracking = server.mailbox().track(&id).await.unwrap();
    assert_eq!(tracking.status, "accepted");
    assert_eq!(
        server.seen()[0].target,
        "/messageexchange/X26ABC1/outbox/tracking?messageID=a%26b%3Dc"
    );
}

#[tokio::test]
async fn a_local_id_has_none_one_or_several_messages() {
    let server = Server::start([
        answer(200).body(FOUND).into(),
        answer(404).body(MESHS_404).into(),
        answer(300).into(),
    ])
    .await;
    let mailbox = server.mailbox();
    for expected in ["One", "NotFound", "Several"] {
        let found = mailbox.track_by_local_id("my/id ?").await.unwrap();
        assert!(format!("{found:?}").starts_with(expected), "{found:?}");
    }
    assert_eq!(
        server.seen()[0].target,
        "/messageexchange/X26ABC1/outbox/tracking/my%2Fid%20%3F"
    );
}

#[tokio::test]
async fn a_404_that_is_not_meshs_own_proves_nothing() {
    for body in [
        "",
        "<html>",
        r#"{"detail":"Not Found"}"#,
        r#"{"message":"Not Found"}"#,
    ] {
        let server = Server::start([answer(404).body(body).into()]).await;
        let error = server.mailbox().track_by_local_id("L1").await.unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn an_empty_local_id_is_no_request() {
    let server = Server::start([answer(200).body(FOUND).into()]).await;
    assert!(matches!(
        server.mailbox().track_by_local_id("").await,
        Err(Error::InvalidHeader(_))
    ));
    assert!(server.mailbox().track_by_local_id("..").await.is_err());
    assert!(matches!(
        server.mailbox().track_by_local_id("L1").await,
        Ok(LocalIdLookup::One(_))
    ));
    assert_eq!(server.seen().len(), 1);
}
