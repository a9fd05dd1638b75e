//! Acknowledge: the message is safe here and leaves the inbox.

use bytes::Bytes;
use reqwest::Method;

use crate::client::Mailbox;
use crate::error::Error;
use crate::id::MessageId;

impl Mailbox {
    /// Acknowledges a message. Call it only when the message is stored: afterwards MESH need not
    /// give it again. Repeating it is harmless.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn acknowledge(&self, id: &MessageId) -> Result<(), Error> {
        let path = format!("/inbox/{}/status/acknowledged", id.path_segment());
        let call = self.call("acknowledge", Method::PUT, &path);
        self.execute(&call, &Bytes::new()).await?;
        Ok(())
    }
}
