//! Where a message goes, and whether it is there already.

use mesh_client::{MessageHeaders, MessageId};
use mesh_pipeline::Error;
use mesh_pipeline::layout::{Kind, Location, RecordedKey};
use mesh_pipeline::metadata::unquote;
use mesh_pipeline::rows::{Received, recordable_recipient};
use mesh_pipeline::store::{Condition, Found, ObjectWriter, Stored};
use time::OffsetDateTime;

/// A mailbox's location, and the bucket that it names.
pub(crate) struct Destination<W> {
    pub(crate) location: Location,
    pub(crate) bucket: W,
    // Objects have their sender's file name.
    pub(crate) by_name: bool,
}

impl<W: ObjectWriter> Destination<W> {
    /// The keys that a message with content may have, first choice first. Those by id come last where the sender's name
    /// is used: that may be a new setting, and the name one that can't be.
    pub(crate) fn keys(
        &self,
        message: &MessageId,
        headers: Option<&MessageHeaders>,
    ) -> Vec<String> {
        let mut keys: Vec<_> = headers
            .filter(|_| self.by_name)
            .and_then(MessageHeaders::file_name)
            .and_then(|name| self.location.keys_by_name(message, name))
            .into_iter()
            .flatten()
            .collect();
        for key in self.location.keys_by_id(message, Kind::Data) {
            // MESH names a message without a name by its id.
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    /// The keys that a report may have.
    pub(crate) fn report_keys(&self, message: &MessageId) -> Vec<String> {
        self.location.keys_by_id(message, Kind::Report).into()
    }

    /// The key as it may be recorded.
    pub(crate) fn recorded(&self, key: &str) -> RecordedKey {
        RecordedKey::of(key, self.by_name)
    }

    /// Looks for the message under each of the keys.
    pub(crate) async fn find_stored(
        &self,
        message: &MessageId,
        keys: &[String],
        since: OffsetDateTime,
    ) -> Result<Option<Received>, Error> {
        for key in keys {
            match self.bucket.head(key).await? {
                Found::Absent => {}
                Found::Object(object) if is_message(&object, message) => {
                    return Ok(Some(self.known(key, &object)));
                }
                // By name, what is there or was taken away may be another message: the versions tell.
                _ if self.by_name => {
                    let versions = self.bucket.versions(key, since).await?;
                    if let Some(ours) = versions.iter().find(|object| is_message(object, message)) {
                        return Ok(Some(self.known(key, ours)));
                    }
                }
                // By id, a consumer has taken it away: it was stored.
                Found::Deleted => return Ok(Some(self.at(key))),
                Found::Object(_) => {}
            }
        }
        Ok(None)
    }

    /// The first of the keys that is not another object's.
    pub(crate) async fn free_key(
        &self,
        message: &MessageId,
        keys: &[String],
    ) -> Result<Option<String>, Error> {
        for key in keys {
            match self.bucket.head(key).await? {
                Found::Object(object) if !is_message(&object, message) => {}
                _ => return Ok(Some(key.clone())),
            }
        }
        Ok(None)
    }

    /// The message's object under the key, if that is what is there.
    pub(crate) async fn ours(
        &self,
        key: &str,
        message: &MessageId,
    ) -> Result<Option<Stored>, Error> {
        Ok(match self.bucket.head(key).await? {
            Found::Object(object) if is_message(&object, message) => Some(object),
            _ => None,
        })
    }

    /// A message of which no more is known than its key.
    pub(crate) fn at(&self, key: &str) -> Received {
        Received::at(&self.location.bucket, self.recorded(key))
    }

    /// What an object tells of the message that it holds.
    pub(crate) fn known(&self, key: &str, object: &Stored) -> Received {
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
