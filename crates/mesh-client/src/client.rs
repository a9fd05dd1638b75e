//! The client of one MESH environment, and the mailboxes reached through it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Url, redirect};
use secrecy::SecretString;
use time::OffsetDateTime;

use crate::error::Error;
use crate::id::MailboxId;
use crate::retry::RetryPolicy;
use crate::tls::{self, Identity, Trust};

/// MESH closes idle connections after 5 s; a request on a connection that is just being closed
/// has an uncertain outcome.
const POOL_IDLE: Duration = Duration::from_secs(4);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_mins(10);

pub(crate) type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// One MESH environment: URL, TLS, time limits, retries. Cheap to clone.
#[derive(Clone)]
pub struct MeshClient(pub(crate) Arc<Environment>);

pub(crate) struct Environment {
    pub(crate) url: String,
    /// Keeps connections.
    pub(crate) http: reqwest::Client,
    /// Keeps none: for the call that must not meet a connection which the server is closing.
    pub(crate) http_fresh: reqwest::Client,
    pub(crate) certificate_expires_at: Option<OffsetDateTime>,
    pub(crate) accept_gzip: bool,
    pub(crate) retry: RetryPolicy,
    pub(crate) clock: Clock,
}

/// Builds a [`MeshClient`].
#[must_use]
pub struct MeshClientBuilder {
    url: String,
    ca: Option<String>,
    identity: Option<Identity>,
    verify_server: bool,
    verify_checks_common_name: bool,
    accept_gzip: bool,
    request_timeout: Duration,
    retry: RetryPolicy,
    user_agent: String,
    clock: Clock,
}

impl MeshClient {
    /// Starts with the environment's URL, for example `https://mesh-sync.spineservices.nhs.uk`.
    pub fn builder(url: &str) -> MeshClientBuilder {
        MeshClientBuilder {
            url: url.to_owned(),
            ca: None,
            identity: None,
            verify_server: true,
            verify_checks_common_name: true,
            accept_gzip: true,
            request_timeout: REQUEST_TIMEOUT,
            retry: RetryPolicy::default(),
            user_agent: concat!("mesh-aws/", env!("CARGO_PKG_VERSION")).to_owned(),
            clock: Arc::new(OffsetDateTime::now_utc),
        }
    }

    /// Until when the client certificate is valid; `None` without one.
    #[must_use]
    pub fn certificate_expires_at(&self) -> Option<OffsetDateTime> {
        self.0.certificate_expires_at
    }

    /// A mailbox with its password and the environment's shared key.
    #[must_use]
    pub fn mailbox(
        &self,
        id: MailboxId,
        password: SecretString,
        shared_key: SecretString,
    ) -> Mailbox {
        Mailbox {
            environment: self.0.clone(),
            id,
            password,
            shared_key,
        }
    }
}

impl fmt::Debug for MeshClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshClient")
            .field("url", &self.0.url)
            .finish_non_exhaustive()
    }
}

impl MeshClientBuilder {
    /// The CA certificates of the environment, as PEM: the only ones that are trusted. Those that
    /// have ended are ignored.
    pub fn ca_certificates(mut self, pem: &str) -> Self {
        self.ca = Some(pem.to_owned());
        self
    }

    /// The client certificate (first, then its chain) and its unencrypted key, as PEM.
    pub fn client_identity(mut self, certificates_pem: &str, key_pem: &SecretString) -> Self {
        self.identity = Some(Identity {
            certificates: certificates_pem.to_owned(),
            key: key_pem.clone(),
        });
        self
    }

    /// `false` takes any server for MESH. For a sandbox only: whoever is in between can read
    /// everything.
    pub fn verify_server(mut self, verify: bool) -> Self {
        self.verify_server = verify;
        self
    }

    /// Whether a server's certificate may name its host in the subject's common name, where it holds
    /// no DNS name in a subjectAltName. Default `true`.
    pub fn verify_checks_common_name(mut self, check: bool) -> Self {
        self.verify_checks_common_name = check;
        self
    }

    /// Whether downloads may travel compressed. Default `true`.
    pub fn accept_gzip(mut self, accept: bool) -> Self {
        self.accept_gzip = accept;
        self
    }

    /// The limit of one attempt, its body included. Default 600 s.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// How calls are repeated.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// The User-Agent header. Default `mesh-aws/<version>`.
    pub fn user_agent(mut self, text: &str) -> Self {
        text.clone_into(&mut self.user_agent);
        self
    }

    /// The clock of tokens and certificates. Default: the system's.
    pub fn clock(mut self, now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(now);
        self
    }

    /// Checks everything that can be checked without a connection.
    ///
    /// # Errors
    /// [`Error::Configuration`] names what is wrong and the remedy.
    pub fn build(self) -> Result<MeshClient, Error> {
        let url = check_url(&self.url)?;
        let ca = match (self.verify_server, &self.ca) {
            (false, _) => None,
            (true, Some(pem)) => Some(pem.as_str()),
            (true, None) if url.starts_with("http:") => None,
            (true, None) => {
                return Err(Error::configuration(
                    "there are no CA certificates to verify the MESH server with; give those of \
                     the MESH environment",
                ));
            }
        };
        let trust = ca.map(|ca| Trust {
            ca,
            common_name: self.verify_checks_common_name,
        });
        let (tls, certificate_expires_at) =
            tls::configuration(trust.as_ref(), self.identity.as_ref(), (self.clock)())?;
        let http = |idle: usize| {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .user_agent(&self.user_agent)
                .no_proxy()
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never())
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(self.request_timeout)
                .pool_idle_timeout(POOL_IDLE)
                .pool_max_idle_per_host(idle)
                .build()
                .map_err(|source| {
                    Error::configuration_with("the HTTP client could not be set up", source)
                })
        };
        Ok(MeshClient(Arc::new(Environment {
            http: http(usize::MAX)?,
            http_fresh: http(0)?,
            url,
            certificate_expires_at,
            accept_gzip: self.accept_gzip,
            retry: self.retry,
            clock: self.clock,
        })))
    }
}

/// The URL without a slash at its end.
fn check_url(text: &str) -> Result<String, Error> {
    let wrong = |problem: &str| {
        Err(Error::configuration(format!(
            "the MESH URL {problem}; it looks like https://mesh-sync.spineservices.nhs.uk"
        )))
    };
    let Ok(url) = Url::parse(text) else {
        return wrong("is no URL");
    };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if local => {}
        "http" => return wrong("has no TLS (only a server on this machine may do without)"),
        _ => return wrong("is no https URL"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("holds a user or password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("holds a `?` or `#`");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// A mailbox: the calls are its methods. Cheap to clone.
#[derive(Clone)]
pub struct Mailbox {
    pub(crate) environment: Arc<Environment>,
    pub(crate) id: MailboxId,
    pub(crate) password: SecretString,
    pub(crate) shared_key: SecretString,
}

impl Mailbox {
    /// The mailbox's id.
    #[must_use]
    pub fn id(&self) -> &MailboxId {
        &self.id
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked() {
        for (text, problem) in [
            ("mesh", "is no URL"),
            ("ftp://localhost", "is no https URL"),
            ("http://mesh.example", "has no TLS"),
            ("http://127.mesh.example", "has no TLS"),
            ("https://u:p@mesh.example", "holds a user or password"),
            ("https://mesh.example/?a=b", "holds a `?` or `#`"),
        ] {
            let message = check_url(text).unwrap_err().to_string();
            assert!(message.contains(problem), "{text}: {message}");
        }
        for (text, url) in [
            ("https://mesh.example", "https://mesh.example"),
            ("https://mesh.example:443/", "https://mesh.example"),
            (
                "https://mesh.example:8700/base/",
                "https://mesh.example:8700/base",
            ),
            ("http://localhost:8700", "http://localhost:8700"),
            ("http://127.0.0.1:1", "http://127.0.0.1:1"),
            ("http://[::1]:1", "http://[::1]:1"),
        ] {
            assert_eq!(check_url(text).unwrap(), url);
        }
    }

    #[test]
    fn a_server_is_verified_or_there_is_no_client() {
        let error = MeshClient::builder("https://localhost")
            .build()
            .unwrap_err();
        assert!(matches!(error, Error::Configuration(_)), "{error:?}");
        assert!(error.to_string().contains("no CA certificates"));
        assert!(
            MeshClient::builder("https://localhost")
                .verify_server(false)
                .build()
                .is_ok()
        );
    }
}
