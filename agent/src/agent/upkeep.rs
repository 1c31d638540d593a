//! What is done now and then: old rows pruned, the recycle folder and the image cache kept within their bounds,
//! abandoned downloads given up.

use std::time::Duration;

use dewpoint_proto::time::Millis;
use futures::future::BoxFuture;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::{SystemClock, Unmoved};
use crate::journal::Journal;
use crate::storage::Files;

/// Long enough to cost nothing, short beside the days that things are kept.
const EVERY: Duration = Duration::from_secs(600);

/// What is kept up.
pub(super) struct Upkeep {
    pub(super) journal: Journal,
    /// None: the agent only observes, and its files are no business of its own.
    pub(super) files: Option<Files>,
    /// Records what libvirt tells of VMs.
    pub(super) listen: BoxFuture<'static, ()>,
}

impl Upkeep {
    /// Runs until dropped. What fails is tried again the next time.
    pub(super) async fn run(self) {
        let Self { journal, files, listen } = self;
        tokio::select! { () = listen => {}, () = keep_up(&journal, files.as_ref()) => {} }
    }
}

async fn keep_up(journal: &Journal, files: Option<&Files>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What is deleted for good goes by it: a wall clock that is moved ahead takes no disk's or event's time away.
    let time = Unmoved::of(SystemClock);
    loop {
        ticks.tick().await;
        if let Err(error) = journal.prune(time.now()).await {
            tracing::warn!("old events could not be pruned: {error}");
        }
        if let Some(files) = files {
            keep_files(files, time.now()).await;
        }
    }
}

async fn keep_files(files: &Files, now: Millis) {
    if let Err(cause) = files.sweep_recycle(now).await {
        tracing::warn!(reason = %cause.reason, "the recycle folder could not be swept: {cause}");
    }
    if let Err(cause) = files.sweep_images(now).await {
        tracing::warn!(reason = %cause.reason, "abandoned downloads were not looked for: {cause}");
    }
    if let Err(cause) = files.sweep_cache().await {
        tracing::warn!(reason = %cause.reason, "the image cache is not kept within its budget: {cause}");
    }
}
