//! The edge of every Lambda: reads the task, runs the handler, logs, and names the error.

use std::future::Future;
use std::time::Instant;

use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;
use tracing::{Instrument, error, info, info_span};

use crate::error::{Error, Fault};
use crate::state::{Invocation, Task};

/// Serves invocations of the handler until Lambda ends the process.
///
/// # Errors
/// Those of the Runtime API.
pub async fn serve<Request, Response, Handler, Fut>(
    handler: Handler,
) -> Result<(), lambda_runtime::Error>
where
    Request: DeserializeOwned,
    Response: Serialize,
    Handler: Fn(Invocation, Request) -> Fut,
    Fut: Future<Output = Result<Response, Error>>,
{
    info!(logReference = "LAMBDA0001", "cold start");
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| {
        let span = info_span!("invocation", internal_id = %event.context.request_id, execution = tracing::field::Empty);
        answer(&handler, event).instrument(span)
    }))
    .await
}

async fn answer<Request, Response, Handler, Fut>(
    handler: &Handler,
    event: LambdaEvent<Value>,
) -> Result<Response, Error>
where
    Request: DeserializeOwned,
    Handler: Fn(Invocation, Request) -> Fut,
    Fut: Future<Output = Result<Response, Error>>,
{
    let started = Instant::now();
    let request_id = event.context.request_id.clone();
    let result = run(handler, event).await;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match &result {
        Ok(_) => info!(
            logReference = "LAMBDA0003",
            aws_request_id = request_id,
            duration_ms,
            "completed"
        ),
        Err(failure) => error!(
            logReference = "LAMBDA9999",
            aws_request_id = request_id,
            duration_ms,
            error_name = failure.name(),
            error = failure.chain(),
            "failed"
        ),
    }
    result
}

async fn run<Request, Response, Handler, Fut>(
    handler: &Handler,
    event: LambdaEvent<Value>,
) -> Result<Response, Error>
where
    Request: DeserializeOwned,
    Handler: Fn(Invocation, Request) -> Fut,
    Fut: Future<Output = Result<Response, Error>>,
{
    let deadline = OffsetDateTime::from(event.context.deadline());
    let task: Task<Request> = serde_json::from_value(event.payload).map_err(|error| {
        // serde's text would echo values of the event.
        let kind = format!("{:?} problem", error.classify());
        Error::InvalidInput(Fault::new(format!(
            "the task's payload is not {{\"execution\", \"request\"}} as the state machine sends it ({kind})"
        )))
    })?;
    tracing::Span::current().record("execution", task.execution.as_str());
    info!(logReference = "LAMBDA0002", "invoked");
    let invocation = Invocation {
        execution: task.execution,
        deadline,
    };
    Box::pin(handler(invocation, task.request)).await
}
