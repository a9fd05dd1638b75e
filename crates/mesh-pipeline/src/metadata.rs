//! `mex-*` headers as S3 object metadata, both ways.

use std::collections::BTreeMap;

use mesh_client::{MessageHeaders, MessageId};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

// What Python's quote_plus leaves as it is; the interface of the module that we replace quotes with it.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'_')
    .remove(b'.')
    .remove(b'-')
    .remove(b'~')
    .remove(b' ');

// S3 refuses more than 2 KB of user metadata, keys and values together.
const LIMIT: usize = 2_000;

const DROPPED: &str = "mex-dropped";

// In the order in which they are given up when the limit is passed.
const DROPPABLE: [&str; 4] = [
    "mex-subject",
    "mex-partnerid",
    "mex-filename",
    "mex-localid",
];

const STORED: [&str; 17] = [
    "mex-messageid",
    "mex-to",
    "mex-from",
    "mex-workflowid",
    "mex-filename",
    "mex-subject",
    "mex-localid",
    "mex-partnerid",
    "mex-messagetype",
    "mex-statuscode",
    "mex-statusdescription",
    "mex-statussuccess",
    "mex-content-checksum",
    "mex-content-compressed",
    "mex-content-encrypted",
    "mex-linkedmsgid",
    "mex-statusevent",
];

/// Quotes as an HTML form does: a space is `+`, everything beyond ASCII a UTF-8 percent escape.
pub fn quote(text: &str) -> String {
    utf8_percent_encode(text, QUOTED)
        .to_string()
        .replace(' ', "+")
}

/// Undoes [`quote`]; a stray `%` stays as it is, as in Python's `unquote_plus`.
pub fn unquote(text: &str) -> String {
    percent_decode_str(&text.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned()
}

/// Metadata of a received message, and whether values had to be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Quoted values by lower-case key, at most 2,000 bytes together.
    pub entries: BTreeMap<String, String>,
    /// Whether the full headers must be stored beside the object.
    pub truncated: bool,
}

impl Metadata {
    /// The metadata that a received message's object carries: by its id it is recognised later.
    pub fn of(message: &MessageId, headers: &MessageHeaders) -> Self {
        let mut entries: BTreeMap<_, _> = STORED
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), quote(headers.get(name)?))))
            .collect();
        entries.insert("mex-messageid".to_owned(), quote(message.as_ref()));
        Self::bounded(entries)
    }

    fn bounded(mut entries: BTreeMap<String, String>) -> Self {
        let mut dropped: Vec<String> = Vec::new();
        let longest_first = {
            let mut rest: Vec<_> = STORED
                .iter()
                .filter(|name| !DROPPABLE.contains(name) && **name != "mex-messageid")
                .copied()
                .collect();
            rest.sort_by_key(|name| std::cmp::Reverse(entries.get(*name).map_or(0, String::len)));
            rest
        };
        // Beyond the four, only a server's own text can be this long; the message still has to be stored.
        for name in DROPPABLE.into_iter().chain(longest_first) {
            if size(&entries) <= LIMIT {
                break;
            }
            if entries.remove(name).is_some() {
                dropped.push(name.trim_start_matches("mex-").to_owned());
                entries.insert(DROPPED.to_owned(), dropped.join(","));
            }
        }
        Self {
            truncated: !dropped.is_empty(),
            entries,
        }
    }
}

fn size(entries: &BTreeMap<String, String>) -> usize {
    entries
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_that_of_an_html_form() {
        // Python: quote_plus("my super subject $£% etc +~_.-")
        let quoted = "my+super+subject+%24%C2%A3%25+etc+%2B~_.-";
        assert_eq!(quote("my super subject $£% etc +~_.-"), quoted);
        assert_eq!(unquote(quoted), "my super subject $£% etc +~_.-");
    }

    #[test]
    fn a_stray_percent_sign_is_kept() {
        assert_eq!(unquote("100% +x"), "100%  x");
    }

    fn entries(lengths: &[(&str, usize)]) -> BTreeMap<String, String> {
        lengths
            .iter()
            .map(|(name, length)| ((*name).to_owned(), "x".repeat(*length)))
            .collect()
    }

    #[test]
    fn whole_values_are_dropped_in_order_until_the_rest_fits() {
        let metadata = Metadata::bounded(entries(&[
            ("mex-subject", 900),
            ("mex-partnerid", 400),
            ("mex-filename", 900),
            ("mex-localid", 300),
            ("mex-messageid", 32),
        ]));
        assert!(metadata.truncated);
        assert_eq!(metadata.entries["mex-dropped"], "subject");
        assert!(metadata.entries.contains_key("mex-partnerid"));
        assert!(size(&metadata.entries) <= LIMIT);
    }

    #[test]
    fn small_metadata_is_kept_whole() {
        let small = entries(&[("mex-subject", 500), ("mex-messageid", 32)]);
        let metadata = Metadata::bounded(small.clone());
        assert_eq!(metadata.entries, small);
        assert!(!metadata.truncated);
    }

    #[test]
    fn an_overlong_status_text_does_not_stop_the_message() {
        let metadata = Metadata::bounded(entries(&[
            ("mex-statusdescription", 5_000),
            ("mex-messageid", 32),
        ]));
        assert_eq!(metadata.entries["mex-dropped"], "statusdescription");
        assert!(metadata.entries.contains_key("mex-messageid"));
    }
}
