//! Cuts the agent off everywhere, repeats everything, and finds the same end: promises 1 to 7 of the design, on an
//! in-memory host and a real journal.

mod cut;
mod folder;
mod keep;
mod later;
mod random;
mod rig;
mod scenarios;
mod trouble;
mod why;
