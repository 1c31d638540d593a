//! Instants that survive both a moved wall clock and a reboot, and the judgement of an event's deadline by them.

use std::time::Duration;

use dewpoint_proto::time::Millis;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Clock;

/// One boot of the host: the kernel's own random id of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub Uuid);

impl BootId {
    /// The present boot's, from `/proc/sys/kernel/random/boot_id`.
    ///
    /// # Errors
    /// When that file cannot be read, or holds no UUID.
    pub fn read() -> std::io::Result<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Uuid::try_parse(text.trim()).map(Self).map_err(std::io::Error::other)
    }
}

/// An instant on this host. `since_boot` never jumps, but counts for one boot only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// By the wall clock.
    pub wall: Millis,
    /// Since the host booted, suspend included; milliseconds.
    pub since_boot_ms: u64,
    /// Which boot.
    pub boot: BootId,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now(clock: &dyn Clock, boot: BootId) -> Self {
        let since_boot_ms = u64::try_from(clock.since_boot().as_millis()).unwrap_or(u64::MAX);
        Self { wall: clock.wall(), since_boot_ms, boot }
    }

    /// How long ago `earlier` was: by the clock that never jumps where both are of one boot, else by the wall clock.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Duration {
        if self.boot == earlier.boot {
            return Duration::from_millis(self.since_boot_ms.saturating_sub(earlier.since_boot_ms));
        }
        self.wall.since(earlier.wall)
    }
}

/// By how much the clock that gave an event its deadline is ahead of this host's clocks; journaled, so that a deadline
/// means the same after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOffset {
    /// When it was measured.
    pub at: Moment,
    /// What the other clock said then.
    pub theirs: Millis,
}

impl ClockOffset {
    /// Of this host's own wall clock, for events submitted here.
    #[must_use]
    pub fn own(now: Moment) -> Self {
        Self { at: now, theirs: now.wall }
    }

    /// What the other clock says now. Within the boot it was measured in, no jump of this host's wall clock matters.
    #[must_use]
    pub fn theirs_at(&self, now: &Moment) -> Millis {
        if now.boot == self.at.boot {
            return self.theirs.plus(now.since(&self.at));
        }
        let ahead = self.theirs.0.saturating_sub(self.at.wall.0);
        Millis(now.wall.0.saturating_add(ahead))
    }
}

/// An event's deadline, and the clock it is meant by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// Not begun by then: expires.
    pub not_after: Millis,
    /// As journaled at acceptance.
    pub clock: ClockOffset,
}

impl Deadline {
    /// Whether it has passed.
    #[must_use]
    pub fn passed(&self, now: &Moment) -> bool {
        self.clock.theirs_at(now) > self.not_after
    }

    /// How long until it passes; zero when it has.
    #[must_use]
    pub fn remaining(&self, now: &Moment) -> Duration {
        self.not_after.since(self.clock.theirs_at(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(boot: u128, wall: i64, since_boot_ms: u64) -> Moment {
        Moment { wall: Millis(wall), since_boot_ms, boot: BootId(Uuid::from_u128(boot)) }
    }

    #[test]
    fn a_jump_of_the_wall_clock_moves_no_deadline() {
        let clock = ClockOffset { at: moment(1, 1_000, 50), theirs: Millis(90_000) };
        let deadline = Deadline { not_after: Millis(95_000), clock };
        assert!(!deadline.passed(&moment(1, 9_999_999, 5_050)));
        assert!(deadline.passed(&moment(1, -5, 5_051)));
        assert_eq!(deadline.remaining(&moment(1, 0, 1_050)), Duration::from_secs(4));
    }

    #[test]
    fn after_a_reboot_the_wall_clock_judges_with_the_offset_of_acceptance() {
        let clock = ClockOffset { at: moment(1, 1_000, 50_000), theirs: Millis(91_000) };
        let deadline = Deadline { not_after: Millis(95_000), clock };
        assert!(!deadline.passed(&moment(2, 5_000, 10)));
        assert!(deadline.passed(&moment(2, 5_001, 10)));
    }
}
