//! Configuration files: read once, into types. What is wrong is named by file, line and key, with what was found there
//! and what is allowed.

use std::fmt::Display;
use std::path::Path;

use dewpoint_proto::cause::{Cause, Reason, shortened};
use serde::de::DeserializeOwned;

use crate::{text_file, wording};

/// Reads a file. `shipped` names the file that has every key with its default.
///
/// # Errors
/// `INVALID`: the file, the line, the key, what was found, and what is allowed.
pub fn read<T: DeserializeOwned>(path: &Path, shipped: &str) -> Result<T, Cause> {
    parse(&text(path)?, shipped).map_err(|cause| in_file(path, cause))
}

/// Parses a file's text.
///
/// # Errors
/// As [`read`], without the file.
pub fn parse<T: DeserializeOwned>(text: &str, shipped: &str) -> Result<T, Cause> {
    let told = |key: &str, error: &toml::de::Error| {
        mistake(text, key, error).advise(format!("see {shipped} for every key with its default"))
    };
    let deserializer = toml::Deserializer::parse(text).map_err(|error| told("", &error))?;
    serde_path_to_error::deserialize(deserializer)
        .map_err(|error| told(&wording::key(error.path()), error.inner()))
}

/// A value that parses and may not be: what its key is and what is allowed there.
#[must_use]
pub fn wrong(key: &str, found: impl Display, allowed: &str) -> Cause {
    Cause::new(Reason::Invalid, format!("{key} is `{found}`")).advise(allowed).with("key", key)
}

/// A cause that names the file it speaks of.
#[must_use]
pub fn in_file(path: &Path, mut cause: Cause) -> Cause {
    cause.text = format!("{}: {}", path.display(), cause.text);
    cause.with("file", path.display())
}

fn text(path: &Path) -> Result<String, Cause> {
    text_file::read(path).map_err(|why| {
        Cause::new(Reason::Invalid, format!("{} cannot be read: {why}", path.display()))
            .advise("give a file of UTF-8 text there, or name another with --config")
            .with("file", path.display())
    })
}

/// What is wrong with a TOML file's text: line, key where there is one, what was found, what is allowed.
#[must_use]
pub fn mistake(text: &str, key: &str, error: &toml::de::Error) -> Cause {
    let span = error.span().unwrap_or_default();
    let line = text.get(..span.start).unwrap_or_default().matches('\n').count() + 1;
    let found = text
        .get(span)
        .and_then(|found| found.lines().next())
        .map(|found| shortened(found.trim_matches(['"', '\''])));
    let what = wording::plain(error.message(), found.as_deref());
    let place = if key.is_empty() { format!("line {line}") } else { format!("line {line}: {key}") };
    let cause = Cause::new(Reason::Invalid, format!("{place}: {what}")).with("line", line);
    if key.is_empty() { cause } else { cause.with("key", key) }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::units::{Size, Span};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Whole {
        #[expect(dead_code, reason = "only parsed")]
        part: Part,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Part {
        size: Size,
        span: Span,
        many: u16,
        on: bool,
        ratio: f64,
        address: std::net::SocketAddr,
        names: Vec<String>,
    }

    impl Default for Part {
        fn default() -> Self {
            Self {
                size: Size(1),
                span: Span::seconds(1),
                many: 1,
                on: false,
                ratio: 1.0,
                address: ([127, 0, 0, 1], 1).into(),
                names: Vec::new(),
            }
        }
    }

    #[test]
    fn each_mistake_names_line_key_what_was_found_and_what_is_allowed() {
        let mut listing = String::new();
        for line in [
            "size = 5",
            "size = \"1 GB\"",
            "size = \"-1MiB\"",
            "span = 30",
            "span = \"soon\"",
            "span = \"0s\"",
            "many = \"ten\"",
            "many = -1",
            "many = 70000",
            "many = 1.5",
            "on = \"yes\"",
            "ratio = \"much\"",
            "address = \"7400\"",
            "names = \"one\"",
            "names = [\"one\", 2]",
            "sise = \"1MiB\"",
            "size = 1MiB",
            "size =",
            "size = \"1MiB\"\nsize = \"2MiB\"",
            "address = 7400",
            "on = \"\u{202e}yes\\u0007\"",
            "\"\\u202e\" = 1",
            "\n[part.size]\nx = 1",
            "size = \"1Mi",
        ] {
            let cause = parse::<Whole>(&format!("[part]\n{line}\n"), "x.toml").unwrap_err();
            listing.push_str(&format!("{}\n    {}\n", line.escape_debug(), cause.text));
            assert!(cause.text.len() < 400, "{cause}");
        }
        insta::assert_snapshot!(listing);
    }

    /// What somebody wrote is shown to a terminal: shortened, and with nothing in it that a terminal obeys.
    #[test]
    fn what_was_found_is_shortened_and_tamed() {
        let long = "x".repeat(100_000);
        for text in [
            format!("[part]\non = \"{long}\""),
            format!("[part]\n{long} = 1"),
            format!("[part]\nsize = \"{long}\""),
            format!("[{long}]"),
            "[part]\non = \"\\u001b[2J\\u202e\"".to_owned(),
        ] {
            let cause = parse::<Whole>(&text, "x.toml").unwrap_err();
            assert!(cause.text.len() < 400, "{}", cause.text.len());
            assert!(!cause.text.contains(['\u{1b}', '\u{202e}']), "{cause}");
        }
    }

    #[test]
    fn a_file_that_is_no_text_or_far_too_long_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        for content in [vec![0xff; 16], vec![b'#'; 2 * 1024 * 1024]] {
            std::fs::write(&path, content).unwrap();
            let cause = read::<Whole>(&path, "x.toml").unwrap_err();
            assert!(cause.text.contains("agent.toml"), "{cause}");
        }
        std::fs::write(&path, "[part]\nmany = -1\n").unwrap();
        let cause = read::<Whole>(&path, "x.toml").unwrap_err();
        assert_eq!(cause.fields["key"], "part.many");
        assert!(cause.text.starts_with(&path.display().to_string()), "{cause}");
    }
}
