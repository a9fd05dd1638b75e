//! What became of a sent message.

use mesh_client::Tracking;
use mesh_pipeline::events::{DELIVERED, Entry, SENT, UNDELIVERED};
use mesh_pipeline::rows::{FIRST_LOOK, Outcome, Row, Status};
use mesh_pipeline::state::Announced;
use mesh_pipeline::{Error, clock};
use time::{Duration, OffsetDateTime};
use tracing::{info, warn};

use crate::mailboxes::Mailboxes;
use crate::sends::Sends;
use crate::stuck::names;
use crate::{Rows, Track};

// MESH asks for tracking to be rare, and recipients may take hours.
const LONGEST_PAUSE: Duration = Duration::hours(6);

// MESH keeps an undelivered message for 30 days, in which the service desk can put it back, and gives the recipient 5 days.
const PUT_BACK_PAUSE: Duration = Duration::days(1);
const TRACKED_FOR: Duration = Duration::days(35);

// MESH may say for a while that it knows no message that it has just taken, and tells until after the 5 days what became of it.
const KNOWN_FOR: Duration = Duration::days(6);

// An event that was not put by then, because the execution ended, is put again.
const REPEAT_AFTER: Duration = Duration::minutes(10);

impl<M: Mailboxes, R: Rows, E: Sends> Track<M, R, E> {
    /// Asks MESH about a message; the event, if there is something to tell.
    pub(crate) async fn follow(&self, row: &Row) -> Result<Option<(Entry, Announced)>, Error> {
        let now = clock::now();
        // A delivered message is due only until it was told of.
        if row.announced != Some(true) {
            let mine = self.rows.look(row, now + REPEAT_AFTER).await?;
            return Ok(mine.then(|| self.tell(row)).flatten());
        }
        let age = now - sent_at(row).unwrap_or(now);
        if age > TRACKED_FOR {
            return self
                .end(row, "MESH has told no end of the message in 35 days")
                .await;
        }
        if !self.rows.look(row, now + pause(row, age)).await? {
            return Ok(None);
        }
        let tracking = match self.ask(row).await {
            Ok(tracking) => tracking,
            Err(error @ Error::MessageGone(_)) if age < KNOWN_FOR => {
                self.rows.not_tracked(&row.id, &error).await?;
                info!(
                    row = row.id,
                    message_id = row.message_id,
                    "MESH does not know the message yet; it is asked again"
                );
                return Ok(None);
            }
            Err(Error::MessageGone(_)) => {
                return self.end(row, "MESH no longer knows the message").await;
            }
            Err(error) => {
                self.rows.not_tracked(&row.id, &error).await?;
                return Err(error);
            }
        };
        let status = match tracking.status.as_str() {
            "acknowledged" => Status::Delivered,
            "undeliverable" | "error" => Status::Undelivered,
            // Waiting, or a status that is new.
            _ => return Ok(None),
        };
        let outcome = Outcome {
            status,
            status_code: tracking.status_code,
            linked_message_id: tracking.linked_message_id,
        };
        let concluded = self.rows.concluded(&row.id, &outcome, now + REPEAT_AFTER);
        let Some(row) = concluded.await? else {
            return Ok(None);
        };
        if status == Status::Delivered {
            info!(
                logReference = "MESHTRACK0003",
                row = row.id,
                mailbox = row.mailbox,
                message_id = row.message_id,
                "delivered"
            );
        } else {
            warn!(
                logReference = "MESHTRACK0007",
                row = row.id,
                mailbox = row.mailbox,
                message_id = row.message_id,
                status_code = row.status_code,
                "undelivered"
            );
        }
        Ok(self.tell(&row))
    }

    async fn ask(&self, row: &Row) -> Result<Tracking, Error> {
        let (mailbox, message) = names(row)?;
        self.mesh.track(&mailbox, &message).await
    }

    async fn end(&self, row: &Row, why: &str) -> Result<Option<(Entry, Announced)>, Error> {
        self.rows.untracked(&row.id).await?;
        if row.status == Some(Status::Sent) {
            warn!(
                logReference = "MESHTRACK0010",
                row = row.id,
                mailbox = row.mailbox,
                message_id = row.message_id,
                why,
                "what became of the message is not known, and is asked for no more"
            );
            return Ok(None);
        }
        info!(
            logReference = "MESHTRACK0004",
            row = row.id,
            message_id = row.message_id,
            status = row.status.map(Status::as_str),
            why,
            "no longer tracked"
        );
        Ok(None)
    }

    fn tell(&self, row: &Row) -> Option<(Entry, Announced)> {
        let status = row.status?;
        let (what, pause) = match status {
            Status::Sent => (SENT, Some(FIRST_LOOK)),
            Status::Delivered => (DELIVERED, None),
            _ => (UNDELIVERED, Some(PUT_BACK_PAUSE)),
        };
        let again_at = pause.map(|pause| clock::iso(clock::now() + pause));
        let announced = Announced {
            row: row.id.clone(),
            status,
            again_at,
        };
        Some((self.settings.labels.entry(what, row), announced))
    }
}

fn sent_at(row: &Row) -> Option<OffsetDateTime> {
    let time = row.sent_at.as_deref().or(row.timestamp.as_deref())?;
    clock::parse_iso(time)
}

// Each pause is half as long as the message is old.
fn pause(row: &Row, age: Duration) -> Duration {
    match row.status {
        Some(Status::Undelivered) => PUT_BACK_PAUSE,
        _ => Duration::clamp(age / 2, FIRST_LOOK, LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_the_message_and_have_an_end() {
        let pause_at = |status, age| {
            let row = Row {
                status: Some(status),
                ..Row::default()
            };
            pause(&row, age)
        };
        assert_eq!(pause_at(Status::Sent, Duration::minutes(5)), FIRST_LOOK);
        assert_eq!(
            pause_at(Status::Sent, Duration::hours(2)),
            Duration::hours(1)
        );
        assert_eq!(pause_at(Status::Sent, Duration::days(4)), LONGEST_PAUSE);
        assert_eq!(
            pause_at(Status::Undelivered, Duration::days(6)),
            PUT_BACK_PAUSE
        );
        // So often MESH is asked about a message that nobody collects.
        let (mut age, mut looks) = (FIRST_LOOK, 1);
        while age < Duration::days(5) {
            age += pause_at(Status::Sent, age);
            looks += 1;
        }
        assert_eq!(looks, 31);
    }
}
