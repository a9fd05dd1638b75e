//! MESH, the bucket, the rows and SSM in memory. Rows change under the conditions that DynamoDB checks for real.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use mesh_client::{
    BodySource, LocalIdLookup, MailboxId, MessageId, OutgoingMessage, SecretString, Tracking,
};
use mesh_pipeline::rows::{
    Claim, Claimed, FIRST_LOOK, Hold, OutboundRows, Posting, Row, SendSwitch, Status,
    recordable_recipient,
};
use mesh_pipeline::secrets::SecretSource;
use mesh_pipeline::store::{ObjectReader, SourceObject};
use mesh_pipeline::{BoxError, Error, Fault, clock};
use serde_json::json;
use time::OffsetDateTime;

use crate::{ChunkPosted, Outbox, Posted};

/// How MESH takes a first chunk; as it should if nothing is scripted.
pub(super) enum Answer {
    /// MESH has it, but its answer is lost.
    Lost,
    /// It never reaches MESH, and nobody knows.
    NoEffect,
    /// The same, and MESH asks for a pause.
    Busy(std::time::Duration),
    Refused(Error),
}

/// A message at MESH.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) from: String,
    pub(super) headers: OutgoingMessage,
    pub(super) chunks: BTreeMap<u32, Bytes>,
    pub(super) total: u32,
    pub(super) forgotten: bool,
}

impl Message {
    pub(super) fn status(&self) -> &'static str {
        if self.chunks.contains_key(&self.total) {
            "accepted"
        } else {
            "uploading"
        }
    }

    pub(super) fn body(&self) -> Bytes {
        self.chunks
            .values()
            .cloned()
            .collect::<Vec<_>>()
            .concat()
            .into()
    }
}

#[derive(Default)]
pub(super) struct State {
    pub(super) answers: VecDeque<Answer>,
    pub(super) messages: Vec<Message>,
    pub(super) posts: usize,
    pub(super) looked_up: usize,
    pub(super) tracking_errors: VecDeque<Error>,
    /// What tracking says, instead of the truth.
    pub(super) tracking_says: Option<&'static str>,
    /// What a later chunk comes to, instead of being stored.
    pub(super) chunk_answers: VecDeque<ChunkPosted>,
    pub(super) chunk_errors: VecDeque<Error>,
    /// The connection breaks with each later chunk.
    pub(super) chunks_break: bool,
    /// The chunk that is never taken and never refused, once.
    pub(super) stalls_at: Option<u32>,
    /// How many of the next questions about messages get no answer, ever.
    pub(super) silences: u32,
    pub(super) rows: HashMap<String, Row>,
    pub(super) objects: BTreeMap<(String, String), (SourceObject, Bytes)>,
    read: Option<Bytes>,
    pub(super) parameters: HashMap<String, String>,
    pub(super) parameter_reads: usize,
    pub(super) parameters_fail: bool,
    pub(super) sending_is_off: bool,
}

#[derive(Clone, Default)]
pub(super) struct World(Arc<Mutex<State>>);

impl World {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn put(&self, key: &str, version: &str, body: &[u8], metadata: &[(&str, &str)]) {
        let mut object = SourceObject {
            version_id: version.to_owned(),
            fingerprint: format!("etag of {} bytes", body.len()),
            put_at: Some(clock::now()),
            size: body.len() as u64,
            ..SourceObject::default()
        };
        for (name, value) in metadata {
            object
                .attributes
                .metadata
                .insert((*name).to_owned(), (*value).to_owned());
        }
        let place = (key.to_owned(), version.to_owned());
        let body = Bytes::copy_from_slice(body);
        self.state().objects.insert(place, (object, body));
    }

    pub(super) fn row(&self, id: &str) -> Row {
        self.state().rows[id].clone()
    }

    pub(super) fn change(&self, id: &str, change: impl FnOnce(&mut Row)) {
        change(self.state().rows.get_mut(id).unwrap());
    }

    fn held(
        &self,
        hold: &Hold,
        from: &[Status],
        change: impl FnOnce(&mut Row),
    ) -> Result<Row, Error> {
        let mut state = self.state();
        let row = state.rows.get_mut(&hold.row).unwrap();
        if row.execution.as_deref() != Some(&hold.execution)
            || row.attempts != Some(hold.attempts)
            || !from.contains(&row.status.unwrap())
        {
            return Err(Error::AwsUnavailable(Fault::new("taken over")));
        }
        change(row);
        Ok(row.clone())
    }
}

// A header's bytes, ISO-8859-1 or else UTF-8, each of which MESH reads as a character; spaces around them are not part of it.
fn as_received(local_id: &str) -> String {
    let local_id = local_id.trim_matches(' ');
    if local_id.chars().all(|c| u8::try_from(c).is_ok()) {
        return local_id.to_owned();
    }
    local_id.bytes().map(char::from).collect()
}

fn tracking(number: usize, message: &Message, says: Option<&str>) -> Tracking {
    serde_json::from_value(json!({
        "message_id": id(number).as_str(),
        "workflow_id": message.headers.workflow_id,
        "recipient": message.headers.to,
        "upload_timestamp": clock::iso(clock::now()),
        "status": says.unwrap_or(message.status()),
    }))
    .unwrap()
}

pub(super) fn id(number: usize) -> MessageId {
    format!("MESSAGE{number}").parse().unwrap()
}

fn number(message: &MessageId) -> usize {
    message.as_ref()["MESSAGE".len()..].parse().unwrap()
}

impl World {
    async fn stall(&self, chunk: u32) {
        let stalls = self.state().stalls_at.take_if(|at| *at == chunk).is_some();
        if stalls {
            std::future::pending::<()>().await;
        }
    }

    async fn silence(&self) {
        let left = self.state().silences.checked_sub(1);
        if let Some(left) = left {
            self.state().silences = left;
            std::future::pending::<()>().await;
        }
    }
}

impl Outbox for World {
    async fn post<B: BodySource>(
        &self,
        mailbox: &MailboxId,
        message: &OutgoingMessage,
        chunks: u32,
        body: &B,
    ) -> Result<Posted, Error> {
        if let Err(error) = body.open().await {
            return Ok(Posted::Refused(*error.downcast::<Error>().unwrap()));
        }
        self.stall(1).await;
        let mut state = self.state();
        state.posts += 1;
        let answer = state.answers.pop_front();
        let lost = || Posted::Unanswered(Error::MeshUnavailable(Fault::new("reset")));
        match answer {
            Some(Answer::NoEffect) => return Ok(lost()),
            Some(Answer::Busy(pause)) => {
                let busy = Fault::new("503").after(Some(pause));
                return Ok(Posted::Unanswered(Error::MeshUnavailable(busy)));
            }
            Some(Answer::Refused(error)) => return Ok(Posted::Refused(error)),
            Some(Answer::Lost) | None => {}
        }
        let read = state.read.take().unwrap();
        state.messages.push(Message {
            from: mailbox.to_string(),
            headers: message.clone(),
            chunks: BTreeMap::from([(1, read)]),
            total: chunks,
            forgotten: false,
        });
        Ok(match answer {
            Some(_) => lost(),
            None => Posted::Accepted(id(state.messages.len() - 1)),
        })
    }

    async fn post_chunk<B: BodySource>(
        &self,
        _: &MailboxId,
        message: &MessageId,
        chunk: u32,
        _: u32,
        _: bool,
        body: &B,
    ) -> Result<ChunkPosted, Error> {
        if let Err(error) = body.open().await {
            return Err(*error.downcast::<Error>().unwrap());
        }
        self.stall(chunk).await;
        let mut state = self.state();
        if state.chunks_break {
            return Err(Error::MeshUnavailable(Fault::new("broken pipe")));
        }
        if let Some(error) = state.chunk_errors.pop_front() {
            return Err(error);
        }
        if let Some(answer) = state.chunk_answers.pop_front() {
            return Ok(answer);
        }
        let read = state.read.take().unwrap();
        let message = &mut state.messages[number(message)];
        if message.status() != "uploading" {
            return Ok(ChunkPosted::Complete);
        }
        message.chunks.insert(chunk, read);
        Ok(ChunkPosted::Stored)
    }

    async fn track(&self, _: &MailboxId, message: &MessageId) -> Result<Tracking, Error> {
        self.silence().await;
        let mut state = self.state();
        if let Some(error) = state.tracking_errors.pop_front() {
            return Err(error);
        }
        let found = &state.messages[number(message)];
        if found.forgotten {
            return Err(Error::MessageGone(Fault::new("unknown")));
        }
        Ok(tracking(number(message), found, state.tracking_says))
    }

    async fn look_up(
        &self,
        mailbox: &MailboxId,
        local_id: &str,
    ) -> Result<Result<LocalIdLookup, String>, Error> {
        self.silence().await;
        let mut state = self.state();
        state.looked_up += 1;
        let found: Vec<_> = state
            .messages
            .iter()
            .enumerate()
            .filter(|(_, message)| {
                message.from == mailbox.as_ref()
                    && message.headers.local_id.as_deref().map(as_received) == Some(local_id.into())
            })
            .collect();
        Ok(Ok(match found[..] {
            [] => LocalIdLookup::NotFound,
            [(number, message)] => LocalIdLookup::One(Box::new(tracking(number, message, None))),
            _ => LocalIdLookup::Several,
        }))
    }
}

impl SendSwitch for World {
    async fn sending_is_on(&self) -> Result<bool, Error> {
        Ok(!self.state().sending_is_off)
    }
}

impl OutboundRows for World {
    async fn claim(
        &self,
        claim: &Claim,
        execution: &str,
        until: OffsetDateTime,
    ) -> Result<Claimed, Error> {
        if self.state().rows.contains_key(&claim.row) {
            return self.resume(&claim.row, execution, until).await;
        }
        let row = Row {
            id: claim.row.clone(),
            mailbox: Some(claim.mailbox.clone()),
            recipient: Some(recordable_recipient(&claim.recipient).to_owned()),
            workflow_id: Some(claim.workflow_id.clone()),
            local_id: claim.local_id.clone(),
            status: Some(Status::Claimed),
            s3_bucket: Some(claim.bucket.clone()),
            s3_key: Some(claim.key.clone()),
            version_id: Some(claim.version_id.clone()),
            size: Some(claim.size),
            chunk_size: Some(claim.chunk_size),
            chunks: Some(claim.chunks),
            compress: Some(claim.compress),
            attempts: Some(1),
            due: Some("send".to_owned()),
            next_attempt_at: Some(clock::iso(until)),
            execution: Some(execution.to_owned()),
            ..Row::default()
        };
        self.state().rows.insert(row.id.clone(), row.clone());
        Ok(Claimed::Mine(row))
    }

    async fn resume(
        &self,
        id: &str,
        execution: &str,
        until: OffsetDateTime,
    ) -> Result<Claimed, Error> {
        let mut state = self.state();
        let Some(row) = state.rows.get_mut(id) else {
            return Err(Error::InvalidInput(Fault::new("no such row")));
        };
        let open = matches!(
            row.status,
            Some(Status::Claimed | Status::Posting | Status::Sending)
        );
        let free = row.execution.as_deref() == Some(execution)
            || row.released.is_some()
            || row.next_attempt_at < Some(clock::iso(clock::now()));
        if !open || !free {
            return Ok(Claimed::Taken(row.clone()));
        }
        row.execution = Some(execution.to_owned());
        row.next_attempt_at = Some(clock::iso(until));
        row.due = Some("send".to_owned());
        row.attempts = row.attempts.map(|attempts| attempts + 1);
        row.released = None;
        Ok(Claimed::Mine(row.clone()))
    }

    async fn refuse(
        &self,
        id: &str,
        bucket: &str,
        key: &str,
        version_id: &str,
        execution: &str,
        error: &Error,
    ) -> Result<bool, Error> {
        let mut state = self.state();
        if state.rows.contains_key(id) {
            return Ok(true);
        }
        let row = Row {
            id: id.to_owned(),
            status: Some(Status::Failed),
            s3_bucket: Some(bucket.to_owned()),
            s3_key: Some(key.to_owned()),
            version_id: Some(version_id.to_owned()),
            error: Some(error.row_text()),
            execution: Some(execution.to_owned()),
            ..Row::default()
        };
        state.rows.insert(id.to_owned(), row);
        Ok(false)
    }

    async fn posting(&self, hold: &Hold, deadline: OffsetDateTime) -> Result<(), Error> {
        self.held(hold, &[Status::Claimed, Status::Posting], |row| {
            row.status = Some(Status::Posting);
            row.posted_at = Some(clock::iso(clock::now()));
            row.answer_due_at = Some(clock::iso(deadline));
            row.message_id = None;
        })
        .map(drop)
    }

    async fn unanswered(&self, hold: &Hold, error: &Error) -> Result<(), Error> {
        self.held(hold, &[Status::Posting], |row| {
            row.answer_due_at = Some(clock::iso(clock::now()));
            row.error = Some(error.row_text());
        })
        .map(drop)
    }

    async fn posted(&self, hold: &Hold, outcome: &Posting) -> Result<(), Error> {
        let from = match outcome {
            Posting::Accepted(_) => &[Status::Posting, Status::Sending][..],
            Posting::NotSent => &[Status::Posting, Status::Sending, Status::Claimed],
        };
        self.held(hold, from, |row| match outcome {
            Posting::Accepted(message) => {
                row.status = Some(Status::Sending);
                row.message_id = Some(message.to_string());
                row.next_chunk = Some(2);
                row.error = None;
            }
            Posting::NotSent => {
                row.status = Some(Status::Claimed);
                row.message_id = None;
            }
        })
        .map(drop)
    }

    async fn progress(&self, hold: &Hold, next_chunk: u32) -> Result<(), Error> {
        self.held(hold, &[Status::Sending], |row| {
            row.next_chunk = Some(next_chunk);
        })
        .map(drop)
    }

    async fn wait_for_switch(&self, hold: &Hold) -> Result<(), Error> {
        self.held(hold, &[Status::Claimed], |row| {
            row.due = Some("switch".to_owned());
            row.next_attempt_at = Some(clock::iso(clock::now()));
            row.released = Some(true);
        })
        .map(drop)
    }

    async fn postpone(&self, hold: &Hold, until: OffsetDateTime) -> Result<(), Error> {
        let open = [Status::Claimed, Status::Posting, Status::Sending];
        self.held(hold, &open, |row| {
            row.next_attempt_at = Some(clock::iso(until));
        })
        .map(drop)
    }

    async fn sent(&self, hold: &Hold) -> Result<Row, Error> {
        self.held(hold, &[Status::Sending, Status::Sent], |row| {
            row.status = Some(Status::Sent);
            row.due = Some("track".to_owned());
            row.next_attempt_at = Some(clock::iso(clock::now() + FIRST_LOOK));
            row.error = None;
        })
    }

    async fn attempt_failed(
        &self,
        hold: &Hold,
        error: &Error,
        until: OffsetDateTime,
    ) -> Result<(), Error> {
        let open = [Status::Claimed, Status::Posting, Status::Sending];
        self.held(hold, &open, |row| {
            row.error = Some(error.row_text());
            row.next_attempt_at = Some(clock::iso(until));
            row.released = (!error.is_temporary()).then_some(true);
        })
        .map(drop)
    }

    async fn close(&self, hold: &Hold, status: Status, error: &Error) -> Result<(), Error> {
        let from = [Status::Claimed, Status::Posting, Status::Sending, status];
        self.held(hold, &from, |row| {
            row.status = Some(status);
            row.error = Some(error.row_text());
            row.due = (status == Status::Held).then(|| "held".to_owned());
        })
        .map(drop)
    }

    async fn has_rival(&self, row: &str, local_id: &str) -> Result<bool, Error> {
        Ok(self.state().rows.values().any(|rival| {
            rival.id != row
                && matches!(rival.status, Some(Status::Posting | Status::Held))
                && rival.local_id.as_deref() == Some(local_id)
        }))
    }

    async fn knows_message(&self, message: &MessageId) -> Result<bool, Error> {
        let rows = &self.state().rows;
        Ok(rows
            .values()
            .any(|row| row.message_id.as_deref() == Some(message.as_ref())))
    }
}

impl ObjectReader for World {
    async fn find(
        &self,
        key: &str,
        version_id: Option<&str>,
    ) -> Result<Option<SourceObject>, Error> {
        let state = self.state();
        let mut versions = state.objects.iter().filter(|((name, version), _)| {
            name == key && version_id.is_none_or(|asked| asked == version)
        });
        // Versions sort in the order in which they were put.
        Ok(versions.next_back().map(|(_, (object, _))| object.clone()))
    }

    async fn read(
        &self,
        key: &str,
        version_id: &str,
        range: Range<u64>,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, BoxError>>>, Error> {
        let mut state = self.state();
        let place = (key.to_owned(), version_id.to_owned());
        let Some((_, body)) = state.objects.get(&place) else {
            return Ok(None);
        };
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let read = body.slice(range);
        // MESH gets what was read last: the library lets nobody look into a body.
        state.read = Some(read.clone());
        Ok(Some(stream::iter([Ok(read)]).boxed()))
    }
}

impl SecretSource for World {
    async fn read(&self, names: &[String]) -> Result<HashMap<String, SecretString>, Error> {
        let mut state = self.state();
        state.parameter_reads += 1;
        if state.parameters_fail {
            return Err(Error::AwsUnavailable(Fault::new("SSM is busy")));
        }
        Ok(names
            .iter()
            .filter_map(|name| {
                let value = state.parameters.get(name)?;
                Some((name.clone(), SecretString::from(value.clone())))
            })
            .collect())
    }

    fn describe(&self, names: &[String]) -> String {
        format!("SSM parameters {}", names.join(", "))
    }
}
