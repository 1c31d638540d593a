//! The coordinator: takes requests, chooses the hypervisor, pushes the work to it.

pub mod events;
pub mod images;
pub mod scheduler;
pub mod store;
