//! How long to wait before dialling again: pure.

use std::time::Duration;

/// Of the wait.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest first wait.
    pub first: Duration,
    /// The longest wait of all.
    pub most: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { first: Duration::from_millis(250), most: Duration::from_secs(30) }
    }
}

/// Anywhere between nothing and the bound, which doubles with every attempt: a fleet that lost its coordinator at
/// once does not come back at once. `random` is from 0 to 1.
#[must_use]
pub fn full_jitter(bounds: Bounds, attempt: u32, random: f64) -> Duration {
    let doubled = bounds.first.saturating_mul(1_u32.checked_shl(attempt.min(31)).unwrap_or(u32::MAX));
    doubled.min(bounds.most).mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_beyond_the_bounds(attempt in any::<u32>(), random in -1.0..2.0_f64) {
            let bounds = Bounds::default();
            let wait = full_jitter(bounds, attempt, random);
            prop_assert!(wait <= bounds.most);
            prop_assert!(full_jitter(bounds, 0, random) <= bounds.first);
        }
    }

    #[test]
    fn the_bound_doubles_up_to_the_most() {
        let bounds = Bounds { first: Duration::from_secs(1), most: Duration::from_secs(5) };
        let waits: Vec<_> = (0..5).map(|attempt| full_jitter(bounds, attempt, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
    }
}
