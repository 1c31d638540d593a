//! The clocks, behind a trait: code that decides takes time as a value, so that tests move it.

use std::time::Duration;

use dewpoint_proto::time::Millis;
use nix::time::{ClockId, clock_gettime};

/// The host's clocks.
pub trait Clock: Send + Sync + 'static {
    /// Wall clock; jumps when a person or NTP moves it.
    fn wall(&self) -> Millis;
    /// Since the host booted, suspend included; never jumps, starts anew with each boot.
    fn since_boot(&self) -> Duration;
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Millis {
        Millis::now()
    }

    fn since_boot(&self) -> Duration {
        // CLOCK_BOOTTIME exists on every kernel that can run KVM, so the call cannot fail there.
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
    }
}
