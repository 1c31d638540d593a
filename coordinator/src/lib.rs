//! The coordinator: takes requests, chooses the hypervisor, pushes the work to it.

pub mod api;
pub mod app;
pub mod clock;
pub mod config;
pub mod events;
pub mod images;
pub mod metrics;
pub mod router;
pub mod scheduler;
pub mod store;
pub mod upkeep;

#[cfg(test)]
mod testing;
