//! Text of objects' metadata and of messages' headers: quoting, and what is refused before MESH refuses it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_client::{MessageHeaders, MessageId, OutgoingMessage};
use mesh_pipeline::metadata::{Metadata, quote, unquote};

fuzz_target!(|values: (String, String, String, String)| {
    let (one, two, three, four) = values;
    assert_eq!(unquote(&quote(&one)), one);
    let read = unquote(&two);
    assert!(read.len() <= two.len());

    let message = OutgoingMessage {
        to: read,
        workflow_id: three.clone(),
        subject: Some(one.clone()),
        local_id: Some(four.clone()),
        content_checksum: Some(two.clone()),
        ..OutgoingMessage::default()
    };
    if let Err(refusal) = message.validate() {
        let text = refusal.to_string();
        for value in [&one, &two, &three, &four] {
            // A value of a few characters may be a word of the text.
            assert!(value.chars().count() < 40 || !text.contains(value.as_str()));
        }
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
