//! Where objects lie in the bucket.

mod recorded_key;
mod sender_name;

pub use recorded_key::RecordedKey;

use mesh_client::{MailboxId, MessageId};
use sha2::{Digest, Sha256};

/// What a received message becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message with content: `.dat`.
    Data,
    /// A report, whose headers are its content: `.ctl`.
    Report,
}

impl Kind {
    fn extension(self) -> &'static str {
        match self {
            Self::Data => "dat",
            Self::Report => "ctl",
        }
    }
}

/// Where the messages of a mailbox are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The bucket.
    pub bucket: String,
    /// The part of the key before the last `/`; empty: the bucket's root.
    pub folder: String,
}

impl Location {
    /// `inbound/<mailbox>` in the given bucket.
    pub fn inbound(bucket: impl Into<String>, mailbox: &MailboxId) -> Self {
        Self {
            bucket: bucket.into(),
            folder: format!("inbound/{mailbox}"),
        }
    }

    /// The keys of a message by its id: `<id>.dat` or `<id>.ctl`, and where it goes if that is another object's.
    pub fn keys_by_id(&self, message: &MessageId, kind: Kind) -> [String; 2] {
        let id = message.path_segment();
        let extension = kind.extension();
        [
            self.key(&format!("{id}.{extension}")),
            self.key(&format!("{id}_{id}.{extension}")),
        ]
    }

    /// The keys of a message by its sender's file name: the name, and where it goes if that is another object's. `None`:
    /// the name can't be used.
    pub fn keys_by_name(&self, message: &MessageId, name: &str) -> Option<[String; 2]> {
        sender_name::is_usable(name, self.folder.is_empty())
            .then(|| {
                [
                    self.key(name),
                    self.key(&format!("{}_{name}", message.path_segment())),
                ]
            })
            .filter(|keys| keys.iter().all(|key| key.len() <= LONGEST_KEY))
    }

    fn key(&self, name: &str) -> String {
        if self.folder.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.folder)
        }
    }
}

// S3's limit, in bytes of UTF-8.
const LONGEST_KEY: usize = 1_024;

/// Where the full headers go that don't fit into S3's metadata: outside `inbound/`, so that no consumer's rule fires.
pub fn headers_key(mailbox: &MailboxId, message: &MessageId) -> String {
    format!("headers/{mailbox}/{}.json", message.path_segment())
}

/// The key of a received message's row.
pub fn inbound_row(message: &MessageId) -> String {
    format!("in#{message}")
}

/// The key of a sent object's row: one for each object version.
pub fn outbound_row(bucket: &str, key: &str, version: &str) -> String {
    let digest = Sha256::digest(format!("{bucket}\n{key}\n{version}"));
    format!("out#{}", hex::encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(folder: &str) -> Location {
        Location {
            bucket: "live-mesh".to_owned(),
            folder: folder.to_owned(),
        }
    }

    #[test]
    fn keys_stay_in_the_mailboxs_folder() {
        let mailbox: MailboxId = "x26abc1".parse().unwrap();
        let inbound = Location::inbound("live-mesh", &mailbox);
        let message: MessageId = "../a b".parse().unwrap();
        assert_eq!(
            inbound.keys_by_id(&message, Kind::Data),
            [
                "inbound/X26ABC1/..%2Fa%20b.dat",
                "inbound/X26ABC1/..%2Fa%20b_..%2Fa%20b.dat"
            ]
        );
        let real: MessageId = "20220228174323222_ABCDEF".parse().unwrap();
        assert_eq!(
            inbound.keys_by_id(&real, Kind::Report)[0],
            "inbound/X26ABC1/20220228174323222_ABCDEF.ctl"
        );
    }

    #[test]
    fn a_senders_name_stays_in_the_folder_and_within_s3s_limit() {
        let message: MessageId = "1".parse().unwrap();
        let folder = location("some/folder");
        assert_eq!(
            folder.keys_by_name(&message, "résultats 1.csv").unwrap(),
            [
                "some/folder/résultats 1.csv",
                "some/folder/1_résultats 1.csv"
            ]
        );
        assert_eq!(folder.keys_by_name(&message, "../x"), None);
        let room = 1_024 - "some/folder/1_".len();
        assert!(folder.keys_by_name(&message, &"x".repeat(room)).is_some());
        assert_eq!(folder.keys_by_name(&message, &"x".repeat(room + 1)), None);
        // Two bytes each.
        assert_eq!(
            folder.keys_by_name(&message, &"é".repeat(room / 2 + 1)),
            None
        );
    }

    #[test]
    fn without_a_folder_messages_lie_in_the_buckets_root() {
        let message: MessageId = "1".parse().unwrap();
        let root = location("");
        assert_eq!(root.keys_by_id(&message, Kind::Data)[0], "1.dat");
        assert_eq!(root.keys_by_name(&message, "a.csv").unwrap()[0], "a.csv");
        // What lies under it would be sent.
        assert_eq!(root.keys_by_name(&message, "outbound.csv"), None);
        assert!(
            location("in")
                .keys_by_name(&message, "outbound.csv")
                .is_some()
        );
    }

    #[test]
    fn an_outbound_row_is_one_for_each_version() {
        let row = outbound_row("bucket", "outbound/a", "v1");
        // printf 'bucket\noutbound/a\nv1' | sha256sum
        assert_eq!(
            row,
            "out#24b62f0f54ce1b6b5903bf7ded60d0fbb9990c814552e5ae71a23b624770f9fa"
        );
        assert_ne!(row, outbound_row("bucket", "outbound/a", "v2"));
    }
}
