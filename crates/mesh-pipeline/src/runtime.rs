//! The edge of every Lambda: reads the task, runs the handler, logs, and names the error.

use std::future::Future;
use std::time::Instant;

use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;
use tracing::field::Empty;
use tracing::{Instrument, error, info, info_span};

use crate::error::{Error, Fault};
use crate::state::{Invocation, Task};

/// Serves invocations of the handler until Lambda ends the process.
///
/// A function that can't be wired answers each invocation with the reason: a process that ends at its start
/// would show the state machine no more than `Runtime.ExitError`.
///
/// # Errors
/// Those of the Runtime API.
pub async fn serve<Function, Request, Response, Handler>(
    function: Result<Function, Error>,
    handler: Handler,
) -> Result<(), lambda_runtime::Error>
where
    Request: DeserializeOwned,
    Response: Serialize,
    Handler: AsyncFn(&Function, Invocation, Request) -> Result<Response, Error>,
{
    info!(logReference = "LAMBDA0001", "cold start");
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let request_id = event.context.request_id.clone();
        let span = info_span!("invocation", internal_id = request_id, execution = Empty);
        let work = async {
            match &function {
                Ok(function) => run(function, &handler, event).await,
                Err(error) => Err(Error::InvalidConfiguration(Fault::new(error.chain()))),
            }
        };
        logged(&request_id, work).instrument(span).await
    }))
    .await
}

async fn logged<Response>(
    aws_request_id: &str,
    work: impl Future<Output = Result<Response, Error>>,
) -> Result<Response, Error> {
    let started = Instant::now();
    let result = work.await;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match &result {
        Ok(_) => info!(
            logReference = "LAMBDA0003",
            aws_request_id, duration_ms, "completed"
        ),
        Err(failure) => error!(
            logReference = "LAMBDA9999",
            aws_request_id,
            duration_ms,
            error_name = failure.name(),
            error = failure.chain(),
            "failed"
        ),
    }
    result
}

async fn run<Function, Request, Response, Handler>(
    function: &Function,
    handler: &Handler,
    event: LambdaEvent<Value>,
) -> Result<Response, Error>
where
    Request: DeserializeOwned,
    Handler: AsyncFn(&Function, Invocation, Request) -> Result<Response, Error>,
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
    Box::pin(handler(function, invocation, task.request)).await
}
