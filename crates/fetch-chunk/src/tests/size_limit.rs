//! Messages at and beyond `MAX_MESSAGE_SIZE`.

use super::*;

fn limited(messages: &[(&str, Vec<Bytes>)], limit: usize) -> Fake {
    let mut fetch = fetch(messages);
    fetch.settings.max_message_size = limit as u64;
    fetch
}

fn uploads(fetch: &Fake) -> usize {
    fetch.bucket.uploads.lock().unwrap().len()
}

#[tokio::test]
async fn a_message_is_stored_up_to_the_limit_and_not_beyond() {
    for limit in [10, 8 * MIB, 16 * MIB] {
        for size in [limit - 1, limit, limit + 1] {
            let message = vec![bytes(size / 2, 0), bytes(size - size / 2, 1)];
            let fetch = limited(&[("1", message.clone()), ("2", vec![bytes(1, 2)])], limit);
            let response = handle(&fetch, invocation(900), batch(&["1", "2"]))
                .await
                .unwrap();
            assert_eq!(uploads(&fetch), 0, "{size} of {limit}");
            let stored = fetch.bucket.current("inbound/X26ABC2/1.dat");
            if size <= limit {
                assert_eq!(stored.unwrap().body, message.concat(), "{size} of {limit}");
                assert_eq!(response.result.failed, []);
                continue;
            }
            assert!(stored.is_none(), "{size} of {limit}");
            assert_eq!(response.result.failed[0].error, "InvalidMessage");
            let error = fetch.rows.of("1").error.unwrap();
            for part in [
                "InvalidMessage",
                "message 1",
                "max_message_size",
                &limit.to_string(),
            ] {
                assert!(error.contains(part), "{error}");
            }
            // The other message of the batch is in nobody's way.
            assert_eq!(response.stored_count, 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_earlier_invocations_have_stored_counts() {
    let chunks = (0..4).map(|seed| bytes(9 * MIB, seed)).collect();
    let mut fetch = limited(&[("1", chunks)], 33 * MIB);
    fetch.messages.pace = Duration::from_secs(10);
    let mut pending = batch(&["1"]);
    let mut invocations = 0;
    let failed = loop {
        invocations += 1;
        let response = handle(&fetch, invocation(250), pending.clone())
            .await
            .unwrap();
        if response.messages.is_empty() {
            break response.result.failed;
        }
        assert!(invocations < 9, "it goes on and on");
        pending.messages = response.messages;
    };
    assert!(invocations > 1);
    assert_eq!(failed[0].error, "InvalidMessage");
    assert_eq!((fetch.bucket.keys().len(), uploads(&fetch)), (0, 0));
}

// As a message of 80 GB and more, with parts of 5 and 6 MiB of which an upload has six.
#[tokio::test(start_paused = true)]
async fn the_second_half_of_the_parts_is_larger_and_the_last_one_is_the_end() {
    let chunks: Vec<_> = (0..3).map(|seed| bytes(11 * MIB, seed)).collect();
    let mut fetch = fetch(&[("large", chunks), ("larger", vec![bytes(33 * MIB + 1, 4)])]);
    fetch.parts = Parts {
        first: 5 * MIB,
        later: 6 * MIB,
        most: 6,
    };
    fetch.settings.max_message_size = fetch.parts.before(7);
    fetch.messages.pace = Duration::from_secs(1);
    let mut request = batch(&["large"]);
    loop {
        // 25 seconds of work, a MiB a second.
        let response = handle(&fetch, invocation(70), request).await.unwrap();
        if response.messages.is_empty() {
            break;
        }
        request = again(&response);
    }
    assert!(object(&fetch, "large") == fetch.messages.messages["large"].concat());
    let sizes = [5, 5, 5, 6, 6, 6].map(|size| size * MIB);
    assert_eq!(*fetch.bucket.parts.lock().unwrap(), sizes);
    let beyond = handle(&fetch, invocation(900), batch(&["larger"])).await;
    assert_eq!(beyond.unwrap().result.failed[0].error, "InvalidMessage");
}

#[test]
fn the_highest_limit_is_what_the_parts_of_an_upload_hold() {
    assert_eq!(Parts::S3.before(1), 0);
    assert_eq!(Parts::S3.before(2), 8 * MIB as u64);
    assert_eq!(Parts::S3.before(Parts::S3.most + 1), 125_829_120_000);
}
