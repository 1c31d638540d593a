//! The command against a scripted fleet and a scripted image server, each in this process and on a port of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::large_enum_variant, reason = "scripts are short")]

mod errors;
mod fake;
mod image_server;
mod reconcile;
mod run;
mod shown;
mod upload;
mod wait;
mod watch;
