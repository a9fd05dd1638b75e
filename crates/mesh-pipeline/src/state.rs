//! What goes between the states: the wire contract of both state machines.

use mesh_client::{MailboxId, MessageId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::events::Entry;
use crate::layout::RecordedKey;
use crate::rows::{Cursor, Due, Status};

/// What every task is invoked with.
#[derive(Debug, Clone, Deserialize)]
pub struct Task<T> {
    /// The execution's ARN.
    pub execution: String,
    /// The task's own request.
    pub request: T,
}

/// One invocation: who asks, and until when it has to answer.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The execution's ARN.
    pub execution: String,
    /// When Lambda ends the invocation.
    pub deadline: OffsetDateTime,
}

/// Poll's request: the execution's input.
#[derive(Debug, Clone, Deserialize)]
pub struct PollRequest {
    /// The mailbox to poll, in any case. It must be there: who leaves it out is told so.
    #[serde(default)]
    pub mailbox: Option<String>,
    /// `"true"`: only shake hands.
    #[serde(default)]
    pub handshake: Option<Flag>,
}

/// `"true"` as the schedule of the module that we replace writes it, or a JSON boolean.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Flag {
    /// A JSON boolean.
    Bool(bool),
    /// A text.
    Text(String),
}

impl Flag {
    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        match self {
            Self::Bool(value) => *value,
            Self::Text(text) => text.eq_ignore_ascii_case("true"),
        }
    }
}

/// Poll's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PollResponse {
    /// 200: messages to fetch; 204: nothing waiting, only a handshake, or another execution has the mailbox.
    #[serde(rename = "statusCode")]
    pub status_code: u16,
    /// What to fetch.
    pub body: PollBody,
}

/// What to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PollBody {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// How many messages the batches hold.
    pub message_count: usize,
    /// Whether more are waiting than were taken.
    pub more: bool,
    /// What the Map fans out over.
    pub batches: Vec<Batch>,
}

/// Messages that one Fetch works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// The messages.
    pub messages: Vec<Pending>,
    /// Invocations that this execution still has for them: its history is limited.
    pub rounds: u32,
    /// What is to be told of the batch so far; Fetch's own earlier output carries it along.
    #[serde(default, skip_serializing_if = "BatchResult::is_nothing")]
    pub result: BatchResult,
}

/// What the Map gets of a batch, and nothing else, so that an execution's output stays small.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchResult {
    /// The messages that have failed.
    pub failed: Vec<Failed>,
    /// One of those that are left through no fault of theirs, if there are any: the next execution is to start at once.
    pub left: Vec<MessageId>,
}

impl BatchResult {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// A message still to be fetched, from its beginning or from where the last invocation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// MESH's message id.
    pub message_id: MessageId,
    /// Where to go on.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// For how long invocations have tried in vain to store the next part.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stalled_seconds: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where a multipart upload goes on. Its size does not depend on the message's: the parts are listed by S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The next chunk to fetch.
    pub next_chunk: u32,
    /// Decoded bytes of that chunk that are in a part already: MESH has no byte ranges.
    pub skip: u64,
    /// The number of the next part.
    pub next_part: i32,
    /// Chunks of the message: how many it had when it was begun. What an earlier release noted lacks them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<u32>,
    /// The multipart upload.
    pub upload_id: String,
    /// The object's key.
    #[serde(flatten)]
    pub key: RecordedKey,
    /// The message was redelivered: the object becomes a new version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overwrite: bool,
    /// The version that a redelivered message has already, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// A message that could not be stored or acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// MESH's message id.
    pub message_id: MessageId,
    /// The error's name.
    pub error: String,
}

/// A message that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// MESH's message id.
    pub message_id: MessageId,
}

/// Fetch's answer, which is its own next request when `messages` is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FetchResponse {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// What is left to fetch.
    pub messages: Vec<Pending>,
    /// Invocations that are left for them.
    pub rounds: u32,
    /// What this invocation has stored.
    pub stored: Vec<Stored>,
    /// How many that are.
    pub stored_count: usize,
    /// What is to be told of the batch so far.
    pub result: BatchResult,
    /// The events that tell of `stored`.
    pub events: Vec<Entry>,
}

/// Ack's request: Fetch's answer.
#[derive(Debug, Clone, Deserialize)]
pub struct AckRequest {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// The messages to acknowledge.
    pub stored: Vec<Stored>,
}

/// Ack's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AckResponse {
    /// How many messages were acknowledged.
    pub acknowledged: usize,
}

/// Send's answer, which is its own next request while `complete` is false.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SendResponse {
    /// Always 200; a refusal is an error.
    #[serde(rename = "statusCode")]
    pub status_code: u16,
    /// Whether nothing is left to do for this execution.
    pub complete: bool,
    /// The row, unless the object is none to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// MESH's message id, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The next chunk to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_chunk: Option<u32>,
    /// Seconds to wait before the next call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u64>,
    /// How many invocations of this execution have ended with work left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u32>,
    /// What became of it where nothing was sent and nothing failed: `duplicate`, `ignored`, `waiting` or `continued`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// The event that tells of the sent message.
    pub events: Vec<Entry>,
}

/// Track's request: nothing at first, then its own earlier answer. Other fields of the execution's input are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct TrackRequest {
    /// Where the tick goes on.
    #[serde(default)]
    pub tick: Option<Tick>,
    /// What the state machine has told of since.
    #[serde(default)]
    pub announced: Vec<Announced>,
}

/// How far a tick of the sweep and of tracking has come. Its size does not depend on how much is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// ISO 8601: what was due by then is looked at.
    pub by: String,
    /// Which rows are looked at.
    pub due: Due,
    /// Where among them to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Cursor>,
    /// How many invocations have worked on it.
    pub rounds: u32,
    /// How many sends were started again.
    pub started: u32,
    /// How many rows could not be worked on, for a reason that somebody has to correct.
    pub failed: u32,
}

/// A row whose event the state machine puts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// The row's id.
    pub row: String,
    /// What the event tells.
    pub status: Status,
    /// ISO 8601: when to look at the row again; never, if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_at: Option<String>,
}

/// Track's answer, which is its own next request while `complete` is false.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrackResponse {
    /// Always 200.
    #[serde(rename = "statusCode")]
    pub status_code: u16,
    /// Whether the tick is done with.
    pub complete: bool,
    /// Where it goes on.
    pub tick: Tick,
    /// The events to put, in lists of at most ten, as PutEvents takes them.
    pub events: Vec<Vec<Entry>>,
    /// The rows that these are about.
    pub announced: Vec<Announced>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fetchs_answer_is_its_next_request() {
        let answer = json!({
            "mailbox": "X26ABC1",
            "messages": [
                {"message_id": "1", "next_chunk": 3, "skip": 1_048_576, "next_part": 5, "upload_id": "u", "key": "inbound/X26ABC1/1.dat"},
                {"message_id": "2"}
            ],
            "rounds": 3,
            "stored": [{"message_id": "0"}],
            "stored_count": 1,
            "result": {"failed": [{"message_id": "4", "error": "InvalidMessage"}], "left": ["3"]},
            "events": []
        });
        let batch: Batch = serde_json::from_value(answer).unwrap();
        assert_eq!(batch.messages[0].position.as_ref().unwrap().next_part, 5);
        assert_eq!(batch.messages[1].position, None);
        assert_eq!((batch.result.failed.len(), batch.result.left.len()), (1, 1));
    }

    #[test]
    fn tracks_answer_is_its_next_request_and_a_schedules_input_its_first() {
        let announced = vec![Announced {
            row: "out#ab".to_owned(),
            status: Status::Undelivered,
            again_at: Some("2026-01-16T12:34:00.000Z".to_owned()),
        }];
        let tick = Tick {
            by: "2026-01-15T12:34:00.000Z".to_owned(),
            due: Due::Track,
            after: Some(Cursor {
                row: "out#ab".to_owned(),
                next_attempt_at: "2026-01-15T12:30:00.000Z".to_owned(),
            }),
            rounds: 2,
            started: 7,
            failed: 0,
        };
        let answer = serde_json::to_value(TrackResponse {
            status_code: 200,
            complete: false,
            tick: tick.clone(),
            events: vec![],
            announced: announced.clone(),
        })
        .unwrap();
        let request: TrackRequest = serde_json::from_value(answer).unwrap();
        assert_eq!(request.tick, Some(tick));
        assert_eq!(request.announced, announced);
        let first = json!({"detail-type": "Scheduled Event", "detail": {}});
        let request: TrackRequest = serde_json::from_value(first).unwrap();
        assert_eq!(request, TrackRequest::default());
    }

    #[test]
    fn a_page_of_which_each_message_fails_fits_between_two_states() {
        // As MESH's ids and mailboxes are, by the default batch size and by others; and as long as they may be.
        let shapes = [
            (27, "X26ABC123".to_owned(), 10..=10, 64),
            (27, "X26ABC123".to_owned(), 1..=9, 68),
            (150, "M".repeat(50), 1..=10, 256),
        ];
        for (length, mailbox, size, kib) in
            shapes
                .into_iter()
                .flat_map(|(length, mailbox, sizes, kib)| {
                    sizes.map(move |size| (length, mailbox.clone(), size, kib))
                })
        {
            // As many as poll takes at once: 500, in 210 batches.
            let ids: Vec<MessageId> = (0..500.min(210 * size))
                .map(|n| format!("{n:0>length$}").parse().unwrap())
                .collect();
            let pending = |id: &MessageId| Pending {
                message_id: id.clone(),
                position: None,
                stalled_seconds: 0,
            };
            let batches = ids.chunks(size).map(|ids| Batch {
                mailbox: mailbox.parse().unwrap(),
                messages: ids.iter().map(pending).collect(),
                rounds: 4,
                result: BatchResult::default(),
            });
            let polled = PollResponse {
                status_code: 200,
                body: PollBody {
                    mailbox: mailbox.parse().unwrap(),
                    message_count: ids.len(),
                    more: true,
                    batches: batches.collect(),
                },
            };
            let mut state = serde_json::to_value(polled).unwrap();
            let failed: Vec<_> = ids
                .iter()
                .map(|id| json!({"message_id": id, "error": "InvalidConfiguration"}))
                .collect();
            state["failed"] = json!({"messages": failed, "count": failed.len(), "left": []});
            let bytes = state.to_string().len();
            assert!(bytes < kib * 1024, "{bytes} by {size}");
            // Or a worker ends in each batch, which tells of one that goes on at once.
            let failed: Vec<_> = ids
                .iter()
                .enumerate()
                .map(|(n, id)| match n % size {
                    0 => json!({"message_id": id, "error": "Runtime.OutOfMemory"}),
                    _ => json!(id),
                })
                .collect();
            let left: Vec<_> = ids.iter().step_by(size).collect();
            state["failed"] = json!({"messages": failed, "count": failed.len(), "left": left});
            let bytes = state.to_string().len();
            assert!(bytes < kib * 1024, "{bytes} by {size}");
        }
    }

    #[test]
    fn a_handshake_is_asked_for_by_text_or_by_boolean() {
        for flag in [json!("true"), json!(true)] {
            let request: PollRequest =
                serde_json::from_value(json!({"mailbox": "x", "handshake": flag})).unwrap();
            assert!(request.handshake.unwrap().is_set());
        }
        let request: PollRequest = serde_json::from_value(json!({"mailbox": "x"})).unwrap();
        assert!(request.handshake.is_none());
    }
}
