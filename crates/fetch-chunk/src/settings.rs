//! What the function is told by its environment.

use std::str::FromStr;

use mesh_pipeline::events::EventLabels;
use mesh_pipeline::settings::{MeshSettings, Reader, RowSettings};

/// What HTTP's header of that name says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AcceptEncoding {
    /// As it is.
    #[default]
    Identity,
    /// Compressed: by its sender, or by MESH on the way.
    Gzip,
}

impl FromStr for AcceptEncoding {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "identity" => Ok(Self::Identity),
            "gzip" => Ok(Self::Gzip),
            _ => Err("it must be identity or gzip"),
        }
    }
}

/// The function's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where MESH and its secrets are.
    pub mesh: MeshSettings,
    /// Where rows are.
    pub rows: RowSettings,
    /// `LEASES_TABLE`.
    pub leases_table: String,
    /// `BUCKET`.
    pub bucket: String,
    /// How events are labelled.
    pub labels: EventLabels,
    /// `USE_SENDER_FILENAME`: the object has the sender's file name.
    pub use_sender_filename: bool,
    /// `USE_LEGACY_INBOUND_LOCATION`: SSM parameters say where a mailbox's messages go.
    pub use_legacy_inbound_location: bool,
    /// `IN_ORDER`: the messages of a batch are stored in its order.
    pub in_order: bool,
    /// `ACCEPT_ENCODING`: how a body may come.
    pub accept_encoding: AcceptEncoding,
    /// `MAX_MESSAGE_SIZE`: bytes after decoding, beyond which a message is not stored.
    pub max_message_size: u64,
    /// `MAX_ATTEMPTS`: after so many, a message waits at increasing intervals.
    pub max_attempts: u32,
}

impl Settings {
    /// Reads the settings.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            mesh: MeshSettings::read(reader),
            rows: RowSettings::read(reader),
            leases_table: reader.text("LEASES_TABLE"),
            bucket: reader.text("BUCKET"),
            labels: EventLabels::read(reader),
            use_sender_filename: reader.value("USE_SENDER_FILENAME"),
            use_legacy_inbound_location: reader.value("USE_LEGACY_INBOUND_LOCATION"),
            in_order: reader.value("IN_ORDER"),
            accept_encoding: reader.value("ACCEPT_ENCODING"),
            // No more than the parts of one upload hold.
            max_message_size: reader.bounded("MAX_MESSAGE_SIZE", 1..=125_829_120_000),
            max_attempts: reader.bounded("MAX_ATTEMPTS", 1..=100),
        }
    }
}
