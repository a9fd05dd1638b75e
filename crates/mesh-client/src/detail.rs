//! What MESH says in an error's body, of which there are five shapes.

use std::fmt;

use serde_json::Value;

/// Longest text of MESH's that is kept.
const DESCRIPTION_LENGTH: usize = 300;

/// What an error answer says. Of a validation error only the place and the kind are kept, because
/// MESH repeats the refused values in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorDetail {
    /// The HTTP status.
    pub status: u16,
    /// MESH's event, for example `SEND`.
    pub event: Option<String>,
    /// MESH's code, for example `12` or `EPL-151`: an opaque text.
    pub code: Option<String>,
    /// MESH's text, or for a validation error its place and kind.
    pub description: Option<String>,
    /// Whether the body has the form of an error of the MESH API itself, so that it can't be the
    /// answer of a gateway or of another server.
    pub mesh_shaped: bool,
}

impl ErrorDetail {
    pub(crate) fn parse(status: u16, body: &[u8]) -> Self {
        let nothing = Self {
            status,
            ..Self::default()
        };
        // Not JSON: live answers internal errors with XML, gateways with HTML; both are too
        // free a text to keep.
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
            return nothing;
        };
        let text = |value: Option<&Value>| value.and_then(Value::as_str).and_then(tidy);
        if let Some(Value::Array(entries)) = body.get("detail") {
            let Some(first) = entries.first().and_then(Value::as_object) else {
                return nothing;
            };
            if first.contains_key("code") || first.contains_key("event") {
                return Self {
                    event: text(first.get("event")),
                    code: text(first.get("code")),
                    description: text(first.get("msg")),
                    mesh_shaped: true,
                    ..nothing
                };
            }
            if first.contains_key("loc") || first.contains_key("type") {
                let places: Vec<_> = entries.iter().map(validation).collect();
                return Self {
                    description: tidy(&places.join("; ")),
                    mesh_shaped: true,
                    ..nothing
                };
            }
            return nothing;
        }
        if body.contains_key("errorEvent") || body.contains_key("errorCode") {
            return Self {
                event: text(body.get("errorEvent")),
                code: text(body.get("errorCode")),
                description: text(body.get("errorDescription")),
                mesh_shaped: true,
                ..nothing
            };
        }
        // `message` and a plain `detail` are also what API gateways and web frameworks answer.
        Self {
            description: text(body.get("message")).or_else(|| text(body.get("detail"))),
            ..nothing
        }
    }
}

/// `header.mex-to: missing`
fn validation(entry: &Value) -> String {
    let place: Vec<String> = entry["loc"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|part| {
            part.as_str()
                .map_or_else(|| part.to_string(), str::to_owned)
        })
        .collect();
    let kind = entry["type"].as_str().unwrap_or("invalid");
    format!("{}: {kind}", place.join("."))
}

/// One line of bounded length, or nothing.
fn tidy(text: &str) -> Option<String> {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line
        .chars()
        .filter(|c| !c.is_control())
        .take(DESCRIPTION_LENGTH)
        .collect();
    (!line.is_empty()).then_some(line)
}

impl fmt::Display for ErrorDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        if let Some(event) = &self.event {
            write!(f, ", event {event}")?;
        }
        if let Some(code) = &self.code {
            write!(f, ", code {code}")?;
        }
        if let Some(description) = &self.description {
            write!(f, ": {description}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn detail(body: &str) -> (String, bool) {
        let detail = ErrorDetail::parse(417, body.as_bytes());
        (detail.to_string(), detail.mesh_shaped)
    }

    #[test]
    fn every_shape_is_read() {
        for (name, body, text, mesh_shaped) in [
            (
                "A, version 1",
                r#"{"errorEvent":"SEND","errorCode":"12","errorDescription":"Unregistered to address"}"#,
                "status 417, event SEND, code 12: Unregistered to address",
                true,
            ),
            (
                "B, version 2",
                r#"{"message_id":"1","internal_id":"2","detail":[{"event":"SEND","code":"EPL-151","msg":"No mailbox matched"}]}"#,
                "status 417, event SEND, code EPL-151: No mailbox matched",
                true,
            ),
            (
                "B without a code",
                r#"{"detail":[{"event":"","code":"","msg":"Mailbox id does not match token"}]}"#,
                "status 417: Mailbox id does not match token",
                true,
            ),
            (
                "C, validation",
                r#"{"detail":[{"type":"missing","loc":["header","mex-to"],"msg":"Field required"},
                    {"type":"string_too_long","loc":["header",0,"mex-subject"],"msg":"SECRET","input":"SECRET","ctx":{"a":"SECRET"}}]}"#,
                "status 417: header.mex-to: missing; header.0.mex-subject: string_too_long",
                true,
            ),
            (
                "D, generic",
                r#"{"message":"An internal error occurred.\n\nPlease contact support."}"#,
                "status 417: An internal error occurred. Please contact support.",
                false,
            ),
            (
                "E, framework",
                r#"{"detail":"Not Found"}"#,
                "status 417: Not Found",
                false,
            ),
            (
                "XML",
                "<soap:Envelope>SECRET</soap:Envelope>",
                "status 417",
                false,
            ),
            ("empty", "", "status 417", false),
            ("no object", "[1]", "status 417", false),
            ("an empty list", r#"{"detail":[]}"#, "status 417", false),
            (
                "an unknown list",
                r#"{"detail":[{"a":1},2]}"#,
                "status 417",
                false,
            ),
            (
                "wrong types",
                r#"{"detail":[{"code":12,"msg":{}}]}"#,
                "status 417",
                true,
            ),
        ] {
            assert_eq!(detail(body), (text.to_owned(), mesh_shaped), "{name}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        const NAMES: [&str; 10] = [
            "detail",
            "event",
            "code",
            "msg",
            "loc",
            "type",
            "errorEvent",
            "errorCode",
            "errorDescription",
            "message",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "(?s).{0,400}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            let field = (prop::sample::select(&NAMES), inner.clone());
            prop_oneof![
                prop::collection::vec(inner, 0..6).prop_map(Value::from),
                prop::collection::vec(field, 0..6).prop_map(Value::from_iter),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_the_body_the_text_is_one_short_line(body in json(), status: u16) {
            let detail = ErrorDetail::parse(status, body.to_string().as_bytes());
            for text in [&detail.event, &detail.code, &detail.description].into_iter().flatten() {
                prop_assert!(text.chars().count() <= DESCRIPTION_LENGTH);
                prop_assert!(!text.chars().any(char::is_control));
            }
            prop_assert_eq!(detail.status, status);
        }

        #[test]
        fn what_is_no_json_is_not_repeated(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let detail = ErrorDetail::parse(500, &[b"<PATIENT>", &bytes[..]].concat());
            prop_assert_eq!(detail.to_string(), "status 500");
        }

        #[test]
        fn of_a_validation_error_the_refused_value_is_not_repeated(
            place in "[a-z-]{0,9}", kind in "[a-z_]{0,9}", other in "(?s).{0,20}",
        ) {
            let value = format!("{other}PATIENT{other}");
            let entry = serde_json::json!({
                "loc": ["header", place], "type": kind, "msg": value, "input": value, "ctx": {"pattern": value},
            });
            let body = serde_json::json!({"detail": [entry, entry]}).to_string();
            let text = ErrorDetail::parse(400, body.as_bytes()).to_string();
            prop_assert!(!text.contains("PATIENT"), "{}", text);
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let (text, _) = detail(&format!(r#"{{"message":"{}"}}"#, "é".repeat(1000)));
        assert_eq!(text.chars().count(), "status 417: ".len() + 300);
    }
}
