//! The bounds that plans and lanes keep to. From the configuration; tests make them short.

use std::time::Duration;

use dewpoint_proto::names::InterfaceName;

use super::keep::Bounds;

/// The bounds that plans and lanes keep to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a guest is given to go down when the event does not say.
    pub guest_timeout: Duration,
    /// How often a guest that has not gone down yet is asked again: one that is still booting ignores the first time.
    pub ask_again: Duration,
    /// Backoff after the first failure of a step; doubled with each further one.
    pub backoff_first: Duration,
    /// The longest backoff.
    pub backoff_most: Duration,
    /// How often a call or job of the host itself may fail before the event is undone.
    pub attempts: u32,
    /// The same for what needs the image server, which may be restarting.
    pub attempts_remote: u32,
    /// How often a guest that does not thaw is asked to while a snapshot is undone, each time for half a minute; then its
    /// VM is left to a person.
    pub thaws: u32,
    /// Jobs (fetch, copy, hash, upload) at work at a time, over all VMs.
    pub builds: usize,
    /// How often a lane that waits looks again though nothing woke it.
    pub sweep: Duration,
    /// How often the progress of a job is looked at and published.
    pub progress: Duration,
    /// Of the keeper.
    pub keep: Bounds,
    /// The bridge of a network interface that names none.
    pub default_bridge: InterfaceName,
}

impl Settings {
    /// What the agent runs with unless configured otherwise.
    #[must_use]
    pub fn with_bridge(default_bridge: InterfaceName) -> Self {
        Self {
            guest_timeout: Duration::from_secs(90),
            ask_again: Duration::from_secs(15),
            backoff_first: Duration::from_millis(500),
            backoff_most: Duration::from_secs(30),
            attempts: 3,
            attempts_remote: 8,
            thaws: 30,
            builds: 10,
            sweep: Duration::from_secs(5),
            progress: Duration::from_secs(1),
            keep: Bounds::default(),
            default_bridge,
        }
    }
}
