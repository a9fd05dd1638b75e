//! Keys outside S3.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// An object's key as rows, states, logs and events carry it: a key that holds a sender's file name is personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedKey {
    /// The key.
    Key(String),
    /// The key's SHA-256 in hexadecimal digits.
    KeySha256(String),
}

impl RecordedKey {
    /// The key itself, or its SHA-256 where keys are hidden.
    pub fn of(key: &str, hidden: bool) -> Self {
        if hidden {
            Self::KeySha256(hex::encode(Sha256::digest(key)))
        } else {
            Self::Key(key.to_owned())
        }
    }

    /// Whether it is this key that was recorded.
    pub fn is(&self, key: &str) -> bool {
        *self == Self::of(key, matches!(self, Self::KeySha256(_)))
    }

    /// The key, unless it is hidden.
    pub fn plain(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(key),
            Self::KeySha256(_) => None,
        }
    }

    /// The hidden key's SHA-256.
    pub fn sha256(&self) -> Option<&str> {
        match self {
            Self::Key(_) => None,
            Self::KeySha256(digest) => Some(digest),
        }
    }
}

impl fmt::Display for RecordedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::KeySha256(digest) => write!(f, "(key with SHA-256 {digest})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_hidden_key_is_known_by_its_digest_alone() {
        let hidden = RecordedKey::of("inbound/X26ABC1/a.csv", true);
        // printf 'inbound/X26ABC1/a.csv' | sha256sum
        let digest = "ce5d2ebb3c3d885a10674d7f2d37252a11e84919d35533c3e4916d6b789b2744";
        assert_eq!(
            serde_json::to_value(&hidden).unwrap(),
            json!({"key_sha256": digest})
        );
        assert!(hidden.is("inbound/X26ABC1/a.csv"));
        assert!(!hidden.is("inbound/X26ABC1/b.csv"));
        assert_eq!((hidden.plain(), hidden.sha256()), (None, Some(digest)));
        assert!(!hidden.to_string().contains("a.csv"));
    }

    #[test]
    fn another_key_is_recorded_as_it_is() {
        let key = RecordedKey::of("a", false);
        assert_eq!(serde_json::to_value(&key).unwrap(), json!({"key": "a"}));
        assert!(key.is("a") && !key.is("b"));
        assert_eq!((key.plain(), key.sha256()), (Some("a"), None));
    }
}
