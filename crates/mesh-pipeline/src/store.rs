//! The bucket: received messages are written once, sent objects are read by version.

mod reader;
mod writer;

pub use reader::{ObjectReader, SourceObject};
pub use writer::{Condition, Found, ObjectWriter, Stored, Written};

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use std::collections::BTreeMap;

/// The bucket in S3.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    name: String,
    // For error texts: who has named the bucket.
    named_by: String,
    hides_keys: bool,
}

impl Bucket {
    /// The bucket of that name.
    pub fn new(config: &SdkConfig, name: impl Into<String>) -> Self {
        let config = aws_sdk_s3::config::Builder::from(config)
            // A stream waits for MESH as long as MESH's own timeout allows.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Self {
            client: Client::from_conf(config),
            name: name.into(),
            named_by: String::new(),
            hides_keys: false,
        }
    }

    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What an object carries beside its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Content-Type.
    pub content_type: Option<String>,
    /// User metadata: lower-case keys, quoted values.
    pub metadata: BTreeMap<String, String>,
}
