//! Which service holds which secret.

use std::collections::HashMap;
use std::str::FromStr;

use aws_config::SdkConfig;
use mesh_client::SecretString;

use super::{ParameterStore, SecretSource, SecretsManager};
use crate::error::Error;

/// Which service holds the keys and passwords.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Service {
    /// SSM holds everything.
    #[default]
    ParameterStore,
    /// Secrets Manager does; the certificates stay in SSM.
    SecretsManager,
}

impl FromStr for Service {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "parameter-store" => Ok(Self::ParameterStore),
            "secrets-manager" => Ok(Self::SecretsManager),
            _ => Err("it must be parameter-store or secrets-manager"),
        }
    }
}

/// Where a deployment has its secrets.
#[derive(Debug, Clone)]
pub struct DeployedSource<P = ParameterStore, S = SecretsManager> {
    parameters: P,
    secrets: Option<S>,
}

impl DeployedSource {
    /// The chosen service, reached with the given configuration.
    pub fn new(service: Service, aws: &SdkConfig) -> Self {
        let secrets = match service {
            Service::ParameterStore => None,
            Service::SecretsManager => Some(SecretsManager::new(
                aws_sdk_secretsmanager::Client::new(aws),
            )),
        };
        Self {
            parameters: ParameterStore::new(aws_sdk_ssm::Client::new(aws)),
            secrets,
        }
    }
}

// Certificates are public, and parameters in either case.
fn split(names: &[String]) -> (Vec<String>, Vec<String>) {
    names
        .iter()
        .cloned()
        .partition(|name| name.ends_with("/MESH_CA_CERT") || name.ends_with("/MESH_CLIENT_CERT"))
}

impl<P: SecretSource, S: SecretSource> SecretSource for DeployedSource<P, S> {
    async fn read(&self, names: &[String]) -> Result<HashMap<String, SecretString>, Error> {
        let Some(source) = &self.secrets else {
            return self.parameters.read(names).await;
        };
        let (certificates, secrets) = split(names);
        let (mut values, more) =
            tokio::try_join!(self.parameters.read(&certificates), source.read(&secrets))?;
        values.extend(more);
        Ok(values)
    }

    fn describe(&self, names: &[String]) -> String {
        let Some(source) = &self.secrets else {
            return self.parameters.describe(names);
        };
        let (certificates, secrets) = split(names);
        let mut parts = Vec::new();
        if !certificates.is_empty() {
            parts.push(self.parameters.describe(&certificates));
        }
        if !secrets.is_empty() {
            parts.push(source.describe(&secrets));
        }
        parts.join(" and ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Secrets;
    use super::*;
    use mesh_client::ExposeSecret;
    use std::time::Duration;

    struct Fixed(&'static str);

    impl SecretSource for Fixed {
        async fn read(&self, names: &[String]) -> Result<HashMap<String, SecretString>, Error> {
            Ok(names
                .iter()
                .filter(|name| !name.ends_with("MESH_CA_CERT") && !name.ends_with("SHARED_KEY"))
                .map(|name| (name.clone(), SecretString::from(self.0.to_owned())))
                .collect())
        }

        fn describe(&self, names: &[String]) -> String {
            format!("{} {}", self.0, names.join(", "))
        }
    }

    fn source(secrets: bool) -> DeployedSource<Fixed, Fixed> {
        DeployedSource {
            parameters: Fixed("parameters"),
            secrets: secrets.then_some(Fixed("secrets")),
        }
    }

    #[test]
    fn services_have_names_and_no_other() {
        assert_eq!("parameter-store".parse(), Ok(Service::ParameterStore));
        assert_eq!("secrets-manager".parse(), Ok(Service::SecretsManager));
        assert!("SSM".parse::<Service>().is_err());
    }

    #[tokio::test]
    async fn certificates_come_from_parameters_and_the_rest_from_the_chosen_service() {
        let names = [
            "/m/MESH_CLIENT_CERT",
            "/m/MESH_CLIENT_KEY",
            "/m/mailboxes/X26ABC1/MAILBOX_PASSWORD",
        ]
        .map(str::to_owned);
        for (secrets, places) in [
            (false, ["parameters", "parameters", "parameters"]),
            (true, ["parameters", "secrets", "secrets"]),
        ] {
            let values = source(secrets).read(&names).await.unwrap();
            for (name, place) in names.iter().zip(places) {
                assert_eq!(values[name].expose_secret(), place, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_named_with_its_service() {
        let mailbox = "X26ABC1".parse().unwrap();
        let missing = async |secrets| {
            let secrets = Secrets::new(source(secrets), "/m");
            let error = secrets.get(&mailbox, Duration::MAX).await.unwrap_err();
            assert_eq!(error.name(), "InvalidConfiguration");
            error.chain()
        };
        assert_eq!(
            missing(false).await,
            "missing or empty: parameters /m/MESH_CA_CERT, /m/MESH_SHARED_KEY; \
             create them, parameters as SecureString"
        );
        assert_eq!(
            missing(true).await,
            "missing or empty: parameters /m/MESH_CA_CERT and secrets /m/MESH_SHARED_KEY; \
             create them, parameters as SecureString"
        );
    }
}
