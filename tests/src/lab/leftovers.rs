//! Removes what bears a slot's names. Only for whoever holds the slot's lock: then its last owner is dead.

use std::path::Path;

use nix::sys::signal::Signal;

use super::{bridge_of, bridge_script, dir_of, table_of};
use crate::host::{Libvirt, qemus};
use crate::process::signal;
use crate::shell;

/// Domains whose disks lie in the slot's folder, QEMUs of a libvirt of its own, its bridge with the links on it, its
/// table, its folder with what is mounted there.
pub(super) fn remove(slot: u8) {
    let dir = dir_of(slot);
    if dir.exists() {
        remove_domains(&dir);
        // A libvirt of the slot's own died with its owner, and left its guests.
        for qemu in qemus(&dir) {
            signal(qemu.pid, Signal::SIGKILL);
        }
        unmount(&dir);
    }
    let bridge = bridge_of(slot);
    if Path::new("/sys/class/net").join(&bridge).exists() {
        shell::attempt("ip", ["link", "delete", &watch_link(slot)]);
        shell::attempt(&bridge_script(), ["down", &bridge]);
    }
    shell::attempt("nft", ["delete", "table", "bridge", &table_of(slot)]);
    if let Err(error) = std::fs::remove_dir_all(&dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("{} cannot be removed: {error}", dir.display());
    }
}

/// The test's own port on the bridge, see [`crate::wire`].
fn watch_link(slot: u8) -> String {
    format!("{}w", bridge_of(slot))
}

/// What lies deepest first. Detached at once, so that a process that is still going holds nothing up.
fn unmount(dir: &Path) {
    let prefix = format!("{}/", dir.display());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut points: Vec<_> = points.filter(|point| point.starts_with(&prefix)).collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in points {
        shell::attempt("umount", ["--lazy", point]);
    }
}

fn remove_domains(dir: &Path) {
    let libvirt = Libvirt::connect();
    for domain in libvirt.domains_with_files_in(dir) {
        libvirt.remove(&domain);
    }
}
