//! What track asks of MESH.

use std::future::Future;

use mesh_client::{MailboxId, MessageId, Tracking};
use mesh_pipeline::Error;
use mesh_pipeline::mesh::Mesh;
use mesh_pipeline::secrets::SecretSource;

/// A mailbox's sent messages.
pub trait Outbox: Send + Sync {
    /// What MESH says of a message.
    fn track(
        &self,
        mailbox: &MailboxId,
        message: &MessageId,
    ) -> impl Future<Output = Result<Tracking, Error>> + Send;
}

impl<S: SecretSource> Outbox for Mesh<S> {
    async fn track(&self, id: &MailboxId, message: &MessageId) -> Result<Tracking, Error> {
        self.call(id, |mailbox| async move { mailbox.track(message).await })
            .await
    }
}
