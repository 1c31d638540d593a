//! Matching a host's log with ours.
