#![doc = include_str!("../README.md")]

mod acknowledge;
mod auth;
mod body;
mod client;
mod detail;
mod download;
mod error;
mod handshake;
mod header_text;
mod headers;
mod id;
mod inbox;
mod outgoing;
mod request;
mod retry;
mod send;
mod server_verifier;
mod tls;
mod track;
mod transport;

pub use body::{Body, BodySource, BoxError};
pub use client::{Mailbox, MeshClient, MeshClientBuilder};
pub use detail::ErrorDetail;
pub use download::Download;
pub use error::{ConfigurationError, Error};
pub use header_text::InvalidHeader;
pub use headers::{MessageHeaders, MessageType};
pub use id::{InvalidId, MailboxId, MessageId};
pub use inbox::{InboxPage, NextPage};
pub use outgoing::OutgoingMessage;
pub use retry::RetryPolicy;
pub use secrecy::{ExposeSecret, SecretString};
pub use track::{LocalIdLookup, Tracking};
pub use transport::TlsError;
