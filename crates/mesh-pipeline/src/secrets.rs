//! Secrets: read at run time, kept in memory with an age, never written anywhere.

mod parameter_store;
mod secrets_manager;
mod source;

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use mesh_client::{ExposeSecret, MailboxId, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::{Error, Fault};

pub use parameter_store::ParameterStore;
pub use secrets_manager::SecretsManager;
pub use source::{DeployedSource, Service};

// Long enough to spare most invocations a call, short enough that a rotated secret is soon picked up.
const MAX_AGE: Duration = Duration::from_mins(5);

/// A read within this time is fresh: MESH's refusal is then no sign of a rotation.
pub const FRESH: Duration = Duration::from_secs(30);

/// Where secrets come from.
pub trait SecretSource: Send + Sync {
    /// The values of the names that exist.
    fn read(
        &self,
        names: &[String],
    ) -> impl Future<Output = Result<HashMap<String, SecretString>, Error>> + Send;

    /// The names with what they are, for whoever has to correct them.
    fn describe(&self, names: &[String]) -> String;
}

/// What one mailbox needs to speak to MESH.
#[derive(Debug, Clone)]
pub struct MailboxSecrets {
    /// PEM: the environment's certificate authorities.
    pub ca_certificates: SecretString,
    /// PEM: the client certificate.
    pub client_certificate: SecretString,
    /// PEM: its private key.
    pub client_key: SecretString,
    /// The environment's shared key.
    pub shared_key: SecretString,
    /// The mailbox's password.
    pub password: SecretString,
    read_at: Instant,
}

impl MailboxSecrets {
    /// When they were read.
    pub fn read_at(&self) -> Instant {
        self.read_at
    }
}

/// Secrets by mailbox, each set read at once and cached.
pub struct Secrets<S> {
    source: S,
    prefix: String,
    cache: Mutex<HashMap<MailboxId, MailboxSecrets>>,
}

impl<S: SecretSource> Secrets<S> {
    /// Secrets below the given prefix, for example `/live-mesh/mesh`.
    pub fn new(source: S, prefix: impl Into<String>) -> Self {
        Self {
            source,
            prefix: prefix.into(),
            cache: Mutex::default(),
        }
    }

    /// The names that a mailbox's secrets have.
    pub fn names(&self, mailbox: &MailboxId) -> [String; 5] {
        let prefix = &self.prefix;
        [
            format!("{prefix}/MESH_CA_CERT"),
            format!("{prefix}/MESH_CLIENT_CERT"),
            format!("{prefix}/MESH_CLIENT_KEY"),
            format!("{prefix}/MESH_SHARED_KEY"),
            format!("{prefix}/mailboxes/{mailbox}/MAILBOX_PASSWORD"),
        ]
    }

    /// The names with what they are, for whoever has to correct them.
    pub fn describe(&self, names: &[String]) -> String {
        self.source.describe(names)
    }

    /// The mailbox's secrets, read anew when they are older than `max_age` or the cache's own limit.
    ///
    /// # Errors
    /// `InvalidConfiguration` that names every secret that is missing or empty.
    pub async fn get(
        &self,
        mailbox: &MailboxId,
        max_age: Duration,
    ) -> Result<MailboxSecrets, Error> {
        let mut cache = self.cache.lock().await;
        if let Some(secrets) = cache.get(mailbox)
            && secrets.read_at.elapsed() < max_age.min(MAX_AGE)
        {
            return Ok(secrets.clone());
        }
        let names = self.names(mailbox);
        let mut values = self.source.read(&names).await?;
        let missing: Vec<_> = names
            .iter()
            .filter(|name| {
                values
                    .get(*name)
                    .is_none_or(|value| value.expose_secret().trim().is_empty())
            })
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Err(Error::InvalidConfiguration(Fault::new(format!(
                "missing or empty: {}; create them, parameters as SecureString",
                self.source.describe(&missing)
            ))));
        }
        let mut take = |name: &String| {
            values
                .remove(name)
                .unwrap_or_else(|| SecretString::from(String::new()))
        };
        let secrets = MailboxSecrets {
            ca_certificates: take(&names[0]),
            client_certificate: take(&names[1]),
            client_key: take(&names[2]),
            shared_key: take(&names[3]),
            password: take(&names[4]),
            read_at: Instant::now(),
        };
        cache.insert(mailbox.clone(), secrets.clone());
        Ok(secrets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Fixed(Vec<&'static str>, AtomicUsize);

    impl SecretSource for Fixed {
        async fn read(&self, names: &[String]) -> Result<HashMap<String, SecretString>, Error> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Ok(names
                .iter()
                .filter(|name| !self.0.iter().any(|missing| name.ends_with(missing)))
                .map(|name| (name.clone(), SecretString::from(format!("value of {name}"))))
                .collect())
        }

        fn describe(&self, names: &[String]) -> String {
            names.join(", ")
        }
    }

    fn mailbox() -> MailboxId {
        "X26ABC1".parse().unwrap()
    }

    #[tokio::test]
    async fn every_missing_secret_is_named_and_no_value_is() {
        let source = Fixed(
            vec!["MESH_SHARED_KEY", "MAILBOX_PASSWORD"],
            AtomicUsize::new(0),
        );
        let secrets = Secrets::new(source, "/live-mesh/mesh");
        let error = secrets.get(&mailbox(), MAX_AGE).await.unwrap_err();
        assert_eq!(error.name(), "InvalidConfiguration");
        let text = error.chain();
        assert!(text.contains("/live-mesh/mesh/MESH_SHARED_KEY"), "{text}");
        assert!(
            text.contains("/live-mesh/mesh/mailboxes/X26ABC1/MAILBOX_PASSWORD"),
            "{text}"
        );
        assert!(!text.contains("value of"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_read_once_and_again_when_they_are_too_old() {
        let secrets = Secrets::new(Fixed(vec![], AtomicUsize::new(0)), "/m");
        for _ in 0..3 {
            secrets.get(&mailbox(), MAX_AGE).await.unwrap();
        }
        assert_eq!(secrets.source.1.load(Ordering::SeqCst), 1);
        tokio::time::advance(FRESH + Duration::from_secs(1)).await;
        secrets.get(&mailbox(), MAX_AGE).await.unwrap();
        assert_eq!(secrets.source.1.load(Ordering::SeqCst), 1);
        secrets.get(&mailbox(), FRESH).await.unwrap();
        assert_eq!(secrets.source.1.load(Ordering::SeqCst), 2);
        tokio::time::advance(MAX_AGE).await;
        secrets.get(&mailbox(), MAX_AGE).await.unwrap();
        assert_eq!(secrets.source.1.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn secrets_can_not_be_printed() {
        let secrets = Secrets::new(Fixed(vec![], AtomicUsize::new(0)), "/m");
        let text = format!("{:?}", secrets.get(&mailbox(), MAX_AGE).await.unwrap());
        assert!(!text.contains("value of"), "{text}");
    }
}
