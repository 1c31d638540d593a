//! The coordinator's time: the wall clock as it was at the start, and from then on a clock that never jumps.
//!
//! Whatever is decided goes by it: who is heard, whose deadline is past, what agents take for the coordinator's clock. So
//! a wall clock that a person or NTP moves by a day loses no host, and expires no event. What was wrong at the start
//! stays wrong until the next one; that is told.

use std::time::Duration;

use dewpoint_proto::time::Millis;
use tokio::time::Instant;

/// The machine's clocks.
pub trait Clock: Send + Sync + 'static {
    /// Wall clock; jumps when it is moved.
    fn wall(&self) -> Millis;
    /// Since some instant before the start; never jumps.
    fn steady(&self) -> Duration;
}

/// The machine's own.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Millis {
        Millis::now()
    }

    fn steady(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The coordinator's time.
pub struct Time {
    clock: Box<dyn Clock>,
    wall: Millis,
    steady: Duration,
}

/// A wall clock that is further off than this was moved.
const MOVED: Duration = Duration::from_secs(60);

impl Time {
    /// From now on.
    #[must_use]
    pub fn of(clock: Box<dyn Clock>) -> Self {
        Self { wall: clock.wall(), steady: clock.steady(), clock }
    }

    /// The wall clock at the start, and how long that is ago.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.wall.plus(self.clock.steady().saturating_sub(self.steady))
    }

    /// By how much the wall clock was moved since the start, when that is much; milliseconds.
    #[must_use]
    pub fn moved(&self) -> Option<i64> {
        let off = self.clock.wall().0.saturating_sub(self.now().0);
        (Duration::from_millis(off.unsigned_abs()) > MOVED).then_some(off)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    struct Hands(Arc<(AtomicI64, AtomicI64)>);

    impl Clock for Hands {
        fn wall(&self) -> Millis {
            Millis(self.0.0.load(Ordering::SeqCst))
        }

        fn steady(&self) -> Duration {
            Duration::from_millis(self.0.1.load(Ordering::SeqCst).unsigned_abs())
        }
    }

    #[test]
    fn a_wall_clock_that_is_moved_by_a_day_moves_no_time_and_is_told() {
        const DAY: i64 = 24 * 3600 * 1000;
        for jump in [DAY, -DAY] {
            let hands = Arc::new((AtomicI64::new(5 * DAY), AtomicI64::new(7)));
            let time = Time::of(Box::new(Hands(Arc::clone(&hands))));
            hands.0.fetch_add(jump + 1000, Ordering::SeqCst);
            hands.1.fetch_add(1000, Ordering::SeqCst);
            assert_eq!((time.now(), time.moved()), (Millis(5 * DAY + 1000), Some(jump)));
            hands.0.fetch_sub(jump, Ordering::SeqCst);
            assert_eq!(time.moved(), None, "NTP's small steps are no news");
        }
    }
}
