//! Where the coordinator is: the flag, else the environment, else the file, else this machine.
//!
//! The file may be absent; one that is there must be whole: unknown keys are refused, so a misspelt one is noticed.

use std::io::{ErrorKind, Read};
use std::path::Path;

use dewpoint_proto::cause::{Cause, shortened};
use serde::Deserialize;

use crate::args::Global;
use crate::failure::invalid;
use crate::fleet::target::Target;

const FILE: &str = "/etc/dewpoint/dewpoint.toml";
const DEFAULT: &str = "http://127.0.0.1:7400";
/// No honest file is longer.
const FILE_BYTES: u64 = 64 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    coordinator: Option<String>,
}

/// The coordinator that the command line, the environment or the file names.
///
/// # Errors
/// `INVALID` naming the file and what is wrong with it, or the URL.
pub(crate) fn coordinator(global: &Global) -> Result<Target, Cause> {
    // A file that is asked for is looked at, even when it does not decide.
    let asked_for = global.config.as_deref().map(must_read).transpose()?;
    if let Some(url) = &global.coordinator {
        return url.parse();
    }
    let file = match asked_for {
        Some(file) => file,
        None => read(Path::new(FILE))?.unwrap_or_default(),
    };
    file.coordinator.as_deref().unwrap_or(DEFAULT).parse()
}

fn must_read(path: &Path) -> Result<File, Cause> {
    read(path)?.ok_or_else(|| {
        invalid(format!("{} is not there", path.display())).advise("check the path given with --config")
    })
}

fn read(path: &Path) -> Result<Option<File>, Cause> {
    let wrong = |what: String| {
        invalid(format!("{}: {what}", path.display()))
            .advise("mend or remove the file; its only key is `coordinator`")
            .with("path", path.display())
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let mut text = String::new();
    file.take(FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > FILE_BYTES {
        return Err(wrong(format!("it is longer than {FILE_BYTES} bytes")));
    }
    toml::from_str(&text).map(Some).map_err(|error| wrong(mistake(&text, &error)))
}

/// Line, what was found there, and what is allowed.
fn mistake(text: &str, error: &toml::de::Error) -> String {
    let span = error.span().unwrap_or_default();
    let before = text.get(..span.start).unwrap_or_default();
    let line = text.lines().nth(before.matches('\n').count()).unwrap_or_default();
    format!(
        "line {}: `{}`: {}",
        before.matches('\n').count() + 1,
        shortened(line),
        shortened(error.message())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_by(content: &str) -> Result<Target, Cause> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dewpoint.toml");
        std::fs::write(&path, content).unwrap();
        coordinator(&Global { config: Some(path), ..Global::default() })
    }

    #[test]
    fn the_flag_goes_before_the_file_and_the_file_before_the_default() {
        let flag = Global { coordinator: Some("http://[::1]:1".into()), ..Global::default() };
        assert_eq!(coordinator(&flag).unwrap().to_string(), "http://[::1]:1");
        let file = named_by("coordinator = 'unix:///run/dewpoint/c.sock'").unwrap();
        assert_eq!(file.to_string(), "unix:///run/dewpoint/c.sock");
        assert_eq!(named_by("").unwrap().to_string(), DEFAULT);
    }

    #[test]
    fn the_shipped_file_states_the_default() {
        let shipped = include_str!("../../packaging/dewpoint.toml");
        assert_eq!(named_by(shipped).unwrap().to_string(), DEFAULT);
        assert_eq!(
            named_by(&shipped.replace("# coordinator =", "coordinator =")).unwrap().to_string(),
            DEFAULT
        );
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let cause = named_by("cordinator = 'http://127.0.0.1:1'").unwrap_err();
        assert!(cause.text.contains("cordinator"), "{}", cause.text);
        assert!(cause.text.contains("dewpoint.toml"), "{}", cause.text);
    }

    #[test]
    fn each_mistake_names_file_line_what_was_found_and_what_is_allowed() {
        for (content, says) in [
            ("\ncoordinator = 5", "line 2: `coordinator = 5`: invalid type: integer `5`, expected a string"),
            ("coordinator = 'http", "line 1: `coordinator = \\'http`"),
            (&"#".repeat(100_000), "longer than 65536 bytes"),
        ] {
            let cause = named_by(content).unwrap_err();
            assert!(cause.text.contains("dewpoint.toml: ") && cause.text.contains(says), "{}", cause.text);
            assert!(cause.advice.contains("`coordinator`"), "{}", cause.advice);
        }
    }

    #[test]
    fn a_file_asked_for_must_be_there() {
        let global = Global { config: Some("/nonexistent/dewpoint.toml".into()), ..Global::default() };
        assert!(coordinator(&global).unwrap_err().text.contains("is not there"));
        let decided = Global { coordinator: Some(DEFAULT.into()), ..global };
        assert!(coordinator(&decided).unwrap_err().text.contains("is not there"));
    }
}
