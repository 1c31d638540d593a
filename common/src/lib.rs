//! What the two daemons share beside the wire.
//!
//! - [`config`]: configuration files, and what is wrong with them.
//! - [`durable`]: changes of files in an order that power loss cannot spoil.
//! - [`gather`]: groups for a thread that commits many requests with one fsync.
//! - [`image`]: what an image file is, read before QEMU opens it.
//! - [`message`]: ids of the messages that an operator searches.
//! - [`socket`]: a daemon's Unix socket.
//! - [`systemd`]: what systemd is told, and the watchdog.
//! - [`telemetry`]: where the log goes.
//! - [`text_file`]: files that a person wrote.
//! - [`units`]: durations and sizes as people write them in configuration files.
//! - [`wording`]: what a parser says, in words for people.

pub mod config;
pub mod durable;
pub mod gather;
pub mod image;
pub mod message;
pub mod socket;
pub mod systemd;
pub mod telemetry;
pub mod text_file;
pub mod units;
pub mod wording;
