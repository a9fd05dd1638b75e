//! Objects that have their sender's file name.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use super::*;
use tracing::level_filters::LevelFilter;

const FOLDER: &str = "inbound/X26ABC2";

fn named(messages: &[(&str, &str, Vec<Bytes>)]) -> Fake {
    let plain: Vec<_> = messages
        .iter()
        .map(|(id, _, chunks)| (*id, chunks.clone()))
        .collect();
    let mut fetch = fetch(&plain);
    fetch.settings.use_sender_filename = true;
    fetch.messages.names = messages
        .iter()
        .map(|(id, name, _)| ((*id).to_owned(), (*name).to_owned()))
        .collect();
    fetch
}

async fn run(fetch: &Fake, ids: &[&str]) -> FetchResponse {
    handle(fetch, invocation(900), batch(ids)).await.unwrap()
}

// The worker dies at the step that its fate says.
async fn dies(fetch: &Fake, id: &str, step: &'static str) {
    fetch.bucket.fate.meets(step);
    let work = handle(fetch, invocation(900), batch(&[id]));
    let died = tokio::time::timeout(Duration::from_mins(1), work).await;
    assert!(died.is_err(), "it did not come to {step}");
}

fn body(fetch: &Fake, name: &str) -> Option<Bytes> {
    let version = fetch.bucket.current(&format!("{FOLDER}/{name}"))?;
    Some(version.body)
}

fn digest(name: &str) -> String {
    let key = RecordedKey::of(&format!("{FOLDER}/{name}"), true);
    key.sha256().unwrap().to_owned()
}

// How often the message was stored.
fn copies(fetch: &Fake, id: &str) -> usize {
    let objects = fetch.bucket.objects.lock().unwrap();
    let versions = objects.values().flatten().flatten();
    versions
        .filter(|version| version.attributes.metadata["mex-messageid"] == id)
        .count()
}

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

// What the test's own thread has logged, at every level.
struct Log;

impl Log {
    fn begin() {
        static ONCE: Once = Once::new();
        // A subscriber of one thread alone would miss lines of call sites that another thread came to first.
        ONCE.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .json()
                .with_max_level(LevelFilter::TRACE)
                .with_writer(|| Self)
                .finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        LOG.take();
    }

    fn text() -> String {
        String::from_utf8(LOG.with_borrow(Clone::clone)).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.write(bytes))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_message_has_its_senders_name_and_a_report_its_id() {
    let fetch = named(&[
        ("m", "Résultats 1.csv", vec![bytes(10, 0)]),
        ("report", "report.dat", vec![]),
    ]);
    let response = run(&fetch, &["m", "report"]).await;
    assert_eq!(response.stored_count, 2);
    assert_eq!(body(&fetch, "Résultats 1.csv"), Some(bytes(10, 0)));
    assert!(body(&fetch, "report.ctl").is_some());
    assert_eq!(fetch.bucket.keys().len(), 2);
}

#[tokio::test]
async fn a_name_that_is_not_safe_is_not_used() {
    let too_long = "x".repeat(1_024);
    for name in [
        "",
        "..",
        "../X26ABC3/a.csv",
        "a\\b",
        "a\0b",
        "a\u{85}b",
        ".a",
        "m.ctl",
        &too_long,
    ] {
        let fetch = named(&[("m", name, vec![bytes(10, 0)])]);
        run(&fetch, &["m"]).await;
        assert_eq!(fetch.bucket.keys(), [format!("{FOLDER}/m.dat")], "{name:?}");
    }
}

#[tokio::test]
async fn messages_of_one_name_never_replace_each_other() {
    let fetch = named(&[
        ("m1", "a.csv", vec![bytes(10, 1)]),
        ("m2", "a.csv", vec![bytes(10, 2)]),
        ("m3", "a.csv", vec![bytes(9 * MIB, 3)]),
        // Named as the other's second choice would be.
        ("m4", "m5_a.csv", vec![bytes(10, 4)]),
        ("m5", "a.csv", vec![bytes(10, 5)]),
    ]);
    for id in ["m1", "m2", "m3", "m4", "m5"] {
        assert_eq!(run(&fetch, &[id]).await.stored_count, 1, "{id}");
    }
    // Consumers of a trail's events see a refused write as one.
    assert_eq!(*fetch.bucket.refused.lock().unwrap(), 0);
    for (name, body_of) in [
        ("a.csv", bytes(10, 1)),
        ("m2_a.csv", bytes(10, 2)),
        ("m3_a.csv", bytes(9 * MIB, 3)),
        ("m5_a.csv", bytes(10, 4)),
        ("m5.dat", bytes(10, 5)),
    ] {
        assert!(body(&fetch, name) == Some(body_of), "{name}");
        assert_eq!(
            fetch.bucket.versions_of(&format!("{FOLDER}/{name}")).len(),
            1
        );
    }
}

#[tokio::test(start_paused = true)]
async fn two_messages_of_one_name_that_find_it_free_at_once_are_both_stored() {
    let mut fetch = named(&[
        ("m1", "a.csv", vec![bytes(10, 1)]),
        ("m2", "a.csv", vec![bytes(10, 2)]),
    ]);
    fetch.bucket.answers_after = Duration::from_secs(1);
    assert_eq!(run(&fetch, &["m1", "m2"]).await.stored_count, 2);
    assert_eq!(*fetch.bucket.refused.lock().unwrap(), 1);
    assert_eq!((copies(&fetch, "m1"), copies(&fetch, "m2")), (1, 1));
    assert_eq!(fetch.bucket.keys().len(), 2);
}

#[tokio::test]
async fn two_large_messages_of_one_name_at_once_are_both_stored_in_the_end() {
    let fetch = named(&[
        ("m1", "a.bin", vec![bytes(9 * MIB, 1)]),
        ("m2", "a.bin", vec![bytes(9 * MIB, 2)]),
    ]);
    let response = run(&fetch, &["m1", "m2"]).await;
    assert_eq!(
        (response.stored_count, response.result.failed.len()),
        (1, 1)
    );
    let late = response.result.failed[0].message_id.to_string();
    assert_eq!(run(&fetch, &[&late]).await.stored_count, 1);
    assert_eq!((copies(&fetch, "m1"), copies(&fetch, "m2")), (1, 1));
    assert!(body(&fetch, &format!("{late}_a.bin")).is_some());
    assert!(fetch.bucket.uploads.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_died_before_storing_leaves_the_message_to_the_next() {
    for (size, step) in [(10, "put"), (9 * MIB, "complete")] {
        let fetch = named(&[("m", "a.bin", vec![bytes(size, 0)])]);
        dies(&fetch, "m", step).await;
        assert_eq!(copies(&fetch, "m"), 0);
        run(&fetch, &["m"]).await;
        assert!(body(&fetch, "a.bin") == Some(bytes(size, 0)), "{step}");
        assert!(fetch.bucket.uploads.lock().unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_stored_is_found_whatever_has_become_of_its_name_since() {
    for size in [10, 9 * MIB] {
        for since in ["nothing", "taken away", "taken by another message"] {
            let fetch = named(&[
                ("m", "a.bin", vec![bytes(size, 0)]),
                ("other", "a.bin", vec![bytes(5, 9)]),
            ]);
            dies(&fetch, "m", "note").await;
            if since != "nothing" {
                fetch.bucket.delete(&format!("{FOLDER}/a.bin"));
            }
            if since == "taken by another message" {
                run(&fetch, &["other"]).await;
            }
            let response = run(&fetch, &["m"]).await;
            assert_eq!(response.stored_count, 1, "{size}, {since}");
            assert_eq!(copies(&fetch, "m"), 1, "{size}, {since}");
            let row = fetch.rows.of("m");
            assert_eq!(row.s3_key_sha256, Some(digest("a.bin")));
            assert_eq!(row.version_id.as_deref(), Some("v0"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_message_of_the_name_that_was_taken_away_is_not_this_one() {
    for (size, step) in [(10, "put"), (9 * MIB, "complete")] {
        let fetch = named(&[
            ("other", "a.bin", vec![bytes(5, 9)]),
            ("m", "a.bin", vec![bytes(size, 0)]),
        ]);
        dies(&fetch, "m", step).await;
        run(&fetch, &["other"]).await;
        fetch.bucket.delete(&format!("{FOLDER}/a.bin"));
        run(&fetch, &["m"]).await;
        assert_eq!(copies(&fetch, "m"), 1, "{step}");
        assert!(body(&fetch, "a.bin") == Some(bytes(size, 0)), "{step}");
    }
}

#[tokio::test]
async fn a_redelivered_message_becomes_a_new_version_and_replaces_no_other() {
    for size in [10, 9 * MIB] {
        let fetch = named(&[
            ("m", "a.bin", vec![bytes(size, 0)]),
            ("other", "a.bin", vec![bytes(5, 9)]),
        ]);
        let message: MessageId = "m".parse().unwrap();
        let key = format!("{FOLDER}/a.bin");
        let redelivered = || {
            fetch
                .rows
                .change(&message, |row| row.redelivered = Some(true))
        };
        run(&fetch, &["m"]).await;
        redelivered();
        run(&fetch, &["m"]).await;
        assert_eq!(fetch.bucket.versions_of(&key).len(), 2, "{size}");
        // Its place is another message's now.
        fetch.bucket.delete(&key);
        run(&fetch, &["other"]).await;
        redelivered();
        run(&fetch, &["m"]).await;
        assert_eq!(body(&fetch, "a.bin"), Some(bytes(5, 9)));
        assert!(body(&fetch, "m_a.bin") == Some(bytes(size, 0)), "{size}");
        assert_eq!(fetch.rows.of("m").s3_key_sha256, Some(digest("m_a.bin")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_message_is_handed_over_without_its_name() {
    Log::begin();
    let chunks = vec![bytes(13 * MIB, 1), bytes(20 * MIB, 2), bytes(5 * MIB, 3)];
    let whole = chunks.concat();
    let mut fetch = named(&[("m", "marker-name.bin", chunks)]);
    fetch.messages.pace = Duration::from_secs(1);
    let mut request = batch(&["m"]);
    let mut states = String::new();
    for invocations in 1.. {
        assert!(invocations < 10);
        let response = handle(&fetch, invocation(75), request).await.unwrap();
        states.push_str(&serde_json::to_string(&response).unwrap());
        if response.stored_count == 1 {
            assert!(invocations > 1);
            assert_eq!(
                response.events[0].detail["key_sha256"],
                digest("marker-name.bin")
            );
            assert!(response.events[0].detail.get("key").is_none());
            break;
        }
        let position = response.messages[0].position.as_ref().unwrap();
        assert!(position.next_part > 1);
        request = again(&response);
    }
    assert!(body(&fetch, "marker-name.bin") == Some(whole.into()));
    let row = serde_json::to_string(&fetch.rows.of("m")).unwrap();
    assert!(row.contains(&digest("marker-name.bin")));
    assert!(Log::text().contains(&digest("marker-name.bin")));
    for (place, text) in [("state", states), ("row", row), ("log", Log::text())] {
        assert!(!text.contains("marker-name"), "{place}: {text}");
    }
}

#[tokio::test]
async fn no_failure_tells_the_name() {
    Log::begin();
    let fetch = named(&[
        ("m1", "marker-name.bin", vec![bytes(9 * MIB, 1)]),
        ("m2", "marker-name.bin", vec![bytes(9 * MIB, 2)]),
        ("m3", "../marker-name.bin", vec![bytes(10, 3)]),
    ]);
    let response = run(&fetch, &["m1", "m2", "m3"]).await;
    assert_eq!(response.result.failed.len(), 1);
    let late = response.result.failed[0].message_id.to_string();
    let row = fetch.rows.of(&late);
    assert!(
        row.error
            .as_ref()
            .unwrap()
            .contains(&digest("marker-name.bin"))
    );
    let told = [
        serde_json::to_string(&response).unwrap(),
        serde_json::to_string(&row).unwrap(),
        Log::text(),
    ];
    for text in told {
        assert!(!text.contains("marker-name"), "{text}");
    }
    assert!(Log::text().contains("MESHFETCH0007"));
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_changes_on_the_way_loses_nothing() {
    for size in [10, 9 * MIB] {
        let mut fetch = named(&[("m", "a.bin", vec![bytes(size, 0)])]);
        fetch.settings.use_sender_filename = false;
        dies(&fetch, "m", "note").await;
        fetch.settings.use_sender_filename = true;
        run(&fetch, &["m"]).await;
        assert_eq!(copies(&fetch, "m"), 1);
        assert_eq!(fetch.rows.of("m").s3_key_sha256, Some(digest("m.dat")));
    }
}
