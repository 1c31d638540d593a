//! What the two daemons share beside the wire.
//!
//! - [`gather`]: groups for a thread that commits many requests with one fsync.
//! - [`image`]: what an image file is, read before QEMU opens it.
//! - [`telemetry`]: where the log goes.
//! - [`units`]: durations and sizes as people write them in configuration files.

pub mod gather;
pub mod image;
pub mod telemetry;
pub mod units;
