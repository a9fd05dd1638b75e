//! Errors by what the caller can do.

use std::time::Duration;

use crate::body::BoxError;
use crate::detail::ErrorDetail;
use crate::header_text::InvalidHeader;
use crate::transport::TlsError;

/// A failed call. The text names the failure, [`std::error::Error::source`] its cause; neither
/// holds a body, a subject, a file name or a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting, certificate or key is wrong. Repeating changes nothing.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The message can't be sent with these header values.
    #[error(transparent)]
    InvalidHeader(#[from] InvalidHeader),
    /// 401 or 403: token, password, shared key or mailbox refused.
    #[error(
        "MESH refused the mailbox's credentials: {0}; check mailbox id, mailbox password, shared \
         key and environment"
    )]
    NotAuthorised(ErrorDetail),
    /// Any other 4xx: refused for good.
    #[error("MESH rejected the request: {0}")]
    Rejected(ErrorDetail),
    /// 404. Only with [`ErrorDetail::mesh_shaped`] did MESH itself say so.
    #[error("not found: {0}")]
    NotFound(ErrorDetail),
    /// 410: the message can't be downloaded (now).
    #[error("the message is not available: {0}")]
    Gone(ErrorDetail),
    /// 300: more than one message fits.
    #[error("more than one message fits: {0}")]
    Several(ErrorDetail),
    /// 423: the message has all its chunks already.
    #[error("the message is already complete: {0}")]
    AlreadyComplete(ErrorDetail),
    /// 425 or 429: too early or too often.
    #[error("MESH asks to slow down: {detail}")]
    Throttled {
        /// How long MESH asks to wait.
        retry_after: Option<Duration>,
        /// What MESH said.
        detail: ErrorDetail,
    },
    /// 5xx.
    #[error("MESH is unavailable: {detail}")]
    Unavailable {
        /// How long MESH asks to wait.
        retry_after: Option<Duration>,
        /// What MESH said.
        detail: ErrorDetail,
    },
    /// There was no connection: nothing was sent.
    #[error("no connection to MESH could be made; check the URL, the network and the firewall")]
    NotConnected(#[source] BoxError),
    /// One side refused the other's certificate or TLS version: nothing was accepted.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Reset, time-out or a body cut short after the request began: MESH may have acted on it.
    #[error(
        "the connection to MESH broke before its answer was complete; if no call gets an answer, \
         check that the client certificate belongs to this environment"
    )]
    Interrupted(#[source] BoxError),
    /// The body isn't what its Content-Encoding says.
    #[error("the message's body can't be decoded")]
    InvalidBody(#[source] BoxError),
    /// An answer that doesn't follow the MESH API.
    #[error("MESH's answer was not understood: {0}")]
    Malformed(String),
    /// The caller's own stream failed, so the request stayed incomplete.
    #[error("the body to send could not be read")]
    BodySource(#[source] BoxError),
}

/// A wrong setting, and its remedy.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConfigurationError {
    message: String,
    #[source]
    source: Option<BoxError>,
}

impl Error {
    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self::Configuration(ConfigurationError {
            message: message.into(),
            source: None,
        })
    }

    pub(crate) fn configuration_with(
        message: impl Into<String>,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::Configuration(ConfigurationError {
            message: message.into(),
            source: Some(source.into()),
        })
    }

    /// The error for an answer other than success: the whole table of MESH's statuses.
    pub(crate) fn from_answer(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let detail = ErrorDetail::parse(status, body);
        match status {
            300 => Self::Several(detail),
            401 | 403 => Self::NotAuthorised(detail),
            404 => Self::NotFound(detail),
            410 => Self::Gone(detail),
            423 => Self::AlreadyComplete(detail),
            425 | 429 => Self::Throttled {
                retry_after,
                detail,
            },
            400..=499 => Self::Rejected(detail),
            500..=599 => Self::Unavailable {
                retry_after,
                detail,
            },
            _ => Self::Malformed(format!("unexpected {detail}")),
        }
    }

    /// Whether the same call may work later. A first chunk ([`crate::Mailbox::send`]) may be
    /// repeated only if [`Error::was_not_accepted`].
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Throttled { .. }
                | Self::Unavailable { .. }
                | Self::NotConnected(_)
                | Self::Interrupted(_)
        )
    }

    /// Whether the request certainly had no effect: it never left, stayed incomplete, or MESH
    /// itself refused it with a 4xx.
    #[must_use]
    pub fn was_not_accepted(&self) -> bool {
        match self {
            Self::Configuration(_)
            | Self::InvalidHeader(_)
            | Self::NotConnected(_)
            | Self::Tls(_)
            | Self::BodySource(_) => true,
            Self::Several(_)
            | Self::Unavailable { .. }
            | Self::Interrupted(_)
            | Self::InvalidBody(_)
            | Self::Malformed(_) => false,
            Self::NotAuthorised(detail)
            | Self::Rejected(detail)
            | Self::NotFound(detail)
            | Self::Gone(detail)
            | Self::AlreadyComplete(detail)
            | Self::Throttled { detail, .. } => detail.mesh_shaped,
        }
    }

    /// How long MESH asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// What MESH said, where it said something.
    #[must_use]
    pub fn detail(&self) -> Option<&ErrorDetail> {
        match self {
            Self::NotAuthorised(detail)
            | Self::Rejected(detail)
            | Self::NotFound(detail)
            | Self::Gone(detail)
            | Self::Several(detail)
            | Self::AlreadyComplete(detail)
            | Self::Throttled { detail, .. }
            | Self::Unavailable { detail, .. } => Some(detail),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESH_SHAPED: &[u8] = br#"{"detail":[{"event":"SEND","code":"12","msg":"text"}]}"#;

    #[test]
    fn each_status_has_its_class() {
        for (status, class, retryable) in [
            (300, "Several", false),
            (302, "Malformed", false),
            (400, "Rejected", false),
            (401, "NotAuthorised", false),
            (403, "NotAuthorised", false),
            (404, "NotFound", false),
            (406, "Rejected", false),
            (410, "Gone", false),
            (417, "Rejected", false),
            (422, "Rejected", false),
            (423, "AlreadyComplete", false),
            (425, "Throttled", true),
            (429, "Throttled", true),
            (500, "Unavailable", true),
            (503, "Unavailable", true),
        ] {
            let wait = Some(Duration::from_secs(1));
            let error = Error::from_answer(status, wait, MESH_SHAPED);
            assert!(
                format!("{error:?}").starts_with(class),
                "{status}: {error:?}"
            );
            assert_eq!(error.is_retryable(), retryable, "{status}");
            assert_eq!(error.retry_after().is_some(), retryable, "{status}");
        }
    }

    #[test]
    fn only_meshs_own_refusals_and_unsent_requests_had_no_effect_for_certain() {
        for status in [400, 403, 404, 410, 417, 422, 423, 425, 429] {
            let by = |body| Error::from_answer(status, None, body).was_not_accepted();
            assert!(by(MESH_SHAPED), "{status}");
            assert!(!by(b"<html>proxy</html>"), "{status}");
            assert!(!by(br#"{"message":"Forbidden"}"#), "{status}");
        }
        for status in [302, 500, 502, 503, 504] {
            assert!(!Error::from_answer(status, None, MESH_SHAPED).was_not_accepted());
        }
        assert!(Error::NotConnected("refused".into()).was_not_accepted());
        assert!(Error::BodySource("disk".into()).was_not_accepted());
        assert!(!Error::Interrupted("reset".into()).was_not_accepted());
        assert!(!Error::Malformed("no id".into()).was_not_accepted());
    }
}
