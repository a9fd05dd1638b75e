//! What the function is told by its environment.

use mesh_pipeline::settings::{MeshSettings, Reader, RowSettings};

/// The function's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where MESH and its secrets are.
    pub mesh: MeshSettings,
    /// Where rows are.
    pub rows: RowSettings,
    /// `LEASES_TABLE`.
    pub leases_table: String,
    /// `PAGE_LIMIT`: messages taken at once.
    pub page_limit: usize,
    /// `FETCH_BATCH_SIZE`: messages in one batch; PutEvents takes ten entries.
    pub batch_size: usize,
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
            page_limit: reader.bounded("PAGE_LIMIT", 1..=5_000),
            batch_size: reader.bounded("FETCH_BATCH_SIZE", 1..=10),
            max_attempts: reader.bounded("MAX_ATTEMPTS", 1..=100),
        }
    }
}
