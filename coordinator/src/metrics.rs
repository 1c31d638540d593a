//! Counts of what the coordinator does, in memory. Samples of hosts and their history come later, into this module.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the router counts.
#[derive(Debug, Default)]
pub struct RouterMetrics {
    /// Sessions that were welcomed or told that they diverged.
    pub sessions: Count,
    /// Events sent to agents, again ones included.
    pub delivered: Count,
    /// Times that a window was sent again because its acceptance did not come.
    pub resends: Count,
    /// Events that only the slow sweep found: each is a lost wake-up, and a bug.
    pub swept: Count,
    /// Reports stored.
    pub reports: Count,
    /// Newcomers turned away because the older session answered.
    pub clashes: Count,
    /// Sessions given up because their agent did not read.
    pub stuck: Count,
    /// Sessions given up because nothing came: their agent hangs, or the wire died.
    pub silent: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn one(&self) {
        self.more(1);
    }

    /// That many more.
    pub fn more(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// So far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
