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

/// Time that does not jump: the wall clock as it was when this was made, and what has passed since.
#[derive(Clone, Copy, Debug)]
pub struct Unmoved<C> {
    clock: C,
    wall: Millis,
    since_boot: Duration,
}

impl<C: Clock> Unmoved<C> {
    /// From now on.
    pub fn of(clock: C) -> Self {
        Self { wall: clock.wall(), since_boot: clock.since_boot(), clock }
    }

    /// Now, as the wall clock would have it if nobody had moved it.
    pub fn now(&self) -> Millis {
        self.wall.plus(self.clock.since_boot().saturating_sub(self.since_boot))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Hands(Mutex<(i64, Duration)>);

    impl Clock for &'static Hands {
        fn wall(&self) -> Millis {
            Millis(self.0.lock().unwrap().0)
        }

        fn since_boot(&self) -> Duration {
            self.0.lock().unwrap().1
        }
    }

    #[test]
    fn what_is_kept_for_a_time_is_kept_for_it_though_the_wall_clock_is_moved_by_a_day() {
        const DAY: i64 = 24 * 3600 * 1000;
        for jump in [DAY, -DAY] {
            let hands: &'static Hands = Box::leak(Box::default());
            *hands.0.lock().unwrap() = (5 * DAY, Duration::from_secs(7));
            let time = Unmoved::of(hands);
            *hands.0.lock().unwrap() = (5 * DAY + jump + 3000, Duration::from_secs(10));
            assert_eq!(time.now(), Millis(5 * DAY + 3000));
        }
    }
}
