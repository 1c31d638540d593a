//! Against libvirt itself: its QEMU driver inside the test's own process, below a folder of its own, with real QEMUs.

mod host;
mod lifecycle;
