//! What the function is told by its environment.

use mesh_pipeline::settings::{MeshSettings, Reader};

/// The function's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where MESH and its secrets are.
    pub mesh: MeshSettings,
    /// `MESSAGES_TABLE`.
    pub messages_table: String,
    /// `LEASES_TABLE`.
    pub leases_table: String,
    /// `ROW_RETENTION_DAYS`.
    pub row_retention_days: u32,
}

impl Settings {
    /// Reads the settings.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            mesh: MeshSettings::read(reader),
            messages_table: reader.text("MESSAGES_TABLE"),
            leases_table: reader.text("LEASES_TABLE"),
            row_retention_days: reader.bounded("ROW_RETENTION_DAYS", 1..=36_500),
        }
    }
}
