//! Whole messages through the handler, with MESH, the bucket and the tables in memory.

mod by_name;
mod interrupted;
mod left_behind;
mod legacy_location;
mod order;
mod size_limit;
mod slow;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use mesh_client::{MailboxId, MessageId, SecretString};
use mesh_pipeline::events::EventLabels;
use mesh_pipeline::layout::RecordedKey;
use mesh_pipeline::lease::Leases;
use mesh_pipeline::rows::{Begun, Received, ReceivingRows, Row, Status};
use mesh_pipeline::secrets::SecretSource;
use mesh_pipeline::settings::{MeshSettings, RowSettings};
use mesh_pipeline::state::{Batch, BatchResult, FetchResponse, Invocation, Pending, Position};
use mesh_pipeline::store::{Attributes, Condition, Found, ObjectWriter, Stored, Written};
use mesh_pipeline::{Error, Fault, clock};
use time::OffsetDateTime;

use super::{
    AT_ONCE, AcceptEncoding, Buffers, Chunk, Fetch, Locations, Messages, Parts, Settings, handle,
};

const MIB: usize = 1024 * 1024;

#[derive(Default)]
struct Mesh {
    messages: HashMap<String, Vec<Bytes>>,
    names: HashMap<String, String>,
    // Each piece of a body takes so long.
    pace: Duration,
    // Beyond so many pieces of a chunk nothing comes.
    stuck_after: Option<usize>,
    // For this message no answer begins.
    mute: Option<&'static str>,
    downloads: Mutex<Vec<u32>>,
    // It asks to be left alone for so many seconds.
    pause: Option<u64>,
    // It has lost this chunk.
    missing_chunk: Option<u32>,
    // The bodies of the next downloads break after so many pieces.
    breaks: Mutex<Vec<usize>>,
    content_type: Option<&'static str>,
    // Its later chunks come without the message's headers.
    bare: bool,
}

impl Messages for Mesh {
    async fn download(
        &self,
        _: &MailboxId,
        message: &MessageId,
        chunk: u32,
    ) -> Result<Chunk, Error> {
        if self.mute == Some(message.as_ref()) {
            std::future::pending::<()>().await;
        }
        if let Some(seconds) = self.pause {
            self.downloads.lock().unwrap().push(chunk);
            let pause = Some(Duration::from_secs(seconds));
            return Err(Error::MeshUnavailable(Fault::new("busy").after(pause)));
        }
        let Some(chunks) = self.messages.get(message.as_ref()) else {
            return Err(Error::MessageGone(Fault::new("not there")));
        };
        if self.missing_chunk == Some(chunk) {
            return Err(Error::MessageGone(Fault::new("not there")));
        }
        self.downloads.lock().unwrap().push(chunk);
        let (pace, stuck_after) = (self.pace, self.stuck_after);
        let breaks_after = self.breaks.lock().unwrap().pop();
        let content = chunks.get(chunk as usize - 1).cloned().unwrap_or_default();
        let pieces: Vec<_> = (0..content.len())
            .step_by(MIB)
            .map(|start| content.slice(start..content.len().min(start + MIB)))
            .collect();
        let body = stream::iter(pieces)
            .enumerate()
            .then(move |(n, piece)| async move {
                if stuck_after.is_some_and(|limit| n >= limit) {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(pace).await;
                if breaks_after.is_some_and(|limit| n >= limit) {
                    return Err(Error::MeshUnavailable(Fault::new("it broke")));
                }
                Ok(piece)
            });
        let kind = if chunks.is_empty() { "REPORT" } else { "DATA" };
        let name = self.names.get(message.as_ref());
        let total = u32::try_from(chunks.len()).unwrap();
        if self.bare && chunk > 1 {
            return Ok(Chunk {
                headers: [("content-type", "application/octet-stream")]
                    .into_iter()
                    .collect(),
                total,
                body: body.boxed(),
            });
        }
        Ok(Chunk {
            headers: [
                ("mex-messageid", message.as_ref()),
                ("mex-messagetype", kind),
                ("mex-from", "X26ABC1"),
                ("content-type", self.content_type.unwrap_or("text/csv")),
            ]
            .into_iter()
            .chain(name.map(|name| ("mex-filename", name.as_str())))
            .collect(),
            total,
            body: body.boxed(),
        })
    }
}

struct Lease(bool, Mutex<Option<OffsetDateTime>>);

impl Leases for Lease {
    async fn take(&self, _: &MailboxId, _: &str, _: OffsetDateTime) -> Result<bool, Error> {
        Ok(self.0)
    }
    async fn pause(&self, _: &MailboxId, _: &str, until: OffsetDateTime) -> Result<(), Error> {
        *self.1.lock().unwrap() = Some(until);
        Ok(())
    }
    async fn release(&self, _: &MailboxId, _: &str) -> Result<(), Error> {
        Ok(())
    }
}

// The step at which a worker dies, or something else goes wrong, once.
#[derive(Clone, Default)]
struct Fate(Arc<Mutex<Option<&'static str>>>);

impl Fate {
    fn meets(&self, step: &'static str) {
        *self.0.lock().unwrap() = Some(step);
    }

    fn is(&self, step: &str) -> bool {
        let met = self.0.lock().unwrap().take_if(|fatal| *fatal == step);
        met.is_some()
    }

    async fn kills_at(&self, step: &str) {
        if self.is(step) {
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Default)]
struct Rows {
    rows: Mutex<HashMap<String, Row>>,
    fate: Fate,
}

impl Rows {
    fn change(&self, message: &MessageId, change: impl FnOnce(&mut Row)) -> Row {
        let mut rows = self.rows.lock().unwrap();
        let row = rows.entry(message.to_string()).or_default();
        row.message_id = Some(message.to_string());
        change(row);
        row.clone()
    }

    fn of(&self, message: &str) -> Row {
        self.rows.lock().unwrap()[message].clone()
    }
}

fn record(row: &mut Row, key: &RecordedKey) {
    row.s3_key = key.plain().map(str::to_owned);
    row.s3_key_sha256 = key.sha256().map(str::to_owned);
}

impl ReceivingRows for Rows {
    async fn begin(
        &self,
        _: &MailboxId,
        message: &MessageId,
        execution: &str,
    ) -> Result<Begun, Error> {
        let mut again = true;
        let row = self.change(message, |row| {
            row.status = Some(Status::Receiving);
            row.timestamp.get_or_insert(clock::iso(clock::now()));
            if row.counted_by.as_deref() != Some(execution) {
                row.counted_by = Some(execution.to_owned());
                row.attempts = Some(row.attempts.unwrap_or(0) + 1);
                again = row.attempts > Some(1);
            }
        });
        Ok(Begun::Fetch { row, again })
    }
    async fn checkpoint(&self, message: &MessageId, position: &Position) -> Result<(), Error> {
        self.change(message, |row| {
            row.upload_id = Some(position.upload_id.clone());
            record(row, &position.key);
            row.next_chunk = Some(position.next_chunk);
            row.skip = Some(position.skip);
            row.next_part = Some(position.next_part);
            row.chunks = position.chunks;
        });
        Ok(())
    }
    async fn received(&self, message: &MessageId, received: &Received) -> Result<Row, Error> {
        self.fate.kills_at("note").await;
        Ok(self.change(message, |row| {
            row.status = Some(Status::Received);
            row.sender.clone_from(&received.sender);
            row.s3_bucket = Some(received.bucket.clone());
            record(row, &received.key);
            row.version_id = received.version_id.clone();
            row.size = received.size;
            row.chunks = received.chunks;
            row.upload_id = None;
            row.redelivered = None;
        }))
    }
    async fn attempt_failed(
        &self,
        message: &MessageId,
        _: &str,
        error: &Error,
        next_attempt_at: Option<OffsetDateTime>,
    ) -> Result<(), Error> {
        self.change(message, |row| {
            row.error = Some(error.row_text());
            row.next_attempt_at = next_attempt_at.map(clock::iso);
            if matches!(error, Error::InvalidMessage(_)) {
                row.upload_id = None;
            }
        });
        Ok(())
    }
    async fn uncounted(&self, message: &MessageId, execution: &str) -> Result<(), Error> {
        self.change(message, |row| {
            if row.counted_by.as_deref() == Some(execution) {
                row.attempts = row.attempts.map(|attempts| attempts - 1);
                row.counted_by = None;
            }
        });
        Ok(())
    }
    async fn gone(
        &self,
        message: &MessageId,
        error: &Error,
        again_at: OffsetDateTime,
    ) -> Result<(), Error> {
        self.change(message, |row| {
            row.status = Some(Status::Gone);
            row.error = Some(error.row_text());
            row.next_attempt_at = Some(clock::iso(again_at));
        });
        Ok(())
    }
}

#[derive(Clone)]
struct Version {
    id: String,
    body: Bytes,
    attributes: Attributes,
    written_at: OffsetDateTime,
}

impl Version {
    fn stored(&self) -> Stored {
        Stored {
            version_id: Some(self.id.clone()),
            e_tag: Some(format!("\"{}\"", self.id)),
            written_at: Some(self.written_at),
            size: self.body.len() as u64,
            metadata: self.attributes.metadata.clone(),
        }
    }
}

// Key, attributes and parts.
type Upload = (String, Attributes, BTreeMap<i32, Bytes>);

// Versions by key, oldest first; `None` is a delete marker.
type Objects = BTreeMap<String, Vec<Option<Version>>>;

#[derive(Clone, Default)]
struct Bucket {
    // Keys of other buckets begin with `s3://` and the bucket's name.
    prefix: String,
    objects: Arc<Mutex<Objects>>,
    uploads: Arc<Mutex<BTreeMap<String, Upload>>>,
    // How many were ever begun.
    begun: Arc<Mutex<usize>>,
    // Sizes of the parts, as they were written.
    parts: Arc<Mutex<Vec<usize>>>,
    // Writes that its condition refused.
    refused: Arc<Mutex<usize>>,
    answers_after: Duration,
    writes_a_part_in: Duration,
    // The part that it does not take, once.
    fails_at: Arc<Mutex<Option<i32>>>,
    fate: Fate,
    hides_keys: bool,
}

impl Bucket {
    fn store(&self, key: &str, body: Bytes, attributes: &Attributes) -> Stored {
        let mut objects = self.objects.lock().unwrap();
        let count: usize = objects.values().map(Vec::len).sum();
        let version = Version {
            id: format!("v{count}"),
            body,
            attributes: attributes.clone(),
            written_at: clock::now(),
        };
        let versions = objects.entry(format!("{}{key}", self.prefix)).or_default();
        versions.push(Some(version.clone()));
        version.stored()
    }

    fn store_if(
        &self,
        key: &str,
        body: Bytes,
        attributes: &Attributes,
        condition: &Condition,
    ) -> Written {
        let current = self.current(key).map(|version| version.stored().e_tag);
        let holds = match condition {
            Condition::Always => true,
            Condition::Free => current.is_none(),
            Condition::Replaces(e_tag) => current == Some(Some(e_tag.clone())),
        };
        if !holds {
            return Written::Taken;
        }
        Written::Stored(self.store(key, body, attributes).version_id)
    }

    fn versions_of(&self, key: &str) -> Vec<Option<Version>> {
        let objects = self.objects.lock().unwrap();
        objects
            .get(&format!("{}{key}", self.prefix))
            .cloned()
            .unwrap_or_default()
    }

    fn current(&self, key: &str) -> Option<Version> {
        self.versions_of(key).pop().flatten()
    }

    // As a consumer takes an object away.
    fn delete(&self, key: &str) {
        let mut objects = self.objects.lock().unwrap();
        objects.get_mut(key).unwrap().push(None);
    }

    // The keys under which there is an object.
    fn keys(&self) -> Vec<String> {
        let objects = self.objects.lock().unwrap();
        objects
            .iter()
            .filter(|(_, versions)| matches!(versions.last(), Some(Some(_))))
            .map(|(key, _)| key.clone())
            .collect()
    }
}

impl ObjectWriter for Bucket {
    fn other(&self, name: &str, _: &str) -> Self {
        let prefix = match name {
            "live-mesh" => String::new(),
            other => format!("s3://{other}/"),
        };
        Self {
            prefix,
            ..self.clone()
        }
    }
    fn hiding_keys(&self) -> Self {
        Self {
            hides_keys: true,
            ..self.clone()
        }
    }
    async fn head(&self, key: &str) -> Result<Found, Error> {
        assert!(self.hides_keys || !key.contains("marker"));
        if self.prefix == "s3://forbidden/" {
            return Err(Error::AwsRefused(Fault::new("forbidden")));
        }
        let version = self.versions_of(key).pop();
        tokio::time::sleep(self.answers_after).await;
        Ok(match version {
            None => Found::Absent,
            Some(None) => Found::Deleted,
            Some(Some(version)) => Found::Object(version.stored()),
        })
    }
    async fn versions(&self, key: &str, since: OffsetDateTime) -> Result<Vec<Stored>, Error> {
        let versions = self.versions_of(key).into_iter().flatten().rev();
        Ok(versions
            .filter(|version| version.written_at >= since)
            .map(|version| version.stored())
            .collect())
    }
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        attributes: &Attributes,
        condition: &Condition,
    ) -> Result<Written, Error> {
        self.fate.kills_at("put").await;
        // What S3 keeps is not in the function's memory.
        let body = Bytes::copy_from_slice(&body);
        let lost = || Err(Error::AwsUnavailable(Fault::new("no answer")));
        if self.fate.is("put unheard") {
            return lost();
        }
        if self.fate.is("put taken and gone") {
            return Ok(Written::Taken);
        }
        let written = self.store_if(key, body, attributes, condition);
        *self.refused.lock().unwrap() += usize::from(written == Written::Taken);
        if self.fate.is("put and lost") {
            return lost();
        }
        if self.fate.is("put, taken away and lost") {
            self.delete(key);
            return lost();
        }
        Ok(written)
    }
    async fn start(&self, key: &str, attributes: &Attributes) -> Result<String, Error> {
        let id = {
            let mut begun = self.begun.lock().unwrap();
            *begun += 1;
            format!("upload-{begun}")
        };
        let upload = (
            format!("{}{key}", self.prefix),
            attributes.clone(),
            BTreeMap::new(),
        );
        self.uploads.lock().unwrap().insert(id.clone(), upload);
        self.fate.kills_at("start").await;
        if self.fate.is("unanswered") {
            return Err(Error::AwsUnavailable(Fault::new("no answer")));
        }
        Ok(id)
    }
    async fn uploads(&self, prefix: &str) -> Result<Vec<(String, String)>, Error> {
        if self.fate.is("unlisted") {
            return Err(Error::AwsRefused(Fault::new("no such right")));
        }
        let uploads = self.uploads.lock().unwrap();
        let prefix = format!("{}{prefix}", self.prefix);
        Ok(uploads
            .iter()
            .filter(|(_, (key, _, _))| key.starts_with(&prefix))
            .map(|(id, (key, _, _))| (key[self.prefix.len()..].to_owned(), id.clone()))
            .collect())
    }
    async fn is_open(&self, key: &str, upload_id: &str) -> Result<bool, Error> {
        let uploads = self.uploads.lock().unwrap();
        let upload = uploads.get(upload_id);
        Ok(upload.is_some_and(|(of, _, _)| *of == format!("{}{key}", self.prefix)))
    }
    async fn part(&self, _: &str, upload_id: &str, number: i32, body: Bytes) -> Result<(), Error> {
        self.fate.kills_at("part").await;
        tokio::time::sleep(self.writes_a_part_in).await;
        let mut fails_at = self.fails_at.lock().unwrap();
        if fails_at.take_if(|part| *part == number).is_some() {
            return Err(Error::AwsUnavailable(Fault::new("slow down")));
        }
        let mut uploads = self.uploads.lock().unwrap();
        let parts = &mut uploads.get_mut(upload_id).unwrap().2;
        // What S3 keeps is not in the function's memory.
        parts.insert(number, Bytes::copy_from_slice(&body));
        self.parts.lock().unwrap().push(body.len());
        Ok(())
    }
    async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        last: i32,
        condition: &Condition,
    ) -> Result<Written, Error> {
        self.fate.kills_at("complete").await;
        if self.fate.is("vanish") {
            self.uploads.lock().unwrap().remove(upload_id);
        }
        let Some((_, attributes, parts)) = self.uploads.lock().unwrap().remove(upload_id) else {
            return Ok(Written::Taken);
        };
        let parts: Vec<_> = parts.range(..=last).map(|(_, part)| part.clone()).collect();
        // S3 takes no part but the last below 5 MiB.
        assert!(parts.iter().rev().skip(1).all(|part| part.len() >= 5 * MIB));
        Ok(self.store_if(key, parts.concat().into(), &attributes, condition))
    }
    async fn abort(&self, _: &str, upload_id: &str) -> Result<(), Error> {
        self.uploads.lock().unwrap().remove(upload_id);
        Ok(())
    }
}

// SSM parameters by name.
struct Parameters(HashMap<String, String>);

impl SecretSource for Parameters {
    async fn read(&self, names: &[String]) -> Result<HashMap<String, SecretString>, Error> {
        let found = names.iter().filter_map(|name| {
            let value = self.0.get(name)?;
            Some((name.clone(), SecretString::from(value.clone())))
        });
        Ok(found.collect())
    }

    fn describe(&self, names: &[String]) -> String {
        names.join(", ")
    }
}

type Fake = Fetch<Mesh, Lease, Rows, Bucket, Parameters>;

fn fetch(messages: &[(&str, Vec<Bytes>)]) -> Fake {
    let fate = Fate::default();
    Fetch {
        messages: Mesh {
            messages: messages
                .iter()
                .map(|(id, chunks)| ((*id).to_owned(), chunks.clone()))
                .collect(),
            ..Mesh::default()
        },
        leases: Lease(true, Mutex::default()),
        rows: Rows {
            fate: fate.clone(),
            ..Rows::default()
        },
        bucket: Bucket {
            fate,
            ..Bucket::default()
        },
        buffers: Buffers::default(),
        parts: Parts::S3,
        locations: Locations::inbound("live-mesh"),
        settings: Settings {
            mesh: MeshSettings::default(),
            rows: RowSettings::default(),
            leases_table: String::new(),
            bucket: "live-mesh".to_owned(),
            labels: EventLabels {
                source: "mesh-client".to_owned(),
                bucket_arn: "arn:aws:s3:::live-mesh".to_owned(),
            },
            use_sender_filename: false,
            use_legacy_inbound_location: false,
            in_order: false,
            accept_encoding: AcceptEncoding::Gzip,
            max_message_size: 100_000_000_000,
            max_attempts: 5,
        },
    }
}

fn bytes(length: usize, seed: u8) -> Bytes {
    let pattern: Vec<_> = (0..=250u8).map(|byte| byte ^ seed).collect();
    let mut bytes = pattern.repeat(length / pattern.len() + 1);
    bytes.truncate(length);
    bytes.into()
}

fn batch(ids: &[&str]) -> Batch {
    Batch {
        mailbox: "X26ABC2".parse().unwrap(),
        messages: ids
            .iter()
            .map(|id| Pending {
                message_id: id.parse().unwrap(),
                position: None,
                stalled_seconds: 0,
            })
            .collect(),
        rounds: 10_000,
        result: BatchResult::default(),
    }
}

fn invocation(seconds: i64) -> Invocation {
    Invocation {
        execution: "execution".to_owned(),
        deadline: clock::now() + time::Duration::seconds(seconds),
    }
}

fn again(response: &FetchResponse) -> Batch {
    serde_json::from_value(serde_json::to_value(response).unwrap()).unwrap()
}

fn object(fetch: &Fake, id: &str) -> Bytes {
    let key = format!("inbound/X26ABC2/{id}.dat");
    fetch.bucket.current(&key).unwrap().body
}

#[tokio::test]
async fn no_byte_is_lost_at_any_size_of_chunk() {
    let cases = [
        ("no-byte", vec![0]),
        ("one-byte", vec![1]),
        ("three-small-chunks", vec![2 * MIB, 2 * MIB, 2 * MIB]),
        ("just-a-part", vec![8 * MIB]),
        ("a-part-and-a-byte", vec![8 * MIB + 1]),
        ("small-then-large", vec![3, 20 * MIB, 1]),
        ("an-empty-chunk-between", vec![9 * MIB, 0, 9 * MIB]),
    ];
    for (id, sizes) in cases {
        let chunks: Vec<_> = (0u8..)
            .zip(&sizes)
            .map(|(seed, size)| bytes(*size, seed))
            .collect();
        let whole = chunks.concat();
        let fetch = fetch(&[(id, chunks)]);
        let response = handle(&fetch, invocation(900), batch(&[id])).await.unwrap();
        assert_eq!(response.stored_count, 1, "{id}");
        assert!(response.messages.is_empty(), "{id}");
        assert!(object(&fetch, id) == whole, "{id}");
        assert!(fetch.bucket.uploads.lock().unwrap().is_empty(), "{id}");
        let row = fetch.rows.of(id);
        assert_eq!(row.size, Some(whole.len() as u64), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invocation_that_runs_out_of_time_hands_over_exactly() {
    let chunks = vec![bytes(13 * MIB, 1), bytes(20 * MIB, 2), bytes(5 * MIB, 3)];
    let whole = chunks.concat();
    let mut fetch = fetch(&[("m", chunks)]);
    // A MiB a second, and 30 seconds of work for each invocation: more than the longest chunk takes.
    fetch.messages.pace = Duration::from_secs(1);
    let mut request = batch(&["m"]);
    let mut invocations = 0;
    loop {
        let response = handle(&fetch, invocation(75), request).await.unwrap();
        invocations += 1;
        if response.stored_count == 1 {
            assert_eq!(response.events.len(), 1);
            break;
        }
        let position = response.messages[0].position.as_ref().unwrap();
        assert!(position.next_part > 1);
        let text = serde_json::to_string(&response).unwrap();
        assert!(text.len() < 1_000, "{text}");
        assert!(invocations < 10);
        request = again(&response);
    }
    assert!(invocations > 1);
    assert!(object(&fetch, "m") == whole);
    assert_eq!(fetch.rows.of("m").attempts, Some(1));
}

#[tokio::test(start_paused = true)]
async fn headers_that_metadata_has_no_room_for_are_stored_once_however_long_it_takes() {
    let mut fetch = fetch(&[("m", vec![bytes(20 * MIB, 1), bytes(20 * MIB, 2)])]);
    let name = "n".repeat(3_000);
    fetch.messages.names.insert("m".to_owned(), name.clone());
    fetch.messages.pace = Duration::from_secs(1);
    let mut request = batch(&["m"]);
    loop {
        let response = handle(&fetch, invocation(75), request).await.unwrap();
        let [stored] = &fetch.bucket.versions_of("headers/X26ABC2/m.json")[..] else {
            panic!("not once");
        };
        assert!(
            std::str::from_utf8(&stored.as_ref().unwrap().body)
                .unwrap()
                .contains(&name)
        );
        if response.stored_count == 1 {
            break;
        }
        request = again(&response);
    }
}

#[tokio::test]
async fn a_worker_that_died_is_followed_by_one_that_goes_on() {
    let chunks = vec![bytes(9 * MIB, 1), bytes(9 * MIB, 2)];
    let whole = chunks.concat();
    let fetch = fetch(&[("m", chunks)]);
    let message: MessageId = "m".parse().unwrap();
    let key = "inbound/X26ABC2/m.dat";
    let mut attributes = Attributes::default();
    attributes
        .metadata
        .insert("mex-messageid".to_owned(), "m".to_owned());
    let upload_id = fetch.bucket.start(key, &attributes).await.unwrap();
    let first = Bytes::copy_from_slice(&whole[..8 * MIB]);
    fetch.bucket.part(key, &upload_id, 1, first).await.unwrap();
    // Of an attempt that was interrupted further on.
    fetch
        .bucket
        .part(key, &upload_id, 2, bytes(8 * MIB, 9))
        .await
        .unwrap();
    let position = Position {
        next_chunk: 1,
        skip: 8 * MIB as u64,
        next_part: 2,
        chunks: Some(2),
        upload_id,
        key: RecordedKey::Key(key.to_owned()),
        overwrite: false,
        replaces: None,
    };
    fetch.rows.change(&message, |row| row.attempts = Some(1));
    fetch.rows.checkpoint(&message, &position).await.unwrap();
    let response = handle(&fetch, invocation(900), batch(&["m"]))
        .await
        .unwrap();
    assert_eq!(response.stored_count, 1, "{response:?}");
    assert!(object(&fetch, "m") == whole);
}

#[tokio::test(start_paused = true)]
async fn the_last_round_of_an_execution_leaves_the_rest_to_the_next_one() {
    let whole = bytes(40 * MIB, 1);
    let mut fetch = fetch(&[("m", vec![whole.slice(..20 * MIB), whole.slice(20 * MIB..)])]);
    fetch.messages.pace = Duration::from_secs(1);
    for execution in 1..10 {
        // 25 seconds of work: two parts at most, since what is stored of a chunk has to be read again.
        let last = last_round(&["m"]);
        let response = handle(&fetch, invocation(70), last).await.unwrap();
        assert_eq!((response.rounds, response.result.failed.len()), (0, 0));
        assert!(response.messages.is_empty());
        let left = usize::from(response.stored_count == 0);
        assert_eq!(response.result.left.len(), left);
        let row = fetch.rows.of("m");
        if response.stored_count == 1 {
            assert!(execution > 1);
            assert!(object(&fetch, "m") == whole);
            assert_eq!(*fetch.bucket.begun.lock().unwrap(), 1);
            return;
        }
        assert_eq!(row.attempts, Some(0), "a part was stored");
        assert_eq!(row.status, Some(Status::Receiving));
    }
    panic!("it goes on and on");
}

fn last_round(ids: &[&str]) -> Batch {
    Batch {
        rounds: 1,
        ..batch(ids)
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_got_nowhere_in_its_last_round_has_had_an_attempt() {
    for (before, waits) in [(0, false), (4, true)] {
        let mut fetch = fetch(&[("m", vec![bytes(20 * MIB, 1)]), ("good", vec![])]);
        fetch.messages.stuck_after = Some(0);
        let message = "m".parse().unwrap();
        fetch
            .rows
            .change(&message, |row| row.attempts = Some(before));
        let request = last_round(&["good", "m"]);
        let response = handle(&fetch, invocation(70), request).await.unwrap();
        assert_eq!((response.messages.len(), response.stored_count), (0, 1));
        // The next execution need not start at once.
        assert!(response.result.left.is_empty());
        assert_eq!(response.result.failed[0].message_id.as_ref(), "m");
        assert_eq!(response.result.failed[0].error, "MeshUnavailable");
        let row = fetch.rows.of("m");
        assert_eq!(row.attempts, Some(before + 1));
        assert_eq!(row.next_attempt_at.is_some(), waits);
        let error = row.error.unwrap();
        assert!(error.contains("not one part of it was stored"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_begun_at_the_end_of_the_last_round_has_not_failed() {
    let messages = [
        ("first", vec![bytes(20 * MIB, 1)]),
        ("second", vec![bytes(20 * MIB, 2)]),
    ];
    let mut fetch = fetch(&messages);
    fetch.settings.in_order = true;
    fetch.messages.pace = Duration::from_secs(1);
    // 25 seconds of work, of which 20 are the first's.
    let request = last_round(&["first", "second"]);
    let response = handle(&fetch, invocation(70), request).await.unwrap();
    assert_eq!(
        (response.stored_count, response.result.failed.len()),
        (1, 0)
    );
    assert_eq!(response.result.left[0].as_ref(), "second");
    let row = fetch.rows.of("second");
    assert_eq!((row.attempts, row.error), (Some(0), None));
}

#[tokio::test]
async fn a_bad_message_does_not_stop_the_others() {
    let fetch = fetch(&[("good", vec![bytes(10, 0)])]);
    let response = handle(&fetch, invocation(900), batch(&["gone", "good"]))
        .await
        .unwrap();
    assert_eq!(response.stored[0].message_id.as_ref(), "good");
    assert_eq!(response.result.failed[0].message_id.as_ref(), "gone");
    assert_eq!(response.result.failed[0].error, "MessageGone");
    let error = fetch.rows.of("gone").error.unwrap();
    assert!(error.starts_with("MessageGone"), "{error}");
    // Listed once more though it is not there.
    let response = handle(&fetch, invocation(900), batch(&["gone"]))
        .await
        .unwrap();
    assert_eq!(response.result.failed.len(), 1);
    assert_eq!(fetch.rows.of("gone").status, Some(Status::Gone));
}

#[tokio::test]
async fn a_message_that_is_gone_is_asked_for_at_increasing_intervals() {
    let fetch = fetch(&[("m", vec![bytes(10, 0)])]);
    let mut waits = Vec::new();
    for n in 0..4 {
        let invocation = Invocation {
            execution: format!("execution {n}"),
            ..invocation(900)
        };
        handle(&fetch, invocation, batch(&["gone"])).await.unwrap();
        let row = fetch.rows.of("gone");
        let wait = row.next_attempt_at.as_deref().and_then(clock::parse_iso);
        waits.push(wait.map(|at| (at - clock::now()).as_seconds_f64().round() / 60.0));
    }
    assert_eq!(waits, [None, Some(15.0), Some(30.0), Some(60.0)]);
}

#[tokio::test]
async fn a_message_that_lacks_a_chunk_is_not_gone() {
    let chunks = vec![bytes(10, 0), bytes(10, 1)];
    let mut fetch = fetch(&[("m", chunks)]);
    fetch.messages.missing_chunk = Some(2);
    for _ in 0..3 {
        let response = handle(&fetch, invocation(900), batch(&["m"]))
            .await
            .unwrap();
        assert_eq!(response.result.failed[0].error, "InvalidMessage");
        let row = fetch.rows.of("m");
        assert_eq!(row.status, Some(Status::Receiving));
        let error = row.error.unwrap();
        assert!(
            error.contains("chunk 2 of message m is missing in MESH"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_content_type_that_s3_would_refuse_is_that_of_unknown_bytes() {
    for (told, kept) in [
        ("text/csv; charset=utf-8", "text/csv; charset=utf-8"),
        ("text/cs\u{f6}", "application/octet-stream"),
        ("text\tcsv", "application/octet-stream"),
    ] {
        let mut fetch = fetch(&[("m", vec![bytes(10, 0)])]);
        fetch.messages.content_type = Some(told);
        handle(&fetch, invocation(900), batch(&["m"]))
            .await
            .unwrap();
        let object = fetch.bucket.current("inbound/X26ABC2/m.dat").unwrap();
        assert_eq!(object.attributes.content_type.as_deref(), Some(kept));
    }
}

#[tokio::test]
async fn while_mesh_asks_to_be_left_alone_no_further_message_is_begun() {
    let ids: Vec<_> = (0..AT_ONCE + 5).map(|n| n.to_string()).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let mut fetch = fetch(&[]);
    fetch.messages.pause = Some(600);
    let response = handle(&fetch, invocation(900), batch(&ids)).await.unwrap();
    // The state machine tries nothing again: the rows say when.
    assert_eq!(response.result.failed.len(), ids.len());
    let asked = fetch.messages.downloads.lock().unwrap().len();
    assert!((1..=AT_ONCE).contains(&asked), "{asked}");
    let wait = clock::parse_iso(&fetch.rows.of("0").next_attempt_at.unwrap()).unwrap();
    let wait = (wait - clock::now()).whole_seconds();
    assert!((595..=600).contains(&wait), "{wait}");
    // Neither does another batch, nor another execution.
    let paused = fetch.leases.1.lock().unwrap().unwrap() - clock::now();
    assert!((595..=600).contains(&paused.whole_seconds()), "{paused}");
    // A short pause is the messages' alone.
    fetch.messages.pause = Some(30);
    *fetch.leases.1.lock().unwrap() = None;
    handle(&fetch, invocation(900), batch(&ids)).await.unwrap();
    assert_eq!(*fetch.leases.1.lock().unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_mesh_asks_for_is_no_attempt_of_a_message_under_way() {
    let mut fetch = fetch(&[("m", vec![bytes(40 * MIB, 0)])]);
    fetch.messages.pace = Duration::from_secs(1);
    let begun = handle(&fetch, invocation(65), batch(&["m"])).await.unwrap();
    assert_eq!(fetch.rows.of("m").attempts, Some(1));
    assert!(begun.messages[0].position.is_some());
    // The lease is nobody's, as another batch was asked for the pause.
    fetch.leases.0 = false;
    let response = handle(&fetch, invocation(65), again(&begun)).await.unwrap();
    assert_eq!(response.stored_count + response.messages.len(), 0);
    assert_eq!(fetch.rows.of("m").attempts, Some(0));
    // Or one before it in its own batch was.
    fetch.leases.0 = true;
    fetch.rows.change(&"m".parse().unwrap(), |row| {
        row.attempts = Some(1);
        row.counted_by = Some("execution".to_owned());
    });
    fetch.settings.in_order = true;
    fetch.messages.pause = Some(600);
    let ids: Vec<_> = (0..AT_ONCE).map(|n| n.to_string()).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let mut request = batch(&ids);
    // Whether or not a part of it was stored.
    request.messages.push(batch(&["m"]).messages.remove(0));
    handle(&fetch, invocation(900), request).await.unwrap();
    assert_eq!(fetch.rows.of("m").attempts, Some(0));
}

#[tokio::test]
async fn a_stored_message_is_not_fetched_again() {
    let fetch = fetch(&[("m", vec![bytes(10, 0)])]);
    handle(&fetch, invocation(900), batch(&["m"]))
        .await
        .unwrap();
    let response = handle(&fetch, invocation(900), batch(&["m"]))
        .await
        .unwrap();
    assert_eq!(response.stored_count, 1);
    assert_eq!(*fetch.messages.downloads.lock().unwrap(), [1]);
}

#[tokio::test]
async fn another_object_under_the_key_is_left_alone() {
    let fetch = fetch(&[("m", vec![bytes(10, 0)])]);
    let theirs = Bytes::from_static(b"theirs");
    fetch.bucket.store(
        "inbound/X26ABC2/m.dat",
        theirs.clone(),
        &Attributes::default(),
    );
    handle(&fetch, invocation(900), batch(&["m"]))
        .await
        .unwrap();
    assert_eq!(object(&fetch, "m"), theirs);
    let alternative = fetch.bucket.current("inbound/X26ABC2/m_m.dat").unwrap();
    assert_eq!(alternative.body, bytes(10, 0));
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_looked_for_before_it_is_repeated() {
    for (fate, versions) in [
        ("put unheard", 1),
        ("put and lost", 1),
        // The second one is the consumer's delete marker.
        ("put, taken away and lost", 2),
    ] {
        let fetch = fetch(&[("m", vec![bytes(10, 0)])]);
        fetch.bucket.fate.meets(fate);
        let response = handle(&fetch, invocation(900), batch(&["m"]))
            .await
            .unwrap();
        assert_eq!(response.stored_count, 1, "{fate}");
        let found = fetch.bucket.versions_of("inbound/X26ABC2/m.dat");
        assert_eq!(found.len(), versions, "{fate}");
        let stored = found[0].clone().map(|version| version.id);
        assert_eq!(fetch.rows.of("m").version_id, stored, "{fate}");
    }
}

#[tokio::test]
async fn a_key_that_was_taken_and_is_free_again_is_no_reason_for_a_second_object() {
    let fetch = fetch(&[("m", vec![bytes(10, 0)])]);
    fetch.bucket.fate.meets("put taken and gone");
    let error = handle(&fetch, invocation(900), batch(&["m"]))
        .await
        .unwrap_err();
    assert_eq!(error.name(), "AwsUnavailable");
    assert_eq!(fetch.bucket.keys(), Vec::<String>::new());
    let row = fetch.rows.of("m");
    assert_eq!(row.status, Some(Status::Receiving));
    assert!(row.error.is_some());
}

#[tokio::test]
async fn without_the_lease_nothing_is_touched() {
    let mut fetch = fetch(&[("m", vec![bytes(10, 0)])]);
    fetch.leases = Lease(false, Mutex::default());
    let response = handle(&fetch, invocation(900), batch(&["m"]))
        .await
        .unwrap();
    assert_eq!(response.stored_count, 0);
    assert!(response.messages.is_empty());
    assert!(fetch.messages.downloads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_redelivered_upload_that_vanishes_is_not_the_earlier_version() {
    let fetch = fetch(&[("m", vec![bytes(20 * MIB, 1)])]);
    let message: MessageId = "m".parse().unwrap();
    handle(&fetch, invocation(900), batch(&["m"]))
        .await
        .unwrap();
    fetch
        .rows
        .change(&message, |row| row.redelivered = Some(true));
    fetch.bucket.fate.meets("vanish");
    let error = handle(&fetch, invocation(900), batch(&["m"]))
        .await
        .unwrap_err();
    assert_eq!(error.name(), "AwsUnavailable");
    assert_eq!(fetch.rows.of("m").status, Some(Status::Receiving));
    handle(&fetch, invocation(900), batch(&["m"]))
        .await
        .unwrap();
    let versions = fetch.bucket.versions_of("inbound/X26ABC2/m.dat");
    assert_eq!(versions.len(), 2);
    let newest = versions[1].clone().map(|version| version.id);
    assert_eq!(fetch.rows.of("m").version_id, newest);
}
