//! What the two daemons share beside the wire.
//!
//! - [`gather`]: groups for a thread that commits many requests with one fsync.
//! - [`units`]: durations and sizes as people write them in configuration files.
//! - [`telemetry`]: where the log goes.

pub mod gather;
pub mod telemetry;
pub mod units;
