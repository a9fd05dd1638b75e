//! Error names: the closed set that the state machines match.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use lambda_runtime::Diagnostic;

/// A boxed cause.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What went wrong and what to do about it; the cause stays in the source.
#[derive(Debug)]
pub struct Fault {
    what: String,
    retry_after: Option<Duration>,
    source: Option<BoxError>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Fault {
    /// A fault without a cause of its own.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            retry_after: None,
            source: None,
        }
    }

    /// The same fault with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same fault with the pause that the server asked for.
    #[must_use]
    pub fn after(mut self, pause: Option<Duration>) -> Self {
        self.retry_after = pause;
        self
    }
}

/// What a Lambda fails with. The variant's name is the `errorType` that `Retry` and `Catch` match.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
pub enum Error {
    /// MESH can't be reached or has an internal error: try again later.
    #[error(transparent)]
    MeshUnavailable(Fault),
    /// MESH asks for fewer requests: try again later.
    #[error(transparent)]
    Throttled(Fault),
    /// An AWS service is busy or can't be reached: try again later.
    #[error(transparent)]
    AwsUnavailable(Fault),
    /// MESH refuses these credentials: correct the secrets.
    #[error(transparent)]
    NotAuthorised(Fault),
    /// A setting or a secret is missing or can't be used: correct it.
    #[error(transparent)]
    InvalidConfiguration(Fault),
    /// AWS refuses the request for good: correct the permissions or the resource.
    #[error(transparent)]
    AwsRefused(Fault),
    /// The metadata of an outbound object can't be sent: put the object again with the right ones.
    #[error(transparent)]
    InvalidParameters(Fault),
    /// A received message can't be stored as it is.
    #[error(transparent)]
    InvalidMessage(Fault),
    /// The input is no event, row or request that this function knows.
    #[error(transparent)]
    InvalidInput(Fault),
    /// MESH refuses the request for good.
    #[error(transparent)]
    Rejected(Fault),
    /// MESH lists the message but no longer has it.
    #[error(transparent)]
    MessageGone(Fault),
    /// The object version is no longer in the bucket.
    #[error(transparent)]
    ObjectGone(Fault),
    /// It can't be known whether MESH has accepted the message: an operator decides.
    #[error(transparent)]
    UncertainSend(Fault),
    /// The event is older than the rows that would show a repeat.
    #[error(transparent)]
    StaleEvent(Fault),
    /// A fault of this software: report it.
    #[error(transparent)]
    Panic(Fault),
    /// MESH has not taken an object for long, which goes on being tried: look what stands in its way.
    #[error(transparent)]
    NotTaken(Fault),
}

impl Error {
    /// The name that state machines match.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// Whether the same request may succeed later, with nothing changed by anyone.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::MeshUnavailable(_) | Self::Throttled(_) | Self::AwsUnavailable(_)
        )
    }

    /// Whether the message or object itself is at fault, rather than what is around it.
    pub fn is_of_the_message(&self) -> bool {
        matches!(
            self,
            Self::InvalidMessage(_)
                | Self::InvalidParameters(_)
                | Self::Rejected(_)
                | Self::MessageGone(_)
                | Self::ObjectGone(_)
        )
    }

    /// Whether a failed attempt may be the message's doing. Poll has just spoken to MESH, so what MESH fails at now may
    /// well be, unless it asks for a pause; what AWS or a secret fails at is not.
    pub fn counts_against_the_message(&self) -> bool {
        self.is_of_the_message()
            || matches!(self, Self::MeshUnavailable(fault) if fault.retry_after.is_none())
    }

    /// The pause that the server asked for, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::MeshUnavailable(fault) | Self::Throttled(fault) => fault.retry_after,
            _ => None,
        }
    }

    /// The same error of an open row, which it names first: the state machine of sends tells by it that the object has one.
    #[must_use]
    pub fn of_row(mut self, row: &str) -> Self {
        let (Self::MeshUnavailable(fault)
        | Self::Throttled(fault)
        | Self::AwsUnavailable(fault)
        | Self::NotAuthorised(fault)
        | Self::InvalidConfiguration(fault)
        | Self::AwsRefused(fault)
        | Self::InvalidParameters(fault)
        | Self::InvalidMessage(fault)
        | Self::InvalidInput(fault)
        | Self::Rejected(fault)
        | Self::MessageGone(fault)
        | Self::ObjectGone(fault)
        | Self::UncertainSend(fault)
        | Self::StaleEvent(fault)
        | Self::Panic(fault)
        | Self::NotTaken(fault)) = &mut self;
        fault.what = format!("row {row}: {}", fault.what);
        self
    }

    /// The whole chain of causes on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let part = error.to_string();
            if !part.is_empty() && !text.ends_with(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = error.source();
        }
        text
    }

    /// What a row's `error` attribute says: the name, then the chain.
    pub fn row_text(&self) -> String {
        let mut text = format!("{}: {}", self.name(), self.chain());
        // A DynamoDB item is limited to 400 KB, and a reader's patience to less.
        if let Some((end, _)) = text.char_indices().nth(1_000) {
            text.truncate(end);
        }
        text
    }
}

impl Error {
    /// The error that closed an outbound row, from the row's text.
    pub fn of_closed_row(text: &str) -> Self {
        let (name, what) = text.split_once(": ").unwrap_or((text, ""));
        let fault = Fault::new(what);
        match name {
            "MeshUnavailable" => Self::MeshUnavailable(fault),
            "Throttled" => Self::Throttled(fault),
            "AwsUnavailable" => Self::AwsUnavailable(fault),
            "NotAuthorised" => Self::NotAuthorised(fault),
            "InvalidConfiguration" => Self::InvalidConfiguration(fault),
            "AwsRefused" => Self::AwsRefused(fault),
            "InvalidParameters" => Self::InvalidParameters(fault),
            "InvalidMessage" => Self::InvalidMessage(fault),
            "Rejected" => Self::Rejected(fault),
            "MessageGone" => Self::MessageGone(fault),
            "ObjectGone" => Self::ObjectGone(fault),
            "UncertainSend" => Self::UncertainSend(fault),
            "Panic" => Self::Panic(fault),
            "NotTaken" => Self::NotTaken(fault),
            "StaleEvent" => Self::StaleEvent(fault),
            "InvalidInput" => Self::InvalidInput(fault),
            _ => Self::InvalidInput(Fault::new(format!(
                "the row's error is none that this version knows: {text}"
            ))),
        }
    }
}

impl From<Error> for Diagnostic {
    fn from(error: Error) -> Self {
        Self {
            error_type: error.name().to_owned(),
            error_message: error.chain(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variant_is_the_error_type_and_the_chain_is_the_message() {
        let cause = std::io::Error::other("connection reset");
        let error = Error::MeshUnavailable(Fault::new("MESH did not answer").because(cause));
        let diagnostic = Diagnostic::from(error);
        assert_eq!(diagnostic.error_type, "MeshUnavailable");
        assert_eq!(
            diagnostic.error_message,
            "MESH did not answer: connection reset"
        );
    }

    #[test]
    fn a_rows_text_gives_back_its_error_whichever_it_is() {
        for name in <Error as strum::VariantNames>::VARIANTS {
            let text = format!("{name}: what: and why");
            let error = Error::of_closed_row(&text);
            assert_eq!((error.name(), error.row_text()), (*name, text));
            assert_eq!(error.chain(), "what: and why");
        }
        let error = Error::of_closed_row("Unheard: of");
        assert_eq!(error.name(), "InvalidInput");
        assert!(error.chain().contains("Unheard: of"));
    }

    #[test]
    fn an_error_of_a_row_begins_with_it() {
        let cause = std::io::Error::other("why");
        let error = Error::AwsRefused(Fault::new("what").because(cause)).of_row("out#1");
        assert_eq!(error.row_text(), "AwsRefused: row out#1: what: why");
    }

    #[test]
    fn a_row_text_is_bounded() {
        let error = Error::Rejected(Fault::new("é".repeat(5_000)));
        assert_eq!(error.row_text().chars().count(), 1_000);
    }
}
