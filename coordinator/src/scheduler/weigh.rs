//! Rules that prefer some hosts to others. Each gives 0 (worst) to 1 (best); factors say how much each matters.

mod builds;
mod cpu;
mod disk;
mod memory;

use super::Ask;

/// One rule.
pub(super) struct Weigher {
    /// Stable: recorded under it.
    pub(super) name: &'static str,
    /// How much it matters beside the others.
    pub(super) factor: f64,
    /// 0 to 1.
    pub(super) weigh: fn(&Ask<'_>) -> f64,
}

/// All of them. Memory leads: it is what cannot be shared.
pub(super) const ALL: [Weigher; 4] = [memory::WEIGHER, cpu::WEIGHER, disk::WEIGHER, builds::WEIGHER];

/// Scores are kept in steps of 1/32: hosts within one step are as good as each other, and spread by hash.
pub(super) const SCALE: u32 = 32;

/// The sum of all, in steps.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the sum of the factors")]
pub(super) fn score(ask: &Ask<'_>) -> u32 {
    let sum: f64 = ALL.iter().map(|weigher| weigher.factor * (weigher.weigh)(ask)).sum();
    (sum * f64::from(SCALE)).round().max(0.0) as u32
}

/// What would be left of `most` after the claim, 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "a preference, not a sum")]
fn left(claimed: u64, more: u64, most: u64) -> f64 {
    let left = most.saturating_sub(claimed.saturating_add(more));
    left as f64 / most.max(1) as f64
}
