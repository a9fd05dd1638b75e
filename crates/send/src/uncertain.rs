//! A first chunk whose answer was lost: whether MESH has it.

use mesh_client::{LocalIdLookup, Tracking};
use mesh_pipeline::rows::{OutboundRows, Posting, Row};
use mesh_pipeline::store::ObjectReader;
use mesh_pipeline::{Error, Fault, clock};
use time::{Duration, OffsetDateTime};
use tracing::warn;

use crate::Send;
use crate::outbox::Outbox;
use crate::settings::OnUncertain;
use crate::transfer::{Next, Work};

// MESH's clock and ours may differ by this much.
const CLOCKS: Duration = Duration::minutes(2);

impl<M: Outbox, R: OutboundRows, O: ObjectReader> Send<M, R, O> {
    /// Finds out, and notes it in the row.
    pub(crate) async fn settle(&self, work: &Work, row: &Row) -> Result<Next, Error> {
        let next = self.find_out(work, row).await?;
        let outcome = match &next {
            Next::Pause(_) => return Ok(next),
            Next::Chunk(message, _) => Posting::Accepted(message.clone()),
            Next::First => Posting::NotSent,
        };
        self.rows
            .posted(&work.row, &work.execution, &outcome)
            .await?;
        Ok(next)
    }

    async fn find_out(&self, work: &Work, row: &Row) -> Result<Next, Error> {
        // MESH delivers only complete messages: a new one can't be a second delivery.
        if work.plan.chunks > 1 {
            return Ok(Next::First);
        }
        let time = |text: &Option<String>| text.as_deref().and_then(clock::parse_iso);
        let posted_at = time(&row.posted_at).unwrap_or_else(clock::now);
        let ask_at =
            time(&row.answer_due_at).unwrap_or(posted_at) + self.settings.uncertain_send_wait;
        let wait = ask_at - clock::now();
        if wait.is_positive() {
            return Ok(Next::Pause(wait.try_into().unwrap_or_default()));
        }
        let why = match &work.parameters.message.local_id {
            None => "it has no local id to ask MESH by".to_owned(),
            Some(local_id) => {
                match self
                    .outbox
                    .look_up(&work.parameters.mailbox, local_id)
                    .await?
                {
                    LocalIdLookup::NotFound => return Ok(Next::First),
                    LocalIdLookup::Several => {
                        "MESH has several messages with its local id".to_owned()
                    }
                    LocalIdLookup::One(tracking) => {
                        let message = &tracking.message_id;
                        if self.rows.knows_message(message).await? {
                            return Ok(Next::First);
                        }
                        if is_ours(&tracking, work, posted_at) {
                            return Ok(Next::Chunk(message.clone(), 2));
                        }
                        format!("message {message} has its local id, but is another one")
                    }
                }
            }
        };
        match self.settings.on_uncertain_send {
            OnUncertain::Resend => {
                warn!(
                    row = work.row,
                    why, "sent again: the recipient may get it twice"
                );
                Ok(Next::First)
            }
            OnUncertain::Hold => Err(Error::UncertainSend(Fault::new(format!(
                "the answer to the first chunk was lost and {why}; ask the recipient, then put the object again if the message is missing"
            )))),
        }
    }
}

fn is_ours(tracking: &Tracking, work: &Work, posted_at: OffsetDateTime) -> bool {
    let wanted = &work.parameters.message;
    // MESH replaces GPPROVIDER_… by the mailbox of the practice that it finds.
    let same_recipient = wanted.to.to_ascii_uppercase().starts_with("GPPROVIDER_")
        || tracking
            .recipient
            .as_deref()
            .is_some_and(|recipient| recipient.eq_ignore_ascii_case(wanted.to.trim()));
    let same_workflow = tracking.workflow_id.as_deref() == Some(&wanted.workflow_id);
    let later = tracking
        .upload_timestamp
        .is_some_and(|time| time + CLOCKS >= posted_at);
    same_recipient && same_workflow && later
}
