use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use mesh_client::{Download, Error, MessageId, MessageType};

use crate::server::{Answer, Does, Server, answer, mailbox};

fn id() -> MessageId {
    MessageId::try_from(ID).unwrap()
}

const ID: &str = "20220228174323222_ABCDEF";

fn message() -> Answer {
    answer(200)
        .header("mex-messageid", ID)
        .header("mex-messagetype", "DATA")
        .header("mex-chunk-range", "1:1")
}

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

pub(crate) async fn content(download: &mut Download) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    while let Some(piece) = download.next().await? {
        content.extend_from_slice(&piece);
    }
    Ok(content)
}

/// One megabyte that doesn't compress to nothing.
fn large() -> Vec<u8> {
    (0..250_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

#[tokio::test]
async fn a_message_arrives_with_headers_and_content() {
    let sent = message()
        .header("mex-from", "X26ABC2")
        .header("content-type", "text/csv")
        .body(large());
    let server = Server::start([sent.into()]).await;
    let mut download = server.mailbox().download(&id()).await.unwrap();
    assert_eq!(download.headers.from(), Some("X26ABC2"));
    assert_eq!(download.headers.content_type(), Some("text/csv"));
    assert_eq!((download.chunk, download.chunks), (1, 1));
    assert_eq!(content(&mut download).await.unwrap(), large());

    let seen = &server.seen()[0];
    assert_eq!(
        seen.target,
        "/messageexchange/X26ABC1/inbox/20220228174323222_ABCDEF"
    );
    assert_eq!(seen.header("accept-encoding"), Some("gzip"));
}

#[tokio::test]
async fn gzip_is_undone_by_content_encoding_alone() {
    let two_members = [gzip(&large()), gzip(b"second member")].concat();
    let decoded = [&large()[..], b"second member"].concat();
    for (name, encoding, flag, body, expected) in [
        ("gzip", Some("gzip"), None, gzip(&large()), large()),
        ("upper case", Some("GZIP"), None, gzip(b"x"), b"x".to_vec()),
        ("members", Some("gzip"), Some("Y"), two_members, decoded),
        ("the sender's flag", None, Some("Y"), gzip(b"x"), gzip(b"x")),
        ("nothing", Some("gzip"), None, Vec::new(), Vec::new()),
        (
            "identity",
            Some("identity"),
            None,
            b"x".to_vec(),
            b"x".to_vec(),
        ),
    ] {
        let mut sent = message().body(body);
        if let Some(encoding) = encoding {
            sent = sent.header("content-encoding", encoding);
        }
        if let Some(flag) = flag {
            sent = sent.header("mex-content-compressed", flag);
        }
        let server = Server::start([sent.into()]).await;
        let mut download = server.mailbox().download(&id()).await.unwrap();
        assert_eq!(content(&mut download).await.unwrap(), expected, "{name}");
    }
}

#[tokio::test]
async fn gzip_can_be_left_unasked() {
    let server = Server::start([message().into()]).await;
    let client = server.client().accept_gzip(false).build().unwrap();
    mailbox(&client).download(&id()).await.unwrap();
    assert_eq!(server.seen()[0].header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn a_body_cut_short_is_an_interruption() {
    for (name, sent) in [
        ("plain", message().body("half")),
        (
            "gzip",
            message()
                .header("content-encoding", "gzip")
                .body(gzip(&large())),
        ),
    ] {
        let server = Server::start([Does::CutShort(sent)]).await;
        let mut download = server.mailbox().download(&id()).await.unwrap();
        let error = content(&mut download).await.unwrap_err();
        assert!(matches!(error, Error::Interrupted(_)), "{name}: {error:?}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn a_whole_body_of_broken_gzip_is_invalid() {
    let whole = gzip(&large());
    let mut flipped = whole.clone();
    flipped[500_000] ^= 0xff;
    let wrong_sum = [&whole[..whole.len() - 8], &[0; 8]].concat();
    for (name, body) in [
        ("no gzip", b"plain text".to_vec()),
        ("truncated", whole[..whole.len() - 9].to_vec()),
        ("without its end", whole[..whole.len() - 4].to_vec()),
        ("changed", flipped),
        ("wrong checksum", wrong_sum),
    ] {
        let sent = message().header("content-encoding", "gzip").body(body);
        let server = Server::start([sent.into()]).await;
        let mut download = server.mailbox().download(&id()).await.unwrap();
        let error = content(&mut download).await.unwrap_err();
        assert!(matches!(error, Error::InvalidBody(_)), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn another_content_encoding_is_refused() {
    let server = Server::start([message().header("content-encoding", "br").into()]).await;
    let error = server.mailbox().download(&id()).await.unwrap_err();
    assert!(matches!(error, Error::Malformed(_)), "{error:?}");
}

#[tokio::test]
async fn what_is_not_the_message_is_none() {
    let page = answer(200)
        .header("content-type", "text/html")
        .body("<p>Back soon</p>");
    let lower = ID.to_lowercase();
    for (name, sent, taken) in [
        ("a page", page.clone(), false),
        (
            "another message",
            page.clone().header("mex-messageid", "0BDF"),
            false,
        ),
        ("the message", page.header("mex-messageid", lower), true),
    ] {
        let server = Server::start([sent.into()]).await;
        match server.mailbox().download(&id()).await {
            Ok(_) => assert!(taken, "{name}"),
            Err(error) => assert!(
                !taken && matches!(error, Error::Malformed(_)),
                "{name}: {error:?}"
            ),
        }
    }
}

#[tokio::test]
async fn chunks_have_their_own_paths() {
    let chunk = |status, range| {
        Does::from(
            answer(status)
                .header("mex-messageid", ID)
                .header("mex-chunk-range", range),
        )
    };
    let server = Server::start([chunk(206, "1:3"), chunk(206, "2:3"), chunk(200, "3:3")]).await;
    let mailbox = server.mailbox();
    for number in 1..=3 {
        let download = mailbox.download_chunk(&id(), number).await.unwrap();
        assert_eq!((download.chunk, download.chunks), (number, 3));
    }
    let paths: Vec<_> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert!(paths[0].ends_with("_ABCDEF"));
    assert!(paths[1].ends_with("_ABCDEF/2"));
    assert!(paths[2].ends_with("_ABCDEF/3"));
}

#[tokio::test]
async fn a_report_is_headers_only() {
    let report = answer(200)
        .header("mex-messageid", ID)
        .header("mex-messagetype", "REPORT")
        .header("mex-chunk-range", "1:0")
        .header("mex-statuscode", "14")
        .header("mex-linkedmsgid", "0BDF");
    let server = Server::start([report.into()]).await;
    let mut download = server.mailbox().download(&id()).await.unwrap();
    assert_eq!(download.headers.message_type(), MessageType::Report);
    assert_eq!(download.headers.status_code(), Some("14"));
    assert_eq!(download.headers.linked_message_id(), Some("0BDF"));
    assert_eq!(download.chunks, 0);
    assert!(download.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_message_that_is_gone_says_so() {
    let body = r#"{"detail":[{"event":"SEND","code":"Message already accepted","msg":"no longer available"}]}"#;
    let server = Server::start([
        answer(410).body(body).into(),
        // Compressed, as a gateway may do for a client that takes gzip.
        answer(404)
            .header("content-encoding", "gzip")
            .body(gzip(
                br#"{"detail":[{"event":"RECEIVE","code":"20","msg":"x"}]}"#,
            ))
            .into(),
    ])
    .await;
    let mailbox = server.mailbox();
    let error = mailbox.download(&id()).await.unwrap_err();
    assert!(matches!(error, Error::Gone(_)), "{error:?}");
    match mailbox.download(&id()).await.unwrap_err() {
        Error::NotFound(detail) => {
            assert!(detail.mesh_shaped);
            assert_eq!(detail.code.as_deref(), Some("20"));
        }
        error => panic!("{error:?}"),
    }
}
