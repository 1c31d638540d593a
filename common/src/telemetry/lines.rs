//! One line for each message on stderr: text for people, or a flat JSON object for programs.

use std::fmt;
use std::sync::OnceLock;

use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::fields::{Fields, plain};

/// Which host this process speaks for; set once, by an agent.
pub(super) static HOST: OnceLock<String> = OnceLock::new();

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// Time, level, message, then `name=value`.
    Text,
    /// One object, without levels of nesting.
    Json,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, cx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let fields = Fields::of(event, cx.event_scope());
        let level = event.metadata().level();
        match self {
            Self::Text => text(&mut out, *level, &fields),
            Self::Json => json(&mut out, *level, event.metadata().target(), &fields),
        }
    }
}

fn text(out: &mut Writer<'_>, level: Level, fields: &Fields) -> fmt::Result {
    SystemTime.format_time(out)?;
    let (begin, end) = if out.has_ansi_escapes() { (colour(level), "\x1b[0m") } else { ("", "") };
    write!(out, " {begin}{level:>5}{end} {}", escaped(&fields.text("message").unwrap_or_default()))?;
    // The message says it in words already.
    for (name, value) in fields.iter().filter(|(name, _)| !matches!(*name, "message" | "message_id")) {
        let value = plain(value);
        if value.is_empty() || value.contains([' ', '"', '=']) {
            write!(out, " {name}=\"{}\"", value.escape_debug())?;
        } else {
            write!(out, " {name}={}", escaped(&value))?;
        }
    }
    writeln!(out)
}

/// What came from outside cannot begin a line of its own, or speak to the terminal.
fn escaped(text: &str) -> String {
    if text.contains(char::is_control) { text.escape_debug().to_string() } else { text.to_owned() }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[2m",
    }
}

fn json(out: &mut Writer<'_>, level: Level, target: &str, fields: &Fields) -> fmt::Result {
    let mut time = String::new();
    SystemTime.format_time(&mut Writer::new(&mut time))?;
    let mut line = Map::new();
    line.insert("time".into(), time.into());
    line.insert("level".into(), level.as_str().into());
    line.insert("message".into(), fields.text("message").unwrap_or_default().into());
    line.insert("target".into(), target.into());
    if let Some(host) = HOST.get() {
        line.insert("host_id".into(), host.as_str().into());
    }
    for (name, value) in fields.iter().filter(|(name, _)| *name != "message") {
        line.insert(name.to_owned(), value.clone());
    }
    writeln!(out, "{}", Value::Object(line))
}
