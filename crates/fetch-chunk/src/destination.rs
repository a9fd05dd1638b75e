//! Where a message goes, and whether it is there already.

use mesh_client::{MailboxId, MessageId};
use mesh_pipeline::Error;
use mesh_pipeline::layout::{Kind, alternative_key, inbound_key};
use mesh_pipeline::metadata::unquote;
use mesh_pipeline::rows::{Received, recordable_recipient};
use mesh_pipeline::store::{Found, ObjectWriter, Stored};

/// Looks for the message in the bucket under each key that it can have.
pub(crate) async fn find_stored<W: ObjectWriter>(
    bucket: &W,
    bucket_name: &str,
    mailbox: &MailboxId,
    message: &MessageId,
) -> Result<Option<Received>, Error> {
    for key_of in [inbound_key, alternative_key] {
        let mut taken = false;
        for kind in [Kind::Data, Kind::Report] {
            let key = key_of(mailbox, message, kind);
            match bucket.head(&key).await? {
                Found::Absent => {}
                // A consumer has taken it away: it was stored.
                Found::Deleted => {
                    return Ok(Some(Received {
                        bucket: bucket_name.to_owned(),
                        key,
                        ..Received::default()
                    }));
                }
                Found::Object(object) if is_message(&object, message) => {
                    return Ok(Some(known(bucket_name, key, &object)));
                }
                Found::Object(_) => taken = true,
            }
        }
        if !taken {
            return Ok(None);
        }
    }
    Ok(None)
}

/// The key for a message that is not stored yet: its own, or the alternative where that one is another object's.
pub(crate) async fn free_key<W: ObjectWriter>(
    bucket: &W,
    mailbox: &MailboxId,
    message: &MessageId,
    kind: Kind,
) -> Result<String, Error> {
    let key = inbound_key(mailbox, message, kind);
    Ok(match bucket.head(&key).await? {
        Found::Object(object) if !is_message(&object, message) => {
            alternative_key(mailbox, message, kind)
        }
        _ => key,
    })
}

/// Whether the object holds this message.
pub(crate) fn is_message(object: &Stored, message: &MessageId) -> bool {
    object
        .metadata
        .get("mex-messageid")
        .is_some_and(|id| unquote(id) == message.as_ref())
}

/// What an object tells of the message that it holds.
pub(crate) fn known(bucket: &str, key: String, object: &Stored) -> Received {
    let value = |name: &str| object.metadata.get(name).map(|value| unquote(value));
    Received {
        sender: value("mex-from"),
        recipient: value("mex-to").map(|to| recordable_recipient(&to).to_owned()),
        workflow_id: value("mex-workflowid"),
        local_id: value("mex-localid"),
        message_type: value("mex-messagetype"),
        status_code: value("mex-statuscode"),
        linked_message_id: value("mex-linkedmsgid"),
        bucket: bucket.to_owned(),
        key,
        version_id: object.version_id.clone(),
        size: Some(object.size),
        chunks: None,
    }
}
