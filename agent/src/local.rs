//! The Unix socket, and the commands for debugging on the spot.

pub mod event_file;
