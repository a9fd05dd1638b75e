//! What is said about a message when it is sent: its headers.

use std::fmt;

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::header_text::{self, InvalidHeader};

pub(crate) const CHUNK_RANGE: HeaderName = HeaderName::from_static("mex-chunk-range");

/// A message to send.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// Mex-To: the recipient's mailbox, or `GPPROVIDER_…`.
    pub to: String,
    /// Mex-WorkflowID.
    pub workflow_id: String,
    /// Mex-Subject.
    pub subject: Option<String>,
    /// Mex-LocalID: the sender's own reference, by which the message can be tracked.
    pub local_id: Option<String>,
    /// Mex-FileName.
    pub file_name: Option<String>,
    /// Mex-PartnerID.
    pub partner_id: Option<String>,
    /// Mex-Content-Checksum of the content before compression; MESH passes it on unchecked.
    pub content_checksum: Option<String>,
    /// Mex-Content-Encrypted: a note to the recipient.
    pub content_encrypted: Option<bool>,
    /// Mex-Content-Compressed: a note to the recipient that the content itself is compressed.
    pub content_compressed: Option<bool>,
    /// The type of the whole message, sent as Content-Type and Mex-Content-Type.
    pub content_type: Option<String>,
    /// The body is gzip that MESH or the recipient's client undoes (Content-Encoding).
    pub gzip: bool,
}

impl fmt::Debug for OutgoingMessage {
    /// Which parts are set. Recipients can hold an NHS number; subjects, file names and
    /// references are the sender's free text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<_> = self.text_headers().map(|(header, ..)| header).collect();
        f.debug_struct("OutgoingMessage")
            .field("workflow_id", &self.workflow_id)
            .field("set", &set)
            .field("gzip", &self.gzip)
            .finish_non_exhaustive()
    }
}

impl OutgoingMessage {
    /// Name, value and longest value of the headers with free text.
    fn text_headers(&self) -> impl Iterator<Item = (&'static str, &str, usize)> {
        [
            ("Mex-To", Some(&self.to), 100),
            ("Mex-WorkflowID", Some(&self.workflow_id), 300),
            ("Mex-Subject", self.subject.as_ref(), 500),
            ("Mex-LocalID", self.local_id.as_ref(), 300),
            ("Mex-FileName", self.file_name.as_ref(), 300),
            ("Mex-PartnerID", self.partner_id.as_ref(), 500),
            ("Mex-Content-Checksum", self.content_checksum.as_ref(), 100),
            ("Mex-Content-Type", self.content_type.as_ref(), 100),
        ]
        .into_iter()
        .filter_map(|(header, value, limit)| value.map(|value| (header, value.as_str(), limit)))
    }

    /// Checks what MESH would refuse, before anything is sent.
    ///
    /// # Errors
    /// Names the first header that is wrong, what is wrong and the remedy.
    pub fn validate(&self) -> Result<(), InvalidHeader> {
        for (header, value, limit) in self.text_headers() {
            header_text::check(header, value, limit)?;
        }
        Ok(())
    }

    /// The headers of the first chunk.
    pub(crate) fn headers(&self, chunks: u32) -> Result<HeaderMap, InvalidHeader> {
        self.validate()?;
        let mut headers = HeaderMap::new();
        for (header, value, _) in self.text_headers() {
            if value.is_empty() {
                continue;
            }
            headers.insert(
                header_text::name(header)?,
                header_text::value(header, value)?,
            );
        }
        let flags = [
            ("mex-content-encrypted", self.content_encrypted),
            ("mex-content-compressed", self.content_compressed),
        ];
        for (header, flag) in flags {
            if let Some(flag) = flag {
                let value = if flag { "Y" } else { "N" };
                headers.insert(header, HeaderValue::from_static(value));
            }
        }
        let content_type = headers
            .get("mex-content-type")
            .cloned()
            .unwrap_or(OCTET_STREAM);
        headers.insert(CONTENT_TYPE, content_type);
        if chunks != 1 {
            headers.insert(CHUNK_RANGE, chunk_range(1, chunks)?);
        }
        content_encoding(&mut headers, self.gzip);
        Ok(headers)
    }
}

const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The headers of a later chunk.
pub(crate) fn chunk_headers(
    chunk: u32,
    chunks: u32,
    gzip: bool,
) -> Result<HeaderMap, InvalidHeader> {
    let mut headers = HeaderMap::new();
    headers.insert(CHUNK_RANGE, chunk_range(chunk, chunks)?);
    headers.insert(CONTENT_TYPE, OCTET_STREAM);
    content_encoding(&mut headers, gzip);
    Ok(headers)
}

fn content_encoding(headers: &mut HeaderMap, gzip: bool) {
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
}

fn chunk_range(chunk: u32, chunks: u32) -> Result<HeaderValue, InvalidHeader> {
    if chunk == 0 || chunk > chunks {
        return Err(InvalidHeader {
            header: "Mex-Chunk-Range",
            problem: format!("would be {chunk}:{chunks}"),
            remedy: "chunks are numbered from 1 to their total",
        });
    }
    header_text::value("Mex-Chunk-Range", &format!("{chunk}:{chunks}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> OutgoingMessage {
        OutgoingMessage {
            to: "X26ABC2".into(),
            workflow_id: "TEST_WORKFLOW".into(),
            ..OutgoingMessage::default()
        }
    }

    #[test]
    fn a_good_message_becomes_headers() {
        let message = OutgoingMessage {
            subject: Some("£5".into()),
            local_id: Some("漢".into()),
            file_name: Some(String::new()),
            content_encrypted: Some(true),
            content_compressed: Some(false),
            content_type: Some("text/csv".into()),
            gzip: true,
            ..message()
        };
        let headers = message.headers(3).unwrap();
        let get = |name| headers.get(name).map(HeaderValue::as_bytes);
        for (name, value) in [
            ("mex-to", Some(&b"X26ABC2"[..])),
            ("mex-workflowid", Some(b"TEST_WORKFLOW")),
            ("mex-subject", Some(b"\xa35")),
            ("mex-localid", Some("漢".as_bytes())),
            ("mex-filename", None),
            ("mex-partnerid", None),
            ("mex-content-encrypted", Some(b"Y")),
            ("mex-content-compressed", Some(b"N")),
            ("mex-content-type", Some(b"text/csv")),
            ("content-type", Some(b"text/csv")),
            ("content-encoding", Some(b"gzip")),
            ("mex-chunk-range", Some(b"1:3")),
        ] {
            assert_eq!(get(name), value, "{name}");
        }
        let plain = self::message().headers(1).unwrap();
        assert_eq!(plain.len(), 3);
        assert_eq!(plain["content-type"], "application/octet-stream");
    }

    #[test]
    fn what_mesh_refuses_is_refused_here_without_repeating_it() {
        type Change = fn(&mut OutgoingMessage, String);
        let to: Change = |message, value| message.to = value;
        let workflow: Change = |message, value| message.workflow_id = value;
        let subject: Change = |message, value| message.subject = Some(value);
        let checksum: Change = |message, value| message.content_checksum = Some(value);
        let local_id: Change = |message, value| message.local_id = Some(value);
        for (change, value, text) in [
            (to, String::new(), "Mex-To is empty"),
            (
                to,
                "SECRET".repeat(17),
                "Mex-To has 102 bytes, MESH takes 100",
            ),
            (
                to,
                "https://SECRET".into(),
                "Mex-To starts like a web address",
            ),
            (workflow, "  ".into(), "Mex-WorkflowID is empty"),
            (
                workflow,
                "HTTP://SECRET".into(),
                "Mex-WorkflowID starts like",
            ),
            (
                subject,
                "SECRET\tx".into(),
                "Mex-Subject holds a control character: character 7 is U+0009",
            ),
            (subject, "SECRET\u{85}".into(), "character 7 is U+0085"),
            (
                subject,
                "é".repeat(501),
                "Mex-Subject has 501 bytes, MESH takes 500",
            ),
            (
                subject,
                "漢".repeat(167),
                "Mex-Subject has 501 bytes, MESH takes 500",
            ),
            (checksum, "SECRET+=".into(), "character 7 is U+002B"),
            (
                local_id,
                "S".repeat(301),
                "Mex-LocalID has 301 bytes, MESH takes 300",
            ),
        ] {
            let mut message = message();
            change(&mut message, value);
            let error = message.validate().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
            assert!(!error.contains("SECRET"), "{error}");
            assert!(!format!("{message:?}").contains("SECRET") || text.contains("WorkflowID"));
        }
        for (change, value) in [
            (subject, "é".repeat(500)),
            (subject, "http://fine.example".into()),
            (checksum, "SHA-256: 0123/abc".into()),
        ] {
            let mut message = message();
            change(&mut message, value);
            assert_eq!(message.validate(), Ok(()));
        }
    }

    #[test]
    fn chunk_numbers_stay_within_their_total() {
        for (chunk, chunks) in [(0, 1), (2, 1), (0, 0)] {
            assert!(chunk_headers(chunk, chunks, false).is_err());
        }
        assert!(message().headers(0).is_err());
        assert_eq!(
            chunk_headers(2, 3, false).unwrap()["mex-chunk-range"],
            "2:3"
        );
    }
}
