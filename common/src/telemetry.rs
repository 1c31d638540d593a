//! Where the log goes: to journald with its fields when systemd runs us, else to stderr as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// The environment variable with the filter, as in `info,dewpoint_agent::link=debug`.
pub const FILTER: &str = "DEWPOINT_LOG";
/// The environment variable that asks for JSON on stderr when it is `json`.
pub const FORMAT: &str = "DEWPOINT_LOG_FORMAT";

/// Sets up the log for this process. The second call does nothing, so that tests may all call it.
pub fn start() {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::registry().with(output().with_filter(filter)).try_init();
}

fn output() -> Box<dyn Layer<Registry> + Send + Sync> {
    // systemd sets JOURNAL_STREAM for what it connects to the journal; the socket may still be missing in a container.
    if std::env::var_os("JOURNAL_STREAM").is_some()
        && let Ok(journal) = tracing_journald::layer()
    {
        return journal.with_field_prefix(None).boxed();
    }
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if std::env::var(FORMAT).is_ok_and(|format| format == "json") {
        return stderr.json().boxed();
    }
    stderr.with_ansi(std::io::stderr().is_terminal()).with_target(false).boxed()
}
