//! Workers that died: nothing stays behind them, and nothing is stored twice.

use super::*;
use time::OffsetDateTime;

async fn run(fetch: &Fake) -> FetchResponse {
    handle(fetch, invocation(900), batch(&["m"])).await.unwrap()
}

async fn dies(fetch: &Fake, step: &'static str) {
    fetch.bucket.fate.meets(step);
    let work = handle(fetch, invocation(900), batch(&["m"]));
    let died = tokio::time::timeout(Duration::from_mins(1), work).await;
    assert!(died.is_err(), "it did not come to {step}");
}

fn uploads(fetch: &Fake) -> usize {
    fetch.bucket.uploads.lock().unwrap().len()
}

fn begun(fetch: &Fake) -> usize {
    *fetch.bucket.begun.lock().unwrap()
}

// One large message; objects have its sender's name, or not.
fn world(by_name: bool, size: usize) -> Fake {
    let mut fetch = fetch(&[("m", vec![bytes(size, 1)])]);
    fetch.settings.use_sender_filename = by_name;
    fetch
        .messages
        .names
        .insert("m".to_owned(), "marker.csv".to_owned());
    fetch
}

fn copies(fetch: &Fake) -> usize {
    let objects = fetch.bucket.objects.lock().unwrap();
    objects.values().flatten().flatten().count()
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_no_row_knows_is_given_up() {
    let fetch = world(false, 20 * MIB);
    dies(&fetch, "start").await;
    assert_eq!((uploads(&fetch), fetch.rows.of("m").upload_id), (1, None));
    // Others' uploads under keys that begin alike.
    for other in ["inbound/X26ABC2/m.data", "inbound/X26ABC2/m2.dat"] {
        let attributes = Attributes::default();
        fetch.bucket.start(other, &attributes).await.unwrap();
    }
    run(&fetch).await;
    assert!(object(&fetch, "m") == bytes(20 * MIB, 1));
    assert_eq!((uploads(&fetch), begun(&fetch)), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn a_message_is_received_also_where_uploads_may_not_be_listed() {
    let mut fetch = world(false, 20 * MIB);
    fetch.messages.names.clear();
    dies(&fetch, "start").await;
    fetch.bucket.fate.meets("unlisted");
    assert_eq!(run(&fetch).await.stored_count, 1);
    assert_eq!(uploads(&fetch), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upload_whose_start_is_not_answered_is_given_up_before_the_next() {
    let fetch = world(false, 20 * MIB);
    fetch.bucket.fate.meets("unanswered");
    assert_eq!(run(&fetch).await.stored_count, 1);
    assert_eq!((uploads(&fetch), begun(&fetch)), (0, 2));
    assert_eq!(fetch.rows.of("m").attempts, Some(1));
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_the_row_knows_is_gone_on_with() {
    let fetch = world(false, 20 * MIB);
    dies(&fetch, "part").await;
    assert!(fetch.rows.of("m").upload_id.is_some());
    run(&fetch).await;
    assert_eq!((uploads(&fetch), begun(&fetch)), (0, 1));
    assert!(object(&fetch, "m") == bytes(20 * MIB, 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_can_not_be_stored_leaves_no_upload() {
    for by_name in [false, true] {
        let mut fetch = world(by_name, 20 * MIB);
        dies(&fetch, "complete").await;
        // It is shorter than it was, as no message of MESH's can be.
        let shorter = vec![bytes(9 * MIB, 1)];
        fetch.messages.messages.insert("m".to_owned(), shorter);
        fetch.rows.change(&"m".parse().unwrap(), |row| {
            row.next_part = Some(3);
            row.skip = Some(16 * MIB as u64);
        });
        let response = run(&fetch).await;
        assert_eq!(response.result.failed[0].error, "InvalidMessage");
        assert_eq!(uploads(&fetch), 0, "{by_name}");
        // MESH no longer has it at all.
        let mut fetch = world(by_name, 20 * MIB);
        dies(&fetch, "complete").await;
        fetch.messages.messages.clear();
        run(&fetch).await;
        assert_eq!(uploads(&fetch), 1, "MESH's list may be late");
        run(&fetch).await;
        assert_eq!(fetch.rows.of("m").status, Some(Status::Gone));
        assert_eq!(uploads(&fetch), 0, "{by_name}");
        // What was begun in the same attempt; another's under the same name is not ours to end.
        let mut fetch = world(by_name, 9 * MIB);
        let chunks = fetch.messages.messages.get_mut("m").unwrap();
        chunks.push(bytes(1, 2));
        fetch.messages.missing_chunk = Some(2);
        let attributes = Attributes::default();
        let key = "inbound/X26ABC2/marker.csv";
        fetch.bucket.start(key, &attributes).await.unwrap();
        let response = run(&fetch).await;
        assert_eq!(response.result.failed[0].error, "InvalidMessage");
        assert_eq!((uploads(&fetch), begun(&fetch)), (1, 2), "{by_name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_away_long_ago_is_no_sign_of_what_is_delivered_now() {
    for chunks in [vec![bytes(10, 1)], vec![bytes(20 * MIB, 1)], Vec::new()] {
        let kind = if chunks.is_empty() { "ctl" } else { "dat" };
        let case = format!("{kind}, {}", chunks.concat().len());
        let fetch = fetch(&[("m", chunks)]);
        // Of an earlier delivery, which no row knows any more.
        let key = format!("inbound/X26ABC2/m.{kind}");
        let mut attributes = Attributes::default();
        let id = ("mex-messageid".to_owned(), "m".to_owned());
        attributes.metadata.extend([id]);
        fetch.bucket.store(&key, bytes(10, 1), &attributes);
        fetch.bucket.delete(&key);
        for versions in fetch.bucket.objects.lock().unwrap().values_mut() {
            for version in versions.iter_mut().flatten() {
                version.written_at = clock::now() - time::Duration::days(400);
            }
        }
        let step = if case.ends_with("20971520") {
            "part"
        } else {
            "put"
        };
        dies(&fetch, step).await;
        if step == "part" {
            fetch.bucket.uploads.lock().unwrap().clear();
        }
        assert_eq!(run(&fetch).await.stored_count, 1, "{case}");
        assert_eq!(copies(&fetch), 2, "{case}");
        assert!(fetch.bucket.current(&key).is_some(), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_was_another_at_the_attempt_before_stores_nothing_twice() {
    for was_by_name in [true, false] {
        for (size, steps) in [
            (10, &["note"][..]),
            (20 * MIB, &["part", "complete", "note"]),
        ] {
            for step in steps {
                for taken_away in [false, true] {
                    if taken_away && *step != "note" {
                        continue;
                    }
                    let case = format!("{was_by_name}, {size}, {step}, {taken_away}");
                    let mut fetch = world(was_by_name, size);
                    dies(&fetch, step).await;
                    if taken_away {
                        let stored = fetch.bucket.keys().remove(0);
                        fetch.bucket.delete(&stored);
                    }
                    fetch.settings.use_sender_filename = !was_by_name;
                    assert_eq!(run(&fetch).await.stored_count, 1, "{case}");
                    assert_eq!(copies(&fetch), 1, "{case}");
                    assert_eq!(uploads(&fetch), 0, "{case}");
                    assert!(begun(&fetch) <= 1, "{case}");
                    let row = fetch.rows.of("m");
                    let name = if was_by_name { "marker.csv" } else { "m.dat" };
                    let key = format!("inbound/X26ABC2/{name}");
                    // The name is no more in the row than it was before.
                    let recorded = RecordedKey::of(&key, true);
                    let digest = recorded.sha256().map(str::to_owned);
                    assert!(
                        row.s3_key_sha256 == digest || !was_by_name && row.s3_key == Some(key),
                        "{case}: {row:?}"
                    );
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_makes_one_new_version_whatever_dies() {
    for by_name in [false, true] {
        for (size, steps) in [
            // A report.
            (0, &["put", "note"][..]),
            (10, &["put", "note"]),
            (20 * MIB, &["start", "part", "complete", "note"]),
        ] {
            for step in steps {
                for taken_away in [false, true] {
                    let case = format!("{by_name}, {size}, {step}, {taken_away}");
                    let mut fetch = world(by_name, size);
                    if size == 0 {
                        fetch.messages.messages.insert("m".to_owned(), vec![]);
                    }
                    let message: MessageId = "m".parse().unwrap();
                    run(&fetch).await;
                    let key = fetch.bucket.keys().remove(0);
                    if taken_away {
                        fetch.bucket.delete(&key);
                    }
                    // A day later at least.
                    for versions in fetch.bucket.objects.lock().unwrap().values_mut() {
                        for version in versions.iter_mut().flatten() {
                            version.written_at = OffsetDateTime::UNIX_EPOCH;
                        }
                    }
                    fetch.rows.change(&message, |row| {
                        row.status = Some(Status::Receiving);
                        row.attempts = None;
                        row.redelivered = Some(true);
                    });
                    dies(&fetch, step).await;
                    if taken_away && *step == "note" {
                        fetch.bucket.delete(&key);
                    }
                    assert_eq!(run(&fetch).await.stored_count, 1, "{case}");
                    assert_eq!(copies(&fetch), 2, "{case}");
                    let own_uploads = uploads(&fetch);
                    // Whose upload is left under a key by name can't be told.
                    assert_eq!(
                        own_uploads,
                        usize::from(by_name && *step == "start"),
                        "{case}"
                    );
                    let newest = fetch.bucket.versions_of(&key).into_iter().flatten().last();
                    let newest = newest.map(|version| version.id);
                    assert_eq!(fetch.rows.of("m").version_id, newest, "{case}");
                }
            }
        }
    }
}
