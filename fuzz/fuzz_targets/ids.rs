//! Ids and file names of others in keys: they stay in the mailbox's folder, and no two ids have the same key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_client::{MailboxId, MessageId};
use mesh_pipeline::layout::{Kind, Location, headers_key};

fuzz_target!(|texts: (String, String, String)| {
    let (one, other, name) = texts;
    let mailbox = MailboxId::try_from(one.as_str()).unwrap_or_else(|_| "X26ABC1".parse().unwrap());
    let inbound = Location::inbound("bucket", &mailbox);
    let folder = format!("inbound/{mailbox}/");
    let (Ok(one), Ok(other)) = (MessageId::try_from(one), MessageId::try_from(other)) else {
        return;
    };
    for kind in [Kind::Data, Kind::Report] {
        let [first, second] = inbound.keys_by_id(&one, kind);
        for key in [&first, &second] {
            let last = key.strip_prefix(&folder).unwrap();
            assert!(!last.contains('/') && key.len() <= 1_024);
        }
        assert_eq!(first == inbound.keys_by_id(&other, kind)[0], one == other);
    }
    assert_eq!(
        headers_key(&mailbox, &one) == headers_key(&mailbox, &other),
        one == other
    );
    for key in inbound.keys_by_name(&one, &name).into_iter().flatten() {
        let last = key.strip_prefix(&folder).unwrap();
        assert!(last.ends_with(&name) && !last.contains(['/', '\\']) && key.len() <= 1_024);
    }
});
