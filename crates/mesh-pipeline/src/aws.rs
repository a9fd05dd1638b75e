//! The AWS SDK's configuration, and its errors in our terms.

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use std::time::Duration;

use crate::error::{Error, Fault};

/// Region, credentials and endpoints from the environment, as Lambda sets them.
pub async fn sdk_config() -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    aws_config::from_env()
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(4))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(5))
                .read_timeout(Duration::from_mins(1))
                .build(),
        )
        .load()
        .await
}

/// The error of an AWS call in our terms. `what` names the call and its object, never a value.
pub fn aws_error<E>(what: impl Into<String>, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    in_our_terms(&what.into(), error, true)
}

/// The same without the service's own text, which may quote what was asked for.
pub fn aws_error_unquoted<E>(what: impl Into<String>, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    in_our_terms(&what.into(), error, false)
}

fn in_our_terms<E>(what: &str, error: SdkError<E, HttpResponse>, quote: bool) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let fault = |what: String, error: SdkError<E, HttpResponse>| match error {
        // No answer was read, so there is nothing to quote.
        SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) => Fault::new(what).because(error),
        error if quote => Fault::new(what).because(error),
        _ => Fault::new(what),
    };
    match &error {
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or_default();
            let status = service.raw().status().as_u16();
            let is_temporary = is_throttling(code) || is_damage(code) || is_late_failure(code);
            if status >= 500 || status == 429 || is_temporary {
                return Error::AwsUnavailable(fault(
                    format!("{what}: AWS answered {status} {code}"),
                    error,
                ));
            }
            let text = service.err().message().filter(|_| quote);
            let text = text.map(|text| format!(" {text}")).unwrap_or_default();
            Error::AwsRefused(Fault::new(format!(
                "{what}: AWS answered {status} {code}{text}; if it is a resource of your own, tell the module of it and its key (secrets_kms_key_arns, legacy_inbound_bucket_arns, legacy_inbound_kms_key_arns); else look at permissions_boundary, at your organisation's policies and whether the resource exists"
            )))
        }
        SdkError::ConstructionFailure(_) => {
            Error::InvalidInput(fault(format!("{what}: the request can't be built"), error))
        }
        _ => Error::AwsUnavailable(fault(format!("{what}: no answer from AWS"), error)),
    }
}

// What arrived is not what was sent.
fn is_damage(code: &str) -> bool {
    matches!(code, "BadDigest" | "XAmzContentChecksumMismatch")
}

// S3 begins its answer to the completion of an upload with 200, before it knows how that ends.
fn is_late_failure(code: &str) -> bool {
    matches!(code, "InternalError" | "ServiceUnavailable")
}

// The codes that the SDKs' standard retry mode treats as throttling.
fn is_throttling(code: &str) -> bool {
    code.contains("Throttl")
        || matches!(
            code,
            "ProvisionedThroughputExceededException"
                | "RequestLimitExceeded"
                | "BandwidthLimitExceeded"
                | "LimitExceededException"
                | "TransactionInProgressException"
                | "PriorRequestNotComplete"
                | "SlowDown"
                | "RequestTimeout"
        )
}
