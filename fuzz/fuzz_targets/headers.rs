//! Text of objects' metadata and of messages' headers: quoting, and what is refused before MESH refuses it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_client::{MessageHeaders, MessageId, OutgoingMessage};
use mesh_pipeline::metadata::{Metadata, quote, unquote};

// Found again in a text that repeats any of a value's beginning or end, and in no word of our own.
const MARK: &str = "Zq7";

fn marked(value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    format!("{MARK}{value}{MARK}")
}

fuzz_target!(|values: (String, String, String, String)| {
    let (one, two, three, four) = values;
    assert_eq!(unquote(&quote(&one)), one);
    let read = unquote(&two);
    assert!(read.len() <= two.len());

    let message = OutgoingMessage {
        to: marked(&read),
        workflow_id: marked(&three),
        subject: Some(marked(&one)),
        local_id: Some(marked(&four)),
        content_checksum: Some(marked(&two)),
        ..OutgoingMessage::default()
    };
    if let Err(refusal) = message.validate() {
        assert!(!refusal.to_string().contains(MARK));
    }

    let headers: MessageHeaders = [
        ("mex-subject", &one),
        ("mex-partnerid", &two),
        ("mex-to", &three),
        ("mex-filename", &four),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.clone()))
    .collect();
    let id: MessageId = "1".parse().unwrap();
    let metadata = Metadata::of(&id, &headers);
    let size: usize = metadata
        .entries
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    assert!(size <= 2_000);
    assert_eq!(metadata.entries["mex-messageid"], "1");
});
