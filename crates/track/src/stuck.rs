//! Received messages that were begun long ago and have not come to their end since.

use mesh_client::{MailboxId, MessageId};
use mesh_pipeline::events::{Entry, RECEIVED};
use mesh_pipeline::rows::{Row, Status};
use mesh_pipeline::state::Announced;
use mesh_pipeline::{Error, Fault, clock};
use time::Duration;
use tracing::{info, warn};

use crate::mailboxes::Mailboxes;
use crate::sends::Sends;
use crate::{Rows, Track};

/// What was begun no later than so long ago is looked at: longer than an invocation and its retries last.
pub(crate) const SETTLED: Duration = Duration::hours(1);

// A message that polling leaves alone, for whatever reason, is asked for so often.
const CHECK_AGAIN: Duration = Duration::hours(6);

// The longest pause of MESH's that is kept.
const ACKNOWLEDGE_AGAIN: Duration = Duration::hours(1);

impl<M: Mailboxes, R: Rows, E: Sends> Track<M, R, E> {
    /// Brings a received message to its end; the event, if there is one to put first.
    pub(crate) async fn finish(&self, row: &Row) -> Result<Option<(Entry, Announced)>, Error> {
        match row.status {
            Some(Status::Received) if row.announced == Some(true) => {
                if !older(row.checked_at.as_ref(), ACKNOWLEDGE_AGAIN) {
                    return Ok(None);
                }
                let result = self.acknowledge(row).await;
                self.note(row, result).await
            }
            Some(Status::Received) if older(row.updated_at.as_ref(), SETTLED) => {
                Ok(Some(self.tell_of_received(row)))
            }
            Some(Status::Receiving)
                if older(row.updated_at.as_ref(), SETTLED)
                    && older(row.checked_at.as_ref(), CHECK_AGAIN) =>
            {
                let result = self.check(row).await;
                self.note(row, result).await
            }
            _ => Ok(None),
        }
    }

    // Of a mailbox whose password is gone each run would fail, and one that MESH wants left alone would be asked by each.
    async fn note<T>(&self, row: &Row, result: Result<(), Error>) -> Result<Option<T>, Error> {
        if result.is_err() {
            self.rows.unanswered(row).await?;
        }
        result.map(|()| None)
    }

    fn tell_of_received(&self, row: &Row) -> (Entry, Announced) {
        let announced = Announced {
            row: row.id.clone(),
            status: Status::Received,
            again_at: None,
        };
        (self.settings.labels.entry(RECEIVED, row), announced)
    }

    // MESH no longer lists a message whose acknowledgement it took: nobody but us would come back to its row. It is
    // stored and told of, so that this needs no lease.
    async fn acknowledge(&self, row: &Row) -> Result<(), Error> {
        let (mailbox, message) = names(row)?;
        match self.mesh.acknowledge(&mailbox, &message).await {
            Ok(()) | Err(Error::MessageGone(_)) => {}
            Err(failure) => {
                self.rows.not_acknowledged(&message, &failure).await?;
                return Err(failure);
            }
        }
        self.rows.acknowledged(&message).await?;
        info!(
            logReference = "MESHTRACK0008",
            row = row.id,
            %mailbox,
            message_id = %message,
            "acknowledged: its execution had ended before"
        );
        Ok(())
    }

    async fn check(&self, row: &Row) -> Result<(), Error> {
        let (mailbox, message) = names(row)?;
        if self.mesh.holds(&mailbox, &message).await? {
            let poison = row.attempts.unwrap_or_default() >= self.settings.max_attempts;
            return self.rows.waits(row, poison).await;
        }
        let gone = Error::MessageGone(Fault::new(format!(
            "MESH no longer has the message, and its row knows of no object; look below inbound/{mailbox}/ for {message} (an object's mex-messageid) before you ask its sender: it may have been stored, taken by another system, or expired"
        )));
        self.rows.lost(row, &gone).await?;
        warn!(
            logReference = "MESHTRACK0009",
            row = row.id,
            %mailbox,
            message_id = %message,
            "no longer in MESH, and its row knows of no object"
        );
        Ok(())
    }
}

fn older(time: Option<&String>, than: Duration) -> bool {
    time.and_then(|time| clock::parse_iso(time))
        .is_none_or(|time| clock::now() - time > than)
}

/// The row's mailbox and message.
pub(crate) fn names(row: &Row) -> Result<(MailboxId, MessageId), Error> {
    let parsed = (|| {
        Some((
            row.mailbox.as_deref()?.parse().ok()?,
            row.message_id.as_deref()?.parse().ok()?,
        ))
    })();
    parsed.ok_or_else(|| {
        Error::InvalidInput(Fault::new(format!(
            "row {} lacks its mailbox or message id; remove or correct it",
            row.id
        )))
    })
}
