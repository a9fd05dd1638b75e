//! The TLS configuration, from PEM texts in memory.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;
use time::macros::format_description;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::Error;
use crate::server_verifier::ServerVerifier;

/// A client certificate with its chain, and its key.
pub(crate) struct Identity {
    pub(crate) certificates: String,
    pub(crate) key: SecretString,
}

/// What a server is verified with.
pub(crate) struct Trust<'a> {
    pub(crate) ca: &'a str,
    pub(crate) common_name: bool,
}

/// The configuration, and until when the client certificate is valid. Without `trust` no server is verified.
pub(crate) fn configuration(
    trust: Option<&Trust<'_>>,
    identity: Option<&Identity>,
    now: OffsetDateTime,
) -> Result<(ClientConfig, Option<OffsetDateTime>), Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::configuration_with("TLS could not be set up", source))?
        .dangerous();
    let builder = match trust {
        Some(trust) => {
            let anchors = anchors(trust.ca, now)?;
            let verifier = ServerVerifier::new(anchors, provider, trust.common_name)?;
            builder.with_custom_certificate_verifier(Arc::new(verifier))
        }
        None => builder.with_custom_certificate_verifier(Arc::new(AnyServer(provider))),
    };
    let Some(identity) = identity else {
        return Ok((builder.with_no_client_auth(), None));
    };
    let chain = certificates("client certificate", &identity.certificates)?;
    let expires_at = match chain.first() {
        Some(first) => Some(check_validity(first, now)?),
        None => None,
    };
    let tls = builder
        .with_client_auth_cert(chain, private_key(&identity.key)?)
        .map_err(|source| {
            let text = match source {
                rustls::Error::InconsistentKeys(_) => {
                    "the client key isn't the key of the client certificate; give both of the \
                     same pair, in the certificate's PEM the client's own certificate first"
                }
                _ => {
                    "client certificate and key can't be used; they must be an X.509 version 3 \
                     certificate and an RSA, ECDSA or Ed25519 key"
                }
            };
            Error::configuration_with(text, source)
        })?;
    Ok((tls, expires_at))
}

/// Bundles still list CAs that have ended: those are left out, as they vouch for nothing.
fn anchors(pem: &str, now: OffsetDateTime) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    let mut ended = Vec::new();
    for (position, der) in certificates("CA certificate", pem)?.into_iter().enumerate() {
        let (_, not_after) = validity("CA certificate", &der)?;
        if not_after < now {
            ended.push(day(not_after));
            continue;
        }
        store.add(der).map_err(|source| {
            Error::configuration_with(
                format!("CA certificate {} can't be used", position + 1),
                source,
            )
        })?;
    }
    if store.is_empty() {
        return Err(Error::configuration(format!(
            "every CA certificate has expired ({}); give the current CA certificates of the MESH \
             environment",
            ended.join(", ")
        )));
    }
    Ok(store)
}

fn certificates(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| Error::configuration_with(format!("the {what} is no PEM"), source))?;
    if all.is_empty() {
        return Err(Error::configuration(format!(
            "the {what} holds no PEM certificate; give the text from `-----BEGIN CERTIFICATE-----` \
             to `-----END CERTIFICATE-----`"
        )));
    }
    Ok(all)
}

fn private_key(pem: &SecretString) -> Result<PrivateKeyDer<'static>, Error> {
    let pem = pem.expose_secret();
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        let remedy = if pem.contains("ENCRYPTED") {
            "it is encrypted; decrypt it, for example with `openssl pkey`"
        } else {
            "give the text of an unencrypted PKCS#8, PKCS#1 or SEC1 key, from `-----BEGIN` on"
        };
        Error::configuration(format!("the client key holds no usable PEM key: {remedy}"))
    })
}

/// First and last moment of a certificate.
fn validity(
    what: &str,
    der: &CertificateDer<'_>,
) -> Result<(OffsetDateTime, OffsetDateTime), Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|source| {
        Error::configuration_with(format!("a {what} is no X.509 certificate"), source)
    })?;
    let validity = certificate.validity();
    Ok((
        validity.not_before.to_datetime(),
        validity.not_after.to_datetime(),
    ))
}

/// The certificate's last moment, if it is valid now.
fn check_validity(der: &CertificateDer<'_>, now: OffsetDateTime) -> Result<OffsetDateTime, Error> {
    let (not_before, not_after) = validity("client certificate", der)?;
    if now > not_after {
        return Err(Error::configuration(format!(
            "the client certificate expired on {}; get a new one for the MESH environment and \
             store it with its key",
            day(not_after)
        )));
    }
    if now < not_before {
        return Err(Error::configuration(format!(
            "the client certificate is valid from {} only; check the clock, or use the \
             certificate that is valid now",
            day(not_before)
        )));
    }
    Ok(not_after)
}

fn day(moment: OffsetDateTime) -> String {
    moment
        .format(format_description!(
            "[year]-[month]-[day] [hour]:[minute] UTC"
        ))
        .unwrap_or_else(|_| moment.to_string())
}

/// Takes any certificate; the server must still hold its key.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
