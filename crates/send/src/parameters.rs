//! What an object's metadata asks for.

use mesh_client::{MailboxId, OutgoingMessage};
use mesh_pipeline::metadata::unquote;
use mesh_pipeline::store::SourceObject;
use mesh_pipeline::{Error, Fault};

/// How an object is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// Our mailbox.
    pub(crate) mailbox: MailboxId,
    /// Its headers; `gzip` is the plan's.
    pub(crate) message: OutgoingMessage,
    /// `mex-content-compress`: an explicit instruction.
    pub(crate) compress: Option<bool>,
    /// The content is compressed already, by what the sender says.
    pub(crate) compressed: bool,
}

/// Reads the metadata; every problem is named at once.
pub(crate) fn read(object: &SourceObject) -> Result<Parameters, Error> {
    let mut problems = Vec::new();
    let value = |name: &str| {
        object
            .attributes
            .metadata
            .get(name)
            .map(|value| unquote(value))
            .filter(|value| !value.is_empty())
    };
    let mut required = |name: &str| {
        value(name).unwrap_or_else(|| {
            problems.push(format!("metadata {name} is missing"));
            String::new()
        })
    };
    let from = required("mex-from");
    let to = required("mex-to");
    let workflow_id = required("mex-workflowid");
    let mut flag = |name: &str| {
        value(name).and_then(|value| {
            let parsed = boolean(&value);
            if parsed.is_none() {
                problems.push(format!(
                    "metadata {name} is neither yes, true, t, y, 1 nor no, false, f, n, 0"
                ));
            }
            parsed
        })
    };
    let compress = flag("mex-content-compress");
    let content_compressed = flag("mex-content-compressed");
    let content_encrypted = flag("mex-content-encrypted");
    if object.size == 0 {
        problems.push("the object is empty and MESH takes no empty message".to_owned());
    }
    let message = OutgoingMessage {
        to,
        workflow_id,
        subject: value("mex-subject"),
        local_id: value("mex-localid"),
        file_name: value("mex-filename"),
        partner_id: value("mex-partnerid"),
        content_checksum: value("mex-content-checksum"),
        content_encrypted,
        content_compressed,
        content_type: object.attributes.content_type.clone(),
        gzip: false,
    };
    let mailbox = match from.parse::<MailboxId>() {
        Ok(mailbox) => Some(mailbox),
        Err(_) if from.is_empty() => None,
        Err(error) => {
            problems.push(format!("metadata mex-from is no mailbox id: {error}"));
            None
        }
    };
    if !message.to.is_empty()
        && !message.workflow_id.is_empty()
        && let Err(error) = message.validate()
    {
        problems.push(error.to_string());
    }
    match mailbox {
        Some(mailbox) if problems.is_empty() => Ok(Parameters {
            mailbox,
            message,
            compress,
            compressed: content_compressed.is_some() || object.content_encoding.is_some(),
        }),
        _ => Err(Error::InvalidParameters(Fault::new(format!(
            "{}; put the object again with the right metadata and content",
            problems.join("; ")
        )))),
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "yes" | "true" | "t" | "y" | "1" => Some(true),
        "no" | "false" | "f" | "n" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(metadata: &[(&str, &str)]) -> SourceObject {
        let mut object = SourceObject {
            size: 3,
            ..SourceObject::default()
        };
        for (key, value) in metadata {
            object
                .attributes
                .metadata
                .insert((*key).to_owned(), (*value).to_owned());
        }
        object
    }

    const NEEDED: [(&str, &str); 3] = [
        ("mex-from", "x26abc1"),
        ("mex-to", "X26ABC2"),
        ("mex-workflowid", "TEST_WORKFLOW"),
    ];

    fn with(more: &[(&str, &str)]) -> SourceObject {
        object(&[&NEEDED, more].concat())
    }

    #[test]
    fn values_are_unquoted_and_the_mailbox_is_upper_case() {
        let parameters = read(&with(&[
            ("mex-subject", "my+subject+%24%C2%A3%25"),
            ("mex-localid", ""),
        ]))
        .unwrap();
        assert_eq!(parameters.mailbox.as_ref(), "X26ABC1");
        assert_eq!(
            parameters.message.subject.as_deref(),
            Some("my subject $£%")
        );
        assert_eq!(parameters.message.local_id, None);
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let error = read(&object(&[("mex-to", "X26ABC2")])).unwrap_err();
        assert_eq!(error.name(), "InvalidParameters");
        let text = error.chain();
        assert!(
            text.contains("mex-from is missing") && text.contains("mex-workflowid is missing"),
            "{text}"
        );
    }

    #[test]
    fn an_empty_object_is_refused() {
        let mut empty = with(&[]);
        empty.size = 0;
        assert!(read(&empty).unwrap_err().chain().contains("empty"));
    }

    #[test]
    fn a_control_character_is_refused_without_the_value() {
        let error = read(&with(&[("mex-subject", "secret%09subject")])).unwrap_err();
        let text = error.chain();
        assert!(
            text.contains("Mex-Subject") && text.contains("U+0009"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn booleans_take_the_spellings_of_the_interface() {
        for (text, expected) in [
            ("Yes", true),
            ("t", true),
            ("1", true),
            ("NO", false),
            ("f", false),
        ] {
            let parameters = read(&with(&[("mex-content-compress", text)])).unwrap();
            assert_eq!(parameters.compress, Some(expected), "{text}");
        }
        let error = read(&with(&[("mex-content-compress", "perhaps")])).unwrap_err();
        assert!(error.chain().contains("mex-content-compress is neither"));
    }
}
