//! Builds all parts, supervises them, drains them. The only place that knows them all.
//!
//! ```text
//! lock ─▶ identity ─▶ journal ─▶ libvirt, storage, shield ─▶ executor goes on ─▶ socket, link ─▶ ready
//! ```
//!
//! A part that ends by itself ends the agent, with a name: systemd starts it again, and no VM notices. SIGTERM lets
//! every lane finish the step in hand, within the drain's bound; what is left is for the next start. Last, the journal's log
//! goes into its file.

mod adopt;
mod elsewhere;
mod heart;
mod inventory;
mod live;
mod mender;
mod open;
mod parts;
mod ready;
mod sweep;
mod upkeep;
mod words;

use std::sync::Arc;
use std::time::Duration;

use dewpoint_common::{message, systemd};
use dewpoint_proto::cause::{Cause, Reason};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use mender::{eyes, hands, only_observes};
pub use open::{effects, keep_bounds, libvirt, open_journal, storage_settings};

use crate::config::Config;
use crate::journal::Journal;
use crate::local::cli::RunArgs;
use parts::Parts;

/// How long the start waits for a first sight of libvirt.
const LIBVIRT: Duration = Duration::from_secs(5);
/// How long parts other than the executor may take to end.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long the journal's log may take to be written into its file: it is bounded, and so is the stop.
const CHECKPOINT: Duration = Duration::from_secs(5);

/// Runs the daemon until a signal, or until a part ends by itself.
///
/// # Errors
/// Why it could not start, or which part ended and why.
pub async fn run(config: Config, args: RunArgs) -> Result<(), Cause> {
    let drain = config.execute.drain.0;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let parts = Parts::build(config, &args).await?;
    parts.go_on().await?;
    let (hypervisor, journal) = (Arc::clone(&parts.hypervisor), parts.journal());
    parts.spawn(&mut tasks, &stop);
    // Ready means that libvirt was seen, or is known to be down: that is told as degraded, and waited for.
    let _ = tokio::time::timeout(LIBVIRT, hypervisor.list()).await;
    ready::announce(args.ready_file.as_deref())?;
    tracing::info!(message_id = message::READY, "ready");
    let ended = until_told(&mut tasks).await;
    systemd::stopping();
    let seconds = drain.as_secs();
    tracing::info!(message_id = message::STOPPING, seconds, "stops: steps in hand are finished first");
    stop.cancel();
    let drained =
        tokio::time::timeout(drain + GOODBYE, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(
            seconds = drain.as_secs(),
            "not drained in time; what was in hand goes on at the next start"
        );
    }
    make_whole(&journal).await;
    tracing::info!(message_id = message::STOPPED, "stopped");
    ended
}

/// Whoever copies `agent.db` of a stopped agent copies all of it. Nothing is lost where that cannot be had: its log is
/// read at the next start.
async fn make_whole(journal: &Journal) {
    let why = match tokio::time::timeout(CHECKPOINT, journal.checkpoint()).await {
        Ok(Ok(true)) => return,
        Ok(Ok(false)) => "somebody reads it".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the disk took longer than {} s", CHECKPOINT.as_secs()),
    };
    tracing::warn!("a copy of agent.db needs agent.db-wal beside it: {why}");
}

/// A part's name with how it ended.
type Ended = (&'static str, Result<(), Cause>);

/// `Ok` on a signal; the cause, when a part ended by itself.
async fn until_told(tasks: &mut JoinSet<Ended>) -> Result<(), Cause> {
    let no_signals = |error| Cause::new(Reason::Internal, format!("signals cannot be awaited: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        Some(ended) = tasks.join_next() => Err(named(ended)),
    }
}

fn named(ended: Result<Ended, tokio::task::JoinError>) -> Cause {
    let advice = "see the log above; the agent is started again by systemd, and goes on where it was";
    let cause = match ended {
        Ok((name, Err(cause))) => Cause::new(cause.reason, format!("{name} ended: {}", cause.text)),
        Ok((name, Ok(()))) => Cause::new(Reason::Internal, format!("{name} ended by itself")),
        Err(error) => Cause::new(Reason::Internal, format!("a part panicked: {error}")),
    };
    tracing::error!(reason = %cause.reason, "{}", cause.text);
    cause.advise(advice)
}
