use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mesh_client::{Error, MessageId, OutgoingMessage, RetryPolicy};

use crate::server::{Does, Server, answer, mailbox};

fn tokens(server: &Server) -> HashSet<String> {
    let seen = server.seen();
    let tokens = seen
        .iter()
        .map(|seen| seen.header("authorization").unwrap());
    tokens.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_attempt_has_its_own_token() {
    let server = Server::start([
        answer(503).into(),
        Does::HangUp,
        answer(429).into(),
        answer(200).body(r#"{"messages":[]}"#).into(),
    ])
    .await;
    server.mailbox().inbox(500).await.unwrap();
    assert_eq!(server.seen().len(), 4);
    assert_eq!(tokens(&server).len(), 4);
}

#[tokio::test]
async fn it_ends_after_three_retries() {
    let server = Server::start([answer(504).into()]).await;
    let error = server.mailbox().handshake().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn definite_answers_and_500_are_not_repeated() {
    for status in [300, 400, 403, 404, 406, 410, 417, 422, 423, 500] {
        let server = Server::start([answer(status).into()]).await;
        let error = server.mailbox().handshake().await.unwrap_err();
        assert_eq!(error.detail().unwrap().status, status);
        assert_eq!(server.seen().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = answer(302).header("location", "/messageexchange/X26ABC1/inbox");
    let server = Server::start([elsewhere.into()]).await;
    let error = server.mailbox().handshake().await.unwrap_err();
    assert!(matches!(error, Error::Malformed(_)), "{error:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let wait = answer(503).header("retry-after", "1");
    let server = Server::start([wait.into(), answer(200).into()]).await;
    let start = Instant::now();
    server.mailbox().handshake().await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_long_retry_after_is_handed_back_at_once() {
    let wait = answer(429).header("retry-after", "61");
    let server = Server::start([wait.into()]).await;
    let error = server.mailbox().handshake().await.unwrap_err();
    assert!(matches!(error, Error::Throttled { .. }), "{error:?}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(61)));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_first_chunk_is_sent_once_whatever_happens() {
    let message = OutgoingMessage {
        to: "X26ABC2".into(),
        workflow_id: "W".into(),
        ..OutgoingMessage::default()
    };
    for (does, certain) in [
        (answer(503).header("retry-after", "0").into(), false),
        (
            answer(429)
                .body(r#"{"detail":[{"code":"","event":"","msg":""}]}"#)
                .into(),
            true,
        ),
        (Does::HangUp, false),
        (answer(202).body("{}").into(), false),
    ] {
        let server = Server::start([does]).await;
        let body = Bytes::from_static(b"x").into();
        let error = server.mailbox().send(&message, 1, body).await.unwrap_err();
        assert_eq!(error.was_not_accepted(), certain, "{error:?}");
        assert_eq!(server.seen().len(), 1, "{error:?}");
    }
}

#[tokio::test]
async fn a_later_chunk_is_sent_again_from_its_start() {
    let server = Server::start([Does::HangUp, answer(503).into(), answer(202).into()]).await;
    let id = MessageId::try_from("M1").unwrap();
    let body = Bytes::from_static(b"chunk two");
    server
        .mailbox()
        .send_chunk(&id, 2, 2, false, &body)
        .await
        .unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.body.as_ref() == Some(&body)));
    assert_eq!(tokens(&server).len(), 3);
}

#[tokio::test]
async fn no_connection_means_nothing_was_sent() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = mesh_client::MeshClient::builder(&url).retry(RetryPolicy::none());
    let error = mailbox(&client.build().unwrap())
        .handshake()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotConnected(_)), "{error:?}");
    assert!(error.was_not_accepted() && error.is_retryable());
}

#[tokio::test]
async fn a_silent_server_is_an_interruption() {
    let server = Server::start([Does::Stall]).await;
    let client = server
        .client()
        .retry(RetryPolicy::none())
        .request_timeout(Duration::from_millis(100));
    let error = mailbox(&client.build().unwrap())
        .handshake()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Interrupted(_)), "{error:?}");
    assert!(!error.was_not_accepted() && error.is_retryable());
}
