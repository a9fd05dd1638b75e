//! Entries for `events:putEvents`: prepared by a function, put by the state machine.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rows::Row;
use crate::settings::Reader;

/// One entry of a PutEvents request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// `mesh-client` unless configured otherwise.
    pub source: String,
    /// What happened, for example `MESH message received`.
    pub detail_type: String,
    /// The bucket's ARN.
    pub resources: Vec<String>,
    /// The detail; Step Functions takes it as an object.
    pub detail: Value,
}

/// `DetailType` of a stored message.
pub const RECEIVED: &str = "MESH message received";
/// `DetailType` of a message that MESH has accepted.
pub const SENT: &str = "MESH message sent";
/// `DetailType` of a sent message that its recipient has acknowledged.
pub const DELIVERED: &str = "MESH message delivered";
/// `DetailType` of a sent message that its recipient has not collected in time, or that MESH failed to deliver.
pub const UNDELIVERED: &str = "MESH message undelivered";

// Attributes of the row that an event carries, and their names there.
const DETAIL: [(&str, &str); 16] = [
    ("id", "row"),
    ("mailbox", "mailbox"),
    ("message_id", "message_id"),
    ("message_type", "message_type"),
    ("sender", "sender"),
    ("recipient", "recipient"),
    ("workflow_id", "workflow_id"),
    ("local_id", "local_id"),
    ("linked_message_id", "linked_message_id"),
    ("status_code", "status_code"),
    ("s3_bucket", "bucket"),
    ("s3_key", "key"),
    ("s3_key_sha256", "key_sha256"),
    ("version_id", "version_id"),
    ("size", "size"),
    ("chunks", "chunks"),
];

/// How a function's events are labelled.
#[derive(Debug, Clone, Default)]
pub struct EventLabels {
    /// `EVENT_SOURCE`.
    pub source: String,
    /// `BUCKET_ARN`: the event's resource.
    pub bucket_arn: String,
}

impl EventLabels {
    /// The event that tells of a row.
    pub fn entry(&self, detail_type: &str, row: &Row) -> Entry {
        let mut row = serde_json::to_value(row).unwrap_or_default();
        let detail: serde_json::Map<String, Value> = DETAIL
            .into_iter()
            .map(|(attribute, name)| (name.to_owned(), row[attribute].take()))
            .filter(|(_, value)| !value.is_null())
            .collect();
        let resource = match detail.get("bucket").and_then(Value::as_str) {
            Some(bucket) => self.arn_of(bucket),
            None => self.bucket_arn.clone(),
        };
        Entry {
            source: self.source.clone(),
            detail_type: detail_type.to_owned(),
            resources: vec![resource],
            detail: Value::Object(detail),
        }
    }

    // A mailbox's legacy location may be in another bucket of the partition, and may name it by an ARN.
    fn arn_of(&self, bucket: &str) -> String {
        match self.bucket_arn.rsplit_once(':') {
            Some((partition, _)) if !bucket.starts_with("arn:") => format!("{partition}:{bucket}"),
            _ => bucket.to_owned(),
        }
    }
}

impl EventLabels {
    /// Reads `EVENT_SOURCE` and `BUCKET_ARN`.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            source: reader.text("EVENT_SOURCE"),
            bucket_arn: reader.text("BUCKET_ARN"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_key_and_another_bucket_are_told_of_as_the_row_has_them() {
        let labels = EventLabels {
            source: "mesh-client".to_owned(),
            bucket_arn: "arn:aws:s3:::live-mesh".to_owned(),
        };
        let mut row = Row {
            id: "in#1".to_owned(),
            s3_bucket: Some("elsewhere".to_owned()),
            s3_key_sha256: Some("ab".to_owned()),
            ..Row::default()
        };
        let entry = labels.entry(RECEIVED, &row);
        assert_eq!(
            entry.detail,
            serde_json::json!({"row": "in#1", "bucket": "elsewhere", "key_sha256": "ab"})
        );
        assert_eq!(entry.resources, ["arn:aws:s3:::elsewhere"]);
        let arn = "arn:aws:s3:eu-west-2:123456789012:accesspoint/theirs";
        row.s3_bucket = Some(arn.to_owned());
        assert_eq!(labels.entry(RECEIVED, &row).resources, [arn]);
    }

    #[test]
    fn an_event_tells_of_the_row_and_leaves_out_what_is_not_known() {
        let labels = EventLabels {
            source: "mesh-client".to_owned(),
            bucket_arn: "arn:aws:s3:::live-mesh".to_owned(),
        };
        let row = Row {
            id: "in#1".to_owned(),
            mailbox: Some("X26ABC1".to_owned()),
            s3_key: Some("inbound/X26ABC1/1.dat".to_owned()),
            size: Some(5),
            error: Some("never in an event".to_owned()),
            ..Row::default()
        };
        let entry = labels.entry(RECEIVED, &row);
        assert_eq!(
            entry.detail,
            serde_json::json!({"row": "in#1", "mailbox": "X26ABC1", "key": "inbound/X26ABC1/1.dat", "size": 5})
        );
        assert_eq!(
            serde_json::to_value(&entry).unwrap()["DetailType"],
            "MESH message received"
        );
    }
}
