//! What the function is told by its environment.

use mesh_pipeline::events::EventLabels;
use mesh_pipeline::settings::{MeshSettings, Reader, RowSettings};

/// The function's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where MESH and its secrets are.
    pub mesh: MeshSettings,
    /// Where rows are.
    pub rows: RowSettings,
    /// How events are labelled.
    pub labels: EventLabels,
    /// `SEND_MESSAGE_ARN`: the state machine that sends.
    pub send_message_arn: String,
    /// `MAX_ATTEMPTS`: a message that failed so often is poison.
    pub max_attempts: u32,
}

impl Settings {
    /// Reads the settings.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            mesh: MeshSettings::read(reader),
            rows: RowSettings::read(reader),
            labels: EventLabels::read(reader),
            send_message_arn: reader.text("SEND_MESSAGE_ARN"),
            max_attempts: reader.bounded("MAX_ATTEMPTS", 1..=100),
        }
    }
}
