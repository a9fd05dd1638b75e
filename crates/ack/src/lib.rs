#![doc = include_str!("../README.md")]

mod settings;

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use mesh_client::{MailboxId, MessageId};
use mesh_pipeline::lease::{Leases, SHORT_PAUSE, kept_pause};
use mesh_pipeline::mesh::Mesh;
use mesh_pipeline::rows::AcknowledgedRows;
use mesh_pipeline::secrets::SecretSource;
use mesh_pipeline::state::{AckRequest, AckResponse, Invocation, Stored};
use mesh_pipeline::{Error, Fault, clock};
use tracing::{error, info, warn};

pub use settings::Settings;

/// What the function asks of MESH.
pub trait Inbox: Send + Sync {
    /// Takes the message off the inbox.
    fn acknowledge(
        &self,
        mailbox: &MailboxId,
        message: &MessageId,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

impl<S: SecretSource> Inbox for Mesh<S> {
    async fn acknowledge(&self, id: &MailboxId, message: &MessageId) -> Result<(), Error> {
        self.call(
            id,
            |mailbox| async move { mailbox.acknowledge(message).await },
        )
        .await
    }
}

/// What the function works with.
pub struct Ack<I, L, R> {
    /// MESH.
    pub inbox: I,
    /// Who may work on a mailbox.
    pub leases: L,
    /// What is known of messages.
    pub rows: R,
}

// Enough to hide the network's delay, few enough not to be a burden to MESH.
const AT_ONCE: usize = 8;

/// Answers one request.
///
/// # Errors
/// The first error of any message, after all have been tried; none where MESH asks to be left alone.
pub async fn handle<I: Inbox, L: Leases, R: AcknowledgedRows>(
    ack: &Ack<I, L, R>,
    invocation: Invocation,
    request: AckRequest,
) -> Result<AckResponse, Error> {
    let mailbox = &request.mailbox;
    if !ack
        .leases
        .take(mailbox, &invocation.execution, invocation.deadline)
        .await?
    {
        info!(logReference = "MESHPOLL0002", %mailbox, "another execution has taken the mailbox over");
        for stored in &request.stored {
            // What is announced needs no second event.
            ack.rows
                .not_acknowledged(&stored.message_id, &left_alone())
                .await?;
        }
        return Ok(AckResponse { acknowledged: 0 });
    }
    let pause = OnceLock::new();
    let results: Vec<_> = stream::iter(&request.stored)
        .map(|stored| acknowledge(ack, mailbox, stored, &pause))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let acknowledged = results.iter().filter(|result| result.is_ok()).count();
    if let Some(pause) = pause.get().filter(|pause| **pause > SHORT_PAUSE) {
        let until = clock::now() + *pause;
        let execution = &invocation.execution;
        ack.leases.pause(mailbox, execution, until).await?;
        warn!(logReference = "MESHPOLL0003", %mailbox, seconds = pause.as_secs(), "left alone, as MESH asks");
        // Failing, the state machine would be back too soon. The messages are stored, and MESH goes on listing them.
        return Ok(AckResponse { acknowledged });
    }
    results
        .into_iter()
        .find_map(Result::err)
        .map_or(Ok(AckResponse { acknowledged }), Err)
}

async fn acknowledge<I: Inbox, L, R: AcknowledgedRows>(
    ack: &Ack<I, L, R>,
    mailbox: &MailboxId,
    stored: &Stored,
    pause: &OnceLock<Duration>,
) -> Result<(), Error> {
    let message_id = &stored.message_id;
    if pause.get().is_some() {
        let failure = left_alone();
        ack.rows.not_acknowledged(message_id, &failure).await?;
        return Err(failure);
    }
    match ack.inbox.acknowledge(mailbox, message_id).await {
        Ok(()) => {
            info!(logReference = "MESHMBOX0006", %mailbox, %message_id, "acknowledged");
        }
        Err(Error::MessageGone(_)) => {
            warn!(%mailbox, %message_id, "stored, but no longer in MESH: nothing to acknowledge");
        }
        Err(failure) => {
            error!(%mailbox, %message_id, error_name = failure.name(), error = failure.chain(), "not acknowledged; it is tried again");
            // The call has waited for a minute already: each of the others would.
            if let Some(asked) = kept_pause(&failure) {
                pause.get_or_init(|| asked);
            }
            ack.rows.not_acknowledged(message_id, &failure).await?;
            return Err(failure);
        }
    }
    ack.rows
        .acknowledged(message_id)
        .await
        .inspect_err(|failure| {
            error!(%mailbox, %message_id, error = failure.chain(), "acknowledged, but its row could not be told");
        })?;
    info!(logReference = "MESHFETCH0012", %mailbox, %message_id, "stored and acknowledged");
    Ok(())
}

fn left_alone() -> Error {
    Error::Throttled(Fault::new(
        "not acknowledged yet: MESH asks to be left alone, or another execution has the mailbox; a later poll does it",
    ))
}

#[cfg(test)]
mod tests;
