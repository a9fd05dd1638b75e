//! Messages that come slowly or not at all, and many at once in little memory.

use tokio::time::Instant;

use super::*;
use crate::parts::PATIENCE;

// The state machine's rounds: how many invocations it took, and the last answer.
async fn rounds(fetch: &Fake, seconds: i64) -> (u32, Result<FetchResponse, Error>) {
    let mut request = batch(&["slow", "good"]);
    for round in 1..=1_000 {
        let answer = handle(fetch, invocation(seconds), request).await;
        match answer {
            Ok(response) if !response.messages.is_empty() => {
                let text = serde_json::to_string(&response.messages).unwrap();
                assert!(text.len() < 500, "{text}");
                request = again(&response);
            }
            end => return (round, end),
        }
    }
    panic!("it goes on and on");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_gets_nowhere_fails_however_short_the_invocations_are() {
    // 120 seconds are the least that the module takes, 900 Lambda's most.
    for (seconds, at_most) in [(46, 301), (50, 62), (120, 6), (344, 3), (346, 2), (900, 1)] {
        for stuck_after in [0, 10] {
            let slow = bytes(30 * MIB, 1);
            let mut fetch = fetch(&[("slow", vec![slow]), ("good", vec![bytes(10, 0)])]);
            fetch.messages.stuck_after = Some(stuck_after);
            fetch.messages.messages.insert("good".to_owned(), vec![]);
            let (taken, end) = rounds(&fetch, seconds).await;
            // It had its time in each: a part more than the first is stored where pieces came.
            assert!(taken <= at_most + 1, "{seconds} s: {taken} invocations");
            let response = match end {
                Ok(response) => {
                    assert_eq!(response.result.failed[0].error, "MeshUnavailable");
                    response
                }
                // Nothing else was in the last batch.
                Err(error) => {
                    assert_eq!(error.name(), "MeshUnavailable");
                    continue;
                }
            };
            assert_eq!(response.result.failed[0].message_id.as_ref(), "slow");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_begin_is_waited_for_no_longer_than_a_silent_body() {
    let mut fetch = fetch(&[("slow", vec![bytes(10, 1)]), ("good", vec![bytes(10, 0)])]);
    fetch.settings.in_order = true;
    fetch.messages.mute = Some("slow");
    let began = Instant::now();
    let response = handle(&fetch, invocation(900), batch(&["slow", "good"]))
        .await
        .unwrap();
    assert!(began.elapsed() < PATIENCE + Duration::from_secs(10));
    assert_eq!(response.result.failed[0].message_id.as_ref(), "slow");
    assert_eq!(response.result.failed[0].error, "MeshUnavailable");
    assert_eq!(response.stored[0].message_id.as_ref(), "good");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_gets_on_has_all_the_time_it_needs() {
    // 75 seconds of work in each invocation. What is stored of a chunk has to be read once more: a part takes up to 64.
    let chunks: Vec<_> = (0..9).map(|seed| bytes(8 * MIB, seed)).collect();
    let whole = chunks.concat();
    let mut fetch = fetch(&[("slow", chunks), ("good", vec![bytes(10, 0)])]);
    fetch.messages.pace = Duration::from_secs(4);
    let (taken, end) = rounds(&fetch, 120).await;
    assert_eq!(end.unwrap().result.failed, []);
    assert!(taken > 5, "{taken}");
    assert!(object(&fetch, "slow") == whole);
    // Twice as slow, not one part can be stored.
    fetch.messages.pace = Duration::from_secs(10);
    fetch.rows.rows.lock().unwrap().clear();
    fetch.bucket.objects.lock().unwrap().clear();
    let (_, end) = rounds(&fetch, 120).await;
    assert_eq!(end.unwrap_err().name(), "MeshUnavailable");
    assert_eq!(fetch.bucket.keys().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_is_written_while_there_is_time_and_the_rest_is_read_again() {
    // At last also with the rest in hand while parts are written.
    for (seconds, size) in [(1, 9), (7, 9), (10, 9), (15, 9), (20, 9), (20, 4)] {
        let chunks: Vec<_> = (0..11).map(|seed| bytes(size * MIB, seed)).collect();
        let whole = chunks.concat();
        let mut fetch = fetch(&[("slow", chunks.clone()), ("good", vec![bytes(10, 0)])]);
        fetch.bucket.writes_a_part_in = Duration::from_secs(seconds);
        // More than a message may have of it.
        fetch.buffers = Buffers::with_budget(80 * MIB);
        let mut request = batch(&["slow", "good"]);
        loop {
            let began = Instant::now();
            let response = handle(&fetch, invocation(120), request).await.unwrap();
            assert!(began.elapsed() < Duration::from_mins(2), "{seconds} s");
            assert_eq!(response.result.failed, []);
            if response.messages.is_empty() {
                break;
            }
            request = again(&response);
        }
        assert!(object(&fetch, "slow") == whole, "{seconds} s");
        let stored = fetch.bucket.parts.lock().unwrap().len();
        assert_eq!(stored, whole.len().div_ceil(8 * MIB), "{seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn many_large_messages_at_once_share_the_memory_of_one_part() {
    let ids = ["1", "2", "3", "4", "5", "6"];
    let messages: Vec<_> = (0u8..)
        .zip(ids)
        .map(|(seed, id)| (id, vec![bytes(11 * MIB, seed), bytes(9 * MIB, seed + 9)]))
        .collect();
    for parts in [1, 2] {
        let mut fetch = fetch(&messages);
        fetch.messages.pace = Duration::from_millis(100);
        fetch.buffers = Buffers::with_budget(parts * 8 * MIB);
        let response = handle(&fetch, invocation(900), batch(&ids)).await.unwrap();
        assert_eq!(response.stored_count, ids.len());
        for (id, chunks) in &messages {
            assert!(object(&fetch, id) == chunks.concat(), "{id}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn time_that_is_spent_waiting_for_memory_is_not_the_messages() {
    let messages = [
        ("first", vec![bytes(20 * MIB, 1)]),
        ("second", vec![bytes(20 * MIB, 2)]),
    ];
    let mut fetch = fetch(&messages);
    // The first takes all the memory for most of the invocation.
    fetch.messages.pace = Duration::from_secs(50);
    fetch.buffers = Buffers::with_budget(8 * MIB);
    let response = handle(&fetch, invocation(520), batch(&["first", "second"]))
        .await
        .unwrap();
    assert_eq!(response.result.failed, []);
    assert_eq!(response.messages.len(), 2);
    let second = &response.messages[1];
    assert!(second.stalled_seconds < 100, "{second:?}");
}
