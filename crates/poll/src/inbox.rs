//! What poll asks of MESH.

use std::future::Future;

use mesh_client::{InboxPage, MailboxId, NextPage};
use mesh_pipeline::Error;
use mesh_pipeline::mesh::Mesh;
use mesh_pipeline::secrets::SecretSource;

/// A mailbox's inbox.
pub trait Inbox: Send + Sync {
    /// Gets ready what the other calls need, without speaking to MESH.
    fn prepare(&self, mailbox: &MailboxId) -> impl Future<Output = ()> + Send;

    /// Proves connectivity and credentials.
    fn handshake(&self, mailbox: &MailboxId) -> impl Future<Output = Result<(), Error>> + Send;

    /// The first page, or the one that follows.
    fn page(
        &self,
        mailbox: &MailboxId,
        max_results: u32,
        after: Option<&NextPage>,
    ) -> impl Future<Output = Result<InboxPage, Error>> + Send;
}

impl<S: SecretSource> Inbox for Mesh<S> {
    async fn prepare(&self, mailbox: &MailboxId) {
        Mesh::prepare(self, mailbox).await;
    }

    async fn handshake(&self, mailbox: &MailboxId) -> Result<(), Error> {
        self.call(mailbox, |mailbox| async move { mailbox.handshake().await })
            .await
    }

    async fn page(
        &self,
        mailbox: &MailboxId,
        max_results: u32,
        after: Option<&NextPage>,
    ) -> Result<InboxPage, Error> {
        self.call(mailbox, |mailbox| async move {
            match after {
                None => mailbox.inbox(max_results).await,
                Some(next) => mailbox.inbox_next(next).await,
            }
        })
        .await
    }
}
