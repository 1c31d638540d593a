//! Removes what bears a slot's names. Only for whoever holds the slot's lock: then its last owner is dead.

use std::path::Path;

use super::{bridge_of, bridge_script, dir_of, table_of};
use crate::host::Libvirt;
use crate::shell;

/// Domains whose disks lie in the slot's folder, its bridge with the links on it, its table, its folder.
pub(super) fn remove(slot: u8) {
    let dir = dir_of(slot);
    if dir.exists() {
        remove_domains(&dir);
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

fn remove_domains(dir: &Path) {
    let libvirt = Libvirt::connect();
    for domain in libvirt.domains_with_files_in(dir) {
        libvirt.remove(&domain);
    }
}
