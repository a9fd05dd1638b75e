//! MESH as a mailbox of ours sees it: clients made from the secrets, and made again when these have changed.

use std::future::Future;

use aws_config::SdkConfig;
use mesh_client::{ErrorDetail, ExposeSecret, Mailbox, MailboxId, MeshClient};
use time::OffsetDateTime;
use tracing::error;

use crate::clock;
use crate::error::{Error, Fault};
use crate::secrets::{DeployedSource, FRESH, MailboxSecrets, SecretSource, Secrets};
use crate::settings::MeshSettings;

// A chunk may take as long as Lambda lets its function work.
const LONGEST_INVOCATION: std::time::Duration = std::time::Duration::from_mins(15);

/// The limit of an attempt at a call without a message's content: four attempts and a minute of Retry-After in all, or twice four
/// attempts one after another, end before the shortest invocation does, two minutes, so that what they came to can be noted.
pub const SHORT_CALL: std::time::Duration = std::time::Duration::from_secs(13);

// In days.
const EXPIRES_SOON: i64 = 30;

/// Mailboxes of one MESH environment.
pub struct Mesh<S> {
    settings: MeshSettings,
    secrets: Secrets<S>,
    accepts_gzip: bool,
    call_limit: std::time::Duration,
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
            call_limit: LONGEST_INVOCATION,
            last: tokio::sync::Mutex::default(),
        }
    }

    /// Whether bodies may come compressed; they may unless this says otherwise.
    #[must_use]
    pub fn accepts_gzip(mut self, accepts: bool) -> Self {
        self.accepts_gzip = accepts;
        self
    }

    /// How long one request may take, all of its answer included; 15 minutes unless this says otherwise.
    #[must_use]
    pub fn call_limit(mut self, limit: std::time::Duration) -> Self {
        self.call_limit = limit;
        self
    }

    /// Reads the mailbox's secrets unless they are at hand. What fails here is left to the call that needs them.
    pub async fn prepare(&self, id: &MailboxId) {
        let _ = self.secrets.get(id, std::time::Duration::MAX).await;
    }

    /// Runs the operation, and once more with fresh secrets when those that we have had for a while are refused by MESH, or can't be used.
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
        let result = match self.open_once(id, &known).await {
            Ok(mailbox) => Ok(operation(mailbox).await),
            Err(unusable) => Err(unusable),
        };
        // Read between two changes, a key and a certificate need not belong together.
        let outdated = match &result {
            Ok(Ok(_)) => false,
            Ok(Err(error)) => refused(error),
            Err(_) => true,
        };
        if !outdated {
            return result;
        }
        let renewed = self.secrets.get(id, FRESH).await?;
        if renewed.read_at() == known.read_at() {
            return result;
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
            .request_timeout(self.call_limit)
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
        let days_left = client.certificate_expires_at().and_then(days_left);
        if let Some(days_left) = days_left {
            // An alarm counts the lines, whatever the level that is logged.
            error!(
                logReference = "MESHMBOX0008",
                days_left, "the client certificate expires soon; get a new one"
            );
        }
        Ok(client.mailbox(
            id.clone(),
            secrets.password.clone(),
            secrets.shared_key.clone(),
        ))
    }

    /// An answer that has not the form of MESH's own.
    pub fn answered_by_another(&self, detail: &ErrorDetail) -> Error {
        Error::MeshUnavailable(Fault::new(format!(
            "something at {} other than MESH answers with status {}; check MESH_URL and what is in between",
            self.settings.url, detail.status
        )))
    }

    /// An error of a MESH call for this mailbox in our terms.
    pub fn error(&self, id: &MailboxId, error: mesh_client::Error) -> Error {
        use mesh_client::Error as Mesh;
        let names = self.secrets.names(id);
        match error {
            Mesh::Configuration(_) => Error::InvalidConfiguration(
                Fault::new("the connection to MESH is not configured correctly").because(error),
            ),
            Mesh::NotAuthorised(ref detail) => Error::NotAuthorised(
                Fault::new(format!(
                    "MESH refuses mailbox {id}: check that it is a mailbox of this environment, then {} (a line break at the end counts){}",
                    self.secrets.describe(&[names[4].clone(), names[3].clone()]),
                    not_by_mesh(detail)
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
                self.answered_by_another(&detail)
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
                Fault::new("MESH's answer can't be understood; tell the MESH service desk if it stays so").because(error),
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
            Mesh::Rejected(ref detail) => Error::Rejected(
                Fault::new(format!(
                    "MESH refuses the request of mailbox {id}{}",
                    not_by_mesh(detail)
                ))
                .because(error),
            ),
            _ => Error::Rejected(
                Fault::new(format!("MESH refuses the request of mailbox {id}")).because(error),
            ),
        }
    }
}

// How many days there are until then, if they are few.
fn days_left(expires_at: OffsetDateTime) -> Option<i64> {
    let days = (expires_at - clock::now()).whole_days();
    (days < EXPIRES_SOON).then_some(days)
}

// Nginx refuses a client certificate with 400, proxies refuse what they don't let through with 403.
fn not_by_mesh(detail: &ErrorDetail) -> &'static str {
    if detail.mesh_shaped {
        ""
    } else {
        "; the answer has not the form of MESH's own, so check proxy, firewall and client certificate as well"
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
    use crate::secrets::FRESH;
    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use mesh_client::SecretString;
    use rcgen::{CertificateParams, DnType, KeyPair};
    use std::collections::HashMap;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tokio::io::{AsyncRead, AsyncWrite};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

    // MESH whose answers have these statuses, in turn; and those that nobody has asked for yet.
    async fn mesh_that_answers(statuses: &[u16]) -> (String, Arc<Mutex<Vec<u16>>>) {
        mesh_over(None, statuses).await
    }

    async fn mesh_over(
        tls: Option<TlsAcceptor>,
        statuses: &[u16],
    ) -> (String, Arc<Mutex<Vec<u16>>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(Mutex::new(statuses.to_vec()));
        let script = Arc::clone(&left);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, tls) = (Arc::clone(&script), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, script).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, script).await;
                            }
                        }
                    }
                });
            }
        });
        (format!("{scheme}://localhost:{port}"), left)
    }

    async fn serve<S>(stream: S, script: Arc<Mutex<Vec<u16>>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |_: Request<Incoming>| {
            let status = script.lock().unwrap().remove(0);
            async move {
                let answer = Response::builder().status(status);
                // A handshake's answer is empty; a refusal has to look like MESH's.
                let body = match status {
                    200 => "",
                    _ => r#"{"detail":[{"event":"","code":"","msg":"Forbidden"}]}"#,
                };
                Ok::<_, Infallible>(answer.body(Full::<Bytes>::from(body)).unwrap())
            }
        });
        // How a client ends a connection is not what is tested.
        let _ = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    // A certificate of its own CA, with these names and the common name localhost; and a server that shows it.
    fn server(names: &[&str]) -> (String, TlsAcceptor) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "localhost");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        (certificate.pem(), TlsAcceptor::from(Arc::new(config)))
    }

    // Certificates and key, then other ones from the second read on.
    struct Rotated {
        reads: Arc<Mutex<usize>>,
        before: [String; 3],
        after: [String; 3],
    }

    impl SecretSource for Rotated {
        async fn read(&self, names: &[String]) -> Result<HashMap<String, SecretString>, Error> {
            let mut reads = self.reads.lock().unwrap();
            *reads += 1;
            let [ca, certificate, key] = if *reads == 1 {
                &self.before
            } else {
                &self.after
            };
            let value = |name: &str| {
                SecretString::from(match name {
                    _ if name.ends_with("MESH_CA_CERT") => ca.clone(),
                    _ if name.ends_with("MESH_CLIENT_CERT") => certificate.clone(),
                    _ if name.ends_with("MESH_CLIENT_KEY") => key.clone(),
                    _ => format!("password {reads}"),
                })
            };
            Ok(names
                .iter()
                .map(|name| (name.clone(), value(name)))
                .collect())
        }

        fn describe(&self, names: &[String]) -> String {
            names.join(", ")
        }
    }

    // A certificate of its own CA, and its key.
    fn pair() -> [String; 3] {
        let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
        let certificate = made.cert.pem();
        [
            certificate.clone(),
            certificate,
            made.signing_key.serialize_pem(),
        ]
    }

    // Two handshakes after a time each; what each comes to, how often secrets were read, and what MESH was not asked.
    async fn shaken(
        before: [String; 3],
        after: [String; 3],
        waits: [Duration; 2],
        answers: &[u16],
    ) -> ([Result<(), &'static str>; 2], usize, Vec<u16>) {
        let (url, left) = mesh_that_answers(answers).await;
        let settings = MeshSettings {
            url,
            secrets_prefix: "/m".to_owned(),
            ..MeshSettings::default()
        };
        let reads = Arc::default();
        let mesh = Mesh::new(
            settings,
            Rotated {
                reads: Arc::clone(&reads),
                before,
                after,
            },
        );
        let mailbox = "X26ABC1".parse().unwrap();
        let mut results = [Ok(()), Ok(())];
        for (wait, result) in waits.into_iter().zip(&mut results) {
            tokio::time::pause();
            tokio::time::advance(wait).await;
            tokio::time::resume();
            *result = mesh
                .call(&mailbox, async |mailbox| mailbox.handshake().await)
                .await
                .map_err(|error| error.name());
        }
        let reads = *reads.lock().unwrap();
        let left = left.lock().unwrap().clone();
        (results, reads, left)
    }

    #[test]
    fn a_certificate_is_told_of_in_its_last_thirty_days() {
        let day = time::Duration::DAY;
        for (lasts, expected) in [
            (day * 365, None),
            (day * 30 + time::Duration::MINUTE, None),
            (day * 30 - time::Duration::MINUTE, Some(29)),
            (time::Duration::MINUTE, Some(0)),
        ] {
            assert_eq!(days_left(clock::now() + lasts), expected, "{lasts}");
        }
    }

    const LATER: Duration = Duration::from_secs(FRESH.as_secs() + 1);

    #[tokio::test]
    async fn a_refusal_is_answered_with_fresh_secrets_if_ours_are_old() {
        let one = pair();
        let waits = [Duration::ZERO, LATER];
        let (results, reads, left) =
            shaken(one.clone(), one.clone(), waits, &[200, 403, 200]).await;
        assert_eq!((results, reads, left), ([Ok(()), Ok(())], 2, vec![]));
        // What was read a moment ago is not read again.
        let waits = [Duration::ZERO, Duration::from_secs(1)];
        let (results, reads, _) = shaken(one.clone(), one, waits, &[200, 403]).await;
        assert_eq!((results, reads), ([Ok(()), Err("NotAuthorised")], 1));
    }

    #[tokio::test]
    async fn what_is_verified_of_a_servers_certificate_is_what_the_settings_say() {
        let refused = Err("NotAuthorised");
        for (names, trusted, verify_ssl, verify_checks_common_name, expected) in [
            (&["localhost"] as &[&str], true, true, false, Ok(())),
            (&["localhost"], false, true, false, refused),
            (&["localhost"], false, false, false, Ok(())),
            (&[], true, true, true, Ok(())),
            (&[], true, true, false, refused),
        ] {
            let (certificate, acceptor) = server(names);
            let (url, _) = mesh_over(Some(acceptor), &[200]).await;
            let settings = MeshSettings {
                url,
                verify_ssl,
                verify_checks_common_name,
                ..MeshSettings::default()
            };
            let [other, client, key] = pair();
            let ca = if trusted { certificate } else { other };
            let secrets = [ca, client, key];
            let source = Rotated {
                reads: Arc::default(),
                before: secrets.clone(),
                after: secrets,
            };
            let mesh = Mesh::new(settings, source);
            let mailbox = "X26ABC1".parse().unwrap();
            let result = mesh
                .call(&mailbox, async |mailbox| mailbox.handshake().await)
                .await
                .map_err(|error| error.name());
            assert_eq!(
                result, expected,
                "{names:?} {trusted} {verify_ssl} {verify_checks_common_name}"
            );
        }
    }

    #[tokio::test]
    async fn what_was_prepared_is_not_read_again() {
        let (url, _) = mesh_that_answers(&[200]).await;
        let reads = Arc::<Mutex<usize>>::default();
        let [before, after] = [pair(), pair()];
        let source = Rotated {
            reads: Arc::clone(&reads),
            before,
            after,
        };
        let settings = MeshSettings {
            url,
            ..MeshSettings::default()
        };
        let mesh = Mesh::new(settings, source);
        let mailbox = "X26ABC1".parse().unwrap();
        mesh.prepare(&mailbox).await;
        assert_eq!(*reads.lock().unwrap(), 1);
        mesh.call(&mailbox, async |mailbox| mailbox.handshake().await)
            .await
            .unwrap();
        assert_eq!(*reads.lock().unwrap(), 1);
    }

    #[tokio::test]
    async fn a_call_that_nobody_answers_ends_at_its_limit() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = MeshSettings {
            url: format!("http://{}", listener.local_addr().unwrap()),
            ..MeshSettings::default()
        };
        let [before, after] = [pair(), pair()];
        let reads = Arc::default();
        let source = Rotated {
            reads,
            before,
            after,
        };
        let mesh = Mesh::new(settings, source).call_limit(Duration::from_millis(20));
        let mailbox = "X26ABC1".parse().unwrap();
        let call = mesh.call(&mailbox, async |mailbox| mailbox.handshake().await);
        let answer = tokio::time::timeout(Duration::from_secs(30), call).await;
        assert_eq!(answer.unwrap().unwrap_err().name(), "MeshUnavailable");
    }

    #[tokio::test]
    async fn a_key_and_a_certificate_of_two_pairs_are_read_again() {
        let (old, new) = (pair(), pair());
        let half = [old[0].clone(), old[1].clone(), new[2].clone()];
        let waits = [Duration::ZERO, LATER];
        let (results, reads, left) = shaken(half, new, waits, &[200]).await;
        assert_eq!(
            (results, reads, left),
            ([Err("InvalidConfiguration"), Ok(())], 2, vec![])
        );
    }

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
