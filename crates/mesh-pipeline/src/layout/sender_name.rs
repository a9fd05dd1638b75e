//! Which file names of senders may become part of a key. The name is used as it is or not at all: a name that was changed
//! could be another message's.

/// Whether the name can't leave a folder, be taken for something else, or be hidden, wherever a consumer copies it.
pub(super) fn is_usable(name: &str, in_root: bool) -> bool {
    let passes_for_another = name.starts_with('.')
        // The name of a report.
        || ends_with_ctl(name)
        // In the root, what begins so is sent.
        || (in_root && name.starts_with("outbound"));
    !name.is_empty() && name.trim() == name && name.chars().all(is_safe) && !passes_for_another
}

// No separator of folders; no control characters; nothing that shows a name as another (marks of direction and width, line
// ends, byte order marks); and nothing that XML, in which S3 lists keys, can't express.
fn is_safe(char: char) -> bool {
    !char.is_control()
        && !matches!(
            char,
            '/' | '\\'
                | '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{ffff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn ends_with_ctl(name: &str) -> bool {
    name.len() >= 4
        && name
            .get(name.len() - 4..)
            .is_some_and(|end| end.eq_ignore_ascii_case(".ctl"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_used_as_they_are() {
        for name in [
            "a",
            "results.csv",
            "Résultats d'été (1).csv",
            "漢字.xml",
            "100% + more & <x>.txt",
            "a..b",
            "x.ctl.gz",
            "~",
            "C:results.csv",
            "ctl",
        ] {
            assert!(is_usable(name, false), "{name:?}");
        }
    }

    #[test]
    fn what_could_leave_the_folder_or_pass_for_something_else_is_not_used() {
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc/passwd",
            "a\\b",
            "..\\x",
            ".hidden",
            " x",
            "x\u{a0}",
            "   ",
            "a\0b",
            "a\nb",
            "a\rb",
            "a\tb",
            "a\u{7f}b",
            // As ISO-8859-1 has it.
            "a\u{85}b",
            "fdp.\u{202e}exe",
            "a\u{200b}b",
            "a\u{feff}b",
            "a\u{fffe}b",
            // Bytes that were no text.
            "a\u{fffd}b",
            "20220228174323222_ABCDEF.ctl",
            "x.CTL",
            ".ctl",
        ] {
            assert!(!is_usable(name, false), "{name:?}");
        }
        assert!(is_usable("outbound.csv", false));
        assert!(!is_usable("outbound.csv", true));
    }
}
