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
}

impl Settings {
    /// Reads the settings.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            mesh: MeshSettings::read(reader),
            rows: RowSettings::read(reader),
            leases_table: reader.text("LEASES_TABLE"),
        }
    }
}
