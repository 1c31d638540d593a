//! Where the log goes: to journald with its fields when systemd runs us, else to stderr as text or JSON.
//!
//! Fields have the same names everywhere (`event_id`, `vm_id`, `host_id`, `kind`, `step`, `attempt`, `reason`), and
//! journald has them in capitals, without a prefix: `journalctl VM_ID=...`. [`crate::message`] gives what an operator
//! searches for an id. A flood of one message is counted, not repeated (`flood`).

mod fields;
mod flood;
mod journald;
mod lines;

use std::io::IsTerminal;
use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::FilterExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use flood::{Bounds, Flood};
use journald::{Goodbye, Journald};
use lines::Lines;

/// The environment variable with the filter, as in `info,dewpoint_agent::link=debug`; goes before the configuration.
pub const FILTER: &str = "DEWPOINT_LOG";
/// The environment variable that says where the log goes; goes before the configuration.
pub const FORMAT: &str = "DEWPOINT_LOG_FORMAT";

/// Between looks for windows that are over.
const LOOK: Duration = Duration::from_secs(5);
/// How long the end of the process waits for journald to take the last lines.
const GOODBYE: Duration = Duration::from_secs(1);

/// The part `[log]` of a daemon's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Where it goes.
    pub format: Format,
    /// What is in it.
    pub filter: LogFilter,
}

/// Where the log goes, and how it looks there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// To journald when systemd connected us with it and it answers, else to stderr as text.
    #[default]
    Auto,
    /// To journald; to stderr as text when it does not answer.
    Journald,
    /// To stderr, a line for people.
    Text,
    /// To stderr, a line of JSON.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "journald" => Ok(Self::Journald),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("use auto, journald, text or json".to_owned()),
        }
    }
}

/// Levels, by part of the program: `info,dewpoint_agent::link=debug`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogFilter(String);

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl TryFrom<String> for LogFilter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match EnvFilter::try_new(&text) {
            Ok(_) => Ok(Self(text)),
            Err(error) => Err(format!(
                "`{}` is not a filter ({error}): write it as \"info\" or \"info,dewpoint_agent::link=debug\"",
                text.escape_debug()
            )),
        }
    }
}

impl From<LogFilter> for String {
    fn from(filter: LogFilter) -> Self {
        filter.0
    }
}

/// The running log. Dropped, at the end of the process, it says what it has counted and not said yet.
#[derive(Debug)]
pub struct Running {
    flood: Flood,
    counter: Option<(SyncSender<()>, JoinHandle<()>)>,
    journald: Option<Goodbye>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.counter.take() {
            drop(stop);
            // It only counts: a panic there is not worth another one.
            let _ = thread.join();
        }
        self.flood.tell_all();
        if let Some(journald) = &self.journald {
            journald.within(GOODBYE);
        }
    }
}

/// Sets up the log for this process; `format`, when given, goes before the configuration. Keep what it returns until
/// the process ends. A second call changes nothing.
#[must_use]
pub fn start(log: &Log, format: Option<Format>) -> Running {
    let flood = Flood::new(Bounds::default());
    let asked = std::env::var(FILTER).ok();
    let filter = asked.as_deref().map(EnvFilter::try_new);
    let refused = filter.as_ref().and_then(|filter| filter.as_ref().err().map(ToString::to_string));
    let filter = filter.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new(&log.filter.0));
    let (output, journald) = output(format.unwrap_or(log.format));
    let _ = tracing_subscriber::registry().with(output.with_filter(filter.and(flood.clone()))).try_init();
    if let Some(error) = refused {
        tracing::warn!(error, "{FILTER} is no filter, and is passed over: the configuration's is used");
    }
    Running { counter: count(&flood), flood, journald }
}

/// Says which host this process speaks for: each message bears it from now on. Once.
pub fn speak_for_host(host_id: impl ToString) {
    lines::HOST.get_or_init(|| host_id.to_string());
}

/// Whether this process has a thread that counts.
static COUNTING: OnceLock<()> = OnceLock::new();

type Output = Box<dyn Layer<Registry> + Send + Sync>;

fn output(format: Format) -> (Output, Option<Goodbye>) {
    // systemd sets JOURNAL_STREAM for what it connects to the journal; the socket may still be missing in a container.
    let wants_journal = match format {
        Format::Auto => std::env::var_os("JOURNAL_STREAM").is_some(),
        Format::Journald => true,
        Format::Text | Format::Json => false,
    };
    if wants_journal && let Ok(journald) = Journald::at(Path::new(journald::SOCKET)) {
        let goodbye = journald.goodbye();
        return (journald.boxed(), Some(goodbye));
    }
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        Format::Json => stderr.event_format(Lines::Json).boxed(),
        _ => stderr.with_ansi(std::io::stderr().is_terminal()).event_format(Lines::Text).boxed(),
    };
    (lines, None)
}

fn count(flood: &Flood) -> Option<(SyncSender<()>, JoinHandle<()>)> {
    COUNTING.set(()).ok()?;
    let (stop, stopped) = sync_channel(1);
    let flood = flood.clone();
    let thread = std::thread::Builder::new().name("log-counts".to_owned()).spawn(move || {
        while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            flood.tell(Instant::now());
        }
    });
    thread.ok().map(|thread| (stop, thread))
}

#[cfg(test)]
mod tests;
