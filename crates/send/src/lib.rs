#![doc = include_str!("../README.md")]

mod chunk;
mod mapping;
mod outbox;
mod parameters;
mod plan;
mod settings;
mod transfer;
mod trigger;
mod uncertain;

use mesh_pipeline::events::SENT;
use mesh_pipeline::rows::{Claim, Claimed, Hold, OutboundRows, Row, Status, recordable_recipient};
use mesh_pipeline::secrets::SecretSource;
use mesh_pipeline::state::{Invocation, SendResponse};
use mesh_pipeline::store::{ObjectReader, SourceObject};
use mesh_pipeline::{Error, Fault, clock, layout};
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use tracing::{error, info, warn};

use mapping::Route;
use parameters::Parameters;
use plan::Plan;
use trigger::{Put, Trigger};

pub use mapping::Mappings;
pub use outbox::{ChunkPosted, Outbox, Posted};
pub use settings::{OnUncertain, Settings};

/// What the function works with.
pub struct Send<M, R, O, S> {
    /// MESH.
    pub outbox: M,
    /// The claims.
    pub rows: R,
    /// The bucket.
    pub objects: O,
    /// Where objects go whose metadata don't say.
    pub mappings: Mappings<S>,
    /// Names and limits.
    pub settings: Settings,
}

// A row whose execution has been quiet for so long after its deadline is another's to take: the state machine's own
// retries come sooner.
const QUIET: Duration = Duration::minutes(10);

// Each wait is a few of an execution's 25,000 events.
const SHORTEST_PAUSE: std::time::Duration = std::time::Duration::from_secs(30);
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_hours(1);

// Attempts count calls of the function, most of which are no failures: they say little about how long to wait.
const LONGEST_BACKOFF: Duration = Duration::hours(1);

// So many invocations an execution may end with work left: a round is at most 273 events of its 25,000, and the wait for
// the first one up to 4,500. The sweep goes on in another execution.
const MAX_ROUNDS: u32 = 50;

/// One invocation of an execution.
struct Turn {
    invocation: Invocation,
    /// How many before it ended with work left.
    rounds: u32,
}

/// Answers one request.
///
/// # Errors
/// See the crate's documentation.
pub async fn handle<M: Outbox, R: OutboundRows, O: ObjectReader, S: SecretSource>(
    send: &Send<M, R, O, S>,
    invocation: Invocation,
    request: Value,
) -> Result<SendResponse, Error> {
    let rounds = request.get("rounds").and_then(Value::as_u64);
    let turn = Turn {
        invocation,
        rounds: rounds.map_or(0, |rounds| rounds.try_into().unwrap_or(MAX_ROUNDS)),
    };
    match trigger::parse(&request, send.settings.send_copied_objects)? {
        Trigger::Other(why) => {
            info!(why, "ignored");
            Ok(ended("ignored", None))
        }
        Trigger::Put(put) => send.put(put, &turn).await,
        Trigger::Row(row) => send.row(&row, &turn).await,
    }
}

/// Whether the request has a shape that the function knows. For fuzzing.
///
/// # Errors
/// `InvalidInput`: it has none of them.
#[doc(hidden)]
pub fn check_request(request: &Value, copies: bool) -> Result<(), Error> {
    trigger::parse(request, copies).map(drop)
}

impl<M: Outbox, R: OutboundRows, O: ObjectReader, S: SecretSource> Send<M, R, O, S> {
    async fn put(&self, put: Put, turn: &Turn) -> Result<SendResponse, Error> {
        let Put { bucket, key, .. } = &put;
        info!(
            logReference = "MESHSEND0001",
            bucket,
            file = key,
            "send triggered"
        );
        if *bucket != self.settings.bucket {
            return Err(Error::InvalidInput(Fault::new(format!(
                "the event is of bucket {bucket}; this function sends from {} only",
                self.settings.bucket
            ))));
        }
        if let Some(error) = self.stale(&put) {
            let version = put.version_id.as_deref().unwrap_or("null");
            let row = layout::outbound_row(bucket, key, &put.missing_identity());
            return self.refuse(&row, &put, version, turn, error).await;
        }
        let Some(object) = self.objects.find(key, put.version_id.as_deref()).await? else {
            let version = put.version_id.as_deref().unwrap_or("null");
            let error = match &put.version_id {
                Some(version) => chunk::gone(key, version),
                None => chunk::missing(key),
            };
            let row = layout::outbound_row(bucket, key, &put.missing_identity());
            return self.refuse(&row, &put, version, turn, error).await;
        };
        if put.is_older_than(&object) {
            info!(
                file = key,
                "ignored: another object was put since under its key, with an event of its own"
            );
            return Ok(ended("ignored", None));
        }
        if object.size == 0 && key.ends_with('/') {
            info!(file = key, "ignored: a folder marker");
            return Ok(ended("ignored", None));
        }
        let row = layout::outbound_row(bucket, key, object.identity());
        let planned = self.parameters(key, &object, None).await;
        let planned = planned.and_then(|parameters| {
            Plan::of(object.size, &parameters, &self.settings).map(|plan| (parameters, plan))
        });
        let (parameters, plan) = match planned {
            Ok(planned) => planned,
            Err(error) if error.is_of_the_message() => {
                return self
                    .refuse(&row, &put, &object.version_id, turn, error)
                    .await;
            }
            Err(error) => return Err(error),
        };
        let claim = Claim {
            local_id: self.local_id(&parameters, &row),
            row,
            bucket: bucket.clone(),
            key: key.clone(),
            version_id: object.version_id.clone(),
            size: object.size,
            chunk_size: plan.chunk_size,
            chunks: plan.chunks,
            compress: plan.compress,
            mailbox: parameters.mailbox.to_string(),
            recipient: parameters.message.to.clone(),
            workflow_id: parameters.message.workflow_id.clone(),
        };
        let claimed = self
            .rows
            .claim(&claim, &turn.invocation.execution, until(&turn.invocation))
            .await?;
        // What was claimed before goes by its row: a mapping may say otherwise today.
        let is_new = matches!(&claimed, Claimed::Mine(row) if row.attempts == Some(1));
        if is_new {
            info!(
                logReference = "MESHSEND0004",
                row = claim.row,
                file = key,
                file_size = claim.size,
                chunks = claim.chunks,
                dest_mailbox = recordable_recipient(&claim.recipient),
                src_mailbox = claim.mailbox,
                workflow_id = claim.workflow_id,
                "will send"
            );
        }
        self.claimed(claimed, is_new.then_some(parameters), turn)
            .await
    }

    /// How the object is to be sent: as its metadata say, or its mapping, which its row pins once there is one.
    async fn parameters(
        &self,
        key: &str,
        object: &SourceObject,
        row: Option<&Row>,
    ) -> Result<Parameters, Error> {
        let route = if parameters::names_sender(object) {
            None
        } else if let Some(pinned) = row.and_then(Route::of_row) {
            Some(pinned)
        } else {
            Some(self.mappings.route(&self.settings.bucket, key).await?)
        };
        let file_name =
            parameters::base_name(key).filter(|_| self.settings.use_s3_key_for_mex_filename);
        parameters::read(object, route, file_name)
    }

    async fn row(&self, row: &str, turn: &Turn) -> Result<SendResponse, Error> {
        let claimed = self
            .rows
            .resume(row, &turn.invocation.execution, until(&turn.invocation))
            .await?;
        self.claimed(claimed, None, turn).await
    }

    // After so long the row of an event may have expired, and a repeat of it could not be told from a new one.
    fn stale(&self, put: &Put) -> Option<Error> {
        let days = self.settings.rows.retention_days;
        let stale = clock::now() - put.time? > Duration::days(days.into());
        stale.then(|| {
            Error::StaleEvent(Fault::new(format!(
                "the event is older than the {days} days for which rows are kept, so it can't be told whether s3://{}/{} was sent; ask the recipient, and put the object again only if they lack it",
                put.bucket, put.key
            )))
        })
    }

    async fn refuse(
        &self,
        row: &str,
        put: &Put,
        version_id: &str,
        turn: &Turn,
        error: Error,
    ) -> Result<SendResponse, Error> {
        let known = self
            .rows
            .refuse(
                row,
                &put.bucket,
                &put.key,
                version_id,
                &turn.invocation.execution,
                &error,
            )
            .await?;
        // What was claimed before is decided by its row: it may have been sent, or be half-way.
        if known {
            return self.row(row, turn).await;
        }
        Err(error)
    }

    fn local_id(&self, parameters: &Parameters, row: &str) -> Option<String> {
        parameters.message.local_id.clone().or_else(|| {
            let hash = row.strip_prefix("out#").unwrap_or(row);
            self.settings.set_local_id.then(|| hash.to_owned())
        })
    }

    async fn claimed(
        &self,
        claimed: Claimed,
        known: Option<Parameters>,
        turn: &Turn,
    ) -> Result<SendResponse, Error> {
        let invocation = &turn.invocation;
        let row = match claimed {
            Claimed::Mine(row) => row,
            // This execution's own work, done before the answer was lost.
            Claimed::Taken(row)
                if matches!(
                    row.status,
                    Some(Status::Sent | Status::Delivered | Status::Undelivered)
                ) && row.execution.as_deref() == Some(&invocation.execution) =>
            {
                return Ok(self.sent(&row));
            }
            // Its own refusal, whose answer was lost.
            Claimed::Taken(Row {
                status: Some(Status::Failed | Status::Held),
                execution: Some(execution),
                error: Some(text),
                ..
            }) if execution == invocation.execution => return Err(Error::of_closed_row(&text)),
            Claimed::Taken(row) => {
                info!(
                    logReference = "MESHSEND0003",
                    row = row.id,
                    status = row.status.map(Status::as_str),
                    "duplicate: another execution has the object version, or it is done with"
                );
                return Ok(ended("duplicate", Some(row.id)));
            }
        };
        let hold = Hold {
            row: row.id.clone(),
            execution: invocation.execution.clone(),
            attempts: row.attempts.unwrap_or_default(),
        };
        let response = match Box::pin(self.transfer(row, &hold, known, invocation)).await {
            Ok(response) => response,
            Err(failure) => {
                // MESH has said when to come back: the state machine waits for that, within reason.
                let pause = failure
                    .retry_after()
                    .map(|pause| pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
                if let Some(pause) = pause {
                    let (seconds, error) = (pause.as_secs(), failure.chain());
                    warn!(row = hold.row, seconds, error, "waits, as MESH asks");
                }
                self.note(&hold, &failure, pause, invocation).await;
                match pause {
                    Some(pause) => transfer::waiting(&hold.row, pause),
                    // Of a closed row the error is its own, word for word.
                    None if failure.is_of_the_message()
                        || matches!(failure, Error::UncertainSend(_)) =>
                    {
                        return Err(failure);
                    }
                    None => return Err(failure.of_row(&hold.row)),
                }
            }
        };
        if response.complete {
            return Ok(response);
        }
        self.go_on(response, &hold, turn.rounds.saturating_add(1))
            .await
    }

    // In another invocation of this execution, or in another execution.
    async fn go_on(
        &self,
        response: SendResponse,
        hold: &Hold,
        rounds: u32,
    ) -> Result<SendResponse, Error> {
        if rounds < MAX_ROUNDS {
            return Ok(SendResponse {
                rounds: Some(rounds),
                ..response
            });
        }
        let wait = Duration::seconds(response.wait_seconds.unwrap_or_default().cast_signed());
        self.rows
            .postpone(hold, clock::now() + wait)
            .await
            .map_err(|error| error.of_row(&hold.row))?;
        if wait.is_positive() {
            // Executions that wait and succeed are seen by nobody, and the object is not sent. The state machine must not try it
            // again: MESH may have asked for the pause.
            return Err(Error::NotTaken(Fault::new(format!(
                "after {rounds} attempts MESH has not taken the object yet; its row says what the last one met, and it goes on being tried"
            )))
            .of_row(&hold.row));
        }
        info!(row = hold.row, rounds, "left to the sweep");
        Ok(ended("continued", Some(hold.row.clone())))
    }

    async fn note(
        &self,
        hold: &Hold,
        failure: &Error,
        pause: Option<std::time::Duration>,
        invocation: &Invocation,
    ) {
        let noted = if failure.is_of_the_message() {
            self.rows.close(hold, Status::Failed, failure).await
        } else if matches!(failure, Error::UncertainSend(_)) {
            self.rows.close(hold, Status::Held, failure).await
        } else {
            let due = if failure.is_temporary() {
                until(invocation) + pause.unwrap_or_default()
            } else {
                // Nobody retries it: somebody has to correct something first.
                let wait = clock::backoff(hold.attempts.saturating_sub(1));
                clock::now() + wait.min(LONGEST_BACKOFF)
            };
            self.rows.attempt_failed(hold, failure, due).await
        };
        if let Err(unnoted) = noted {
            error!(
                row = hold.row,
                error = unnoted.chain(),
                "the row could not be told"
            );
        }
    }

    fn sent(&self, row: &Row) -> SendResponse {
        SendResponse {
            status_code: 200,
            complete: true,
            row: Some(row.id.clone()),
            message_id: row.message_id.clone(),
            events: vec![self.settings.labels.entry(SENT, row)],
            ..SendResponse::default()
        }
    }
}

fn until(invocation: &Invocation) -> OffsetDateTime {
    invocation.deadline + QUIET
}

fn ended(outcome: &'static str, row: Option<String>) -> SendResponse {
    SendResponse {
        status_code: 200,
        complete: true,
        row,
        outcome: Some(outcome),
        ..SendResponse::default()
    }
}

#[cfg(test)]
mod tests;
