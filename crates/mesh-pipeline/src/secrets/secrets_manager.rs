//! Secrets Manager secrets.

use std::collections::HashMap;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use futures_util::future::try_join_all;
use mesh_client::SecretString;

use super::SecretSource;
use crate::aws::aws_error;
use crate::error::{Error, Fault};

/// Secrets Manager secrets.
#[derive(Debug, Clone)]
pub struct SecretsManager {
    client: Client,
}

impl SecretsManager {
    /// Secrets read through this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn value(&self, name: &str) -> Result<Option<(String, SecretString)>, Error> {
        let result = self.client.get_secret_value().secret_id(name).send().await;
        match result {
            Ok(secret) => match secret.secret_string {
                Some(text) => Ok(Some((name.to_owned(), text.into()))),
                None => Err(Error::InvalidConfiguration(Fault::new(format!(
                    "Secrets Manager secret {name} is binary; store its value as a secret string"
                )))),
            },
            // No such secret, or one that was created without a value.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetSecretValueError::is_resource_not_found_exception) =>
            {
                Ok(None)
            }
            Err(error) => Err(aws_error(
                format!("reading Secrets Manager secret {name}"),
                error,
            )),
        }
    }
}

impl SecretSource for SecretsManager {
    // BatchGetSecretValue can't be granted on named secrets only.
    async fn read(&self, names: &[String]) -> Result<HashMap<String, SecretString>, Error> {
        let values = try_join_all(names.iter().map(|name| self.value(name))).await?;
        Ok(values.into_iter().flatten().collect())
    }

    fn describe(&self, names: &[String]) -> String {
        format!("Secrets Manager secrets {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
    use http_body_util::{BodyExt, Full};
    use hyper::body::{Bytes, Incoming};
    use hyper::service::service_fn;
    use hyper::{Request, Response, server::conn::http1};
    use hyper_util::rt::TokioIo;
    use mesh_client::ExposeSecret;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    // Answers as Secrets Manager does.
    async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        assert_eq!(
            request.headers()["x-amz-target"],
            "secretsmanager.GetSecretValue"
        );
        let body = request.into_body().collect().await?.to_bytes();
        let asked: Value = serde_json::from_slice(&body).unwrap();
        let name = asked["SecretId"].as_str().unwrap();
        let refusal = |code: &str| (400, json!({"__type": code, "Message": "as AWS says it"}));
        let (status, body) = match name.rsplit('/').next().unwrap() {
            "absent" => refusal("ResourceNotFoundException"),
            "forbidden" => refusal("AccessDeniedException"),
            "binary" => (200, json!({"Name": name, "SecretBinary": "AAEC"})),
            _ => (
                200,
                json!({"Name": name, "SecretString": format!("value of {name}")}),
            ),
        };
        let response = Response::builder()
            .status(status)
            .header("content-type", "application/x-amz-json-1.1");
        Ok(response.body(Full::from(body.to_string())).unwrap())
    }

    async fn source() -> SecretsManager {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::spawn(connection);
            }
        });
        let config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(endpoint)
            .region(Region::from_static("eu-west-2"))
            .credentials_provider(Credentials::new("id", "key", None, None, "test"))
            .build();
        SecretsManager::new(Client::from_conf(config))
    }

    async fn read(names: &[&str]) -> Result<HashMap<String, SecretString>, Error> {
        let names: Vec<_> = names.iter().map(|name| format!("/m/{name}")).collect();
        source().await.read(&names).await
    }

    #[tokio::test]
    async fn the_values_of_the_secrets_that_exist_are_read() {
        let values = read(&["key", "absent", "password"]).await.unwrap();
        assert_eq!(values.len(), 2);
        for name in ["/m/key", "/m/password"] {
            assert_eq!(values[name].expose_secret(), format!("value of {name}"));
        }
    }

    #[tokio::test]
    async fn a_refusal_names_the_secret_that_was_refused() {
        let error = read(&["key", "forbidden"]).await.unwrap_err();
        assert_eq!(error.name(), "AwsRefused");
        let text = error.chain();
        for part in [
            "Secrets Manager secret /m/forbidden",
            "AccessDeniedException",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("value of"), "{text}");
    }

    #[tokio::test]
    async fn a_binary_secret_is_named_and_its_value_is_not() {
        let error = read(&["key", "binary"]).await.unwrap_err();
        assert_eq!(error.name(), "InvalidConfiguration");
        let text = error.chain();
        assert!(
            text.contains("Secrets Manager secret /m/binary is binary"),
            "{text}"
        );
        assert!(!text.contains("AAEC"), "{text}");
    }
}
