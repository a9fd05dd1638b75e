//! Every operation against a real server on the loopback interface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod download;
mod hostile;
mod inbox;
mod pki;
mod retry;
mod send;
mod server;
mod tls;
mod track;
