//! What a parser says of a value, in words for whoever wrote it: what was found, and what is allowed. Pure.

use dewpoint_proto::cause::shortened;
use serde_path_to_error::Path;

/// Types as parsers name them, and what that allows.
const TYPES: [(&str, &str); 13] = [
    ("u8", "a whole number from 0 to 255"),
    ("u16", "a whole number from 0 to 65535"),
    ("u32", "a whole number from 0 to 4294967295"),
    ("u64", "a whole number from 0"),
    ("usize", "a whole number from 0"),
    ("i64", "a whole number"),
    ("f64", "a number"),
    ("a boolean", "true or false"),
    ("a string", "text in quotes"),
    ("path string", "a path in quotes"),
    ("a sequence", "a list: [...]"),
    ("a map", "a table of keys"),
    ("socket address", "an address with its port in quotes, such as \"192.0.2.1:80\""),
];

/// Messages of other types, in our words.
const OURS: [(&str, &str); 2] = [
    ("invalid socket address syntax", "expected an address with its port, such as 192.0.2.1:80"),
    ("duplicate key", "it is there twice: give it once"),
];
/// What was found is told up to here.
const FOUND_MOST: usize = 120;

/// A key with its tables before it; empty: the file as a whole.
#[must_use]
pub fn key(path: &Path) -> String {
    let key = path.to_string();
    if key == "." { String::new() } else { shortened(&key) }
}

/// A parser's message, with `found` where it does not say itself what it found.
#[must_use]
pub fn plain(message: &str, found: Option<&str>) -> String {
    let message = message.replace('\n', " ");
    if let Some((found, expected)) = mismatch(&message) {
        return format!("found {}, expected {}", tame(found), allowed(expected));
    }
    if let Some(unknown) = message.strip_prefix("unknown field ") {
        let known = unknown.split_once(", ").map_or("", |(_, known)| known);
        let known = known.trim_start_matches("expected ").trim_start_matches("one of ");
        return format!("there is no such key; here may be: {known}");
    }
    if let Some(missing) = message.strip_prefix("missing field ") {
        return format!("{missing} is missing");
    }
    let message =
        OURS.iter().find(|(theirs, _)| *theirs == message).map_or(message, |(_, ours)| (*ours).into());
    let message = tame_to(&message, 4 * FOUND_MOST);
    match found.map(|found| found.trim_matches(['"', '\''])) {
        Some(found) if !found.is_empty() && !message.contains(found) => {
            format!("found `{found}`: {message}")
        }
        _ => message,
    }
}

/// Shortened, and with nothing in it that a terminal obeys; quotes stay as they are.
fn tame(text: &str) -> String {
    tame_to(text, FOUND_MOST)
}

fn tame_to(text: &str, most: usize) -> String {
    let mut tamed = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == most {
            tamed.push_str("...");
            break;
        }
        if matches!(c, '"' | '\'' | '\\') { tamed.push(c) } else { tamed.extend(c.escape_debug()) }
    }
    tamed
}

fn mismatch(message: &str) -> Option<(&str, &str)> {
    let rest = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "]
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix))?;
    rest.split_once(", expected ")
}

fn allowed(expected: &str) -> &str {
    if expected.starts_with("struct ") {
        return "a table of keys";
    }
    let known = TYPES.iter().find(|(name, _)| *name == expected);
    known.map_or(expected, |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_names_what_it_found_is_not_told_it_again() {
        assert_eq!(plain("`a/b` is no interface name", Some("\"a/b\"")), "`a/b` is no interface name");
        assert_eq!(
            plain("invalid socket address syntax", Some("\"7400\"")),
            "found `7400`: expected an address with its port, such as 192.0.2.1:80"
        );
    }
}
