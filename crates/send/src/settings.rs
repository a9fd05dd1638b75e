//! What the function is told by its environment.

use std::str::FromStr;

use mesh_pipeline::events::EventLabels;
use mesh_pipeline::settings::{MeshSettings, Reader, RowSettings};

/// The function's settings.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a variable of the Terraform module"
)]
pub struct Settings {
    /// Where MESH and its secrets are.
    pub mesh: MeshSettings,
    /// Where rows are.
    pub rows: RowSettings,
    /// `BUCKET`.
    pub bucket: String,
    /// How events are labelled.
    pub labels: EventLabels,
    /// `CHUNK_SIZE`: bytes of a chunk before compression.
    pub chunk_size: u64,
    /// `COMPRESS_THRESHOLD`: objects of at least so many bytes are compressed.
    pub compress_threshold: u64,
    /// `COMPRESSION_LEVEL`: of gzip, 1 (fastest) to 9 (smallest).
    pub compression_level: u8,
    /// `NEVER_COMPRESS`.
    pub never_compress: bool,
    /// `SET_LOCAL_ID`: give messages a local id of ours where the user gave none.
    pub set_local_id: bool,
    /// `UNCERTAIN_SEND_WAIT_SECONDS`: how long after a lost answer MESH is asked.
    pub uncertain_send_wait: time::Duration,
    /// `ON_UNCERTAIN_SEND`.
    pub on_uncertain_send: OnUncertain,
    /// `USE_S3_KEY_FOR_MEX_FILENAME`: the key's base name is the file name where the metadata give none.
    pub use_s3_key_for_mex_filename: bool,
    /// `SEND_COPIED_OBJECTS`: a copied object is sent as well.
    pub send_copied_objects: bool,
}

/// What to do when it can't be known whether MESH has a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnUncertain {
    /// Leave it to an operator.
    #[default]
    Hold,
    /// Send it again: the recipient may get it twice.
    Resend,
}

impl FromStr for OnUncertain {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "hold" => Ok(Self::Hold),
            "resend" => Ok(Self::Resend),
            _ => Err("it must be hold or resend"),
        }
    }
}

// MESH takes 100 MB (1,000,000 bytes each) in a request; gzip adds less than 0.1 % to what it can't compress.
pub(crate) const MAX_CHUNK_SIZE: u64 = 95 * 1024 * 1024;

impl Settings {
    /// Reads the settings.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            mesh: MeshSettings::read(reader),
            rows: RowSettings::read(reader),
            bucket: reader.text("BUCKET"),
            labels: EventLabels::read(reader),
            chunk_size: reader.bounded("CHUNK_SIZE", 1..=MAX_CHUNK_SIZE),
            compress_threshold: reader.value("COMPRESS_THRESHOLD"),
            compression_level: reader.bounded("COMPRESSION_LEVEL", 1..=9),
            never_compress: reader.value("NEVER_COMPRESS"),
            set_local_id: reader.value("SET_LOCAL_ID"),
            uncertain_send_wait: time::Duration::seconds(
                reader.bounded("UNCERTAIN_SEND_WAIT_SECONDS", 1..=86_400),
            ),
            on_uncertain_send: reader.value("ON_UNCERTAIN_SEND"),
            use_s3_key_for_mex_filename: reader.value("USE_S3_KEY_FOR_MEX_FILENAME"),
            send_copied_objects: reader.value("SEND_COPIED_OBJECTS"),
        }
    }
}
