//! What fetch asks of MESH.

use std::future::Future;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use mesh_client::{MailboxId, MessageHeaders, MessageId};
use mesh_pipeline::Error;
use mesh_pipeline::mesh::Mesh;
use mesh_pipeline::secrets::SecretSource;

/// One chunk of a message, as its bytes arrive.
pub struct Chunk {
    /// All headers of the answer.
    pub headers: MessageHeaders,
    /// Chunks of the message; 0 for a report.
    pub total: u32,
    /// Decoded bytes.
    pub body: BoxStream<'static, Result<Bytes, Error>>,
}

/// Messages that can be downloaded.
pub trait Messages: Send + Sync {
    /// One chunk, from 1.
    fn download(
        &self,
        mailbox: &MailboxId,
        message: &MessageId,
        chunk: u32,
    ) -> impl Future<Output = Result<Chunk, Error>> + Send;
}

impl<S: SecretSource + 'static> Messages for std::sync::Arc<Mesh<S>> {
    async fn download(
        &self,
        id: &MailboxId,
        message: &MessageId,
        chunk: u32,
    ) -> Result<Chunk, Error> {
        let download = self
            .call(id, |mailbox| async move {
                mailbox.download_chunk(message, chunk).await
            })
            .await?;
        let headers = download.headers.clone();
        let total = download.chunks;
        let mesh = std::sync::Arc::clone(self);
        let id = id.clone();
        let body = stream::try_unfold(download, move |mut download| {
            let (mesh, id) = (std::sync::Arc::clone(&mesh), id.clone());
            async move {
                let bytes = download
                    .next()
                    .await
                    .map_err(|error| mesh.error(&id, error))?;
                Ok(bytes.map(|bytes| (bytes, download)))
            }
        });
        Ok(Chunk {
            headers,
            total,
            body: body.boxed(),
        })
    }
}
