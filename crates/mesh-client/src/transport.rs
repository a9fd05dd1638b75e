//! What a fault of the connection means: was something sent, and whose fault is it.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError};

use crate::body::BoxError;
use crate::error::Error;
use crate::server_verifier::OnlyCommonName;

/// One side of the TLS handshake refused the other.
#[derive(Debug, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct TlsError {
    what: &'static str,
    remedy: &'static str,
    #[source]
    source: BoxError,
}

/// Sorts a failed request.
pub(crate) fn classify(error: reqwest::Error) -> Error {
    // The URL can hold a local id, which is the user's text.
    let error = error.without_url();
    if let Some((what, remedy)) = find_rustls(&error).and_then(|tls| explain(tls, &error)) {
        return Error::Tls(TlsError {
            what,
            remedy,
            source: error.into(),
        });
    }
    if error.is_builder() {
        return Error::configuration_with("the request can't be built", error);
    }
    if error.is_connect() {
        return Error::NotConnected(error.into());
    }
    Error::Interrupted(error.into())
}

/// rustls hides inside `io::Error`, whose `source` skips the error it wraps.
fn find_rustls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        next = match current
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => current.source(),
        };
    }
    None
}

/// Who refused whom. `None` for a fault after the handshake, when a request may have arrived.
fn explain(tls: &rustls::Error, error: &reqwest::Error) -> Option<(&'static str, &'static str)> {
    use rustls::Error as Tls;
    let explanation = match tls {
        Tls::AlertReceived(alert) => return explain_alert(*alert, error.is_connect()),
        Tls::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => (
            "the MESH server's certificate has expired",
            "check the clock, then tell the MESH service desk",
        ),
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => (
            "the MESH server's certificate is for another host name",
            "check the URL",
        ),
        Tls::InvalidCertificate(CertificateError::Other(other))
            if other.0.is::<OnlyCommonName>() =>
        {
            (
                "the MESH server's certificate names its host in the common name only",
                "set verify_checks_common_name to true to accept it",
            )
        }
        Tls::InvalidCertificate(_) => (
            "the MESH server's certificate was not accepted",
            "check that URL and CA certificates belong to the same MESH environment",
        ),
        _ if error.is_connect() => (
            "the TLS handshake with the MESH server failed",
            "check that the URL names a MESH server with TLS 1.2 or later",
        ),
        _ => return None,
    };
    Some(explanation)
}

/// With TLS 1.3 the server's refusal of a client certificate arrives after the client's handshake,
/// in place of an answer. These alerts end a handshake, never a request.
fn explain_alert(
    alert: AlertDescription,
    connecting: bool,
) -> Option<(&'static str, &'static str)> {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => Some((
            "the MESH server asks for a client certificate, and none was given",
            "configure client certificate and key",
        )),
        Alert::CertificateExpired => Some((
            "the MESH server says that the client certificate has expired",
            "get a new certificate for the MESH environment, and check the clock",
        )),
        Alert::CertificateRevoked => Some((
            "the MESH server says that the client certificate is revoked",
            "get a new certificate for the MESH environment",
        )),
        Alert::UnknownCA
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateUnknown
        | Alert::AccessDenied
        | Alert::DecryptError => Some((
            "the MESH server refused the client certificate",
            "check that certificate, key and URL belong to the same MESH environment, and that \
             the PEM holds the issuing CA where the server needs it",
        )),
        _ if connecting => Some((
            "the MESH server refused the TLS handshake",
            "check client certificate and URL; the server must take TLS 1.2 or later",
        )),
        _ => None,
    }
}
