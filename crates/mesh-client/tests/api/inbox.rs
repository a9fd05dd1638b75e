use mesh_client::{Error, MessageId};
use time::macros::datetime;

use crate::server::{Server, answer};

const V2: &str = "application/vnd.mesh.v2+json";

#[tokio::test]
async fn handshake_introduces_the_client() {
    let server = Server::start([answer(200).into()]).await;
    let client = server.client().clock(|| datetime!(2026-01-15 12:34 UTC));
    crate::server::mailbox(&client.build().unwrap())
        .handshake()
        .await
        .unwrap();

    let seen = &server.seen()[0];
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.target, "/messageexchange/X26ABC1");
    assert_eq!(seen.header("content-length"), Some("0"));
    assert_eq!(seen.header("accept"), Some(V2));
    assert!(seen.header("user-agent").unwrap().starts_with("mesh-aws/"));
    assert!(
        seen.header("mex-clientversion")
            .unwrap()
            .starts_with("mesh-aws==")
    );
    assert!(seen.header("mex-osname").is_some());
    assert!(seen.header("mex-osversion").is_some());
    let token = seen.header("authorization").unwrap();
    let parts: Vec<_> = token.split(':').collect();
    assert_eq!(parts.len(), 5);
    assert_eq!(parts[0], "NHSMESH X26ABC1");
    assert_eq!(parts[1].len(), 36);
    assert_eq!(parts[2..4], ["0", "202601151234"]);
    assert_eq!(parts[4].len(), 64);
}

#[tokio::test]
async fn wrong_credentials_are_named() {
    let body = r#"{"detail":[{"event":"","code":"","msg":"Invalid Authentication Token"}]}"#;
    let server = Server::start([answer(403).body(body).into()]).await;
    let error = server.mailbox().handshake().await.unwrap_err();
    assert!(matches!(error, Error::NotAuthorised(_)), "{error:?}");
    assert!(error.to_string().contains("Invalid Authentication Token"));
    assert!(error.to_string().contains("check mailbox id"));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn pages_follow_each_other_unchanged() {
    let next = "/messageexchange/X26ABC1/inbox?max_results=10&continue_from=gAAA%3D%3D";
    let first = format!(
        r#"{{"messages":["A_1","B 2"],"links":{{"self":"/","next":"{next}"}},"approx_inbox_count":3}}"#
    );
    // Without links, as version 1 and the last page.
    let last = r#"{"messages":[]}"#;
    let server = Server::start([
        answer(200).body(first).into(),
        answer(200).body(last).into(),
    ])
    .await;
    let mailbox = server.mailbox();

    let page = mailbox.inbox(10).await.unwrap();
    let ids: Vec<_> = page.messages.iter().map(MessageId::as_str).collect();
    assert_eq!(ids, ["A_1", "B 2"]);
    assert_eq!(page.approx_inbox_count, Some(3));
    let page = mailbox.inbox_next(&page.next.unwrap()).await.unwrap();
    assert!(page.messages.is_empty() && page.next.is_none());

    let seen = server.seen();
    assert_eq!(
        seen[0].target,
        "/messageexchange/X26ABC1/inbox?max_results=10"
    );
    assert_eq!(seen[1].target, next);
    assert_eq!(seen[0].header("content-length"), None);
    assert_ne!(
        seen[0].header("authorization"),
        seen[1].header("authorization")
    );
}

#[tokio::test]
async fn a_page_size_out_of_range_is_no_request() {
    let server = Server::start([answer(200).into()]).await;
    for size in [9, 5001] {
        let error = server.mailbox().inbox(size).await.unwrap_err();
        assert!(error.to_string().contains("10 to 5000"), "{error}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_no_inbox_is_malformed() {
    for body in [
        "",
        "null",
        "<html>",
        r#"{"messages":"A"}"#,
        r#"{"messages":{"A":1}}"#,
    ] {
        let server = Server::start([answer(200).body(body).into()]).await;
        let error = server.mailbox().inbox(500).await.unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn an_entry_that_is_no_id_is_counted_and_in_the_way_of_no_other() {
    let long = "9".repeat(200);
    let next = "/messageexchange/X26ABC1/inbox?max_results=10&continue_from=g";
    let body = format!(
        r#"{{"messages":["A","{long}","","a\u0007b",1,null,{{"id":["C"]}},"B"],"links":{{"next":"{next}"}},"approx_inbox_count":9}}"#
    );
    let server = Server::start([answer(200).body(body).into()]).await;
    let page = server.mailbox().inbox(10).await.unwrap();
    let ids: Vec<_> = page.messages.iter().map(MessageId::as_str).collect();
    assert_eq!(ids, ["A", "B"]);
    assert_eq!(page.unusable, 6);
    assert!(page.next.is_some());
    assert_eq!(page.approx_inbox_count, Some(9));
}

#[tokio::test]
async fn acknowledge_names_the_message_only() {
    let server = Server::start([answer(200).into()]).await;
    let id = MessageId::try_from("a/b").unwrap();
    server.mailbox().acknowledge(&id).await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.method, "PUT");
    assert_eq!(
        seen.target,
        "/messageexchange/X26ABC1/inbox/a%2Fb/status/acknowledged"
    );
    assert_eq!(seen.header("content-length"), Some("0"));
}

#[tokio::test]
async fn an_id_that_means_a_folder_is_no_request() {
    let server = Server::start([answer(200).into()]).await;
    let id = MessageId::try_from("..").unwrap();
    let error = server.mailbox().acknowledge(&id).await.unwrap_err();
    assert!(matches!(error, Error::Malformed(_)), "{error:?}");
    assert!(server.seen().is_empty());
}
