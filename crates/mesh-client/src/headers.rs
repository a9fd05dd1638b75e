//! The headers of a received message.

use std::fmt;

use reqwest::header::HeaderMap;

/// All headers of an answer, in order. Values are UTF-8 if their bytes are, otherwise ISO-8859-1.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MessageHeaders(Vec<(String, String)>);

/// Mex-MessageType.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// A message with content.
    Data,
    /// A report about a message that this mailbox sent: headers only.
    Report,
    /// Another type, or none.
    Other,
}

impl MessageHeaders {
    pub(crate) fn new(headers: &HeaderMap) -> Self {
        let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
        };
        Self(
            headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
                .collect(),
        )
    }

    /// The first header of this name, in any case; an empty value counts as absent, as in MESH.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(known, value)| known.eq_ignore_ascii_case(name) && !value.is_empty())
            .map(|(_, value)| value)
    }

    /// Names (lower case) and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Mex-MessageType.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        match self.get("mex-messagetype") {
            Some(value) if value.eq_ignore_ascii_case("DATA") => MessageType::Data,
            Some(value) if value.eq_ignore_ascii_case("REPORT") => MessageType::Report,
            _ => MessageType::Other,
        }
    }

    /// The type of the whole message: Mex-Content-Type, otherwise Content-Type.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.get("mex-content-type")
            .or_else(|| self.get("content-type"))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for MessageHeaders {
    /// Headers from names and values, for stores and tests of the caller's own.
    fn from_iter<T: IntoIterator<Item = (N, V)>>(headers: T) -> Self {
        Self(
            headers
                .into_iter()
                .map(|(name, value)| (name.into().to_ascii_lowercase(), value.into()))
                .collect(),
        )
    }
}

macro_rules! accessors {
    ($($function:ident $header:literal $doc:literal;)*) => {
        impl MessageHeaders {
            $(
                #[doc = $doc]
                #[must_use]
                pub fn $function(&self) -> Option<&str> {
                    self.get($header)
                }
            )*
        }
    };
}

accessors! {
    message_id "mex-messageid" "Mex-MessageID; of a report, the report's own.";
    from "mex-from" "Mex-From, absent in a report.";
    to "mex-to" "Mex-To.";
    workflow_id "mex-workflowid" "Mex-WorkflowID.";
    local_id "mex-localid" "Mex-LocalID, the sender's reference.";
    file_name "mex-filename" "Mex-FileName: the sender's text, never a path to trust.";
    subject "mex-subject" "Mex-Subject.";
    partner_id "mex-partnerid" "Mex-PartnerID.";
    content_checksum "mex-content-checksum" "Mex-Content-Checksum, as the sender gave it.";
    status_code "mex-statuscode" "Mex-StatusCode: `00`, or in a report why the message failed.";
    status_event "mex-statusevent" "Mex-StatusEvent.";
    status_description "mex-statusdescription" "Mex-StatusDescription.";
    status_timestamp "mex-statustimestamp" "Mex-StatusTimestamp, `yyyyMMddHHmmss` in UTC.";
    linked_message_id "mex-linkedmsgid" "Mex-LinkedMsgID: the message that a report is about.";
}

impl fmt::Debug for MessageHeaders {
    /// Names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &[u8])]) -> MessageHeaders {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value).unwrap(),
            );
        }
        MessageHeaders::new(&map)
    }

    #[test]
    fn values_are_utf8_or_else_latin_1() {
        let headers = headers(&[
            ("mex-subject", "caffè £ 漢".as_bytes()),
            ("mex-filename", b"caff\xe8 \xa3.csv"),
            ("mex-localid", b""),
        ]);
        assert_eq!(headers.subject(), Some("caffè £ 漢"));
        assert_eq!(headers.file_name(), Some("caffè £.csv"));
        assert_eq!(headers.get("Mex-FileName"), Some("caffè £.csv"));
        assert_eq!(headers.local_id(), None);
        assert_eq!(headers.iter().count(), 3);
    }

    #[test]
    fn message_and_content_types() {
        for (value, expected) in [
            ("DATA", MessageType::Data),
            ("report", MessageType::Report),
            ("NEWS", MessageType::Other),
        ] {
            let headers = headers(&[("mex-messagetype", value.as_bytes())]);
            assert_eq!(headers.message_type(), expected);
        }
        assert_eq!(headers(&[]).message_type(), MessageType::Other);

        let plain = ("content-type", "application/octet-stream".as_bytes());
        assert_eq!(
            headers(&[plain]).content_type(),
            Some("application/octet-stream")
        );
        assert_eq!(
            headers(&[plain, ("mex-content-type", b"text/csv")]).content_type(),
            Some("text/csv")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_of_a_header_are_text_without_control_characters(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut map = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                map.insert("mex-filename", value);
                let headers = MessageHeaders::new(&map);
                let text = headers.file_name().unwrap_or_default();
                prop_assert!(text.chars().all(|c| c == '\t' || !c.is_ascii_control()));
                prop_assert!(text.len() <= 2 * bytes.len());
                prop_assert_eq!(text.is_empty(), bytes.is_empty());
            }
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let headers = headers(&[("mex-subject", b"SECRET")]);
        assert_eq!(format!("{headers:?}"), r#"["mex-subject"]"#);
    }
}
