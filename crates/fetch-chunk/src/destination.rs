//! Where a message goes, and whether it is there already.

use mesh_client::{MessageHeaders, MessageId};
use mesh_pipeline::Error;
use mesh_pipeline::layout::{Kind, Location, RecordedKey};
use mesh_pipeline::metadata::unquote;
use mesh_pipeline::rows::{Received, recordable_recipient};
use mesh_pipeline::store::{Condition, Found, ObjectWriter, Stored};
use time::OffsetDateTime;
use tracing::{info, warn};

/// A mailbox's location, and the bucket that it names.
pub(crate) struct Destination<W> {
    pub(crate) location: Location,
    bucket: W,
    // The same, for keys that no text may have.
    hiding: W,
    // Objects have their sender's file name.
    pub(crate) by_name: bool,
}

/// A key that a message may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) text: String,
    // It is a sender's file name, or stands among such: it is recorded by its SHA-256, and what lies under it may be another
    // message with every right.
    named: bool,
}

impl Key {
    /// The key as it may be recorded.
    pub(crate) fn recorded(&self) -> RecordedKey {
        RecordedKey::of(&self.text, self.named)
    }
}

impl<W: ObjectWriter> Destination<W> {
    pub(crate) fn new(location: Location, bucket: W, by_name: bool) -> Self {
        Self {
            location,
            hiding: bucket.hiding_keys(),
            bucket,
            by_name,
        }
    }

    /// The bucket, for what is to be done with this key.
    pub(crate) fn bucket(&self, key: &Key) -> &W {
        if key.named {
            &self.hiding
        } else {
            &self.bucket
        }
    }

    /// The keys that a message with content is stored under, first choice first. Those by id come last where the sender's name
    /// is used: that may be a new setting, and the name one that can't be.
    pub(crate) fn keys(&self, message: &MessageId, headers: Option<&MessageHeaders>) -> Vec<Key> {
        let mut keys = if self.by_name {
            self.keys_by_name(message, headers)
        } else {
            Vec::new()
        };
        for text in self.location.keys_by_id(message, Kind::Data) {
            // MESH names a message without a name by its id.
            if !keys.iter().any(|key| key.text == text) {
                keys.push(self.key_by_id(text));
            }
        }
        keys
    }

    /// The keys that it would have by its sender's name, whether that is used or not: the setting may have been another one
    /// when work on the message was begun.
    pub(crate) fn keys_by_name(
        &self,
        message: &MessageId,
        headers: Option<&MessageHeaders>,
    ) -> Vec<Key> {
        headers
            .and_then(MessageHeaders::file_name)
            .and_then(|name| self.location.keys_by_name(message, name))
            .into_iter()
            .flatten()
            .map(|text| Key { text, named: true })
            .collect()
    }

    /// The keys that a report may have.
    pub(crate) fn report_keys(&self, message: &MessageId) -> Vec<Key> {
        let keys = self.location.keys_by_id(message, Kind::Report);
        keys.map(|text| self.key_by_id(text)).into()
    }

    fn key_by_id(&self, text: String) -> Key {
        Key {
            text,
            named: self.by_name,
        }
    }

    /// Looks for the message under each of the keys.
    pub(crate) async fn find_stored(
        &self,
        message: &MessageId,
        keys: &[Key],
        since: OffsetDateTime,
    ) -> Result<Option<Received>, Error> {
        for key in keys {
            let bucket = self.bucket(key);
            match bucket.head(&key.text).await? {
                Found::Absent => {}
                Found::Object(object) if is_message(&object, message) => {
                    return Ok(Some(self.known(key, &object)));
                }
                // What is there, or was taken away, may be another message, or this one as it was delivered the time before: the
                // versions tell.
                _ => {
                    let versions = bucket.versions(&key.text, since).await?;
                    if let Some(ours) = versions.iter().find(|object| is_message(object, message)) {
                        return Ok(Some(self.known(key, ours)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Looks for a version of the message that was written after an earlier one, also where it was taken away since. Where the
    /// earlier one is no longer there, nothing tells which is which.
    pub(crate) async fn find_newer(
        &self,
        message: &MessageId,
        keys: &[Key],
        earlier: &str,
    ) -> Result<Option<Received>, Error> {
        let mut ours = Vec::new();
        for key in keys {
            let versions = self
                .bucket(key)
                .versions(&key.text, OffsetDateTime::UNIX_EPOCH)
                .await?;
            let versions = versions
                .into_iter()
                .filter(|object| is_message(object, message));
            ours.extend(versions.map(|object| (key, object)));
        }
        let written = |version: &Stored| version.written_at;
        let before = ours
            .iter()
            .find(|(_, object)| object.version_id.as_deref() == Some(earlier))
            .and_then(|(_, object)| written(object));
        Ok(before.and_then(|before| {
            let newest = ours.iter().max_by_key(|(_, object)| written(object))?;
            (written(&newest.1)? > before).then(|| self.known(newest.0, &newest.1))
        }))
    }

    /// Gives up what is left of multipart uploads of this message that no row knows, or none any more: those of keys that
    /// are the message's own. Where that fails the message is received all the same.
    pub(crate) async fn give_up_uploads(&self, message: &MessageId, keys: &[Key]) {
        if let Err(failure) = self.try_to_give_up(message, keys).await {
            warn!(message_id = %message, error_name = failure.name(), error = failure.chain(), "multipart uploads may be left");
        }
    }

    async fn try_to_give_up(&self, message: &MessageId, keys: &[Key]) -> Result<(), Error> {
        let [first, second] = self.location.keys_by_id(message, Kind::Data);
        let prefix = first.strip_suffix(".dat").unwrap_or(&first).to_owned();
        let mut own = vec![self.key_by_id(first), self.key_by_id(second)];
        // Another message may be on its way to a key by name: only one that has the id before the name is this message's.
        let with_id = format!("{prefix}_");
        let named = keys.iter().filter(|key| key.text.starts_with(&with_id));
        own.extend(named.cloned());
        for (text, upload_id) in self.bucket(&own[0]).uploads(&prefix).await? {
            if let Some(key) = own.iter().find(|key| key.text == text) {
                self.bucket(key).abort(&text, &upload_id).await?;
                info!(message_id = %message, "a multipart upload that was left is given up");
            }
        }
        Ok(())
    }

    /// Gives up an upload by its id alone: under a key that is a sender's file name nothing else tells whose it is.
    pub(crate) async fn give_up_upload(&self, message: &MessageId, upload_id: &str) {
        let given_up = async {
            let folder = match self.location.folder.as_str() {
                "" => String::new(),
                folder => format!("{folder}/"),
            };
            for (key, id) in self.hiding.uploads(&folder).await? {
                if id == upload_id {
                    self.hiding.abort(&key, &id).await?;
                    info!(message_id = %message, "its multipart upload is given up");
                }
            }
            Ok::<_, Error>(())
        };
        if let Err(failure) = given_up.await {
            warn!(message_id = %message, error_name = failure.name(), error = failure.chain(), "its multipart upload may be left");
        }
    }

    /// The first of the keys that is not another object's.
    pub(crate) async fn free_key(
        &self,
        message: &MessageId,
        keys: &[Key],
    ) -> Result<Option<Key>, Error> {
        for key in keys {
            if !self.is_anothers(key, message).await? {
                return Ok(Some(key.clone()));
            }
        }
        Ok(None)
    }

    /// Whether another object is under the key.
    pub(crate) async fn is_anothers(&self, key: &Key, message: &MessageId) -> Result<bool, Error> {
        let found = self.bucket(key).head(&key.text).await?;
        Ok(matches!(found, Found::Object(object) if !is_message(&object, message)))
    }

    /// The message's object under the key, if that is what is there.
    pub(crate) async fn ours(
        &self,
        key: &Key,
        message: &MessageId,
    ) -> Result<Option<Stored>, Error> {
        Ok(match self.bucket(key).head(&key.text).await? {
            Found::Object(object) if is_message(&object, message) => Some(object),
            _ => None,
        })
    }

    /// A message of which no more is known than its key.
    pub(crate) fn at(&self, key: &Key) -> Received {
        Received::at(&self.location.bucket, key.recorded())
    }

    /// What an object tells of the message that it holds.
    pub(crate) fn known(&self, key: &Key, object: &Stored) -> Received {
        let value = |name: &str| object.metadata.get(name).map(|value| unquote(value));
        Received {
            sender: value("mex-from"),
            recipient: value("mex-to").map(|to| recordable_recipient(&to).to_owned()),
            workflow_id: value("mex-workflowid"),
            local_id: value("mex-localid"),
            message_type: value("mex-messagetype"),
            status_code: value("mex-statuscode"),
            linked_message_id: value("mex-linkedmsgid"),
            version_id: object.version_id.clone(),
            size: Some(object.size),
            ..self.at(key)
        }
    }
}

/// On what condition a message is written over its own object, if that is there.
pub(crate) fn condition(ours: Option<&Stored>) -> Condition {
    ours.and_then(|object| object.e_tag.clone())
        .map_or(Condition::Free, Condition::Replaces)
}

/// Whether the object holds this message.
pub(crate) fn is_message(object: &Stored, message: &MessageId) -> bool {
    object
        .metadata
        .get("mex-messageid")
        .is_some_and(|id| unquote(id) == message.as_ref())
}
