use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use futures_util::{Stream, StreamExt, stream};
use mesh_client::{Body, BoxError, Error, OutgoingMessage};

use crate::server::{Does, Server, answer};

const ACCEPTED: &str = r#"{"message_id":"M1"}"#;

fn message() -> OutgoingMessage {
    OutgoingMessage {
        to: "X26ABC2".into(),
        workflow_id: "TEST_WORKFLOW".into(),
        ..OutgoingMessage::default()
    }
}

fn pieces(count: usize) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
    stream::iter((0..count).map(|_| Ok(Bytes::from_static(&[b'x'; 1000]))))
}

#[tokio::test]
async fn a_message_is_posted_with_its_headers() {
    let server = Server::start([answer(202).body(ACCEPTED).into()]).await;
    let message = OutgoingMessage {
        subject: Some("£5".into()),
        file_name: Some("漢.csv".into()),
        ..message()
    };
    let body = Bytes::from_static(b"a,b").into();
    let id = server.mailbox().send(&message, 1, body).await.unwrap();
    assert_eq!(id.as_str(), "M1");

    let seen = &server.seen()[0];
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/messageexchange/X26ABC1/outbox")
    );
    assert_eq!(seen.header("mex-to"), Some("X26ABC2"));
    assert_eq!(seen.header("mex-chunk-range"), None);
    assert_eq!(seen.header("content-length"), Some("3"));
    assert_eq!(seen.headers["mex-subject"].as_bytes(), b"\xa35");
    assert_eq!(seen.headers["mex-filename"].as_bytes(), "漢.csv".as_bytes());
    assert_eq!(seen.body.as_deref(), Some(&b"a,b"[..]));
}

#[tokio::test]
async fn version_1_answers_are_understood() {
    let server = Server::start([answer(202).body(r#"{"messageID":"M1"}"#).into()]).await;
    let body = Bytes::from_static(b"x").into();
    let id = server.mailbox().send(&message(), 1, body).await.unwrap();
    assert_eq!(id.as_str(), "M1");
}

#[tokio::test]
async fn streams_go_with_a_length_or_chunked() {
    for (length, header) in [(Some(50_000), Some("50000")), (None, None)] {
        let server = Server::start([answer(202).body(ACCEPTED).into()]).await;
        let body = Body::from_stream(pieces(50), length);
        server.mailbox().send(&message(), 2, body).await.unwrap();
        let seen = &server.seen()[0];
        assert_eq!(seen.header("content-length"), header);
        assert_eq!(seen.header("mex-chunk-range"), Some("1:2"));
        assert_eq!(seen.body.as_ref().unwrap().len(), 50_000);
    }
}

#[tokio::test]
async fn a_stream_is_compressed_on_the_way() {
    let server = Server::start([answer(202).body(ACCEPTED).into()]).await;
    let message = OutgoingMessage {
        gzip: true,
        ..message()
    };
    let body = Body::gzip(pieces(500), 6);
    server.mailbox().send(&message, 1, body).await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.header("content-encoding"), Some("gzip"));
    let sent = seen.body.as_deref().unwrap();
    assert!(sent.len() < 5_000);
    let mut decoded = Vec::new();
    MultiGzDecoder::new(sent).read_to_end(&mut decoded).unwrap();
    assert_eq!(decoded, vec![b'x'; 500_000]);
}

#[tokio::test]
async fn a_stream_that_fails_leaves_the_request_incomplete() {
    let failing = || pieces(50).chain(stream::once(async { Err(BoxError::from("disk")) }));
    for (name, body, cause) in [
        ("length", Body::from_stream(failing(), Some(50_000)), "disk"),
        ("chunked", Body::from_stream(failing(), None), "disk"),
        ("gzip", Body::gzip(failing(), 1), "disk"),
        (
            "short",
            Body::from_stream(pieces(49), Some(50_000)),
            "49000 bytes",
        ),
        (
            "long",
            Body::from_stream(pieces(51), Some(50_000)),
            "51000 bytes",
        ),
    ] {
        let server = Server::start([answer(202).body(ACCEPTED).into()]).await;
        let error = server
            .mailbox()
            .send(&message(), 1, body)
            .await
            .unwrap_err();
        match &error {
            Error::BodySource(source) => {
                assert!(source.to_string().contains(cause), "{name}: {source}");
            }
            error => panic!("{name}: {error:?}"),
        }
        assert!(error.was_not_accepted(), "{name}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(
            server.seen().iter().all(|seen| seen.body.is_none()),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_refusal_before_the_body_is_whole_is_read() {
    let refusal = answer(417)
        .body(r#"{"detail":[{"event":"SEND","code":"12","msg":"Unregistered to address"}]}"#);
    let server = Server::start([Does::AnswerEarly(refusal)]).await;
    // It has no end: only the answer can stop it.
    let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 1000])));
    let body = Body::from_stream(endless, None);
    match server
        .mailbox()
        .send(&message(), 1, body)
        .await
        .unwrap_err()
    {
        Error::Rejected(detail) => assert_eq!(detail.code.as_deref(), Some("12")),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_bad_header_is_no_request() {
    let server = Server::start([answer(202).body(ACCEPTED).into()]).await;
    let message = OutgoingMessage {
        subject: Some("a\nb".into()),
        ..message()
    };
    let body = Bytes::from_static(b"x").into();
    let error = server.mailbox().send(&message, 1, body).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("Mex-Subject holds a control character"),
        "{error}"
    );
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn first_chunks_never_share_a_connection() {
    let server = Server::start([answer(202).body(ACCEPTED).into()]).await;
    let mailbox = server.mailbox();
    for _ in 0..3 {
        let body = Bytes::from_static(b"x").into();
        mailbox.send(&message(), 1, body).await.unwrap();
    }
    assert_eq!(server.connections(), 3);
    for _ in 0..3 {
        mailbox.handshake().await.unwrap();
    }
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn later_chunks_have_their_range() {
    let server = Server::start([answer(202).body("null").into(), answer(423).into()]).await;
    let mailbox = server.mailbox();
    let id = "M1".try_into().unwrap();
    let body = Bytes::from_static(b"x");
    mailbox.send_chunk(&id, 3, 3, true, &body).await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.target, "/messageexchange/X26ABC1/outbox/M1/3");
    assert_eq!(seen.header("mex-chunk-range"), Some("3:3"));
    assert_eq!(seen.header("content-encoding"), Some("gzip"));
    assert_eq!(seen.header("mex-to"), None);

    let error = mailbox
        .send_chunk(&id, 3, 3, true, &body)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::AlreadyComplete(_)), "{error:?}");
}
