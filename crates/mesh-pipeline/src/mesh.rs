//! MESH as a mailbox of ours sees it: clients made from the secrets, and made again when these have changed.

use std::future::Future;

use aws_config::SdkConfig;
use mesh_client::{ExposeSecret, Mailbox, MailboxId, MeshClient};

use crate::error::{Error, Fault};
use crate::secrets::{DeployedSource, FRESH, MailboxSecrets, SecretSource, Secrets};
use crate::settings::MeshSettings;

/// Mailboxes of one MESH environment.
pub struct Mesh<S> {
    settings: MeshSettings,
    secrets: Secrets<S>,
    accepts_gzip: bool,
    // The last client, with the age of the secrets that it was made from: connections outlive invocations.
    last: tokio::sync::Mutex<Option<(MailboxId, tokio::time::Instant, Mailbox)>>,
}

impl Mesh<DeployedSource> {
    /// MESH with secrets from where the settings say.
    pub fn deployed(settings: MeshSettings, aws: &SdkConfig) -> Self {
        let source = DeployedSource::new(settings.secrets_source, aws);
        Self::new(settings, source)
    }
}

impl<S: SecretSource> Mesh<S> {
    /// MESH under the settings' URL, with secrets from the source.
    pub fn new(settings: MeshSettings, source: S) -> Self {
        let secrets = Secrets::new(source, settings.secrets_prefix.clone());
        Self {
            settings,
            secrets,
            accepts_gzip: true,
            last: tokio::sync::Mutex::default(),
        }
    }

    /// Whether bodies may come compressed; they may unless this says otherwise.
    #[must_use]
    pub fn accepts_gzip(mut self, accepts: bool) -> Self {
        self.accepts_gzip = accepts;
        self
    }

    /// Runs the operation, and once more with fresh secrets when MESH refuses those that we have had for a while.
    ///
    /// # Errors
    /// The operation's error in our terms; `InvalidConfiguration` when secrets are missing or can't be used.
    pub async fn call<T, F, Fut>(&self, id: &MailboxId, operation: F) -> Result<T, Error>
    where
        F: Fn(Mailbox) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, mesh_client::Error>> + Send,
    {
        self.try_call(id, operation)
            .await?
            .map_err(|error| self.error(id, error))
    }

    /// As [`Mesh::call`], with MESH's own error for a caller that has to tell more of them apart.
    ///
    /// # Errors
    /// `InvalidConfiguration` when secrets are missing or can't be used.
    pub async fn try_call<T, F, Fut>(
        &self,
        id: &MailboxId,
        operation: F,
    ) -> Result<Result<T, mesh_client::Error>, Error>
    where
        F: Fn(Mailbox) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, mesh_client::Error>> + Send,
    {
        let known = self.secrets.get(id, std::time::Duration::MAX).await?;
        let result = operation(self.open_once(id, &known).await?).await;
        if !matches!(&result, Err(error) if refused(error)) {
            return Ok(result);
        }
        let renewed = self.secrets.get(id, FRESH).await?;
        if renewed.read_at() == known.read_at() {
            return Ok(result);
        }
        Ok(operation(self.open_once(id, &renewed).await?).await)
    }

    async fn open_once(&self, id: &MailboxId, secrets: &MailboxSecrets) -> Result<Mailbox, Error> {
        let mut last = self.last.lock().await;
        if let Some((made_for, read_at, mailbox)) = &*last
            && made_for == id
            && *read_at == secrets.read_at()
        {
            return Ok(mailbox.clone());
        }
        let mailbox = self.open(id, secrets)?;
        *last = Some((id.clone(), secrets.read_at(), mailbox.clone()));
        Ok(mailbox)
    }

    fn open(&self, id: &MailboxId, secrets: &MailboxSecrets) -> Result<Mailbox, Error> {
        let client = MeshClient::builder(&self.settings.url)
            .ca_certificates(secrets.ca_certificates.expose_secret())
            .client_identity(
                secrets.client_certificate.expose_secret(),
                &secrets.client_key,
            )
            .verify_server(self.settings.verify_ssl)
            .verify_checks_common_name(self.settings.verify_checks_common_name)
            .accept_gzip(self.accepts_gzip)
            .user_agent(concat!("mesh-aws/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                let names = self.secrets.names(id);
                Error::InvalidConfiguration(
                    Fault::new(format!(
                        "no connection to MESH can be made from MESH_URL and {}",
                        self.secrets.describe(&names[..3])
                    ))
                    .because(error),
                )
            })?;
        Ok(client.mailbox(
            id.clone(),
            secrets.password.clone(),
            secrets.shared_key.clone(),
        ))
    }

    /// An error of a MESH call for this mailbox in our terms.
    pub fn error(&self, id: &MailboxId, error: mesh_client::Error) -> Error {
        use mesh_client::Error as Mesh;
        let names = self.secrets.names(id);
        match error {
            Mesh::Configuration(_) => Error::InvalidConfiguration(
                Fault::new("the connection to MESH is not configured correctly").because(error),
            ),
            Mesh::NotAuthorised(_) => Error::NotAuthorised(
                Fault::new(format!(
                    "MESH refuses mailbox {id}: check that it is a mailbox of this environment, then {}",
                    self.secrets.describe(&[names[4].clone(), names[3].clone()])
                ))
                .because(error),
            ),
            Mesh::Tls(_) => Error::NotAuthorised(
                Fault::new(format!(
                    "no TLS connection to MESH at {}: check {}",
                    self.settings.url,
                    self.secrets.describe(&names[..3])
                ))
                .because(error),
            ),
            Mesh::NotFound(detail) | Mesh::Gone(detail) if !detail.mesh_shaped => {
                Error::MeshUnavailable(Fault::new(format!(
                    "something at {} other than MESH answers with status {}; check MESH_URL and what is in between",
                    self.settings.url, detail.status
                )))
            }
            Mesh::NotFound(_) | Mesh::Gone(_) => Error::MessageGone(
                Fault::new(format!("MESH no longer has the message for mailbox {id}"))
                    .because(error),
            ),
            Mesh::Throttled { retry_after, .. } => Error::Throttled(
                Fault::new(format!("MESH asks mailbox {id} for fewer requests"))
                    .after(retry_after)
                    .because(error),
            ),
            Mesh::Unavailable { retry_after, .. } => Error::MeshUnavailable(
                Fault::new("MESH has an internal error")
                    .after(retry_after)
                    .because(error),
            ),
            Mesh::NotConnected(_) | Mesh::Interrupted(_) => Error::MeshUnavailable(
                Fault::new(format!("MESH at {} can't be reached", self.settings.url))
                    .because(error),
            ),
            Mesh::InvalidBody(_) => Error::InvalidMessage(
                Fault::new("the message's body is not what its Content-Encoding says; ask its sender to send it again").because(error),
            ),
            Mesh::Malformed(_) => Error::MeshUnavailable(
                Fault::new("MESH's answer can't be understood").because(error),
            ),
            Mesh::InvalidHeader(_) => Error::InvalidParameters(
                Fault::new("a MESH header can't be sent").because(error),
            ),
            Mesh::BodySource(cause) => match cause.downcast::<Error>() {
                Ok(ours) => *ours,
                Err(cause) => Error::AwsUnavailable(
                    Fault::new("the object could not be read to its end").because(cause),
                ),
            },
            _ => Error::Rejected(
                Fault::new(format!("MESH refuses the request of mailbox {id}")).because(error),
            ),
        }
    }
}

// A refusal that certainly had no effect, so that the operation can be repeated whatever it is.
fn refused(error: &mesh_client::Error) -> bool {
    error.was_not_accepted()
        && matches!(
            error,
            mesh_client::Error::NotAuthorised(_) | mesh_client::Error::Tls(_)
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_client::SecretString;
    use std::collections::HashMap;

    struct Rubbish;

    impl SecretSource for Rubbish {
        async fn read(&self, names: &[String]) -> Result<HashMap<String, SecretString>, Error> {
            let value = || SecretString::from("rubbish");
            Ok(names.iter().map(|name| (name.clone(), value())).collect())
        }

        fn describe(&self, names: &[String]) -> String {
            format!("the notes {}", names.join(", "))
        }
    }

    #[tokio::test]
    async fn secrets_that_can_not_be_used_are_named_as_their_source_names_them() {
        let settings = MeshSettings {
            url: "https://localhost".to_owned(),
            secrets_prefix: "/m".to_owned(),
            verify_ssl: true,
            ..MeshSettings::default()
        };
        let mesh = Mesh::new(settings, Rubbish);
        let mailbox = "X26ABC1".parse().unwrap();
        let error = mesh
            .call(&mailbox, async |mailbox| mailbox.handshake().await)
            .await
            .unwrap_err();
        assert_eq!(error.name(), "InvalidConfiguration");
        let text = error.chain();
        assert!(
            text.contains(
                "MESH_URL and the notes /m/MESH_CA_CERT, /m/MESH_CLIENT_CERT, /m/MESH_CLIENT_KEY:"
            ),
            "{text}"
        );
        assert!(!text.contains("rubbish"), "{text}");
    }
}
