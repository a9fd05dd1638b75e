//! What send asks of MESH.

use std::future::Future;

use mesh_client::{BodySource, LocalIdLookup, MailboxId, MessageId, OutgoingMessage, Tracking};
use mesh_pipeline::mesh::Mesh;
use mesh_pipeline::rows::recordable_recipient;
use mesh_pipeline::secrets::SecretSource;
use mesh_pipeline::{Error, Fault};

/// What the POST of a first chunk came to.
#[derive(Debug)]
pub enum Posted {
    /// MESH has it under this id.
    Accepted(MessageId),
    /// It certainly had no effect.
    Refused(Error),
    /// The answer was lost: MESH may have accepted it.
    Unanswered(Error),
}

/// What the POST of a later chunk came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkPosted {
    /// MESH has it.
    Stored,
    /// MESH says that the message is complete.
    Complete,
    /// MESH no longer has the message.
    Gone,
}

/// A mailbox's outbox.
pub trait Outbox: Send + Sync {
    /// Posts the first chunk, once.
    fn post<B: BodySource>(
        &self,
        mailbox: &MailboxId,
        message: &OutgoingMessage,
        chunks: u32,
        body: &B,
    ) -> impl Future<Output = Result<Posted, Error>> + Send;

    /// Posts a later chunk; a repeat replaces it.
    fn post_chunk<B: BodySource>(
        &self,
        mailbox: &MailboxId,
        message: &MessageId,
        chunk: u32,
        chunks: u32,
        gzip: bool,
        body: &B,
    ) -> impl Future<Output = Result<ChunkPosted, Error>> + Send;

    /// What MESH says of a message.
    fn track(
        &self,
        mailbox: &MailboxId,
        message: &MessageId,
    ) -> impl Future<Output = Result<Tracking, Error>> + Send;

    /// What MESH says of a local id, or why it does not answer that for good.
    fn look_up(
        &self,
        mailbox: &MailboxId,
        local_id: &str,
    ) -> impl Future<Output = Result<Result<LocalIdLookup, String>, Error>> + Send;
}

impl<S: SecretSource> Outbox for Mesh<S> {
    async fn post<B: BodySource>(
        &self,
        id: &MailboxId,
        message: &OutgoingMessage,
        chunks: u32,
        body: &B,
    ) -> Result<Posted, Error> {
        let result = self
            .try_call(id, |mailbox| async move {
                let body = body.open().await.map_err(mesh_client::Error::BodySource)?;
                mailbox.send(message, chunks, body).await
            })
            .await?;
        Ok(match result {
            Ok(message) => Posted::Accepted(message),
            Err(error @ mesh_client::Error::Rejected(_)) if error.was_not_accepted() => {
                Posted::Refused(Error::Rejected(
                    Fault::new(format!(
                        "MESH refuses the message from mailbox {id} to {} with workflow {}; correct the object's metadata, mex-to and mex-workflowid first, and put it again",
                        recordable_recipient(&message.to),
                        message.workflow_id
                    ))
                    .because(error),
                ))
            }
            Err(error) if error.was_not_accepted() => Posted::Refused(self.error(id, error)),
            Err(error) => Posted::Unanswered(self.error(id, error)),
        })
    }

    async fn post_chunk<B: BodySource>(
        &self,
        id: &MailboxId,
        message: &MessageId,
        chunk: u32,
        chunks: u32,
        gzip: bool,
        body: &B,
    ) -> Result<ChunkPosted, Error> {
        let result = self
            .try_call(id, |mailbox| async move {
                mailbox.send_chunk(message, chunk, chunks, gzip, body).await
            })
            .await?;
        match result {
            Ok(()) => Ok(ChunkPosted::Stored),
            Err(mesh_client::Error::AlreadyComplete(_)) => Ok(ChunkPosted::Complete),
            Err(mesh_client::Error::NotFound(detail) | mesh_client::Error::Gone(detail))
                if detail.mesh_shaped =>
            {
                Ok(ChunkPosted::Gone)
            }
            // A gateway's page says nothing of the message.
            Err(mesh_client::Error::Rejected(detail)) if !detail.mesh_shaped => {
                Err(self.answered_by_another(&detail))
            }
            Err(error) => Err(self.error(id, error)),
        }
    }

    async fn track(&self, id: &MailboxId, message: &MessageId) -> Result<Tracking, Error> {
        self.call(id, |mailbox| async move { mailbox.track(message).await })
            .await
    }

    async fn look_up(
        &self,
        id: &MailboxId,
        local_id: &str,
    ) -> Result<Result<LocalIdLookup, String>, Error> {
        let result = self
            .try_call(id, |mailbox| async move {
                mailbox.track_by_local_id(local_id).await
            })
            .await?;
        match result {
            Ok(found) => Ok(Ok(found)),
            Err(error) if may_be_answered(&error) => Err(self.error(id, error)),
            Err(error) => Ok(Err(error.to_string())),
        }
    }
}

// Later, or once somebody has corrected something.
fn may_be_answered(error: &mesh_client::Error) -> bool {
    use mesh_client::Error as Mesh;
    error.is_retryable()
        || matches!(
            error,
            Mesh::Configuration(_) | Mesh::NotAuthorised(_) | Mesh::Tls(_)
        )
}

#[cfg(test)]
mod tests {
    use mesh_client::Error as Mesh;

    use super::*;

    #[test]
    fn a_look_up_that_no_later_one_betters_is_no_reason_to_ask_again() {
        for (error, again) in [
            (Mesh::NotConnected("refused".into()), true),
            (Mesh::Interrupted("reset".into()), true),
            // Of a local id such as `..`, which no path can hold.
            (Mesh::Malformed("no JSON".to_owned()), false),
            (Mesh::InvalidBody("no gzip".into()), false),
        ] {
            assert_eq!(may_be_answered(&error), again, "{error}");
        }
    }
}
