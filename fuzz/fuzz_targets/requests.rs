//! What the functions are started with: S3's events in both shapes, and what goes between the states.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_pipeline::state::{AckRequest, Batch, PollRequest, Task, TrackRequest};
use send::check_request;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    for copies in [false, true] {
        if let Err(error) = check_request(&value, copies) {
            assert_eq!(error.name(), "InvalidInput");
            // One of two texts of our own, whatever the event holds.
            assert!(error.chain().len() < 400);
        }
    }
    if let Ok(batch) = serde_json::from_value::<Batch>(value.clone()) {
        let again: Batch = serde_json::from_value(serde_json::to_value(&batch).unwrap()).unwrap();
        assert_eq!(again, batch);
    }
    let _ = serde_json::from_value::<Task<AckRequest>>(value.clone());
    let _ = serde_json::from_value::<Task<TrackRequest>>(value.clone());
    if let Ok(task) = serde_json::from_value::<Task<PollRequest>>(value) {
        let _ = task.request.handshake.map(|flag| flag.is_set());
    }
});
