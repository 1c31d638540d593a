//! Which slot of the machine is whose: a lock file each, held by the owner's process and freed by its death.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;

use nix::fcntl::{Flock, FlockArg};

use super::root;

/// As many as there are /24 networks, less those that look special.
const SLOTS: std::ops::RangeInclusive<u8> = 1..=200;

/// A slot, held until dropped.
#[derive(Debug)]
pub(super) struct Slot {
    number: u8,
    _lock: Flock<File>,
}

impl Slot {
    /// The lowest free one: what a killed test left there is removed soonest.
    pub(super) fn take() -> Self {
        let root = root();
        std::fs::create_dir_all(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
        let open = std::fs::set_permissions(&root, Permissions::from_mode(0o755));
        open.unwrap_or_else(|error| panic!("{}: {error}", root.display()));
        SLOTS
            .into_iter()
            .find_map(try_take)
            .unwrap_or_else(|| panic!("all slots in {} are taken", root.display()))
    }

    pub(super) fn number(&self) -> u8 {
        self.number
    }
}

fn try_take(number: u8) -> Option<Slot> {
    let path = root().join(format!("{number:02x}.lock"));
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // Closed on exec, so no daemon that outlives its test can hold it.
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
    Some(Slot { number, _lock: lock })
}
