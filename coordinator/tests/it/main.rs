//! The coordinator as a process of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod cut;
mod daemon;
mod killed;
mod process;
mod sigkill;
mod transitions;
mod upkeep;
