//! Where objects lie in the bucket.

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

/// `inbound/<mailbox>/<message id>.dat`, or `.ctl` for a report.
pub fn inbound_key(mailbox: &MailboxId, message: &MessageId, kind: Kind) -> String {
    format!(
        "inbound/{mailbox}/{}.{}",
        message.path_segment(),
        kind.extension()
    )
}

/// Where a message goes whose own key is taken by another object.
pub fn alternative_key(mailbox: &MailboxId, message: &MessageId, kind: Kind) -> String {
    let id = message.path_segment();
    format!("inbound/{mailbox}/{id}_{id}.{}", kind.extension())
}

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

    #[test]
    fn keys_stay_in_the_mailboxs_folder() {
        let mailbox: MailboxId = "x26abc1".parse().unwrap();
        let message: MessageId = "../a b".parse().unwrap();
        assert_eq!(
            inbound_key(&mailbox, &message, Kind::Data),
            "inbound/X26ABC1/..%2Fa%20b.dat"
        );
        let real: MessageId = "20220228174323222_ABCDEF".parse().unwrap();
        assert_eq!(
            inbound_key(&mailbox, &real, Kind::Report),
            "inbound/X26ABC1/20220228174323222_ABCDEF.ctl"
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
