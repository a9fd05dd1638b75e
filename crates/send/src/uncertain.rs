//! A first chunk whose answer was lost: whether MESH has it.

use mesh_client::{LocalIdLookup, Tracking};
use mesh_pipeline::rows::{OutboundRows, Posting, Row};
use mesh_pipeline::secrets::SecretSource;
use mesh_pipeline::state::Invocation;
use mesh_pipeline::store::ObjectReader;
use mesh_pipeline::{Error, Fault, clock};
use time::{Duration, OffsetDateTime};
use tracing::warn;

use crate::Send;
use crate::outbox::Outbox;
use crate::settings::OnUncertain;
use crate::transfer::{Next, Work, told};

// MESH forgets a message after 30 days: beyond this age it may have known it.
const REMEMBERS: Duration = Duration::days(14);

// MESH's clock and ours may differ by this much.
const CLOCKS: Duration = Duration::minutes(2);

impl<M: Outbox, R: OutboundRows, O: ObjectReader, S: SecretSource> Send<M, R, O, S> {
    /// Finds out, and notes it in the row.
    pub(crate) async fn settle(&self, work: &Work, invocation: &Invocation) -> Result<Next, Error> {
        let next = self.find_out(work, invocation).await?;
        let outcome = match &next {
            Next::Pause(_) => return Ok(next),
            Next::Chunk(message, _) => Posting::Accepted(message.clone()),
            Next::First => Posting::NotSent,
        };
        self.rows.posted(&work.hold, &outcome).await?;
        Ok(next)
    }

    async fn find_out(&self, work: &Work, invocation: &Invocation) -> Result<Next, Error> {
        // MESH delivers only complete messages: a new one can't be a second delivery.
        if work.plan.chunks > 1 {
            return Ok(Next::First);
        }
        let time = |text: &Option<String>| text.as_deref().and_then(clock::parse_iso);
        let posted_at = time(&work.row.posted_at).unwrap_or_else(clock::now);
        let ask_at =
            time(&work.row.answer_due_at).unwrap_or(posted_at) + self.settings.uncertain_send_wait;
        let wait = ask_at - clock::now();
        if wait.is_positive() {
            return Ok(Next::Pause(wait.try_into().unwrap_or_default()));
        }
        let why = match self.ask(work, posted_at, invocation).await? {
            Ok(next) => return Ok(next),
            Err(why) => why,
        };
        match self.settings.on_uncertain_send {
            OnUncertain::Resend => {
                warn!(
                    row = work.hold.row,
                    why, "sent again: the recipient may get it twice"
                );
                Ok(Next::First)
            }
            OnUncertain::Hold => Err(Error::UncertainSend(Fault::new(format!(
                "the answer to the first chunk was lost and {why}; ask the recipient, close the row as docs/runbook.md says for held, and then put the object again if the message is missing"
            )))),
        }
    }

    // What comes next, or why it can't be known.
    async fn ask(
        &self,
        work: &Work,
        posted_at: OffsetDateTime,
        invocation: &Invocation,
    ) -> Result<Result<Next, String>, Error> {
        let Some(local_id) = work.row.local_id.as_deref() else {
            return Ok(Err("it has no local id to ask MESH by".to_owned()));
        };
        let is_our_own_id = work.hold.row.strip_prefix("out#") == Some(local_id);
        let not_there = || {
            if is_our_own_id || is_asked_as_sent(local_id) {
                return Ok(Next::First);
            }
            Err("MESH may have it under a local id that reads otherwise: not all of its characters are letters, digits, `_`, `.` and `-`".to_owned())
        };
        let look_up = self.outbox.look_up(&work.mailbox, local_id);
        let tracking = match told(invocation, look_up).await {
            Ok(Ok(LocalIdLookup::One(tracking))) => tracking,
            Ok(Ok(LocalIdLookup::NotFound)) if clock::now() - posted_at > REMEMBERS => {
                return Ok(Err(
                    "so long afterwards MESH may have forgotten the message".to_owned(),
                ));
            }
            Ok(Ok(LocalIdLookup::NotFound)) => return Ok(not_there()),
            Ok(Ok(LocalIdLookup::Several)) => {
                return Ok(Err("MESH has several messages with its local id".to_owned()));
            }
            Ok(Err(why)) => {
                return Ok(Err(format!("MESH can't be asked by its local id ({why})")));
            }
            Err(error) => return Err(error),
        };
        let message = &tracking.message_id;
        if !is_our_own_id && self.rows.has_rival(&work.hold.row, local_id).await? {
            return Ok(Err(
                "another send with its local id waits for an answer too".to_owned(),
            ));
        }
        Ok(if self.rows.knows_message(message).await? {
            not_there()
        } else if is_ours(&tracking, &work.row, posted_at) {
            Ok(Next::Chunk(message.clone(), 2))
        } else {
            Err(format!(
                "message {message} has its local id, but is another one"
            ))
        })
    }
}

// A header and a path carry other characters in ways of their own: what MESH was told as a header it need not find by a path.
fn is_asked_as_sent(local_id: &str) -> bool {
    local_id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn is_ours(tracking: &Tracking, row: &Row, posted_at: OffsetDateTime) -> bool {
    let recipient = row.recipient.as_deref().unwrap_or_default();
    // MESH replaces GPPROVIDER_… by the mailbox of the practice that it finds.
    let same_recipient = recipient == "GPPROVIDER"
        || tracking
            .recipient
            .as_deref()
            .is_some_and(|found| found.eq_ignore_ascii_case(recipient));
    let same_workflow = tracking.workflow_id == row.workflow_id;
    let later = tracking
        .upload_timestamp
        .is_some_and(|time| time + CLOCKS >= posted_at);
    same_recipient && same_workflow && later
}
