//! The state machine that sends.

use std::future::Future;

use aws_sdk_sfn::Client;
use aws_sdk_sfn::operation::start_execution::StartExecutionError;
use mesh_pipeline::Error;
use mesh_pipeline::aws::aws_error;
use serde_json::json;

/// Starts sends.
pub trait Sends: Send + Sync {
    /// Starts an execution for a row; false: there was one of that name.
    fn start(&self, name: &str, row: &str) -> impl Future<Output = Result<bool, Error>> + Send;
}

/// The state machine `${name}-send-message`.
#[derive(Debug, Clone)]
pub struct SendMachine {
    client: Client,
    arn: String,
}

impl SendMachine {
    /// The state machine of that ARN.
    pub fn new(client: Client, arn: impl Into<String>) -> Self {
        Self {
            client,
            arn: arn.into(),
        }
    }
}

impl Sends for SendMachine {
    async fn start(&self, name: &str, row: &str) -> Result<bool, Error> {
        let result = self
            .client
            .start_execution()
            .state_machine_arn(&self.arn)
            .name(name)
            .input(json!({"row": row}).to_string())
            .send()
            .await;
        match result {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(StartExecutionError::is_execution_already_exists) =>
            {
                Ok(false)
            }
            Err(error) => Err(aws_error(format!("starting a send of row {row}"), error)),
        }
    }
}
