//! Writes what is true of events to disk before anyone acts on it.
//!
//! Owns `agent.db` and the one thread that writes it. Never: calls libvirt, touches disks, decides what to do.

pub mod entry;
pub mod stage;
