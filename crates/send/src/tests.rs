//! Whole sends through the handler, with MESH, the bucket, the rows and SSM in memory.

mod world;

use mesh_pipeline::events::EventLabels;
use mesh_pipeline::rows::{Row, Status};
use mesh_pipeline::settings::{MeshSettings, RowSettings};
use mesh_pipeline::state::{Invocation, SendResponse};
use mesh_pipeline::{Error, Fault, clock, layout};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{ChunkPosted, Mappings, OnUncertain, Send, Settings, handle};
use world::{Answer, World};

const BUCKET: &str = "live-mesh";
const KEY: &str = "outbound/a.csv";
const METADATA: [(&str, &str); 3] = [
    ("mex-from", "X26ABC1"),
    ("mex-to", "X26ABC2"),
    ("mex-workflowid", "TEST_WORKFLOW"),
];

struct Sender {
    world: World,
    send: Send<World, World, World, World>,
}

fn sender() -> Sender {
    let world = World::default();
    Sender {
        send: Send {
            outbox: world.clone(),
            rows: world.clone(),
            objects: world.clone(),
            mappings: Mappings::new(world.clone(), "/live-mesh/mesh"),
            settings: Settings {
                mesh: MeshSettings::default(),
                rows: RowSettings {
                    retention_days: 90,
                    ..RowSettings::default()
                },
                bucket: BUCKET.to_owned(),
                labels: EventLabels {
                    source: "mesh-client".to_owned(),
                    bucket_arn: format!("arn:aws:s3:::{BUCKET}"),
                },
                chunk_size: 10,
                compress_threshold: 1_000_000,
                compression_level: 6,
                never_compress: false,
                set_local_id: true,
                uncertain_send_wait: Duration::minutes(5),
                on_uncertain_send: OnUncertain::Hold,
                use_s3_key_for_mex_filename: false,
                send_copied_objects: false,
            },
        },
        world,
    }
}

impl Sender {
    async fn run_until(
        &self,
        execution: &str,
        deadline: Duration,
        request: Value,
    ) -> Result<SendResponse, Error> {
        let invocation = Invocation {
            execution: execution.to_owned(),
            deadline: clock::now() + deadline,
        };
        handle(&self.send, invocation, request).await
    }

    async fn run(&self, execution: &str, request: Value) -> Result<SendResponse, Error> {
        self.run_until(execution, Duration::minutes(15), request)
            .await
    }

    fn row(&self) -> Row {
        self.world.row(&row_id())
    }

    // As if the answer had been lost long ago.
    fn let_the_wait_pass(&self) {
        self.world.change(&row_id(), |row| {
            row.answer_due_at = Some(ago(Duration::minutes(10)));
            row.next_attempt_at = Some(ago(Duration::minutes(1)));
        });
    }

    fn bodies(&self) -> Vec<String> {
        let state = self.world.state();
        let body = |message: &world::Message| String::from_utf8(message.body().to_vec()).unwrap();
        state.messages.iter().map(body).collect()
    }
}

// One object as most tests send it: 25 bytes, or 5 that fit into one chunk.
fn with_object(body: &[u8]) -> Sender {
    let sender = sender();
    sender.world.put(KEY, "v1", body, &METADATA);
    sender
}

const SHORT: &[u8] = b"short";
const LONG: &[u8] = b"0123456789abcdefghij01234";

fn row_id() -> String {
    layout::outbound_row(BUCKET, KEY, "v1")
}

fn resume() -> Value {
    json!({"row": row_id()})
}

fn ago(duration: Duration) -> String {
    clock::iso(clock::now() - duration)
}

fn put(version: Option<&str>) -> Value {
    put_at(version, clock::now())
}

fn put_at(version: Option<&str>, time: OffsetDateTime) -> Value {
    json!({
        "detail-type": "Object Created", "source": "aws.s3", "time": clock::iso(time),
        "detail": {"reason": "PutObject", "bucket": {"name": BUCKET},
                   "object": {"key": KEY, "version-id": version.unwrap_or_default()}}
    })
}

fn recorded(version: Option<&str>, time: OffsetDateTime) -> Value {
    let elements = version.map(|version| json!({"x-amz-version-id": version}));
    json!({
        "detail-type": "AWS API Call via CloudTrail", "source": "aws.s3", "time": clock::iso(time),
        "detail": {"eventName": "PutObject", "requestParameters": {"bucketName": BUCKET, "key": KEY},
                   "responseElements": elements}
    })
}

fn ended(response: &SendResponse) -> (bool, Option<&'static str>, usize) {
    (response.complete, response.outcome, response.events.len())
}

const SENT: (bool, Option<&str>, usize) = (true, None, 1);
const DUPLICATE: (bool, Option<&str>, usize) = (true, Some("duplicate"), 0);
const IGNORED: (bool, Option<&str>, usize) = (true, Some("ignored"), 0);
const WAITING: (bool, Option<&str>, usize) = (true, Some("waiting"), 0);

#[tokio::test]
async fn an_object_of_one_chunk_is_one_message_and_then_tracked() {
    let sender = with_object(SHORT);
    let response = sender.run("e1", put(Some("v1"))).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(response.message_id.as_deref(), Some("MESSAGE0"));
    assert_eq!(response.events[0].detail_type, "MESH message sent");
    assert_eq!(sender.bodies(), ["short"]);
    let row = sender.row();
    assert_eq!(row.status, Some(Status::Sent));
    assert_eq!(row.due.as_deref(), Some("track"));
    let message = sender.world.state().messages[0].clone();
    assert_eq!(message.from, "X26ABC1");
    assert_eq!(message.headers.to, "X26ABC2");
    assert_eq!(message.headers.file_name, None);
    // By this MESH is asked when an answer is lost.
    let local_id = message.headers.local_id.unwrap();
    assert_eq!(format!("out#{local_id}"), row.id);
}

#[tokio::test]
async fn several_chunks_arrive_in_order_and_whole() {
    let sender = with_object(LONG);
    let response = sender.run("e1", put(Some("v1"))).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(sender.world.state().messages[0].chunks.len(), 3);
    assert_eq!(sender.bodies(), [String::from_utf8_lossy(LONG)]);
}

#[tokio::test]
async fn a_send_that_runs_out_of_time_hands_over_where_it_ends() {
    let sender = with_object(LONG);
    let short = Duration::seconds(30);
    let first = sender.run_until("e1", short, put(Some("v1"))).await;
    let first = first.unwrap();
    assert_eq!(
        (first.complete, first.next_chunk, first.wait_seconds),
        (false, Some(2), None)
    );
    assert_eq!(first.events, []);
    assert_eq!(sender.row().status, Some(Status::Sending));
    // The state machine calls again with the answer as it is.
    let answer = serde_json::to_value(&first).unwrap();
    let second = sender.run("e1", answer).await.unwrap();
    assert_eq!(ended(&second), SENT);
    assert_eq!(second.message_id, first.message_id);
    assert_eq!(sender.world.state().posts, 1);
    assert_eq!(sender.bodies(), [String::from_utf8_lossy(LONG)]);
}

#[tokio::test]
async fn one_put_is_sent_once_whatever_its_events_look_like_and_whenever_they_come() {
    let earlier = clock::now() - Duration::hours(5);
    let events = [
        put(Some("v1")),
        recorded(Some("v1"), clock::now()),
        put_at(Some("v1"), earlier),
        recorded(Some("v1"), earlier),
        recorded(None, clock::now()),
    ];
    for first in &events {
        let sender = with_object(SHORT);
        let response = sender.run("e0", first.clone()).await.unwrap();
        assert_eq!(ended(&response), SENT, "{first}");
        for (number, event) in events.iter().enumerate() {
            let response = sender.run(&format!("f{number}"), event.clone()).await;
            assert_eq!(ended(&response.unwrap()), DUPLICATE, "{first} then {event}");
        }
        assert_eq!(sender.bodies(), ["short"]);
    }
}

#[tokio::test]
async fn a_second_event_while_the_first_is_at_work_is_a_duplicate() {
    let sender = with_object(LONG);
    let short = Duration::seconds(30);
    sender
        .run_until("e1", short, put(Some("v1")))
        .await
        .unwrap();
    let response = sender.run("e2", put(Some("v1"))).await.unwrap();
    assert_eq!(ended(&response), DUPLICATE);
    assert_eq!(sender.row().execution.as_deref(), Some("e1"));
}

#[tokio::test]
async fn a_row_whose_execution_is_long_silent_is_gone_on_with() {
    let sender = with_object(LONG);
    let short = Duration::seconds(30);
    sender
        .run_until("e1", short, put(Some("v1")))
        .await
        .unwrap();
    let early = sender.run("e2", resume()).await.unwrap();
    assert_eq!(ended(&early), DUPLICATE);
    sender.world.change(&row_id(), |row| {
        row.next_attempt_at = Some(ago(Duration::seconds(1)));
    });
    let response = sender.run("e2", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(response.message_id.as_deref(), Some("MESSAGE0"));
    assert_eq!(sender.row().attempts, Some(2));
    assert_eq!(sender.bodies(), [String::from_utf8_lossy(LONG)]);
    // The silent one wakes up: what it holds is no longer its own.
    let late = sender.run("e1", resume()).await.unwrap();
    assert_eq!(ended(&late), DUPLICATE);
}

#[tokio::test]
async fn an_answer_that_the_state_machine_lost_is_given_again() {
    let sender = with_object(SHORT);
    sender.run("e1", put(Some("v1"))).await.unwrap();
    for status in [Status::Sent, Status::Undelivered, Status::Delivered] {
        // Tracking may have gone on meanwhile.
        sender
            .world
            .change(&row_id(), |row| row.status = Some(status));
        let again = sender.run("e1", put(Some("v1"))).await.unwrap();
        assert_eq!(ended(&again), SENT, "{status:?}");
    }
    assert_eq!(sender.world.state().posts, 1);
}

#[tokio::test]
async fn while_sending_is_switched_off_objects_wait_and_nothing_is_dropped() {
    let sender = with_object(SHORT);
    sender.world.state().sending_is_off = true;
    let response = sender.run("e1", put(Some("v1"))).await.unwrap();
    assert_eq!(ended(&response), WAITING);
    assert_eq!(sender.world.state().posts, 0);
    let row = sender.row();
    assert_eq!(row.status, Some(Status::Claimed));
    assert_eq!(row.due.as_deref(), Some("switch"));
    assert!(row.next_attempt_at.unwrap() <= clock::iso(clock::now()));
    sender.world.state().sending_is_off = false;
    let response = sender.run("e2", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(sender.bodies(), ["short"]);
}

#[tokio::test]
async fn what_is_under_way_when_sending_is_switched_off_goes_on() {
    let sender = with_object(LONG);
    let short = Duration::seconds(30);
    sender
        .run_until("e1", short, put(Some("v1")))
        .await
        .unwrap();
    sender.world.state().sending_is_off = true;
    let response = sender.run("e1", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(sender.bodies(), [String::from_utf8_lossy(LONG)]);
}

#[tokio::test]
async fn what_would_be_posted_anew_after_sending_was_switched_off_waits() {
    let sender = with_object(SHORT);
    sender
        .world
        .state()
        .answers
        .push_back(Answer::Refused(Error::Throttled(Fault::new("slowly"))));
    sender.run("e1", put(Some("v1"))).await.unwrap_err();
    sender.world.state().sending_is_off = true;
    let response = sender.run("e1", put(Some("v1"))).await.unwrap();
    assert_eq!(ended(&response), WAITING);
    assert_eq!(sender.world.state().posts, 1);
}

#[tokio::test]
async fn an_execution_that_has_gone_round_often_leaves_the_rest_to_the_sweep() {
    for rounds in [super::MAX_ROUNDS - 1, u32::MAX] {
        let sender = with_object(LONG);
        let short = Duration::seconds(30);
        let first = sender
            .run_until("e1", short, put(Some("v1")))
            .await
            .unwrap();
        assert_eq!((first.complete, first.rounds), (false, Some(1)));
        let request = json!({"row": row_id(), "rounds": rounds});
        let last = sender.run_until("e1", short, request).await.unwrap();
        assert_eq!(ended(&last), (true, Some("continued"), 0));
        let row = sender.row();
        assert_eq!(row.due.as_deref(), Some("send"));
        assert!(row.next_attempt_at.unwrap() <= clock::iso(clock::now()));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let response = sender.run("e2", resume()).await.unwrap();
        assert_eq!(ended(&response), SENT);
        assert_eq!(sender.bodies(), [String::from_utf8_lossy(LONG)]);
    }
}

#[tokio::test]
async fn an_execution_that_has_waited_often_fails_so_that_somebody_looks_and_the_sweep_goes_on() {
    let sender = with_object(SHORT);
    uncertain(&sender, Answer::NoEffect).await;
    sender.world.state().answers.push_back(Answer::NoEffect);
    let request = json!({"row": row_id(), "rounds": super::MAX_ROUNDS - 1});
    let error = sender.run("e1", request).await.unwrap_err();
    assert_eq!(error.name(), "NotTaken");
    assert!(error.chain().starts_with("row out#"), "{}", error.chain());
    let row = sender.row();
    assert_eq!(
        (row.status, row.due.as_deref()),
        (Some(Status::Posting), Some("send"))
    );
    assert!(row.error.unwrap().starts_with("MeshUnavailable"));
    sender.let_the_wait_pass();
    let response = sender.run("e2", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(sender.bodies(), ["short"]);
}

const MAPPED: [(&str, &str); 3] = [
    ("src_mailbox", "X26ABC7"),
    ("dest_mailbox", "X26ABC8"),
    ("workflow_id", "MAPPED"),
];

fn mapped(parameters: &[(&str, &str)], metadata: &[(&str, &str)]) -> Sender {
    let sender = sender();
    sender.world.put(KEY, "v1", SHORT, metadata);
    for (name, value) in parameters {
        let name = format!("/live-mesh/mesh/mapping/{BUCKET}/outbound/{name}");
        let value = (*value).to_owned();
        sender.world.state().parameters.insert(name, value);
    }
    sender
}

#[tokio::test]
async fn an_object_without_mex_from_goes_where_its_folders_mapping_says() {
    let metadata = [("mex-to", "X26ABC2"), ("mex-subject", "a+subject")];
    let sender = mapped(&MAPPED, &metadata);
    let response = sender.run("e1", put(Some("v1"))).await.unwrap();
    assert_eq!(ended(&response), SENT);
    let message = sender.world.state().messages[0].clone();
    assert_eq!(message.from, "X26ABC7");
    assert_eq!(message.headers.to, "X26ABC8");
    assert_eq!(message.headers.workflow_id, "MAPPED");
    assert_eq!(message.headers.subject.as_deref(), Some("a subject"));
    // The next object of the folder needs no call.
    sender.world.put(KEY, "v2", SHORT, &metadata);
    sender.run("e2", put(Some("v2"))).await.unwrap();
    assert_eq!(sender.world.state().parameter_reads, 1);
}

#[tokio::test]
async fn an_object_with_mex_from_asks_for_no_mapping() {
    let sender = mapped(&MAPPED, &METADATA);
    sender.run("e1", put(Some("v1"))).await.unwrap();
    assert_eq!(sender.world.state().messages[0].from, "X26ABC1");
    assert_eq!(sender.world.state().parameter_reads, 0);
}

#[tokio::test]
async fn without_mex_from_and_mapping_the_error_names_both_ways_out() {
    let sender = mapped(&MAPPED[1..2], &[("mex-to", "X26ABC2")]);
    let error = sender.run("e1", put(Some("v1"))).await.unwrap_err();
    assert_eq!(error.name(), "InvalidParameters");
    let text = error.chain();
    for part in [
        "metadata mex-from, mex-to and mex-workflowid",
        "/live-mesh/mesh/mapping/live-mesh/outbound/src_mailbox",
        "/live-mesh/mesh/mapping/live-mesh/outbound/workflow_id",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("dest_mailbox"), "{text}");
    assert_eq!(sender.row().status, Some(Status::Failed));
}

#[tokio::test]
async fn a_folder_that_no_parameter_can_be_named_after_is_not_asked_for() {
    for key in ["outbound/a b/x", "outbound//x", "outbound"] {
        let sender = sender();
        sender.world.put(key, "v1", SHORT, &[]);
        let mut event = put(Some("v1"));
        event["detail"]["object"]["key"] = json!(key);
        let error = sender.run("e1", event).await.unwrap_err();
        assert_eq!(error.name(), "InvalidParameters", "{key}");
        assert!(error.chain().contains("mex-workflowid"), "{key}");
        assert_eq!(sender.world.state().parameter_reads, 0, "{key}");
    }
}

#[tokio::test]
async fn a_mapping_that_can_not_be_read_now_is_no_fault_of_the_object() {
    let sender = mapped(&MAPPED, &[]);
    sender.world.state().parameters_fail = true;
    let error = sender.run("e1", put(Some("v1"))).await.unwrap_err();
    assert_eq!(error.name(), "AwsUnavailable");
    assert!(sender.world.state().rows.is_empty());
    sender.world.state().parameters_fail = false;
    let response = sender.run("e1", put(Some("v1"))).await.unwrap();
    assert_eq!(ended(&response), SENT);
}

#[tokio::test]
async fn a_mapping_is_kept_for_no_longer_than_half_a_minute() {
    let sender = mapped(&MAPPED, &[]);
    tokio::time::pause();
    sender.run("e1", put(Some("v1"))).await.unwrap();
    sender.world.state().parameters.insert(
        format!("/live-mesh/mesh/mapping/{BUCKET}/outbound/dest_mailbox"),
        "X26ABC9".to_owned(),
    );
    tokio::time::advance(std::time::Duration::from_secs(31)).await;
    sender.world.put(KEY, "v2", SHORT, &[]);
    sender.run("e2", put(Some("v2"))).await.unwrap();
    assert_eq!(sender.world.state().messages[1].headers.to, "X26ABC9");
}

#[tokio::test]
async fn a_mapping_that_changes_after_the_claim_does_not_readdress_the_object() {
    // By the sweep, by an execution that is redriven, and by the object's other event.
    for (execution, request) in [
        ("e1", resume()),
        ("e1", put(Some("v1"))),
        ("e2", recorded(Some("v1"), clock::now())),
    ] {
        let mut sender = mapped(&MAPPED, &[]);
        sender.world.state().sending_is_off = true;
        sender.run("e1", put(Some("v1"))).await.unwrap();
        for value in sender.world.state().parameters.values_mut() {
            "X26ABC9".clone_into(value);
        }
        sender.world.state().sending_is_off = false;
        sender.send.mappings = Mappings::new(sender.world.clone(), "/live-mesh/mesh");
        let response = sender.run(execution, request).await.unwrap();
        assert_eq!(ended(&response), SENT);
        let message = sender.world.state().messages[0].clone();
        assert_eq!(
            (message.from, message.headers.to),
            ("X26ABC7".to_owned(), "X26ABC8".to_owned())
        );
        assert_eq!(message.headers.workflow_id, "MAPPED");
    }
}

#[tokio::test]
async fn the_keys_base_name_is_the_file_name_if_the_setting_says_so() {
    let mut sender = with_object(SHORT);
    sender.send.settings.use_s3_key_for_mex_filename = true;
    sender.run("e1", put(Some("v1"))).await.unwrap();
    let given = [METADATA.as_slice(), &[("mex-filename", "given.csv")]].concat();
    sender.world.put(KEY, "v2", SHORT, &given);
    sender.run("e2", put(Some("v2"))).await.unwrap();
    let state = sender.world.state();
    let names: Vec<_> = state
        .messages
        .iter()
        .map(|message| message.headers.file_name.as_deref())
        .collect();
    assert_eq!(names, [Some("a.csv"), Some("given.csv")]);
}

#[tokio::test]
async fn what_its_sender_says_is_compressed_is_not_compressed_once_more() {
    let told = ("mex-content-compressed", "yes");
    for (encoding, more, gzip, passed_on) in [
        (None, None, true, None),
        (Some("gzip"), None, false, None),
        (None, Some(told), false, Some(true)),
    ] {
        let mut sender = sender();
        sender.send.settings.compress_threshold = 1;
        let metadata: Vec<_> = METADATA.into_iter().chain(more).collect();
        sender.world.put(KEY, "v1", SHORT, &metadata);
        for (object, _) in sender.world.state().objects.values_mut() {
            object.content_encoding = encoding.map(str::to_owned);
        }
        sender.run("e1", put(Some("v1"))).await.unwrap();
        let headers = sender.world.state().messages[0].headers.clone();
        assert_eq!(
            (headers.gzip, headers.content_compressed),
            (gzip, passed_on),
            "{encoding:?} {more:?}"
        );
    }
}

// The first chunk's answer is lost; the state machine is told to wait.
async fn uncertain(sender: &Sender, answer: Answer) {
    sender.world.state().answers.push_back(answer);
    let response = sender.run("e1", put(Some("v1"))).await.unwrap();
    assert!(!response.complete);
    assert_eq!(response.wait_seconds, Some(300));
    assert_eq!(sender.row().status, Some(Status::Posting));
    // No sweep comes before the wait is over: 15 minutes of an invocation, 10 of quiet, 5 of the wait.
    let before = clock::iso(clock::now() + Duration::minutes(29));
    assert!(sender.row().next_attempt_at.unwrap() > before);
    // Asked too early, it waits on.
    let response = sender.run("e1", resume()).await.unwrap();
    assert!(response.wait_seconds.is_some_and(|wait| wait > 290));
    assert_eq!(sender.world.state().looked_up, 0);
    sender.let_the_wait_pass();
}

#[tokio::test(start_paused = true)]
async fn what_mesh_never_answers_ends_before_its_invocation() {
    for (body, at) in [(SHORT, 1), (LONG, 1), (LONG, 2), (LONG, 3)] {
        let sender = with_object(body);
        sender.world.state().stalls_at = Some(at);
        let begun = tokio::time::Instant::now();
        let first = sender.run("e1", put(Some("v1"))).await;
        // 15 minutes less 30 seconds.
        assert!(matches!(begun.elapsed().as_secs(), 869..=870));
        if body == SHORT {
            // MESH is asked what became of it.
            assert_eq!(first.unwrap().wait_seconds, Some(300));
            assert_eq!(sender.row().status, Some(Status::Posting));
            sender.let_the_wait_pass();
        } else {
            assert_eq!(first.unwrap_err().name(), "MeshUnavailable");
        }
        let second = sender.run("e1", resume()).await.unwrap();
        assert_eq!(ended(&second), SENT);
        assert_eq!(sender.bodies(), [String::from_utf8_lossy(body)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_mesh_never_answers_ends_before_its_invocation() {
    for body in [SHORT, LONG] {
        let sender = with_object(body);
        if body == SHORT {
            uncertain(&sender, Answer::Lost).await;
        } else {
            // The last chunk: MESH is asked at once whether it has it.
            sender.world.state().stalls_at = Some(3);
        }
        sender.world.state().silences = 1;
        let begun = tokio::time::Instant::now();
        let request = if body == SHORT {
            resume()
        } else {
            put(Some("v1"))
        };
        let first = sender.run("e1", request).await;
        assert_eq!(first.unwrap_err().name(), "MeshUnavailable");
        // Two minutes, and before them the call for the chunk. The deadline's clock stands still meanwhile, since the runtime's alone is paused.
        let chunk = if body == SHORT { 0 } else { 870 };
        assert!(matches!(begun.elapsed().as_secs() - chunk, 119..=120));
        assert_eq!(sender.world.state().silences, 0);
        let second = sender.run("e1", resume()).await.unwrap();
        assert_eq!(ended(&second), SENT);
        assert_eq!(sender.bodies(), [String::from_utf8_lossy(body)]);
    }
}

#[tokio::test]
async fn a_message_whose_answer_was_lost_is_found_by_its_local_id() {
    let sender = with_object(SHORT);
    uncertain(&sender, Answer::Lost).await;
    let response = sender.run("e1", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(response.message_id.as_deref(), Some("MESSAGE0"));
    assert_eq!(sender.bodies(), ["short"]);
}

#[tokio::test]
async fn a_post_that_never_reached_mesh_is_made_again() {
    let sender = with_object(SHORT);
    uncertain(&sender, Answer::NoEffect).await;
    let response = sender.run("e1", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(sender.world.state().posts, 2);
    assert_eq!(sender.bodies(), ["short"]);
}

#[tokio::test]
async fn what_mesh_may_have_forgotten_is_held() {
    let sender = with_object(SHORT);
    uncertain(&sender, Answer::NoEffect).await;
    sender.world.change(&row_id(), |row| {
        row.posted_at = Some(ago(Duration::days(15)));
        row.answer_due_at = Some(ago(Duration::days(15)));
    });
    let error = sender.run("e1", resume()).await.unwrap_err();
    assert_eq!(error.name(), "UncertainSend");
    assert_eq!(sender.row().status, Some(Status::Held));
    assert_eq!(sender.world.state().posts, 1);
}

#[tokio::test]
async fn several_chunks_whose_first_answer_was_lost_are_a_new_message_at_once() {
    let sender = with_object(LONG);
    sender.world.state().answers.push_back(Answer::Lost);
    let error = sender.run("e1", put(Some("v1"))).await.unwrap_err();
    assert_eq!(error.name(), "MeshUnavailable");
    let response = sender.run("e1", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);
    let state = sender.world.state();
    let statuses: Vec<_> = state.messages.iter().map(world::Message::status).collect();
    assert_eq!(statuses, ["uploading", "accepted"]);
}

fn with_local_id() -> Sender {
    with_the_local_id("job-1")
}

fn with_the_local_id(local_id: &str) -> Sender {
    let sender = sender();
    let metadata = [METADATA.as_slice(), &[("mex-localid", local_id)]].concat();
    sender.world.put(KEY, "v1", SHORT, &metadata);
    sender
}

#[tokio::test]
async fn a_local_id_that_mesh_may_read_otherwise_proves_no_absence() {
    for (local_id, found) in [
        // Quoted as in S3's metadata.
        ("job-1", true),
        ("r%C3%A9f-1", true),
        ("REF123++", true),
        ("ref%E2%80%931", false),
        ("O%E2%80%99Neil-3", false),
    ] {
        let sender = with_the_local_id(local_id);
        uncertain(&sender, Answer::Lost).await;
        let result = sender.run("e1", resume()).await;
        assert_eq!(sender.world.state().posts, 1, "{local_id}");
        if found {
            let message = result.unwrap().message_id;
            assert_eq!(message.as_deref(), Some("MESSAGE0"), "{local_id}");
        } else {
            assert_eq!(result.unwrap_err().name(), "UncertainSend", "{local_id}");
            assert_eq!(sender.row().status, Some(Status::Held), "{local_id}");
        }
    }
}

#[tokio::test]
async fn a_row_whose_local_id_has_spaces_around_it_is_held() {
    let sender = with_local_id();
    uncertain(&sender, Answer::Lost).await;
    // As rows were written before these were left out.
    sender.world.change(&row_id(), |row| {
        row.local_id = Some("job-1 ".to_owned());
    });
    let error = sender.run("e1", resume()).await.unwrap_err();
    assert_eq!(error.name(), "UncertainSend");
    assert_eq!(sender.world.state().posts, 1);
}

#[tokio::test]
async fn another_rows_message_proves_nothing_for_a_local_id_that_mesh_may_read_otherwise() {
    let sender = with_the_local_id("r%C3%A9f-1");
    uncertain(&sender, Answer::Lost).await;
    let other = Row {
        id: "out#other".to_owned(),
        status: Some(Status::Sent),
        message_id: Some("MESSAGE0".to_owned()),
        ..Row::default()
    };
    sender.world.state().rows.insert(other.id.clone(), other);
    let error = sender.run("e1", resume()).await.unwrap_err();
    assert_eq!(error.name(), "UncertainSend");
    assert_eq!(sender.world.state().posts, 1);
}

#[tokio::test]
async fn resend_sends_again_also_what_mesh_may_read_otherwise() {
    let mut sender = with_the_local_id("ref%E2%80%931");
    sender.send.settings.on_uncertain_send = OnUncertain::Resend;
    uncertain(&sender, Answer::Lost).await;
    let response = sender.run("e1", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(sender.world.state().posts, 2);
}

#[tokio::test]
async fn a_message_that_another_row_knows_is_not_this_one() {
    let sender = with_local_id();
    uncertain(&sender, Answer::Lost).await;
    // MESH has one message with the local id, and that is another object's.
    let other = Row {
        id: "out#other".to_owned(),
        status: Some(Status::Sent),
        message_id: Some("MESSAGE0".to_owned()),
        ..Row::default()
    };
    sender.world.state().rows.insert(other.id.clone(), other);
    let response = sender.run("e1", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(response.message_id.as_deref(), Some("MESSAGE1"));
    assert_eq!(sender.world.state().posts, 2);
}

#[tokio::test]
async fn with_a_rival_for_the_local_id_an_operator_decides() {
    for status in [Status::Posting, Status::Held] {
        let sender = with_local_id();
        uncertain(&sender, Answer::Lost).await;
        let rival = Row {
            id: "out#rival".to_owned(),
            status: Some(status),
            local_id: Some("job-1".to_owned()),
            ..Row::default()
        };
        sender.world.state().rows.insert(rival.id.clone(), rival);
        let error = sender.run("e1", resume()).await.unwrap_err();
        assert_eq!(error.name(), "UncertainSend");
        assert_eq!(sender.row().status, Some(Status::Held));
        assert_eq!(sender.row().due.as_deref(), Some("held"));
        assert_eq!(sender.world.state().posts, 1);
        // The answer is lost, and given again.
        let again = sender.run("e1", resume()).await.unwrap_err();
        assert_eq!(again.chain(), error.chain());
    }
}

#[tokio::test]
async fn a_message_to_another_recipient_is_not_adopted() {
    let sender = with_local_id();
    uncertain(&sender, Answer::Lost).await;
    sender.world.state().messages[0].headers.to = "X26ABC9".to_owned();
    let error = sender.run("e1", resume()).await.unwrap_err();
    assert_eq!(error.name(), "UncertainSend");
    assert_eq!(sender.row().status, Some(Status::Held));
}

#[tokio::test]
async fn several_messages_with_the_local_id_leave_it_to_an_operator() {
    let sender = with_local_id();
    uncertain(&sender, Answer::Lost).await;
    let twin = sender.world.state().messages[0].clone();
    sender.world.state().messages.push(twin);
    let error = sender.run("e1", resume()).await.unwrap_err();
    assert_eq!(error.name(), "UncertainSend");
    assert_eq!(sender.world.state().posts, 1);
}

#[tokio::test]
async fn without_a_local_id_an_operator_decides() {
    let mut sender = with_object(SHORT);
    sender.send.settings.set_local_id = false;
    uncertain(&sender, Answer::Lost).await;
    let error = sender.run("e1", resume()).await.unwrap_err();
    assert_eq!(error.name(), "UncertainSend");
    let state = sender.world.state();
    assert_eq!(state.messages[0].headers.local_id, None);
    assert_eq!((state.posts, state.looked_up), (1, 0));
}

#[tokio::test]
async fn resend_sends_again_what_can_not_be_known() {
    let mut sender = with_object(SHORT);
    sender.send.settings.set_local_id = false;
    sender.send.settings.on_uncertain_send = OnUncertain::Resend;
    uncertain(&sender, Answer::Lost).await;
    let response = sender.run("e1", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(sender.bodies(), ["short", "short"]);
}

#[tokio::test]
async fn a_refusal_closes_the_row_and_is_repeated_to_its_own_execution_only() {
    let sender = with_object(SHORT);
    let refusal = Error::Rejected(Fault::new("unknown recipient"));
    sender
        .world
        .state()
        .answers
        .push_back(Answer::Refused(refusal));
    for _ in 0..2 {
        let error = sender.run("e1", put(Some("v1"))).await.unwrap_err();
        assert_eq!(
            (error.name(), error.chain()),
            ("Rejected", "unknown recipient".to_owned())
        );
    }
    assert_eq!(sender.row().status, Some(Status::Failed));
    let response = sender.run("e2", put(Some("v1"))).await.unwrap();
    assert_eq!(ended(&response), DUPLICATE);
    assert_eq!(sender.world.state().posts, 1);
}

#[tokio::test]
async fn what_somebody_must_correct_first_stays_open_and_is_nobodys() {
    let sender = with_object(SHORT);
    let refusal = Error::NotAuthorised(Fault::new("password"));
    sender
        .world
        .state()
        .answers
        .push_back(Answer::Refused(refusal));
    let error = sender.run("e1", put(Some("v1"))).await.unwrap_err();
    assert_eq!(error.name(), "NotAuthorised");
    let row = sender.row();
    assert_eq!(row.status, Some(Status::Claimed));
    // The sweep leaves it alone for a while, an operator need not.
    let soon = clock::iso(clock::now() + Duration::minutes(14));
    assert!(row.next_attempt_at.unwrap() > soon);
    let response = sender.run("e2", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(sender.row().released, None);
}

#[tokio::test]
async fn an_error_of_an_open_row_names_it_and_one_without_a_row_does_not() {
    let sender = with_object(SHORT);
    let refusal = Error::InvalidConfiguration(Fault::new("no password"));
    sender
        .world
        .state()
        .answers
        .push_back(Answer::Refused(refusal));
    let error = sender.run("e1", put(Some("v1"))).await.unwrap_err();
    assert_eq!(error.name(), "InvalidConfiguration");
    assert_eq!(error.chain(), format!("row {}: no password", row_id()));
    assert_eq!(
        sender.row().error.as_deref(),
        Some("InvalidConfiguration: no password")
    );
    let sender = mapped(&MAPPED, &[]);
    sender.world.state().parameters_fail = true;
    let error = sender.run("e1", put(Some("v1"))).await.unwrap_err();
    assert!(sender.world.state().rows.is_empty());
    assert!(!error.chain().contains("row "), "{}", error.chain());
}

#[tokio::test]
async fn what_somebody_must_correct_is_tried_again_within_the_hour_however_often_it_was() {
    let sender = with_object(SHORT);
    sender.world.state().sending_is_off = true;
    sender.run("e1", put(Some("v1"))).await.unwrap();
    sender.world.state().sending_is_off = false;
    sender
        .world
        .change(&row_id(), |row| row.attempts = Some(40));
    let refusal = Error::NotAuthorised(Fault::new("password"));
    sender
        .world
        .state()
        .answers
        .push_back(Answer::Refused(refusal));
    sender.run("e1", resume()).await.unwrap_err();
    let in_an_hour = clock::iso(clock::now() + Duration::minutes(60));
    assert!(sender.row().next_attempt_at.unwrap() <= in_an_hour);
}

#[tokio::test]
async fn a_lost_answer_with_a_pause_waits_for_the_longer_of_both() {
    for (asked_for, waited) in [(60, 300), (900, 900), (7_200, 3_600)] {
        let sender = with_object(SHORT);
        let pause = std::time::Duration::from_secs(asked_for);
        sender.world.state().answers.push_back(Answer::Busy(pause));
        let response = sender.run("e1", put(Some("v1"))).await.unwrap();
        assert_eq!(response.wait_seconds, Some(waited));
        assert_eq!(sender.row().status, Some(Status::Posting));
    }
}

#[tokio::test]
async fn a_pause_that_mesh_asks_for_is_handed_to_the_state_machine() {
    let sender = with_object(SHORT);
    let pause = Some(std::time::Duration::from_secs(90));
    let busy = Error::Throttled(Fault::new("slow down").after(pause));
    sender
        .world
        .state()
        .answers
        .push_back(Answer::Refused(busy));
    let response = sender.run("e1", put(Some("v1"))).await.unwrap();
    assert_eq!(
        (response.complete, response.wait_seconds),
        (false, Some(90))
    );
    let answer = serde_json::to_value(&response).unwrap();
    assert_eq!(ended(&sender.run("e1", answer).await.unwrap()), SENT);
}

// The first two of three chunks are with MESH.
async fn half_way() -> Sender {
    let sender = with_object(LONG);
    let short = Duration::seconds(30);
    sender
        .run_until("e1", short, put(Some("v1")))
        .await
        .unwrap();
    sender
}

#[tokio::test]
async fn a_message_that_mesh_says_is_complete_is_sent() {
    let sender = half_way().await;
    // The last chunk got there, but not its answer; MESH says 423 to its repeat.
    sender
        .world
        .change(&row_id(), |row| row.next_chunk = Some(3));
    sender.world.state().messages[0]
        .chunks
        .insert(3, "01234".into());
    let response = sender.run("e1", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(sender.world.state().posts, 1);
}

#[tokio::test]
async fn a_message_that_mesh_says_is_complete_and_uploading_is_asked_for_again() {
    let sender = half_way().await;
    sender
        .world
        .state()
        .chunk_answers
        .push_back(ChunkPosted::Complete);
    let error = sender.run("e1", resume()).await.unwrap_err();
    assert_eq!(error.name(), "MeshUnavailable");
    assert_eq!(ended(&sender.run("e1", resume()).await.unwrap()), SENT);
    assert_eq!(sender.world.state().posts, 1);
}

#[tokio::test]
async fn a_message_whose_chunk_mesh_refuses_is_what_tracking_says_it_is() {
    use ChunkPosted::{Complete, Gone};
    for (answer, says, status) in [
        (Gone, "accepted", Status::Sent),
        (Gone, "acknowledged", Status::Sent),
        (Gone, "undeliverable", Status::Sent),
        (Gone, "error", Status::Claimed),
        (Gone, "uploading", Status::Claimed),
        (Gone, "a status that is new", Status::Sending),
        (Complete, "acknowledged", Status::Sent),
        (Complete, "error", Status::Sent),
        (Complete, "uploading", Status::Sending),
    ] {
        let sender = half_way().await;
        sender.world.state().chunk_answers.push_back(answer);
        sender.world.state().tracking_says = Some(says);
        let result = sender.run("e1", resume()).await;
        let row = sender.row();
        assert_eq!(row.status, Some(status), "{answer:?} {says}");
        match result {
            Ok(response) => assert_eq!(ended(&response), SENT),
            Err(error) => {
                assert_ne!(status, Status::Sent, "{answer:?} {says}");
                assert_eq!(error.name(), "MeshUnavailable");
            }
        }
    }
}

#[tokio::test]
async fn a_last_chunk_with_which_the_connection_breaks_may_have_been_there_before() {
    // So MESH answers the repeat of a chunk that completed the message.
    let sender = half_way().await;
    sender
        .world
        .change(&row_id(), |row| row.next_chunk = Some(3));
    sender.world.state().messages[0]
        .chunks
        .insert(3, "01234".into());
    sender.world.state().chunks_break = true;
    let response = sender.run("e1", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);

    let sender = half_way().await;
    sender
        .world
        .change(&row_id(), |row| row.next_chunk = Some(3));
    sender.world.state().chunks_break = true;
    let error = sender.run("e1", resume()).await.unwrap_err();
    assert_eq!(error.name(), "MeshUnavailable");
    assert_eq!(sender.row().status, Some(Status::Sending));
    sender.world.state().chunks_break = false;
    assert_eq!(ended(&sender.run("e1", resume()).await.unwrap()), SENT);
    assert_eq!(sender.world.state().posts, 1);
}

#[tokio::test]
async fn a_last_chunk_that_is_refused_may_have_been_there_before() {
    for complete in [true, false] {
        let sender = half_way().await;
        sender
            .world
            .change(&row_id(), |row| row.next_chunk = Some(3));
        if complete {
            let mut state = sender.world.state();
            state.messages[0].chunks.insert(3, "01234".into());
        }
        let refused = Error::Rejected(Fault::new("no"));
        sender.world.state().chunk_errors.push_back(refused);
        let result = sender.run("e1", resume()).await;
        if complete {
            assert_eq!(ended(&result.unwrap()), SENT);
        } else {
            assert_eq!(result.unwrap_err().name(), "Rejected");
            assert_eq!(sender.row().status, Some(Status::Failed));
        }
    }
}

#[tokio::test]
async fn a_refused_last_chunk_closes_nothing_while_tracking_can_not_be_asked() {
    for unread in [
        Error::MeshUnavailable(Fault::new("503")),
        Error::NotAuthorised(Fault::new("403")),
        Error::AwsRefused(Fault::new("no such parameter")),
    ] {
        let sender = half_way().await;
        sender
            .world
            .change(&row_id(), |row| row.next_chunk = Some(3));
        {
            let mut state = sender.world.state();
            state.messages[0].chunks.insert(3, "01234".into());
            let refused = Error::ObjectGone(Fault::new("no"));
            state.chunk_errors.push_back(refused);
            state.tracking_errors.push_back(unread);
        }
        let error = sender.run("e1", resume()).await.unwrap_err();
        assert_eq!(error.name(), "MeshUnavailable");
        assert_eq!(sender.row().status, Some(Status::Sending));
        assert_eq!(ended(&sender.run("e1", resume()).await.unwrap()), SENT);
    }
}

#[tokio::test]
async fn a_refused_last_chunk_of_a_message_that_mesh_does_not_know_is_left_to_an_operator() {
    let sender = half_way().await;
    sender
        .world
        .change(&row_id(), |row| row.next_chunk = Some(3));
    {
        let mut state = sender.world.state();
        let refused = Error::Rejected(Fault::new("no"));
        state.chunk_errors.push_back(refused);
        state.messages[0].forgotten = true;
    }
    let error = sender.run("e1", resume()).await.unwrap_err();
    assert_eq!(error.name(), "UncertainSend");
    assert_eq!(sender.row().status, Some(Status::Held));
}

#[tokio::test]
async fn a_complete_message_that_mesh_no_longer_knows_is_left_to_an_operator() {
    let sender = half_way().await;
    sender
        .world
        .state()
        .chunk_answers
        .push_back(ChunkPosted::Complete);
    sender.world.state().messages[0].forgotten = true;
    let error = sender.run("e1", resume()).await.unwrap_err();
    assert_eq!(error.name(), "UncertainSend");
    assert_eq!(sender.row().status, Some(Status::Held));
}

#[tokio::test]
async fn a_message_that_mesh_no_longer_knows_at_its_last_chunk_is_left_to_an_operator() {
    let sender = half_way().await;
    sender
        .world
        .change(&row_id(), |row| row.next_chunk = Some(3));
    sender
        .world
        .state()
        .chunk_answers
        .push_back(ChunkPosted::Gone);
    sender.world.state().messages[0].forgotten = true;
    let error = sender.run("e1", resume()).await.unwrap_err();
    assert_eq!(error.name(), "UncertainSend");
    assert_eq!(sender.row().status, Some(Status::Held));
    assert_eq!(sender.world.state().posts, 1);
}

#[tokio::test]
async fn a_message_that_mesh_has_dropped_half_way_is_begun_anew() {
    let sender = half_way().await;
    sender
        .world
        .state()
        .chunk_answers
        .push_back(ChunkPosted::Gone);
    sender.world.state().messages[0].forgotten = true;
    let error = sender.run("e1", resume()).await.unwrap_err();
    assert_eq!(error.name(), "MeshUnavailable");
    let response = sender.run("e1", resume()).await.unwrap();
    assert_eq!(ended(&response), SENT);
    assert_eq!(response.message_id.as_deref(), Some("MESSAGE1"));
    assert_eq!(sender.bodies()[1], String::from_utf8_lossy(LONG));
}

#[tokio::test]
async fn a_version_that_is_gone_fails_before_or_amid_its_chunks() {
    let sender = half_way().await;
    sender.world.state().objects.clear();
    let error = sender.run("e1", resume()).await.unwrap_err();
    assert_eq!(error.name(), "ObjectGone");
    assert_eq!(sender.row().status, Some(Status::Failed));

    let sender = self::sender();
    for execution in ["e1", "e1"] {
        let error = sender.run(execution, put(Some("v1"))).await.unwrap_err();
        assert_eq!(error.name(), "ObjectGone");
    }
    assert_eq!(sender.row().status, Some(Status::Failed));
}

#[tokio::test]
async fn without_versions_each_object_that_is_gone_is_told_of() {
    let sender = sender();
    let now = clock::now();
    for version in [Some("null"), None] {
        for hour in [1, 2] {
            let time = now - Duration::hours(hour);
            let error = sender.run("e1", put_at(version, time)).await.unwrap_err();
            assert_eq!(error.name(), "ObjectGone");
        }
    }
    assert_eq!(sender.world.state().rows.len(), 2);
}

#[tokio::test]
async fn without_versions_two_objects_of_one_key_are_two_messages() {
    let sender = sender();
    for body in [b"first".as_slice(), b"second"] {
        sender.world.put(KEY, "null", body, &METADATA);
        for event in [put(Some("null")), put(None)] {
            sender.run("e1", event).await.unwrap();
        }
    }
    assert_eq!(sender.bodies(), ["first", "second"]);
}

#[tokio::test]
async fn an_event_without_version_sends_no_later_object() {
    let sender = with_object(SHORT);
    let before = clock::now() - Duration::minutes(2);
    for event in [recorded(None, before), put_at(None, before)] {
        let response = sender.run("e1", event).await.unwrap();
        assert_eq!(ended(&response), IGNORED);
    }
    assert!(sender.world.state().rows.is_empty());
    // The later object has an event of its own.
    let response = sender.run("e2", put(Some("v1"))).await.unwrap();
    assert_eq!(ended(&response), SENT);
}

#[tokio::test]
async fn an_event_that_is_older_than_the_rows_is_refused() {
    let late = clock::now() - Duration::days(89);
    let response = with_object(SHORT).run("e1", put_at(Some("v1"), late)).await;
    assert_eq!(ended(&response.unwrap()), SENT);
    let sender = with_object(SHORT);
    let time = clock::now() - Duration::days(91);
    let error = sender
        .run("e1", put_at(Some("v1"), time))
        .await
        .unwrap_err();
    assert_eq!(error.name(), "StaleEvent");
    let row = sender.row();
    assert_eq!(row.status, Some(Status::Failed));
    assert!(row.error.unwrap().starts_with("StaleEvent"));
    // Its row answers for it from now on.
    let again = sender.run("e2", recorded(Some("v1"), time)).await.unwrap();
    assert_eq!(ended(&again).1, Some("duplicate"));
    assert_eq!(sender.world.state().posts, 0);
}

#[tokio::test]
async fn a_copied_object_and_a_folder_marker_send_nothing() {
    let mut sender = with_object(SHORT);
    let mut copied = put(Some("v1"));
    copied["detail"]["reason"] = json!("CopyObject");
    let response = sender.run("e1", copied.clone()).await.unwrap();
    assert_eq!(ended(&response), IGNORED);
    sender.send.settings.send_copied_objects = true;
    let response = sender.run("e1", copied).await.unwrap();
    assert_eq!(ended(&response), SENT);

    sender.world.put("outbound/", "v1", b"", &[]);
    let mut marker = put(Some("v1"));
    marker["detail"]["object"]["key"] = json!("outbound/");
    let response = sender.run("e1", marker).await.unwrap();
    assert_eq!(ended(&response), IGNORED);
}
