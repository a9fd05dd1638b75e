//! What holds for any input: quoting, metadata, keys, and what goes between the states.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use mesh_client::{MailboxId, MessageHeaders, MessageId};
use mesh_pipeline::Error;
use mesh_pipeline::layout::{Kind, Location, RecordedKey, headers_key, inbound_row, outbound_row};
use mesh_pipeline::metadata::{Metadata, quote, unquote};
use mesh_pipeline::state::{
    AckRequest, Batch, BatchResult, Failed, Pending, PollRequest, Position, Task, TrackRequest,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn mailbox() -> impl Strategy<Value = MailboxId> {
    "[A-Za-z0-9_-]{1,100}".prop_map(|text| text.parse().unwrap())
}

/// Ids as MESH has them, and such as it never gave.
fn message() -> impl Strategy<Value = MessageId> {
    prop_oneof![
        "[0-9A-F]{32}",
        "[0-9]{17}_[A-Z0-9]{6}",
        "[./%_a ]{1,9}",
        "\\PC{1,150}"
    ]
    .prop_filter_map("an id", |text| text.parse().ok())
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Data), Just(Kind::Report)]
}

proptest! {
    #[test]
    fn quoted_text_is_what_it_was_and_fits_metadata(text in "(?s).{0,200}") {
        let quoted = quote(&text);
        prop_assert!(quoted.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-~+%".contains(&c)));
        prop_assert_eq!(unquote(&quoted), text);
    }

    #[test]
    fn text_that_never_was_quoted_is_read_too(text in "(?s)(.|%[0-9a-fA-F]{0,2}|\\+){0,60}") {
        let read = unquote(&text);
        // A replacement character has three bytes and stands for at least one escape, which has as many.
        prop_assert!(read.len() <= text.len());
        if !text.contains(['%', '+']) {
            prop_assert_eq!(read, text);
        }
    }

    #[test]
    fn metadata_fit_s3_and_name_their_message(
        message in message(),
        lengths in prop::collection::vec((0_usize..2_500, "[a £漢]"), 17),
    ) {
        let names = [
            "mex-to", "mex-from", "mex-workflowid", "mex-filename", "mex-subject", "mex-localid", "mex-partnerid",
            "mex-messagetype", "mex-statuscode", "mex-statusdescription", "mex-statussuccess", "mex-content-checksum",
            "mex-content-compressed", "mex-content-encrypted", "mex-linkedmsgid", "mex-statusevent", "mex-messageid",
        ];
        // Most are short, as in life.
        let headers: MessageHeaders = names
            .into_iter()
            .zip(&lengths)
            .map(|(name, (length, text))| (name, text.repeat(if length % 3 == 0 { *length } else { length % 20 })))
            .collect();
        let metadata = Metadata::of(&message, &headers);
        let size: usize = metadata.entries.iter().map(|(name, value)| name.len() + value.len()).sum();
        prop_assert!(size <= 2_000, "{}", size);
        prop_assert_eq!(unquote(&metadata.entries["mex-messageid"]), message.as_str());
        let dropped: Vec<_> = metadata.entries.get("mex-dropped").into_iter().flat_map(|names| names.split(',')).collect();
        prop_assert_eq!(metadata.truncated, !dropped.is_empty());
        for (name, value) in headers.iter().filter(|(name, value)| *name != "mex-messageid" && !value.is_empty()) {
            match metadata.entries.get(name) {
                Some(stored) => prop_assert_eq!(unquote(stored), value),
                None => prop_assert!(dropped.contains(&name.trim_start_matches("mex-")), "{}", name),
            }
        }
    }

    #[test]
    fn a_message_s_keys_lie_in_its_mailbox_s_folder(mailbox in mailbox(), message in message(), kind in kind()) {
        let folder = format!("inbound/{mailbox}/");
        for key in Location::inbound("live-mesh", &mailbox).keys_by_id(&message, kind) {
            let name = key.strip_prefix(&folder).unwrap();
            prop_assert!(!name.contains('/') && name.ends_with(['t', 'l']), "{}", key);
            prop_assert!(key.len() <= 1_024, "{}", key.len());
        }
        let key = headers_key(&mailbox, &message);
        prop_assert_eq!(key.split('/').count(), 3);
        let start = format!("headers/{mailbox}/");
        prop_assert!(key.starts_with(&start) && key.len() <= 1_024);
    }

    #[test]
    fn a_sender_s_name_stays_in_the_folder(
        mailbox in mailbox(), message in message(), name in "(?s)(\\.\\.|/|\\\\|.){0,40}",
    ) {
        let folder = format!("inbound/{mailbox}/");
        for key in Location::inbound("live-mesh", &mailbox).keys_by_name(&message, &name).into_iter().flatten() {
            let last = key.strip_prefix(&folder).unwrap();
            prop_assert!(last.ends_with(&name) && !last.contains(['/', '\\']) && last != ".." && key.len() <= 1_024);
        }
    }

    #[test]
    fn other_messages_have_other_keys_and_rows(one in message(), other in message(), mailbox in mailbox(), kind in kind()) {
        prop_assume!(one != other);
        let inbound = Location::inbound("live-mesh", &mailbox);
        let key = |message| inbound.keys_by_id(message, kind)[0].clone();
        prop_assert_ne!(key(&one), key(&other));
        prop_assert_ne!(headers_key(&mailbox, &one), headers_key(&mailbox, &other));
        prop_assert_ne!(inbound_row(&one), inbound_row(&other));
    }

    // A bucket's name and a version have no line ends; a key may.
    #[test]
    fn other_versions_have_other_rows(
        one in ("[a-c.]{1,3}", "(?s)[ab\n]{1,4}", "[ab]{1,3}"), other in ("[a-c.]{1,3}", "(?s)[ab\n]{1,4}", "[ab]{1,3}"),
    ) {
        let row = |(bucket, key, version): &(String, String, String)| outbound_row(bucket, key, version);
        prop_assert_eq!(row(&one) == row(&other), one == other);
    }

    #[test]
    fn fetchs_answer_is_read_as_it_was_written(
        mailbox in mailbox(),
        ids in prop::collection::vec(message(), 0..4),
        chunk: u32, skip: u64, part: i32, upload in "\\PC{0,20}", key in "(?s).{0,20}", hidden: bool, overwrite: bool,
        replaces: Option<String>, stalled_seconds: u64, chunks: Option<u32>,
    ) {
        let position = Position {
            next_chunk: chunk,
            skip,
            next_part: part,
            chunks,
            upload_id: upload,
            key: RecordedKey::of(&key, hidden),
            overwrite,
            replaces,
        };
        let batch = Batch {
            rounds: 1,
            mailbox,
            messages: ids
                .iter()
                .enumerate()
                .map(|(n, id)| Pending { message_id: id.clone(), position: (n % 2 == 0).then(|| position.clone()), stalled_seconds })
                .collect(),
            result: BatchResult {
                failed: ids.iter().map(|id| Failed { message_id: id.clone(), error: "Rejected".to_owned() }).collect(),
                left: ids.clone(),
            },
        };
        let read: Batch = serde_json::from_value(serde_json::to_value(&batch).unwrap()).unwrap();
        prop_assert_eq!(read, batch);
    }

    #[test]
    fn no_input_of_a_state_brings_a_function_down(field in fields(), value in any_json()) {
        let mut request = json!({
            "mailbox": "X26ABC1", "handshake": "true", "tick": {"by": "2026-01-15T12:34:00.000Z", "due": "send", "rounds": 1, "started": 0},
            "messages": [{"message_id": "1", "next_chunk": 1, "skip": 0, "next_part": 1, "upload_id": "u", "key": "k"}],
            "stored": [{"message_id": "1"}], "result": {"failed": [{"message_id": "1", "error": "Rejected"}], "left": ["1"]},
        });
        *request.pointer_mut(field).unwrap() = value;
        let task = json!({"execution": "arn", "request": request});
        let _ = serde_json::from_value::<Task<Batch>>(task.clone()).map(|task| serde_json::to_vec(&task.request.messages));
        let _ = serde_json::from_value::<Task<AckRequest>>(task.clone());
        let _ = serde_json::from_value::<Task<TrackRequest>>(task.clone());
        if let Ok(task) = serde_json::from_value::<Task<PollRequest>>(task) {
            let _ = task.request.handshake.map(|flag| flag.is_set());
        }
    }

    #[test]
    fn any_text_of_a_row_is_an_error_of_the_closed_set(text in "(?s)([A-Za-z]{0,20}(: )?)?.{0,1500}") {
        let error = Error::of_closed_row(&text);
        prop_assert!(<Error as strum::VariantNames>::VARIANTS.contains(&error.name()));
        prop_assert!(error.row_text().chars().count() <= 1_000);
    }
}

fn fields() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "/mailbox",
        "/handshake",
        "/tick",
        "/tick/by",
        "/tick/due",
        "/tick/rounds",
        "/messages",
        "/messages/0",
        "/messages/0/message_id",
        "/messages/0/next_chunk",
        "/messages/0/skip",
        "/messages/0/next_part",
        "/messages/0/key",
        "/stored",
        "/stored/0",
        "/result",
        "/result/failed",
        "/result/left",
    ])
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(?s).{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let field = ("message_id|error|key|[a-z_]{0,9}", inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            prop::collection::vec(field, 0..4).prop_map(Value::from_iter),
        ]
    })
}
