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
    /// `PAGE_LIMIT`: messages taken at once.
    pub page_limit: usize,
    /// `FETCH_BATCH_SIZE`: messages in one batch; PutEvents takes ten entries.
    pub batch_size: usize,
    /// `MAX_ATTEMPTS`: after so many, a message waits at growing distance.
    pub max_attempts: u32,
}

impl Settings {
    /// Reads the settings.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            mesh: MeshSettings::read(reader),
            messages_table: reader.text("MESSAGES_TABLE"),
            leases_table: reader.text("LEASES_TABLE"),
            row_retention_days: reader.bounded("ROW_RETENTION_DAYS", 1..=36_500),
            page_limit: reader.bounded("PAGE_LIMIT", 1..=5_000),
            batch_size: reader.bounded("FETCH_BATCH_SIZE", 1..=10),
            max_attempts: reader.bounded("MAX_ATTEMPTS", 1..=100),
        }
    }
}
