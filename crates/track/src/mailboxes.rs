//! What track asks of MESH.

use std::future::Future;

use mesh_client::{MailboxId, MessageId, Tracking};
use mesh_pipeline::Error;
use mesh_pipeline::mesh::Mesh;
use mesh_pipeline::secrets::SecretSource;

/// A mailbox's sent and received messages.
pub trait Mailboxes: Send + Sync {
    /// What MESH says of a sent message.
    fn track(
        &self,
        mailbox: &MailboxId,
        message: &MessageId,
    ) -> impl Future<Output = Result<Tracking, Error>> + Send;

    /// Whether a received message is still there.
    fn holds(
        &self,
        mailbox: &MailboxId,
        message: &MessageId,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Takes a received message off the inbox.
    fn acknowledge(
        &self,
        mailbox: &MailboxId,
        message: &MessageId,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

impl<S: SecretSource> Mailboxes for Mesh<S> {
    async fn track(&self, id: &MailboxId, message: &MessageId) -> Result<Tracking, Error> {
        self.call(id, |mailbox| async move { mailbox.track(message).await })
            .await
    }

    // The answer to HEAD has no body when it is an error, so that it might be anybody's. The body of this one stays unread.
    async fn holds(&self, id: &MailboxId, message: &MessageId) -> Result<bool, Error> {
        let found = self
            .call(id, |mailbox| async move {
                mailbox.download(message).await.map(drop)
            })
            .await;
        match found {
            Ok(()) => Ok(true),
            Err(Error::MessageGone(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn acknowledge(&self, id: &MailboxId, message: &MessageId) -> Result<(), Error> {
        self.call(
            id,
            |mailbox| async move { mailbox.acknowledge(message).await },
        )
        .await
    }
}
