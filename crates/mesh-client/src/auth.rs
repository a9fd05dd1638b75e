//! The Authorization header's token.

use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::error::Error;
use crate::id::MailboxId;

/// One token is good for one attempt: MESH refuses a second use.
pub(crate) fn token(
    mailbox: &MailboxId,
    password: &SecretString,
    shared_key: &SecretString,
    nonce: &str,
    nonce_count: u32,
    now: OffsetDateTime,
) -> Result<HeaderValue, Error> {
    let timestamp = now
        .to_offset(time::UtcOffset::UTC)
        .format(format_description!("[year][month][day][hour][minute]"))
        .map_err(|source| Error::configuration_with("the clock has no usable time", source))?;
    let mut mac = Hmac::<Sha256>::new_from_slice(shared_key.expose_secret().as_bytes())
        .map_err(|source| Error::configuration_with("the shared key can't sign", source))?;
    // Fed in parts, so that no copy of the password is left behind.
    for part in [
        mailbox.as_str(),
        ":",
        nonce,
        ":",
        &nonce_count.to_string(),
        ":",
        password.expose_secret(),
        ":",
        &timestamp,
    ] {
        mac.update(part.as_bytes());
    }
    let hash = hex::encode(mac.finalize().into_bytes());
    let mut value = HeaderValue::from_str(&format!(
        "NHSMESH {mailbox}:{nonce}:{nonce_count}:{timestamp}:{hash}"
    ))
    .map_err(|source| Error::configuration_with("the token is not a header value", source))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn known_answers() {
        for (mailbox, password, key, nonce, count, now, expected) in [
            (
                "X26ABC1",
                "password",
                "TestKey",
                "0f8fad5b-d9cb-469f-a165-70867728950e",
                0,
                datetime!(2026-01-15 12:34:59 UTC),
                "NHSMESH X26ABC1:0f8fad5b-d9cb-469f-a165-70867728950e:0:202601151234:\
                 6f6bb952875c312f9329e9cc9329df91cd593cb3d6320cecb8c39ea7bd578376",
            ),
            (
                "x26abc2",
                "p:a:s:s w0rd!",
                "Banana",
                "7c9e6679-7425-40de-944b-e07fc1f90ae7",
                17,
                datetime!(2026-01-01 00:59:01 +01:00),
                "NHSMESH X26ABC2:7c9e6679-7425-40de-944b-e07fc1f90ae7:17:202512312359:\
                 b9a19cec7555fe3d4bd6fe753c5f9eb807fe45504c6206f89a11255a7cec91f9",
            ),
        ] {
            let token = token(
                &mailbox.parse().unwrap(),
                &password.into(),
                &key.into(),
                nonce,
                count,
                now,
            )
            .unwrap();
            assert_eq!(token.to_str().unwrap(), expected);
            assert!(token.is_sensitive());
            assert_eq!(format!("{token:?}"), "Sensitive");
        }
    }
}
