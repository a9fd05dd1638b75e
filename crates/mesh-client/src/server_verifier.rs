//! Who is MESH: the certificate's chain, then the host's name, in the common name if need be.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore,
    SignatureScheme,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::error::Error;

/// The certificate is good, but for a name that is only where it is not to be looked for.
#[derive(Debug, thiserror::Error)]
#[error("the host's name is in the certificate's common name only")]
pub(crate) struct OnlyCommonName;

/// webpki's verifier, which knows the subjectAltName alone, with the common name beside it.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    common_name: bool,
    constrained: bool,
}

impl ServerVerifier {
    pub(crate) fn new(
        anchors: RootCertStore,
        provider: Arc<CryptoProvider>,
        common_name: bool,
    ) -> Result<Self, Error> {
        let constrained = anchors
            .roots
            .iter()
            .any(|anchor| anchor.name_constraints.is_some());
        let webpki = WebPkiServerVerifier::builder_with_provider(anchors.into(), provider)
            .build()
            .map_err(|source| {
                Error::configuration_with("the CA certificates can't be used", source)
            })?;
        Ok(Self {
            webpki,
            common_name,
            constrained,
        })
    }

    /// webpki holds a CA's name constraints against a subjectAltName only.
    fn is_constrained(&self, intermediates: &[CertificateDer<'_>]) -> bool {
        self.constrained
            || intermediates.iter().any(|der| {
                X509Certificate::from_der(der).map_or(true, |(_, certificate)| {
                    !matches!(certificate.name_constraints(), Ok(None))
                })
            })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .webpki
            .verify_server_cert(certificate, intermediates, host, ocsp, now);
        // rustls looks at the name last: whatever else there is to verify has been.
        let Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) = &verified
        else {
            return verified;
        };
        if self.is_constrained(intermediates) || !has_common_name(certificate, host) {
            return verified;
        }
        if self.common_name {
            return Ok(ServerCertVerified::assertion());
        }
        let error = OtherError(Arc::new(OnlyCommonName));
        Err(CertificateError::Other(error).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.webpki.root_hint_subjects()
    }
}

/// OpenSSL's rule: a common name counts where no subjectAltName holds a DNS name, and never for an address.
fn has_common_name(der: &CertificateDer<'_>, host: &ServerName<'_>) -> bool {
    let ServerName::DnsName(host) = host else {
        return false;
    };
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return false;
    };
    let without_dns_name =
        certificate
            .subject_alternative_name()
            .is_ok_and(|extension| {
                extension.is_none_or(|names| {
                    names.value.general_names.iter().all(|name| {
                        !matches!(name, GeneralName::DNSName(_) | GeneralName::Invalid(..))
                    })
                })
            });
    without_dns_name
        && certificate
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .any(|name| matches(name, host.as_ref()))
}

/// A `*` stands for the whole first label, above at least two others.
fn matches(name: &str, host: &str) -> bool {
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some(domain), Some((_, rest))) = (name.strip_prefix("*."), host.split_once('.')) else {
        return false;
    };
    domain.contains('.') && domain.eq_ignore_ascii_case(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_a_whole_or_but_for_the_first_label() {
        for (name, host) in [
            ("mesh.example.org", "mesh.example.org"),
            ("MESH.example.org", "mesh.EXAMPLE.org"),
            ("*.example.org", "mesh.example.org"),
        ] {
            assert!(matches(name, host), "{name} {host}");
        }
        for (name, host) in [
            ("", "mesh.example.org"),
            ("mesh.example.org ", "mesh.example.org"),
            ("mesh.example.org\0.other", "mesh.example.org"),
            ("example.org", "mesh.example.org"),
            ("*.example.org", "example.org"),
            ("*.example.org", "a.mesh.example.org"),
            ("*.org", "example.org"),
            ("*", "localhost"),
            ("m*.example.org", "mesh.example.org"),
            ("mesh.*.org", "mesh.example.org"),
        ] {
            assert!(!matches(name, host), "{name} {host}");
        }
    }
}
