//! Text in headers: what MESH takes, and how it goes over the wire.

use reqwest::header::{HeaderName, HeaderValue};

/// A header value that MESH would refuse. The text never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{header} {problem}; {remedy}")]
pub struct InvalidHeader {
    /// The header's name, for example `Mex-Subject`.
    pub header: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}

pub(crate) fn name(header: &'static str) -> Result<HeaderName, InvalidHeader> {
    HeaderName::from_bytes(header.as_bytes()).map_err(|_| unsendable(header))
}

/// ISO-8859-1 where the text fits into it, as the NHS's own client sends it, otherwise UTF-8.
fn encode(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(c).ok())
        .collect::<Option<Vec<u8>>>()
        .unwrap_or_else(|| text.as_bytes().to_vec())
}

pub(crate) fn value(header: &'static str, text: &str) -> Result<HeaderValue, InvalidHeader> {
    HeaderValue::from_bytes(&encode(text)).map_err(|_| unsendable(header))
}

fn unsendable(header: &'static str) -> InvalidHeader {
    InvalidHeader {
        header,
        problem: "is no HTTP header".into(),
        remedy: "leave out everything but text",
    }
}

pub(crate) fn check(header: &'static str, value: &str, limit: usize) -> Result<(), InvalidHeader> {
    let invalid = |problem: String, remedy: &'static str| {
        Err(InvalidHeader {
            header,
            problem,
            remedy,
        })
    };
    if value.trim().is_empty() && matches!(header, "Mex-To" | "Mex-WorkflowID") {
        return invalid("is empty".into(), "MESH needs it to deliver the message");
    }
    // MESH counts the bytes on the wire.
    let length = encode(value).len();
    if length > limit {
        return invalid(
            format!("has {length} bytes, MESH takes {limit}"),
            "shorten it",
        );
    }
    let at = |found: Option<(usize, char)>| {
        found.map(|(position, c)| format!("character {} is U+{:04X}", position + 1, u32::from(c)))
    };
    if let Some(place) = at(value.chars().enumerate().find(|(_, c)| c.is_control())) {
        return invalid(
            format!("holds a control character: {place}"),
            "remove line breaks, tabs and other control characters",
        );
    }
    if header == "Mex-Content-Checksum" {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | ':' | '-' | '/');
        if let Some(place) = at(value.chars().enumerate().find(|(_, c)| !allowed(*c))) {
            return invalid(
                format!("holds a character that MESH refuses: {place}"),
                "use letters, digits, spaces, `:`, `-` and `/`, for example a hexadecimal checksum",
            );
        }
    }
    if matches!(header, "Mex-To" | "Mex-WorkflowID" | "Mex-Content-Checksum") {
        let start = value.trim_start().to_ascii_lowercase();
        if start.starts_with("http://") || start.starts_with("https://") {
            return invalid(
                "starts like a web address, which MESH refuses".into(),
                "give the mailbox, the workflow or the checksum itself",
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderMap;

    use super::*;
    use crate::MessageHeaders;

    const HEADERS: [&str; 4] = [
        "Mex-Subject",
        "Mex-To",
        "Mex-WorkflowID",
        "Mex-Content-Checksum",
    ];

    proptest! {
        #[test]
        fn what_is_accepted_can_be_sent(
            header in prop::sample::select(&HEADERS),
            text in "(?s).{0,60}",
            limit in 0_usize..100,
        ) {
            if check(header, &text, limit).is_ok() {
                let sent = value(header, &text).unwrap();
                prop_assert!(sent.as_bytes().len() <= limit);
                prop_assert!(!sent.as_bytes().iter().any(u8::is_ascii_control));
            }
        }

        #[test]
        fn what_is_refused_is_not_repeated(
            header in prop::sample::select(&HEADERS),
            before in "(?s).{0,20}",
            after in "(?s).{0,20}",
            limit in 0_usize..60,
        ) {
            let text = format!("{before}PATIENT{after}");
            if let Err(refusal) = check(header, &text, limit) {
                prop_assert!(!refusal.to_string().contains("PATIENT"), "{refusal}");
            }
        }

        #[test]
        fn what_is_sent_is_read_again(text in "\\PC{0,60}") {
            let latin_1: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
            // The few texts of ISO-8859-1 whose bytes are also UTF-8 of another text can't be told from that.
            prop_assume!(text.is_ascii() || latin_1.is_none_or(|bytes| std::str::from_utf8(&bytes).is_err()));
            let mut map = HeaderMap::new();
            map.insert("mex-subject", value("Mex-Subject", &text).unwrap());
            let headers = MessageHeaders::new(&map);
            prop_assert_eq!(headers.subject().unwrap_or_default(), text);
        }
    }
}
