//! What became of a sent message.

use std::fmt;

use bytes::Bytes;
use reqwest::Method;
use serde::{Deserialize, Deserializer};
use time::format_description::well_known::Iso8601;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::client::Mailbox;
use crate::error::Error;
use crate::header_text::InvalidHeader;
use crate::id::{MessageId, path_segment};
use crate::request::json;

/// A sent message as MESH knows it. Fields that MESH left out or empty are `None`.
#[derive(Clone, Deserialize)]
#[non_exhaustive]
pub struct Tracking {
    /// The message.
    #[serde(alias = "messageId")]
    pub message_id: MessageId,
    /// The sender's own reference.
    #[serde(default, alias = "localId", deserialize_with = "text")]
    pub local_id: Option<String>,
    /// The workflow.
    #[serde(default, alias = "workflowId", deserialize_with = "text")]
    pub workflow_id: Option<String>,
    /// The recipient's mailbox.
    #[serde(default, deserialize_with = "text")]
    pub recipient: Option<String>,
    /// Lower case: `uploading`, `accepted`, `acknowledged`, `undeliverable`, `error`, or one that
    /// is new: look again later. Judge by this, not by `status_success`.
    #[serde(deserialize_with = "lower_case")]
    pub status: String,
    /// MESH's flag; an undeliverable message can say `true`.
    #[serde(default, alias = "statusSuccess", deserialize_with = "success")]
    pub status_success: Option<bool>,
    /// Where a failure happened.
    #[serde(default, deserialize_with = "text")]
    pub status_event: Option<String>,
    /// The failure's code.
    #[serde(default, deserialize_with = "text")]
    pub status_code: Option<String>,
    /// The failure in words.
    #[serde(default, alias = "failureDiagnostic", deserialize_with = "text")]
    pub status_description: Option<String>,
    /// The report about the message.
    #[serde(default, alias = "linkedMsgId", deserialize_with = "text")]
    pub linked_message_id: Option<String>,
    /// When MESH took the message.
    #[serde(default, alias = "uploadTimestamp", deserialize_with = "moment")]
    pub upload_timestamp: Option<OffsetDateTime>,
    /// Until when it waits for its recipient.
    #[serde(default, alias = "expiryTime", deserialize_with = "moment")]
    pub expiry_time: Option<OffsetDateTime>,
}

impl fmt::Debug for Tracking {
    /// Without recipient and local id, which can name a patient.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracking")
            .field("message_id", &self.message_id)
            .field("workflow_id", &self.workflow_id)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// The messages of a local id.
#[derive(Debug, Clone)]
pub enum LocalIdLookup {
    /// MESH itself says that it has none.
    NotFound,
    /// Exactly one.
    One(Box<Tracking>),
    /// More than one: MESH doesn't say which.
    Several,
}

impl Mailbox {
    /// Tracks a message that this mailbox sent.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown message; otherwise see [`Error`].
    pub async fn track(&self, id: &MessageId) -> Result<Tracking, Error> {
        // A query is decoded by its own rules, but takes a path segment's encoding as well.
        let path = format!("/outbox/tracking?messageID={}", id.path_segment());
        let call = self.call("track", Method::GET, &path);
        json(self.execute(&call, &Bytes::new()).await?).await
    }

    /// Looks for a message by the sender's reference (Mex-LocalID).
    ///
    /// MESH compares the path with the header as it was received: without spaces around it, and as ISO-8859-1. A message whose
    /// reference has a character outside of ISO-8859-1 is [`LocalIdLookup::NotFound`] although it is there.
    ///
    /// # Errors
    /// [`Error::NotFound`] only if the 404 isn't MESH's own; otherwise see [`Error`].
    pub async fn track_by_local_id(&self, local_id: &str) -> Result<LocalIdLookup, Error> {
        if local_id.is_empty() {
            return Err(Error::InvalidHeader(InvalidHeader {
                header: "Mex-LocalID",
                problem: "is empty".into(),
                remedy: "track by the message's id",
            }));
        }
        let path = format!("/outbox/tracking/{}", path_segment(local_id));
        let call = self.call("track_by_local_id", Method::GET, &path);
        match self.execute(&call, &Bytes::new()).await {
            Ok(response) => Ok(LocalIdLookup::One(Box::new(json(response).await?))),
            Err(Error::NotFound(detail)) if detail.mesh_shaped => Ok(LocalIdLookup::NotFound),
            Err(Error::Several(_)) => Ok(LocalIdLookup::Several),
            Err(error) => Err(error),
        }
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

fn lower_case<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(String::deserialize(deserializer)?.to_lowercase())
}

/// Version 2 says `true`, version 1 `SUCCESS` or `ERROR`.
fn success<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Text(String),
    }
    Ok(match Option::<Flag>::deserialize(deserializer)? {
        Some(Flag::Bool(flag)) => Some(flag),
        Some(Flag::Text(text)) if text.eq_ignore_ascii_case("SUCCESS") => Some(true),
        Some(Flag::Text(text)) if text.eq_ignore_ascii_case("ERROR") => Some(false),
        Some(Flag::Text(_)) | None => None,
    })
}

fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
    Ok(text(deserializer)?.and_then(|text| parse_moment(&text)))
}

/// Compact, or ISO 8601, which in MESH comes without a zone and means UTC.
fn parse_moment(text: &str) -> Option<OffsetDateTime> {
    let compact = format_description!("[year][month][day][hour][minute][second]");
    OffsetDateTime::parse(text, &Iso8601::DEFAULT)
        .or_else(|_| {
            PrimitiveDateTime::parse(text, compact)
                .or_else(|_| PrimitiveDateTime::parse(text, &Iso8601::DEFAULT))
                .map(PrimitiveDateTime::assume_utc)
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn both_versions_are_read() {
        let v2: Tracking = serde_json::from_str(
            r#"{"message_id":"818E","local_id":"L1","workflow_id":"W","filename":"SECRET.csv",
                "expiry_time":"2026-11-25T13:51:38.411727","upload_timestamp":"2026-11-20T13:51:38.411770",
                "recipient":"X26ABC2","status_success":true,"status":"accepted"}"#,
        )
        .unwrap();
        let v1: Tracking = serde_json::from_str(
            r#"{"messageId":"818E","dtsId":"818E","localId":"L1","workflowId":"W","recipient":"X26ABC2",
                "uploadTimestamp":"20261120135138","expiryTime":"","status":"Accepted","statusSuccess":"SUCCESS",
                "failureDiagnostic":"","linkedMsgId":"","fileName":"SECRET.csv","chunkCount":1}"#,
        )
        .unwrap();
        for tracking in [&v1, &v2] {
            assert_eq!(tracking.message_id.as_str(), "818E");
            assert_eq!(tracking.local_id.as_deref(), Some("L1"));
            assert_eq!(tracking.workflow_id.as_deref(), Some("W"));
            assert_eq!(tracking.recipient.as_deref(), Some("X26ABC2"));
            assert_eq!(tracking.status, "accepted");
            assert_eq!(tracking.status_success, Some(true));
            assert_eq!(tracking.status_description, None);
            assert_eq!(tracking.linked_message_id, None);
            assert!(!format!("{tracking:?}").contains("X26ABC2"));
        }
        assert_eq!(
            v1.upload_timestamp,
            Some(datetime!(2026-11-20 13:51:38 UTC))
        );
        assert_eq!(v1.expiry_time, None);
        assert_eq!(
            v2.expiry_time,
            Some(datetime!(2026-11-25 13:51:38.411727 UTC))
        );
    }

    #[test]
    fn times_are_read_in_every_form() {
        let expected = Some(datetime!(2026-11-20 13:51:38 UTC));
        for text in [
            "20261120135138",
            "2026-11-20T13:51:38",
            "2026-11-20T13:51:38.000000",
            "2026-11-20T13:51:38Z",
            "2026-11-20T14:51:38+01:00",
        ] {
            assert_eq!(parse_moment(text), expected, "{text}");
        }
        for text in ["", "yesterday", "20261399135138"] {
            assert_eq!(parse_moment(text), None, "{text}");
        }
    }
}
