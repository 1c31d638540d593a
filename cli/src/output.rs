//! What is written: results to stdout, everything else to stderr, each as text for people or JSON for programs.
//!
//! Text from outside passes [`text::visible`] before it reaches a terminal, so no name or message can move the cursor.

use std::ffi::OsString;
use std::io::Write;

use dewpoint_proto::cause::Cause;
use serde::Serialize;
use serde_json::json;

use crate::failure::{Exit, Failure};
use crate::text::{self, Paint};

/// What a stream leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// A person's terminal: colour and live progress.
    Terminal,
    /// A file, a pipe, a log: plain lines.
    Plain,
}

/// Where a command writes.
pub struct Streams<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Errors, notices, progress.
    pub err: &'a mut dyn Write,
    /// What `out` leads to.
    pub out_is: Sink,
    /// What `err` leads to.
    pub err_is: Sink,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

impl Format {
    /// Looked for before the command line is parsed, so that even its errors come in the form asked for.
    pub(crate) fn asked_for(args: &[OsString]) -> Self {
        let json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
        if json { Self::Json } else { Self::Text }
    }
}

/// The streams, in the form asked for.
pub(crate) struct Output<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    err_is: Sink,
    pub(crate) format: Format,
    /// For what goes to stdout.
    pub(crate) paint: Paint,
}

impl<'a> Output<'a> {
    pub(crate) fn new(streams: &'a mut Streams<'_>, format: Format) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let paint = match streams.out_is {
            Sink::Terminal if !no_color => Paint::Colour,
            Sink::Terminal | Sink::Plain => Paint::Plain,
        };
        Self { out: streams.out, err: streams.err, err_is: streams.err_is, format, paint }
    }

    /// Whether live progress can be drawn on stderr.
    pub(crate) fn err_is(&self) -> Sink {
        self.err_is
    }

    /// Text as it is, for people.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(Failure::Output)
    }

    /// One JSON document, readable.
    pub(crate) fn document(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_string_pretty(value).map_err(Failure::internal)?;
        text.push('\n');
        self.text(&text)
    }

    /// One JSON document on one line, as watches give them.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_string(value).map_err(Failure::internal)?;
        text.push('\n');
        self.text(&text)
    }

    /// A result in either form.
    pub(crate) fn show(
        &mut self,
        value: &impl Serialize,
        text: impl FnOnce(Paint) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.document(value),
            Format::Text => {
                let text = text(self.paint);
                self.text(&text)
            }
        }
    }

    /// Something to know that is neither result nor error.
    pub(crate) fn notice(&mut self, notice: &str) -> Result<(), Failure> {
        let line = match self.format {
            Format::Text => format!("{}\n", text::visible(notice)),
            Format::Json => format!("{}\n", json!({ "notice": { "text": notice } })),
        };
        self.err.write_all(line.as_bytes()).map_err(Failure::Output)
    }

    /// A line of progress: for people alone.
    pub(crate) fn progress(&mut self, line: &str) -> Result<(), Failure> {
        match self.format {
            Format::Text => writeln!(self.err, "{}", text::visible(line)).map_err(Failure::Output),
            Format::Json => Ok(()),
        }
    }

    /// Says why the command ends badly. What cannot be written any more is let go: the exit status still says it.
    pub(crate) fn failed(&mut self, failure: &Failure) -> Exit {
        let text = match self.format {
            Format::Text => failure_text(failure),
            Format::Json => failure_json(failure).map(|value| format!("{value}\n")),
        };
        if let Some(text) = text {
            let _closed = self.err.write_all(text.as_bytes());
        }
        failure.exit()
    }
}

fn failure_text(failure: &Failure) -> Option<String> {
    match failure {
        Failure::Usage(text) => Some(text.clone()),
        Failure::Cause(cause, _) => Some(cause_text(cause)),
        Failure::Output(_) if failure.exit() == Exit::Ok => None,
        Failure::Output(error) => Some(format!("error: the output cannot be written: {error} (OUTPUT)\n")),
    }
}

fn cause_text(cause: &Cause) -> String {
    let mut text =
        format!("error: {} ({})\n", text::visible(&cause.text), text::visible(cause.reason.as_str()));
    if !cause.advice.is_empty() {
        text.push_str(&format!("  next: {}\n", text::visible(&cause.advice)));
    }
    text
}

fn failure_json(failure: &Failure) -> Option<serde_json::Value> {
    let error = match failure {
        Failure::Usage(text) => json!({
            "reason": "USAGE", "text": text.trim(), "advice": "see --help", "fields": {},
        }),
        Failure::Cause(cause, _) => json!({
            "reason": cause.reason.as_str(), "text": cause.text, "advice": cause.advice, "fields": cause.fields,
        }),
        Failure::Output(_) if failure.exit() == Exit::Ok => return None,
        Failure::Output(error) => json!({
            "reason": "OUTPUT", "text": format!("the output cannot be written: {error}"), "advice": "", "fields": {},
        }),
    };
    Some(json!({ "error": error }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dewpoint_proto::cause::Reason;

    #[test]
    fn an_error_names_its_reason_and_the_next_thing_to_do() {
        let cause = Cause::new(Reason::VmBusy, "web has an unfinished event").advise("wait for it");
        assert_eq!(cause_text(&cause), "error: web has an unfinished event (VM_BUSY)\n  next: wait for it\n");
    }

    #[test]
    fn nobody_writes_to_the_terminal_through_an_error() {
        let cause = Cause::new(Reason::Internal, "a\u{1b}[2Jb\nerror: c");
        assert_eq!(cause_text(&cause), "error: a\\u{1b}[2Jb\\nerror: c (INTERNAL)\n");
    }

    #[test]
    fn json_is_seen_before_parsing_but_not_behind_the_double_dash() {
        let format = |args: &[&str]| Format::asked_for(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(format(&["dewpoint", "vm", "ls", "--json"]), Format::Json);
        assert_eq!(format(&["dewpoint", "vm", "show", "--", "--json"]), Format::Text);
    }
}
