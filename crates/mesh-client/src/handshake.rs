//! Handshake: proves connection and credentials, and tells MESH that the mailbox is in use.

use std::env::consts::{ARCH, OS};

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderValue;

use crate::client::Mailbox;
use crate::error::Error;

impl Mailbox {
    /// Validates the mailbox. MESH asks for this once a day.
    ///
    /// # Errors
    /// [`Error::NotAuthorised`] if MESH refuses the credentials; otherwise see [`Error`].
    pub async fn handshake(&self) -> Result<(), Error> {
        let mut call = self.call("handshake", Method::POST, "");
        let version = concat!("mesh-aws==", env!("CARGO_PKG_VERSION"));
        for (header, value) in [
            ("mex-clientversion", version),
            ("mex-osname", OS),
            ("mex-osversion", os_version().as_str()),
            ("mex-osarchitecture", ARCH),
        ] {
            let value = HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("unknown"));
            call.headers.insert(header, value);
        }
        self.execute(&call, &Bytes::new()).await?;
        Ok(())
    }
}

/// The kernel's release where there is one to read.
fn os_version() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    match release.trim() {
        "" => "unknown".to_owned(),
        release => release.to_owned(),
    }
}
