//! The edge of every Lambda: reads the task, runs the handler, logs, and names the error.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::FutureExt;
use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;
use tracing::{Instrument, Span, error, error_span, info};

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
    let cold = AtomicBool::new(true);
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let span = invocation_span(&event);
        let work = async {
            match &function {
                Ok(function) => run(function, &handler, event).await,
                Err(error) => Err(Error::InvalidConfiguration(Fault::new(error.chain()))),
            }
        };
        let cold = cold.swap(false, Ordering::Relaxed);
        unquoted(logged(cold, work)).instrument(span).await
    }))
    .await
}

// All functions that work for one execution log its name, so that a search for it finds the whole story.
fn invocation_span(event: &LambdaEvent<Value>) -> Span {
    let aws_request_id = event.context.request_id.as_str();
    let execution = event.payload.get("execution").and_then(Value::as_str);
    let name = execution.and_then(|arn| arn.rsplit(':').next());
    // At a lower level, LOG_LEVEL could take the ids away from the lines that are left.
    error_span!(
        "invocation",
        internal_id = name.unwrap_or(aws_request_id),
        aws_request_id,
        execution
    )
}

// lambda_runtime would answer with the panic's own text, which may quote what was at work.
async fn unquoted<Response>(
    work: impl Future<Output = Result<Response, Error>>,
) -> Result<Response, Error> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    caught.unwrap_or_else(|_| {
        Err(Error::Panic(Fault::new(
            "a fault of this software; the log has its place, under LAMBDA9999: report it",
        )))
    })
}

async fn logged<Response>(
    cold: bool,
    work: impl Future<Output = Result<Response, Error>>,
) -> Result<Response, Error> {
    if cold {
        info!(logReference = "LAMBDA0001", "cold start");
    }
    info!(logReference = "LAMBDA0002", "invoked");
    let started = Instant::now();
    let result = work.await;
    let milliseconds = (started.elapsed().as_secs_f64() * 1_000.0).round();
    let duration = milliseconds / 1_000.0;
    match &result {
        Ok(_) => info!(logReference = "LAMBDA0003", duration, "completed"),
        Err(failure) => error!(
            logReference = "LAMBDA9999",
            duration,
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
    let invocation = Invocation {
        execution: task.execution,
        deadline,
    };
    Box::pin(handler(function, invocation, task.request)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Batch;
    use crate::telemetry::tests::Lines;
    use lambda_runtime::Context;
    use proptest::prelude::*;
    use serde_json::json;
    use tracing::level_filters::LevelFilter;

    const EXECUTION: &str =
        "arn:aws:states:eu-west-2:123456789012:execution:live-mesh-get-messages:4f2a";

    async fn lines_of(level: LevelFilter, payload: Value, result: Result<(), Error>) -> Vec<Value> {
        let mut context = Context::default();
        context.request_id = "request-1".to_owned();
        let (lines, _guard) = Lines::capture(level);
        let span = invocation_span(&LambdaEvent::new(payload, context));
        let _ = logged(true, async { result }).instrument(span).await;
        let mut lines = lines.take();
        let end = lines.last_mut().unwrap().as_object_mut().unwrap();
        let duration = end.remove("duration").unwrap();
        assert!((0.0..60.0).contains(&duration.as_f64().unwrap()));
        lines
    }

    proptest! {
        #[test]
        fn a_payload_that_is_refused_is_not_repeated(
            field in prop::sample::select(vec!["", "/execution", "/request", "/request/mailbox", "/request/messages"]),
            text in "(?s).{0,20}",
            wrapped: bool,
        ) {
            let mut payload = json!({"execution": EXECUTION, "request": {"mailbox": "X26ABC1", "messages": []}});
            let value = json!(format!("{text}/PATIENT"));
            *payload.pointer_mut(field).unwrap() = if wrapped { json!({ "PATIENT": value }) } else { value };
            let event = LambdaEvent::new(payload, Context::default());
            let handler = async |(): &(), _: Invocation, _: Batch| Ok(());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            match runtime.block_on(run(&(), &handler, event)) {
                Ok(()) => prop_assert_eq!(field, "/execution"),
                Err(error) => {
                    prop_assert_eq!(error.name(), "InvalidInput");
                    prop_assert!(!error.chain().contains("PATIENT"), "{}", error.chain());
                }
            }
        }
    }

    #[tokio::test]
    async fn a_panics_text_is_not_repeated() {
        let work = async { panic!("PATIENT") };
        let error = unquoted::<()>(work).await.unwrap_err();
        assert_eq!(error.name(), "Panic");
        assert!(!error.chain().contains("PATIENT"));
    }

    #[tokio::test]
    async fn an_invocations_lines_carry_the_executions_name_and_the_request() {
        let lines = lines_of(LevelFilter::INFO, json!({"execution": EXECUTION}), Ok(())).await;
        let line = |code, message| {
            json!({
                "Log_Level": "INFO",
                "internal_id": "4f2a",
                "aws_request_id": "request-1",
                "execution": EXECUTION,
                "logReference": code,
                "message": message,
            })
        };
        assert_eq!(
            lines,
            [
                line("LAMBDA0001", "cold start"),
                line("LAMBDA0002", "invoked"),
                line("LAMBDA0003", "completed"),
            ]
        );
    }

    #[tokio::test]
    async fn a_failure_is_logged_at_any_level_with_its_name_and_cause_and_the_ids() {
        let failure = Error::AwsRefused(Fault::new("no such table"));
        let task = json!({"mailbox": "X26ABC1"});
        assert_eq!(
            lines_of(LevelFilter::ERROR, task, Err(failure)).await,
            [json!({
                "Log_Level": "ERROR",
                "internal_id": "request-1",
                "aws_request_id": "request-1",
                "logReference": "LAMBDA9999",
                "error_name": "AwsRefused",
                "error": "no such table",
                "message": "failed",
            })]
        );
    }
}
