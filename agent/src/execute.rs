//! Carries out events: one lane for each VM observes, plans, journals, applies, and observes again.

pub mod apply;
pub mod executor;
mod finish;
pub mod history;
pub mod keep;
mod lane;
pub mod observed;
pub mod plan;
pub mod settings;
pub mod step;
