//! Conditions with a bound. A condition says what it saw instead, so that a failure names it.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// How long between two looks.
const BETWEEN: Duration = Duration::from_millis(40);

/// What a machine that boots several guests at once under emulation may need for one of them.
pub const BOOT: Duration = Duration::from_secs(100);
/// What an event without a boot in it may need.
pub const EVENT: Duration = Duration::from_secs(60);
/// What one call, or one message's way, may need.
pub const SOON: Duration = Duration::from_secs(20);

/// Looks until there is an answer.
///
/// # Panics
/// When there is none within the bound: with what was waited for, and what was seen last instead.
pub async fn until<T, W: Display>(
    what: &str,
    bound: Duration,
    mut look: impl AsyncFnMut() -> Result<T, W>,
) -> T {
    let deadline = Instant::now() + bound;
    let mut looks = interval(BETWEEN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut instead = "nothing was seen at all".to_owned();
    loop {
        looks.tick().await;
        match timeout_at(deadline, look()).await {
            Ok(Ok(seen)) => return seen,
            Ok(Err(other)) => instead = other.to_string(),
            Err(_) => panic!("{what}: not within {bound:?}; seen last: {instead} (and the last look hung)"),
        }
        assert!(Instant::now() < deadline, "{what}: not within {bound:?}; seen last: {instead}");
    }
}

/// Looks until it holds; see [`until`].
pub async fn until_holds(what: &str, bound: Duration, mut look: impl AsyncFnMut() -> bool) {
    until(what, bound, async || if look().await { Ok(()) } else { Err("it does not hold") }).await;
}
