//! Against libvirt itself: its QEMU driver inside the test's own process, below a folder of its own, with real QEMUs.

mod backup;
mod daemon;
mod foreign;
mod host;
mod incidents;
mod inspect;
mod lifecycle;
mod stuck;
mod workers;
mod xml;
