//! Large messages on a line that breaks.

use super::*;

// Three chunks of 20 MiB: parts end in the first at 8 and 16 MiB, in the second at 4 and 12, in the third at 0 and 8.
fn large() -> Fake {
    let chunks = (1..=3).map(|seed| bytes(20 * MIB, seed)).collect();
    fetch(&[("large", chunks)])
}

fn position(response: &FetchResponse) -> (u32, u64, i32) {
    let position = response.messages[0].position.as_ref().unwrap();
    (position.next_chunk, position.skip, position.next_part)
}

#[tokio::test]
async fn a_message_that_has_come_on_is_gone_on_with_and_has_not_failed() {
    let mut fetch = large();
    // Behind two parts.
    *fetch.messages.breaks.get_mut().unwrap() = vec![18];
    let first = handle(&fetch, invocation(900), batch(&["large"]))
        .await
        .unwrap();
    assert_eq!(first.result.failed, []);
    assert_eq!(position(&first), (1, 16 * MIB as u64, 3));
    let row = fetch.rows.of("large");
    assert_eq!((row.next_part, row.error), (Some(3), None));
    let second = handle(&fetch, invocation(900), again(&first))
        .await
        .unwrap();
    assert_eq!((second.stored_count, second.result.failed.len()), (1, 0));
    let whole = fetch.messages.messages["large"].concat();
    assert!(object(&fetch, "large") == whole);
    assert_eq!(fetch.rows.of("large").attempts, Some(1));
    assert_eq!(*fetch.bucket.begun.lock().unwrap(), 1);
}

#[tokio::test]
async fn one_that_has_other_chunks_than_before_is_begun_anew() {
    for chunks in [2, 4] {
        let mut fetch = large();
        *fetch.messages.breaks.get_mut().unwrap() = vec![18];
        let first = handle(&fetch, invocation(900), batch(&["large"]))
            .await
            .unwrap();
        assert_eq!(position(&first).0, 1);
        let sizes = vec![20 * MIB; chunks];
        let message = (7..).zip(sizes).map(|(seed, size)| bytes(size, seed));
        let message: Vec<_> = message.collect();
        let whole = message.concat();
        fetch.messages.messages.insert("large".to_owned(), message);
        let second = handle(&fetch, invocation(900), again(&first))
            .await
            .unwrap();
        assert_eq!(second.result.failed[0].error, "InvalidMessage");
        assert!(fetch.bucket.uploads.lock().unwrap().is_empty());
        let third = handle(&fetch, invocation(900), batch(&["large"]))
            .await
            .unwrap();
        assert_eq!(third.stored_count, 1);
        assert!(object(&fetch, "large") == whole);
    }
}

#[tokio::test(start_paused = true)]
async fn one_whose_later_chunks_do_not_repeat_its_headers_is_gone_on_with() {
    for by_name in [false, true] {
        let mut fetch = large();
        fetch.settings.use_sender_filename = by_name;
        let names = &mut fetch.messages.names;
        names.insert("large".to_owned(), "results.csv".to_owned());
        fetch.messages.bare = true;
        fetch.messages.pace = Duration::from_secs(1);
        let mut request = batch(&["large"]);
        let response = loop {
            let response = handle(&fetch, invocation(80), request).await.unwrap();
            if response.stored_count == 1 {
                break response;
            }
            request = again(&response);
        };
        assert_eq!(response.result, BatchResult::default());
        let row = fetch.rows.of("large");
        assert_eq!(row.sender.as_deref(), Some("X26ABC1"));
        assert_eq!(*fetch.bucket.begun.lock().unwrap(), 1, "{by_name}");
    }
}

#[tokio::test]
async fn one_that_does_not_come_on_has_failed() {
    let mut fetch = large();
    // The last first: behind two parts, then within the third.
    *fetch.messages.breaks.get_mut().unwrap() = vec![17, 18];
    let first = handle(&fetch, invocation(900), batch(&["large"]))
        .await
        .unwrap();
    assert_eq!(first.result.failed, []);
    let second = handle(&fetch, invocation(900), again(&first)).await;
    assert_eq!(second.unwrap_err().name(), "MeshUnavailable");
    let row = fetch.rows.of("large");
    assert!(row.error.unwrap().starts_with("MeshUnavailable"));
    assert_eq!((row.attempts, row.next_part), (Some(1), Some(3)));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_repeated_goes_on_where_the_one_before_came_to() {
    let mut fetch = large();
    fetch.messages.pace = Duration::from_secs(1);
    // 20 seconds of work, two parts.
    let first = handle(&fetch, invocation(65), batch(&["large"]))
        .await
        .unwrap();
    assert_eq!(position(&first).2, 3);
    // This one is killed in the third chunk, and has noted where the second checkpoint was.
    let killed = handle(&fetch, invocation(900), again(&first));
    tokio::time::timeout(Duration::from_secs(50), killed)
        .await
        .unwrap_err();
    assert!(fetch.rows.of("large").next_part > Some(3));
    fetch.messages.downloads.get_mut().unwrap().clear();
    let last = handle(&fetch, invocation(900), again(&first))
        .await
        .unwrap();
    assert_eq!(last.stored_count, 1);
    assert!(!fetch.messages.downloads.lock().unwrap().contains(&1));
    let whole = fetch.messages.messages["large"].concat();
    assert!(object(&fetch, "large") == whole);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_not_taken_ends_the_reading_and_costs_none_before_it() {
    // The last is 4 MiB, the rest.
    for part in 1..=8 {
        let mut fetch = large();
        fetch.messages.pace = Duration::from_secs(1);
        *fetch.bucket.fails_at.lock().unwrap() = Some(part);
        let begun = tokio::time::Instant::now();
        let first = handle(&fetch, invocation(900), batch(&["large"])).await;
        assert_eq!(
            begun.elapsed().as_secs(),
            (u64::try_from(part).unwrap() * 8).min(60)
        );
        let next = if part == 1 {
            assert_eq!(first.unwrap_err().name(), "AwsUnavailable");
            batch(&["large"])
        } else {
            let first = first.unwrap();
            assert_eq!((first.result.failed.len(), position(&first).2), (0, part));
            assert_eq!(fetch.rows.of("large").next_part, Some(part));
            again(&first)
        };
        let second = handle(&fetch, invocation(900), next).await.unwrap();
        assert_eq!(second.stored_count, 1);
        let whole = fetch.messages.messages["large"].concat();
        assert!(object(&fetch, "large") == whole);
        assert_eq!(*fetch.bucket.begun.lock().unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_falls_silent_fails_before_its_invocation_ends() {
    let mut fetch = large();
    fetch.messages.stuck_after = Some(4);
    let begun = tokio::time::Instant::now();
    let end = handle(&fetch, invocation(900), batch(&["large"])).await;
    assert_eq!(end.unwrap_err().name(), "MeshUnavailable");
    assert_eq!(begun.elapsed().as_secs(), 300);
}

#[tokio::test(start_paused = true)]
async fn those_behind_an_interrupted_one_wait_no_longer_than_it_works() {
    let mut fetch = large();
    fetch
        .messages
        .messages
        .insert("small".to_owned(), vec![bytes(10, 7)]);
    fetch.settings.in_order = true;
    fetch.messages.pace = Duration::from_secs(1);
    // The last first: the small one's download is whole.
    *fetch.messages.breaks.get_mut().unwrap() = vec![usize::MAX, 18];
    let begun = tokio::time::Instant::now();
    let ids = ["large", "small"];
    let first = handle(&fetch, invocation(900), batch(&ids)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30));
    let left: Vec<_> = first
        .messages
        .iter()
        .map(|one| one.message_id.as_ref())
        .collect();
    assert_eq!((left, first.result.failed.len()), (ids.to_vec(), 0));
    let second = handle(&fetch, invocation(900), again(&first))
        .await
        .unwrap();
    assert_eq!(second.stored_count, 2);
}
