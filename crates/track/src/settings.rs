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
    /// `SEND_MESSAGES_ENABLED`: false: no send is started.
    pub send_messages_enabled: bool,
}

impl Settings {
    /// Reads the settings.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            mesh: MeshSettings::read(reader),
            rows: RowSettings::read(reader),
            labels: EventLabels::read(reader),
            send_message_arn: reader.text("SEND_MESSAGE_ARN"),
            send_messages_enabled: reader.value("SEND_MESSAGES_ENABLED"),
        }
    }
}
