//! SSM parameters.

use std::collections::HashMap;

use aws_sdk_ssm::Client;
use mesh_client::SecretString;

use super::SecretSource;
use crate::aws::aws_error;
use crate::error::Error;

/// SSM parameters.
#[derive(Debug, Clone)]
pub struct ParameterStore {
    client: Client,
}

impl ParameterStore {
    /// Parameters read through this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl SecretSource for ParameterStore {
    async fn read(&self, names: &[String]) -> Result<HashMap<String, SecretString>, Error> {
        let output = self
            .client
            .get_parameters()
            .set_names(Some(names.to_vec()))
            .with_decryption(true)
            .send()
            .await
            .map_err(|error| aws_error(format!("reading {}", self.describe(names)), error))?;
        let found = output.parameters.unwrap_or_default().into_iter();
        Ok(found
            .filter_map(|parameter| Some((parameter.name?, SecretString::from(parameter.value?))))
            .collect())
    }

    fn describe(&self, names: &[String]) -> String {
        format!("SSM parameters {}", names.join(", "))
    }
}
