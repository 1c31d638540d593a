//! The benchmarks behind `make bench`: each measures a thing and what it cannot be faster than, side by side, several
//! times, and prints the medians as one line of JSON. What each means is in `docs/benchmarks.md`.

pub mod accept;
pub mod bare;
pub mod create;
pub mod doctor;
pub mod figure;
pub mod journal;
pub mod memory;
pub mod push;
pub mod recover;
pub mod start;
pub mod storm;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Within a minute in all.
    Quick,
    /// Until the medians stand still.
    Full,
}

impl Effort {
    /// `QUICK=1` in the environment asks for the quick one.
    #[must_use]
    pub fn asked() -> Self {
        match std::env::var("QUICK").as_deref() {
            Ok("" | "0") | Err(_) => Self::Full,
            Ok(_) => Self::Quick,
        }
    }

    /// One of two numbers.
    #[must_use]
    pub fn of(self, quick: usize, full: usize) -> usize {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}
