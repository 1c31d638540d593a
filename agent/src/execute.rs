//! Carries out events: one lane for each VM observes, plans, journals, applies, and observes again.

pub mod step;
