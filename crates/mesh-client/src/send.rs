//! Sending: the first chunk makes the message, later ones complete it.

use reqwest::{Method, Response};
use serde::Deserialize;

use crate::body::{Body, BodySource};
use crate::client::Mailbox;
use crate::error::Error;
use crate::id::MessageId;
use crate::outgoing::{OutgoingMessage, chunk_headers};
use crate::request::json;

#[derive(Deserialize)]
struct Answer {
    #[serde(alias = "messageID")]
    message_id: String,
}

impl Mailbox {
    /// Sends the first or only chunk of `chunks`, and gives the new message's id.
    ///
    /// Never repeated: each POST that MESH accepts is a message of its own, and a lost answer
    /// doesn't say whether it did. It goes out on a new connection, so that a kept one which the
    /// server is just closing can't make the outcome uncertain.
    ///
    /// # Errors
    /// Only after an error with [`Error::was_not_accepted`] is it certain that nothing was sent.
    pub async fn send(
        &self,
        message: &OutgoingMessage,
        chunks: u32,
        body: Body,
    ) -> Result<MessageId, Error> {
        let mut call = self.call("send", Method::POST, "/outbox");
        call.headers = message.headers(chunks)?;
        call.fresh_connection = true;
        let response: Response = self.attempt(&call, body, 1).await?;
        let answer: Answer = json(response).await?;
        MessageId::try_from(answer.message_id)
            .map_err(|error| Error::Malformed(format!("MESH gave an {error}")))
    }

    /// Sends chunk number `chunk` (from 2) of `chunks`. Chunks go in order, one at a time, and
    /// all with `gzip` as the first had it. MESH replaces a chunk that it has, so this is repeated
    /// like any other call.
    ///
    /// # Errors
    /// [`Error::AlreadyComplete`] for a repeated last chunk means that the first try may have
    /// worked: ask [`Mailbox::track`]. Otherwise see [`Error`].
    pub async fn send_chunk(
        &self,
        id: &MessageId,
        chunk: u32,
        chunks: u32,
        gzip: bool,
        body: &impl BodySource,
    ) -> Result<(), Error> {
        let path = format!("/outbox/{}/{chunk}", id.path_segment());
        let mut call = self.call("send_chunk", Method::POST, &path);
        call.headers = chunk_headers(chunk, chunks, gzip)?;
        // The answer's body differs between versions and says nothing new.
        self.execute(&call, body).await?;
        Ok(())
    }
}
