//! What the two daemons share beside the wire.
//!
//! - [`units`]: durations and sizes as people write them in configuration files.
//! - [`telemetry`]: where the log goes.

pub mod telemetry;
pub mod units;
