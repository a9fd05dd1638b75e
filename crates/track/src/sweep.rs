//! Open sends whose time has passed are started again.

use mesh_pipeline::rows::Row;
use mesh_pipeline::{Error, clock};
use tracing::info;

use crate::mailboxes::Mailboxes;
use crate::sends::Sends;
use crate::{Rows, Track};

impl<M: Mailboxes, R: Rows, E: Sends> Track<M, R, E> {
    /// Starts the send of a row; false: that was done before. The row stays as it is: the execution takes it, or finds that
    /// another one has.
    pub(crate) async fn start(&self, row: &Row) -> Result<bool, Error> {
        let attempts = row.attempts.unwrap_or_default();
        if !self.sends.start(&name(row, attempts), &row.id).await? {
            return Ok(false);
        }
        info!(
            logReference = "MESHTRACK0002",
            row = row.id,
            status = row.status.map(mesh_pipeline::rows::Status::as_str),
            attempts,
            "send started again"
        );
        Ok(true)
    }
}

// The same for each tick that finds the row as it is, so that its executions don't pile up; but another one every six
// hours, because a name stays taken after an execution that never came to the row. At most 80 characters.
fn name(row: &Row, attempts: u32) -> String {
    let hash = row.id.strip_prefix("out#").unwrap_or(&row.id);
    let period = clock::now().unix_timestamp() / (6 * 3_600);
    format!("{hash}-{attempts}-{period}")
}
