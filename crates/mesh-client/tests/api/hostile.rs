//! Answers that MESH would not give: none brings the client down, is repeated in an error or is kept beyond a limit.

use std::error::Error as _;

use mesh_client::{Error, MessageId, RetryPolicy};
use proptest::prelude::*;

use crate::download::{content, gzip};
use crate::server::{Answer, Server, answer, mailbox};

const MIB: usize = 1024 * 1024;

/// Stands for a value of a body that nothing may show.
const SECRET: &str = "PATIENT";

fn body() -> impl Strategy<Value = Vec<u8>> {
    let json = prop::sample::select(vec![
        r#"{"messages":["PATIENT"]}"#,
        r#"{"messages":["PATIENT\u0000"]}"#,
        r#"{"messages":[],"links":{"next":"//PATIENT/"}}"#,
        r#"{"messages":{"PATIENT":1}}"#,
        r#"{"messages":["PATIENT"],"approx_inbox_count":"PATIENT"}"#,
        r#"{"message_id":"PATIENT","status":"PATIENT"}"#,
        r#"{"message_id":"1","status":"a","upload_timestamp":"PATIENT"}"#,
        r#"{"message_id":"1","status":["PATIENT"]}"#,
        r#"{"detail":[{"loc":["x"],"type":"y","msg":"PATIENT","input":"PATIENT"}]}"#,
        r#"{"PATIENT":"PATIENT"}"#,
        r#"["PATIENT"]"#,
        r#""PATIENT""#,
        "<PATIENT/>",
    ]);
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    (json, bytes.clone(), 0..3_u8).prop_map(|(json, bytes, shape)| match shape {
        0 => json.as_bytes().to_vec(),
        1 => [&bytes, json.as_bytes(), &bytes].concat(),
        // Cut somewhere.
        _ => json.as_bytes()[..bytes.len().min(json.len())].to_vec(),
    })
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let status = prop_oneof![
        4 => Just(200),
        1 => prop::sample::select(vec![206, 300, 400, 403, 404, 410, 417, 423, 429, 500, 503]),
        1 => 204..600_u16,
    ];
    let range = prop::option::of("[0-9]{0,11}:?[0-9:-]{0,11}");
    let kind = prop::option::of("DATA|REPORT|[!-~]{0,9}");
    let encoding = prop::option::of("gzip|identity|br|[!-~]{0,9}");
    (status, range, kind, encoding, any::<bool>(), body()).prop_map(
        |(status, range, kind, encoding, packed, body)| {
            let body = if packed { gzip(&body) } else { body };
            let headers = [
                ("mex-messageid", Some("1".to_owned())),
                ("mex-chunk-range", range),
                ("mex-messagetype", kind),
                ("content-encoding", encoding),
            ];
            headers
                .into_iter()
                .filter_map(|(name, value)| value.map(|value| (name, value)))
                .fold(answer(status).body(body), |answer, (name, value)| {
                    answer.header(name, value)
                })
        },
    )
}

/// The error and its causes, as a log shows them.
fn chain(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text} {error}");
        cause = error.source();
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_answer_is_a_result_or_an_error_without_its_content(sent in any_answer()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let errors: Vec<Error> = runtime.block_on(async {
            let server = Server::start([sent.into()]).await;
            let client = server.client().retry(RetryPolicy::none()).build().unwrap();
            let mailbox = mailbox(&client);
            let id = MessageId::try_from("1").unwrap();
            let download = async {
                let mut download = mailbox.download(&id).await?;
                content(&mut download).await
            };
            [
                mailbox.inbox(10).await.err(),
                mailbox.track(&id).await.err(),
                mailbox.track_by_local_id("1").await.err(),
                mailbox.acknowledge(&id).await.err(),
                mailbox.handshake().await.err(),
                download.await.err(),
            ]
            .into_iter()
            .flatten()
            .collect()
        });
        for error in errors {
            prop_assert!(!chain(&error).contains(SECRET), "{}", chain(&error));
        }
    }
}

#[tokio::test]
async fn an_answer_of_json_is_read_to_4_mib_and_no_further() {
    let page = |size: usize| {
        let start = r#"{"messages":["1"]"#;
        format!("{start}{}}}", " ".repeat(size - start.len() - 1))
    };
    for (size, taken) in [(4 * MIB - 1, true), (4 * MIB, true), (4 * MIB + 1, false)] {
        for packed in [false, true] {
            let body = page(size).into_bytes();
            let sent = if packed {
                answer(200)
                    .header("content-encoding", "gzip")
                    .body(gzip(&body))
            } else {
                answer(200).body(body)
            };
            let server = Server::start([sent.into()]).await;
            match server.mailbox().inbox(10).await {
                Ok(page) => assert!(taken && page.messages.len() == 1, "{size}"),
                Err(error) => {
                    assert!(!taken, "{size}");
                    assert!(matches!(error, Error::Malformed(_)), "{error:?}");
                    assert!(error.to_string().contains("4194304"), "{error}");
                }
            }
        }
    }
}

/// 256 MiB in 256 KiB.
fn bomb(start: &str) -> Vec<u8> {
    let spaces = gzip(" ".repeat(MIB).as_bytes());
    [gzip(start.as_bytes()), spaces.repeat(256)].concat()
}

#[cfg(target_os = "linux")]
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<usize>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_bomb_is_read_no_further_than_the_limits() {
    let packed = |status| {
        answer(status)
            .header("mex-messageid", "1")
            .header("content-encoding", "gzip")
            .body(bomb(r#"{"message":"#))
    };
    let server = Server::start([packed(200).into()]).await;
    let mailbox = server.mailbox();
    let id = MessageId::try_from("1").unwrap();
    let error = mailbox.inbox(10).await.unwrap_err();
    assert!(matches!(error, Error::Malformed(_)), "{error:?}");
    let error = mailbox.track(&id).await.unwrap_err();
    assert!(matches!(error, Error::Malformed(_)), "{error:?}");

    let server = Server::start([packed(417).into()]).await;
    let error = server.mailbox().acknowledge(&id).await.unwrap_err();
    assert!(matches!(error, Error::Rejected(_)), "{error:?}");

    // A message's content is passed on in pieces: who stores it has the limit.
    let server = Server::start([packed(200).into()]).await;
    let mut download = server.mailbox().download(&id).await.unwrap();
    let mut size = 0;
    while let Some(piece) = download.next().await.unwrap() {
        assert!(piece.len() <= MIB);
        size += piece.len();
    }
    assert!(size > 256 * MIB);
    // The other tests of this process, too, stay far below.
    assert!(peak_memory() < 160 * MIB, "{}", peak_memory());
}
