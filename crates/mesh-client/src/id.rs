//! Mailbox and message identifiers.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// What a URL path segment and an object key can carry as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-');

const MAILBOX_LENGTH: usize = 100;
// Percent-encoded, twice and below a mailbox's folder, an id still has to fit into the 1,024 bytes of an S3 key. MESH's own
// have 24 to 32 characters.
const MESSAGE_LENGTH: usize = 150;

/// A mailbox or message identifier that can't be one. The text never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what}: {problem}")]
pub struct InvalidId {
    what: &'static str,
    problem: String,
}

impl InvalidId {
    fn new(what: &'static str, problem: impl Into<String>) -> Self {
        Self {
            what,
            problem: problem.into(),
        }
    }
}

/// A mailbox, for example `X26ABC1`. Always upper case, as the token's signature needs it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MailboxId(String);

impl FromStr for MailboxId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = |problem: String| Err(InvalidId::new("mailbox id", problem));
        if text.is_empty() {
            return invalid("it is empty".into());
        }
        if text.len() > MAILBOX_LENGTH {
            return invalid(format!(
                "it has {} bytes, MESH takes {MAILBOX_LENGTH}",
                text.len()
            ));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if let Some((position, c)) = text.chars().enumerate().find(|(_, c)| !allowed(*c)) {
            return invalid(format!(
                "character {} is U+{:04X}; a mailbox id has letters, digits, `_` and `-` only",
                position + 1,
                u32::from(c)
            ));
        }
        Ok(Self(text.to_ascii_uppercase()))
    }
}

/// A message's identifier as MESH gave it: an opaque text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageId(String);

impl MessageId {
    /// The id as one segment of a URL path or of an object key: bytes outside `[A-Za-z0-9_.-]`
    /// are percent-encoded, and so are the ids `.` and `..`, which would mean a folder.
    #[must_use]
    pub fn path_segment(&self) -> String {
        path_segment(&self.0)
    }
}

/// See [`MessageId::path_segment`].
pub(crate) fn path_segment(text: &str) -> String {
    if matches!(text, "." | "..") {
        return text.replace('.', "%2E");
    }
    utf8_percent_encode(text, ENCODED).to_string()
}

impl FromStr for MessageId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = |problem: String| Err(InvalidId::new("message id", problem));
        if text.is_empty() {
            return invalid("it is empty".into());
        }
        if text.len() > MESSAGE_LENGTH {
            return invalid(format!(
                "it has {} bytes, the limit is {MESSAGE_LENGTH}",
                text.len()
            ));
        }
        if let Some((position, c)) = text.chars().enumerate().find(|(_, c)| c.is_control()) {
            return invalid(format!(
                "character {} is the control character U+{:04X}",
                position + 1,
                u32::from(c)
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

macro_rules! text_type {
    ($type:ident) => {
        impl TryFrom<&str> for $type {
            type Error = InvalidId;
            fn try_from(text: &str) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl $type {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

text_type!(MailboxId);
text_type!(MessageId);

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_path_segment_is_one_and_says_which_id_it_is(text in "(?s).{1,120}") {
            let Ok(id) = MessageId::try_from(text.as_str()) else {
                prop_assert!(text.len() > MESSAGE_LENGTH || text.chars().any(char::is_control));
                return Ok(());
            };
            let segment = id.path_segment();
            prop_assert!(segment.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-%".contains(&c)));
            prop_assert!(!matches!(segment.as_str(), "" | "." | ".."));
            prop_assert_eq!(percent_decode_str(&segment).decode_utf8().unwrap(), text);
        }

        #[test]
        fn a_refused_id_is_not_repeated(before in "(?s).{0,60}", after in "(?s).{0,1200}") {
            let text = format!("{before}PATIENT{after}");
            if let Err(refusal) = MailboxId::try_from(text.as_str()) {
                prop_assert!(!refusal.to_string().contains("PATIENT"), "{}", refusal);
            }
            if let Err(refusal) = MessageId::try_from(text.as_str()) {
                prop_assert!(!refusal.to_string().contains("PATIENT"), "{}", refusal);
            }
        }

        #[test]
        fn a_mailbox_id_is_its_own_path_segment(text in "(?s).{0,120}") {
            if let Ok(id) = MailboxId::try_from(text.as_str()) {
                prop_assert_eq!(path_segment(id.as_str()), text.to_ascii_uppercase());
            }
        }
    }

    #[test]
    fn mailbox_ids_become_upper_case() {
        assert_eq!(MailboxId::try_from("x26abc1").unwrap().as_str(), "X26ABC1");
        assert_eq!(
            serde_json::from_str::<MailboxId>("\"x26-a_1\"").unwrap(),
            "X26-A_1".parse().unwrap()
        );
    }

    #[test]
    fn a_refused_mailbox_id_says_what_is_wrong_and_not_what_it_was() {
        for (text, problem) in [
            ("", "it is empty"),
            ("X26/SECRET", "character 4 is U+002F"),
            ("SECRET\n", "character 7 is U+000A"),
            ("SECRÉT", "character 5 is U+00C9"),
        ] {
            let message = MailboxId::try_from(text).unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
            assert!(!message.contains("SECR"), "{message}");
        }
        let long = MailboxId::try_from("A".repeat(101)).unwrap_err();
        assert!(long.to_string().contains("101 bytes"));
    }

    #[test]
    fn message_ids_are_opaque() {
        for text in ["20220228174323222_ABCDEF", "a/b c", "é", ".."] {
            assert_eq!(MessageId::try_from(text).unwrap().as_str(), text);
        }
        for text in ["", "a\tb", "a\u{7f}", "a\u{85}"] {
            assert!(MessageId::try_from(text).is_err(), "{text:?}");
        }
        assert!(MessageId::try_from("a".repeat(151)).is_err());
    }

    #[test]
    fn path_segments_cannot_leave_their_place() {
        for (text, segment) in [
            ("20220228174323222_A.B-C", "20220228174323222_A.B-C"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("...", "..."),
            ("../../x", "..%2F..%2Fx"),
            ("a?b#c%d e", "a%3Fb%23c%25d%20e"),
            ("é", "%C3%A9"),
        ] {
            assert_eq!(MessageId::try_from(text).unwrap().path_segment(), segment);
        }
    }
}
