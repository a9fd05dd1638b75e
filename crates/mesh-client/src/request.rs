//! The one way to MESH: sign, send, classify, repeat.

use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, Url};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::auth;
use crate::body::{Body, BodySource};
use crate::client::Mailbox;
use crate::download::Decoded;
use crate::error::Error;
use crate::retry::parse_retry_after;
use crate::transport;

const ACCEPT_V2: HeaderValue = HeaderValue::from_static("application/vnd.mesh.v2+json");

/// As much of an error's body as is looked at.
const ERROR_BODY: usize = 64 * 1024;
/// A success's body, decoded: more than an inbox page of 5,000 ids of the longest kind that is taken.
const JSON_BODY: usize = 4 * 1024 * 1024;

/// One operation, ready to be sent any number of times.
pub(crate) struct Call {
    /// For the log.
    pub(crate) endpoint: &'static str,
    pub(crate) method: Method,
    /// Path and query below the environment's URL, percent-encoded.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// Never on a kept connection.
    pub(crate) fresh_connection: bool,
}

impl Mailbox {
    pub(crate) fn call(&self, endpoint: &'static str, method: Method, path: &str) -> Call {
        Call {
            endpoint,
            method,
            path: format!("/messageexchange/{}{path}", self.id),
            headers: HeaderMap::new(),
            fresh_connection: false,
        }
    }

    /// Sends a call until it succeeds, fails for good or the policy gives up.
    pub(crate) async fn execute(
        &self,
        call: &Call,
        body: &impl BodySource,
    ) -> Result<Response, Error> {
        let mut attempt = 1;
        let mut waited = Duration::ZERO;
        loop {
            let opened = body.open().await.map_err(Error::BodySource)?;
            let error = match self.attempt(call, opened, attempt).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let Some(wait) = self.environment.retry.wait(attempt, waited, &error) else {
                return Err(error);
            };
            tokio::time::sleep(wait).await;
            waited += wait;
            attempt += 1;
        }
    }

    /// Sends a call once, with a token of its own.
    pub(crate) async fn attempt(
        &self,
        call: &Call,
        body: Body,
        attempt: u32,
    ) -> Result<Response, Error> {
        let environment = &self.environment;
        let url = url(&environment.url, &call.path)?;
        let now = (environment.clock)();
        let nonce = Uuid::new_v4().to_string();
        let token = auth::token(&self.id, &self.password, &self.shared_key, &nonce, 0, now)?;
        let http = if call.fresh_connection {
            &environment.http_fresh
        } else {
            &environment.http
        };
        let mut request = http
            .request(call.method.clone(), url)
            .headers(call.headers.clone())
            .header(ACCEPT, ACCEPT_V2)
            .header(AUTHORIZATION, token)
            .body(body.inner);
        // A GET has no body to measure; gateways refuse a PUT or POST that doesn't say 0.
        if let (Some(length), true) = (body.length, call.method != Method::GET) {
            request = request.header(CONTENT_LENGTH, length);
        }
        let start = Instant::now();
        let result = request.send().await;
        tracing::debug!(
            method = %call.method,
            endpoint = call.endpoint,
            attempt,
            status = result.as_ref().ok().map(|response| response.status().as_u16()),
            duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            "MESH answered or the connection failed"
        );
        match result {
            Ok(response) if response.status().is_success() => Ok(response),
            Ok(response) => Err(self.refusal(response).await),
            Err(error) => match body.failure.take() {
                Some(cause) => Err(Error::BodySource(cause)),
                None => Err(transport::classify(error)),
            },
        }
    }

    async fn refusal(&self, response: Response) -> Error {
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| parse_retry_after(value, (self.environment.clock)()));
        // The status alone says enough where the body can't be read.
        let body = read_up_to(response, ERROR_BODY).await.unwrap_or_default();
        Error::from_answer(status, retry_after, &body)
    }
}

/// The JSON of a success.
pub(crate) async fn json<T: DeserializeOwned>(response: Response) -> Result<T, Error> {
    let body = read_up_to(response, JSON_BODY + 1).await?;
    if body.len() > JSON_BODY {
        return Err(Error::Malformed(format!(
            "the body is longer than the {JSON_BODY} bytes that an answer may have"
        )));
    }
    // serde's text can repeat a value of the body.
    serde_json::from_slice(&body).map_err(|_| {
        Error::Malformed("the body is not the JSON that the MESH API describes".into())
    })
}

async fn read_up_to(response: Response, limit: usize) -> Result<Vec<u8>, Error> {
    let mut body = Decoded::new(response)?;
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await? {
        let room = limit - bytes.len();
        bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        if bytes.len() == limit {
            break;
        }
    }
    Ok(bytes)
}

/// Parsing a URL resolves `.` and `..`, encoded ones too: an id must not lead to another place.
fn url(base: &str, path_and_query: &str) -> Result<Url, Error> {
    let text = format!("{base}{path_and_query}");
    let url = Url::parse(&text)
        .map_err(|source| Error::configuration_with("a request's address is no URL", source))?;
    let path = text.split('?').next().unwrap_or_default();
    if !path.ends_with(url.path()) {
        return Err(Error::Malformed("an id can't be part of a URL".into()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_what_it_is() {
        for path in [
            "/messageexchange/X26/inbox/A_b.c-1",
            "/messageexchange/X26/inbox/a%2Fb",
            "/messageexchange/X26/inbox?max_results=10&continue_from=gAA%3D%3D",
        ] {
            let url = url("https://mesh.example:8700/base", path).unwrap();
            assert_eq!(
                url.as_str(),
                format!("https://mesh.example:8700/base{path}")
            );
        }
        for path in [
            "/messageexchange/X26/inbox/%2E%2E",
            "/messageexchange/X26/inbox/%2e/2",
        ] {
            assert!(url("https://mesh.example", path).is_err(), "{path}");
        }
    }
}
