//! Inbox order.

use super::*;

// The ids of the stored messages, as they were stored.
fn stored(fetch: &Fake) -> Vec<String> {
    let objects = fetch.bucket.objects.lock().unwrap();
    let mut ids: Vec<(usize, String)> = objects
        .iter()
        .flat_map(|(key, versions)| {
            let id = key.rsplit('/').next().unwrap().split('.').next().unwrap();
            let versions = versions.iter().flatten();
            versions.map(move |version| (version.id[1..].parse().unwrap(), id.to_owned()))
        })
        .collect();
    ids.sort();
    ids.into_iter().map(|(_, id)| id).collect()
}

// The fake takes its pace for each MiB.
fn mixed() -> Fake {
    let mut fetch = fetch(&[
        ("1", vec![bytes(10 * MIB, 1), bytes(10 * MIB, 9)]),
        ("2", vec![bytes(10, 2)]),
        ("3", vec![bytes(MIB, 3), bytes(MIB, 4), bytes(9 * MIB, 5)]),
        ("5", vec![bytes(MIB - 1, 7)]),
        ("6", vec![bytes(10, 8)]),
    ]);
    fetch.messages.messages.insert("4".to_owned(), vec![]);
    fetch.messages.pace = Duration::from_secs(1);
    fetch
}

const IDS: [&str; 6] = ["1", "2", "3", "4", "5", "6"];

#[tokio::test(start_paused = true)]
async fn messages_are_stored_in_the_order_of_their_batch_where_that_is_asked_for() {
    for in_order in [true, false] {
        let mut fetch = mixed();
        fetch.settings.in_order = in_order;
        let begun = tokio::time::Instant::now();
        let response = handle(&fetch, invocation(900), batch(&IDS)).await.unwrap();
        assert_eq!(response.stored_count, IDS.len());
        for (id, chunks) in &fetch.messages.messages {
            if !chunks.is_empty() {
                assert!(object(&fetch, id) == chunks.concat(), "{id}");
            }
        }
        assert_eq!(stored(&fetch) == IDS, in_order, "{:?}", stored(&fetch));
        // 33 MiB, and no more than a MiB of each large one that waits is read twice.
        let seconds = begun.elapsed().as_secs();
        assert!(seconds <= if in_order { 33 } else { 21 }, "{seconds}");
        let downloads = fetch.messages.downloads.lock().unwrap().len();
        assert_eq!(downloads, if in_order { 10 } else { 9 });
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_order_a_large_message_holds_up_nothing_of_its_batch() {
    let ids = ["large", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let messages: Vec<_> = ids.iter().map(|id| (*id, vec![bytes(MIB, 1)])).collect();
    let mut fetch = fetch(&messages);
    fetch
        .messages
        .messages
        .insert("large".to_owned(), vec![bytes(40 * MIB, 2)]);
    fetch.messages.pace = Duration::from_secs(1);
    // 20 seconds of work.
    let response = handle(&fetch, invocation(65), batch(&ids)).await.unwrap();
    assert_eq!(stored(&fetch).len(), 9);
    assert_eq!(response.stored_count, 9);
    assert_eq!(response.messages[0].message_id.as_ref(), "large");
}

#[tokio::test(start_paused = true)]
async fn what_fails_holds_nothing_up() {
    let mut fetch = mixed();
    fetch.settings.in_order = true;
    let ids = ["1", "gone", "2", "none", "6"];
    let response = handle(&fetch, invocation(900), batch(&ids)).await.unwrap();
    assert_eq!(response.result.failed.len(), 2);
    assert_eq!(stored(&fetch), ["1", "2", "6"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_an_unfinished_message_waits_for_the_next_invocation() {
    let mut fetch = mixed();
    fetch.settings.in_order = true;
    let mut request = batch(&IDS);
    let mut before = Vec::new();
    for _ in 0..20 {
        // 20 seconds of work.
        let response = handle(&fetch, invocation(65), request).await.unwrap();
        let now = stored(&fetch);
        assert!(
            now.starts_with(&before)
                && IDS.starts_with(&now.iter().map(String::as_str).collect::<Vec<_>>()),
            "{now:?}"
        );
        // What only waited has done nothing wrong.
        for waiting in response.messages.iter().skip(1) {
            assert_eq!(waiting.stalled_seconds, 0, "{waiting:?}");
        }
        before = now;
        if response.messages.is_empty() {
            assert_eq!(before, IDS);
            return;
        }
        request = again(&response);
    }
    panic!("{before:?}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_leaves_the_memory_to_those_before_it() {
    let mut fetch = mixed();
    fetch.settings.in_order = true;
    // One part, and what the three that wait may hold.
    fetch.buffers = Buffers::with_budget(11 * MIB);
    let response = handle(&fetch, invocation(900), batch(&IDS)).await.unwrap();
    assert_eq!(stored(&fetch), IDS);
    assert_eq!(response.stored_count, IDS.len());
}

#[tokio::test(start_paused = true)]
async fn what_others_took_is_no_time_of_a_message_that_was_begun_before() {
    let mut fetch = fetch(&[
        ("first", vec![bytes(16 * MIB, 1)]),
        ("begun", vec![bytes(40 * MIB, 2)]),
    ]);
    fetch.settings.in_order = true;
    fetch.messages.pace = Duration::from_secs(1);
    let begun = handle(&fetch, invocation(65), batch(&["begun"]))
        .await
        .unwrap();
    let mut request = batch(&["first"]);
    request.messages.extend(again(&begun).messages);
    assert!(request.messages[1].position.is_some());
    // 800 of 855 seconds for the first, and too few for a part of the other.
    fetch.messages.pace = Duration::from_secs(50);
    let response = handle(&fetch, invocation(900), request).await.unwrap();
    assert_eq!(
        (response.stored_count, response.result.failed.len()),
        (1, 0)
    );
    assert!(response.messages[0].stalled_seconds < 60);
}
