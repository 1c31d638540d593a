//! The Unix socket, and the commands for debugging on the spot.
//!
//! The commands that read open the journal's database themselves, daemon up or down: one path. The socket is for
//! `submit`, for watching live, and for what only the daemon knows.

pub mod ask;
pub mod cli;
pub mod commands;
pub mod event_file;
pub mod print;
pub mod readiness;
pub mod service;
pub mod socket;
pub mod upgrade;
