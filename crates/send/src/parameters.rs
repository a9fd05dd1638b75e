//! What an object's metadata asks for.

use mesh_client::{MailboxId, OutgoingMessage};
use mesh_pipeline::metadata::unquote;
use mesh_pipeline::store::SourceObject;
use mesh_pipeline::{Error, Fault};

use crate::mapping::Route;

const FROM: &str = "mex-from";

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

/// Whether the metadata say from whom the message is; if not, a mapping does.
pub(crate) fn names_sender(object: &SourceObject) -> bool {
    value(object, FROM).is_some()
}

/// The part of a key after its last `/`, for a message whose metadata give no file name.
pub(crate) fn base_name(key: &str) -> Option<&str> {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    (!name.is_empty()).then_some(name)
}

// HTTP takes the spaces around a header away: MESH would tell of other values than were sent, and not be asked by what it knows.
fn value(object: &SourceObject, name: &str) -> Option<String> {
    let value = unquote(object.attributes.metadata.get(name)?);
    let value = value.trim_matches(' ');
    (!value.is_empty()).then(|| value.to_owned())
}

/// Reads the metadata; every problem is named at once. A route stands for mex-from, mex-to and mex-workflowid.
pub(crate) fn read(
    object: &SourceObject,
    route: Option<Route>,
    file_name: Option<&str>,
) -> Result<Parameters, Error> {
    let mut problems = Vec::new();
    let value = |name: &str| value(object, name);
    let mut required = |name: &str| {
        value(name).unwrap_or_else(|| {
            problems.push(format!("metadata {name} is missing"));
            String::new()
        })
    };
    let sender_is = match route {
        Some(_) => "the mapping's src_mailbox",
        None => "metadata mex-from",
    };
    let Route {
        from,
        to,
        workflow_id,
    } = route.unwrap_or_else(|| Route {
        from: required(FROM),
        to: required("mex-to"),
        workflow_id: required("mex-workflowid"),
    });
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
        file_name: value("mex-filename").or_else(|| file_name.map(str::to_owned)),
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
            problems.push(format!("{sender_is} is no mailbox id: {error}"));
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
            compressed: content_compressed == Some(true) || object.content_encoding.is_some(),
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
    use proptest::prelude::*;

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
        let quoted = with(&[
            ("mex-subject", "my+subject+%24%C2%A3%25"),
            ("mex-localid", ""),
        ]);
        let parameters = read(&quoted, None, None).unwrap();
        assert_eq!(parameters.mailbox.as_ref(), "X26ABC1");
        assert_eq!(
            parameters.message.subject.as_deref(),
            Some("my subject $£%")
        );
        assert_eq!(parameters.message.local_id, None);
    }

    #[test]
    fn local_id_and_workflow_are_what_mesh_will_see() {
        let spaced = object(&[
            ("mex-from", "X26ABC1"),
            ("mex-to", "X26ABC2"),
            ("mex-workflowid", "+TEST+WORKFLOW++"),
        ]);
        let parameters = read(&spaced, None, None).unwrap();
        assert_eq!(parameters.message.workflow_id, "TEST WORKFLOW");
        for (text, expected) in [
            ("++REF123+4++", Some("REF123 4")),
            ("ref%E2%80%931", Some("ref–1")),
            ("++", None),
        ] {
            let parameters = read(&with(&[("mex-localid", text)]), None, None).unwrap();
            assert_eq!(parameters.message.local_id.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let error = read(&object(&[("mex-to", "X26ABC2")]), None, None).unwrap_err();
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
        assert!(
            read(&empty, None, None)
                .unwrap_err()
                .chain()
                .contains("empty")
        );
    }

    #[test]
    fn a_control_character_is_refused_without_the_value() {
        let control = with(&[("mex-subject", "secret%09subject")]);
        let error = read(&control, None, None).unwrap_err();
        let text = error.chain();
        assert!(
            text.contains("Mex-Subject") && text.contains("U+0009"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }

    const NAMES: [&str; 11] = [
        "mex-from",
        "mex-to",
        "mex-workflowid",
        "mex-subject",
        "mex-localid",
        "mex-filename",
        "mex-partnerid",
        "mex-content-checksum",
        "mex-content-compress",
        "mex-content-compressed",
        "mex-content-encrypted",
    ];

    proptest! {
        #[test]
        fn metadata_that_are_refused_are_not_repeated(
            name in prop::sample::select(&NAMES),
            before in "(?s).{0,20}",
            after in "(?s).{0,20}",
            longer: bool,
        ) {
            let more = "a".repeat(if longer { 600 } else { 0 });
            let text = format!("{before}PATIENT{after}{more}");
            if let Err(error) = read(&with(&[(name, text.as_str())]), None, None) {
                prop_assert_eq!(error.name(), "InvalidParameters");
                prop_assert!(!error.chain().contains("PATIENT"), "{}", error.chain());
            }
        }
    }

    #[test]
    fn booleans_take_the_spellings_of_the_interface() {
        let spellings = [
            (true, ["Yes", "true", "t", "Y", "1"]),
            (false, ["NO", "False", "f", "n", "0"]),
        ];
        for (expected, texts) in spellings {
            for text in texts {
                let object = with(&[
                    ("mex-content-compress", text),
                    ("mex-content-compressed", text),
                ]);
                let parameters = read(&object, None, None).unwrap();
                assert_eq!(parameters.compress, Some(expected), "{text}");
                assert_eq!(parameters.compressed, expected, "{text}");
            }
        }
        let object = with(&[("mex-content-compress", "perhaps")]);
        let error = read(&object, None, None).unwrap_err();
        assert!(error.chain().contains("mex-content-compress is neither"));
    }

    #[test]
    fn a_route_wins_over_the_metadata_and_its_sender_is_checked() {
        let route = |from: &str| Route {
            from: from.to_owned(),
            to: "X26ABC3".to_owned(),
            workflow_id: "MAPPED".to_owned(),
        };
        let object = object(&[("mex-to", "X26ABC2"), ("mex-workflowid", "W")]);
        assert!(!names_sender(&object));
        let parameters = read(&object, Some(route("x26abc9")), None).unwrap();
        assert_eq!(parameters.mailbox.as_ref(), "X26ABC9");
        assert_eq!(parameters.message.to, "X26ABC3");
        assert_eq!(parameters.message.workflow_id, "MAPPED");
        let error = read(&object, Some(route("no/mailbox")), None).unwrap_err();
        assert!(
            error.chain().contains("src_mailbox is no mailbox id"),
            "{}",
            error.chain()
        );
    }

    #[test]
    fn the_metadatas_file_name_wins_over_the_keys() {
        assert_eq!(base_name("outbound/a/b c.csv"), Some("b c.csv"));
        assert_eq!(base_name("outbound.csv"), Some("outbound.csv"));
        assert_eq!(base_name("outbound/"), None);
        let name = |metadata: &[(&str, &str)], key| {
            read(&with(metadata), None, key).unwrap().message.file_name
        };
        assert_eq!(name(&[], Some("k.csv")).as_deref(), Some("k.csv"));
        let given = [("mex-filename", "given.csv")];
        assert_eq!(name(&given, Some("k.csv")).as_deref(), Some("given.csv"));
        assert_eq!(name(&[], None), None);
    }
}
