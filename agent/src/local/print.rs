//! How the commands speak: tables that fit 80 columns for people, JSON for programs, errors with the next step.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use dewpoint_proto::cause::Cause;
use dewpoint_proto::time::Millis;
use serde::Serialize;

use crate::storage::JobProgress;

/// What takes no longer needs no progress.
const QUIET: Duration = Duration::from_secs(2);

/// Whether people or programs read what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Tables and sentences.
    Text,
    /// One JSON document, or a line each for what goes on.
    Json,
}

/// An empty table without borders.
#[must_use]
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    // Narrower than 80 only where the terminal is; wider where nobody's terminal would wrap.
    if !std::io::stdout().is_terminal() {
        table.set_width(80);
    }
    table.set_header(header.iter().map(|title| title.to_uppercase()));
    table
}

/// Prints to stdout; a reader that has gone away is no error.
pub fn out(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a JSON document.
///
/// # Errors
/// When a value cannot be put into JSON: a bug.
pub fn json(value: &impl Serialize) -> Result<(), Cause> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Cause::new(dewpoint_proto::cause::Reason::Internal, error.to_string()))?;
    out(text);
    Ok(())
}

/// Prints an error to stderr, with the next thing to do.
pub fn error(cause: &Cause, form: Form) {
    let mut stderr = std::io::stderr().lock();
    let _ = match form {
        Form::Json => writeln!(stderr, "{}", serde_json::json!({ "error": cause })),
        Form::Text if cause.advice.is_empty() => writeln!(stderr, "error: {} ({})", cause.text, cause.reason),
        Form::Text => writeln!(stderr, "error: {} ({})\n  next: {}", cause.text, cause.reason, cause.advice),
    };
}

/// A point in time as people read it: local time, seconds.
#[must_use]
pub fn when(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at.0)
        .map(|at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string())
        .unwrap_or_else(|_| "-".to_owned())
}

/// A number of bytes as people read it, in two or three figures.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, unit)| bytes >= *unit) {
        None => format!("{bytes} B"),
        Some((name, unit)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            if tenths >= 1000 {
                format!("{} {name}", tenths / 10)
            } else {
                format!("{}.{} {name}", tenths / 10, tenths % 10)
            }
        }
    }
}

/// Says on a terminal what is being done, from its third second on; for as long as it is awaited.
pub async fn patience(doing: &str) -> ! {
    tokio::time::sleep(QUIET).await;
    if std::io::stderr().is_terminal() {
        // Whoever cannot see it misses nothing.
        let _ = writeln!(std::io::stderr(), "{doing} ...");
    }
    std::future::pending().await
}

/// Text after a heading, in lines of 80 columns; what follows the first is set in as far. A word that is longer stays whole.
#[must_use]
pub fn wrapped(heading: &str, text: &str) -> String {
    const COLUMNS: usize = 80;
    let indent = " ".repeat(heading.chars().count());
    let (mut lines, mut line) = (String::new(), heading.to_owned());
    let mut is_first = true;
    for word in text.split_whitespace() {
        if !is_first && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push_str(line.trim_end());
            lines.push('\n');
            line.clone_from(&indent);
            is_first = true;
        }
        if !is_first {
            line.push(' ');
        }
        line.push_str(word);
        is_first = false;
    }
    lines + &line
}

/// Says on a terminal how far a job is, from its third second on; for as long as it is awaited.
pub async fn progress(doing: &str, job: &JobProgress) -> ! {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + QUIET, Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let (done, total) = job.get();
        if std::io::stderr().is_terminal()
            && let Some(percent) = done.saturating_mul(100).checked_div(total)
        {
            // Whoever cannot see it misses nothing.
            let _ = write!(std::io::stderr(), "\r{doing}: {percent} %  ");
        }
    }
}

/// So many things, as people say it.
#[must_use]
pub fn count(many: usize, thing: &str) -> String {
    let plural = if many == 1 { "" } else { "s" };
    format!("{many} {thing}{plural}")
}

/// A duration as people read it, in two figures.
#[must_use]
pub fn span(span: Duration) -> String {
    match span.as_millis() {
        0..1000 => format!("{} ms", span.as_millis()),
        1000..120_000 => format!("{:.1} s", span.as_secs_f64()),
        120_000..7_200_000 => format!("{} min", span.as_secs() / 60),
        _ => format!("{} h", span.as_secs() / 3600),
    }
}
