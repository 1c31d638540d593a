//! A slot of this machine for one test: folder, bridge, addresses, nftables table.
//!
//! Owns: the slot's lock, and everything named by the slot. Taking a slot removes what its last owner left, so a test
//! that was killed is cleaned up after by the next one; dropping it removes everything unless `DEWPOINT_KEEP` is set.

mod leftovers;
mod slot;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use crate::host::Place;
use crate::shell;
use slot::Slot;

/// A slot, held until dropped.
#[derive(Debug)]
pub struct Lab {
    slot: Slot,
    dir: PathBuf,
    hypervisor: Place,
}

impl Lab {
    /// Takes a free slot, makes its folder and its bridge. Its VMs are the machine's libvirt's.
    ///
    /// # Panics
    /// When not root, or when the host lacks what is needed.
    #[must_use]
    pub fn new() -> Self {
        Self::with(|_| Place::machine())
    }

    /// The same, with a libvirt of its own, see [`crate::libvirtd`].
    ///
    /// # Panics
    /// As [`Lab::new`].
    #[must_use]
    pub fn with_libvirt() -> Self {
        Self::with(Place::own)
    }

    fn with(hypervisor: impl Fn(&Path) -> Place) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "end-to-end tests make bridges and VMs: run them as root (sudo -E)"
        );
        let slot = Slot::take();
        leftovers::remove(slot.number());
        let dir = dir_of(slot.number());
        // QEMU's user must be able to pass through to the disks.
        std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let lab = Self { hypervisor: hypervisor(&dir), slot, dir };
        shell::run(&bridge_script(), ["up", &lab.bridge(), &lab.cidr4(1), &lab.cidr6(1)]);
        lab
    }

    fn number(&self) -> u8 {
        self.slot.number()
    }

    /// The lab's folder; everything in it goes with the lab.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The libvirt of its VMs.
    #[must_use]
    pub fn hypervisor(&self) -> &Place {
        &self.hypervisor
    }

    /// Its bridge.
    #[must_use]
    pub fn bridge(&self) -> String {
        bridge_of(self.number())
    }

    /// Its nftables table, of the bridge family.
    #[must_use]
    pub fn table(&self) -> String {
        table_of(self.number())
    }

    /// An IPv4 address of its network; 1 is the host's own.
    #[must_use]
    pub fn ip4(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 214, self.number(), host)
    }

    /// The same, with its prefix length.
    #[must_use]
    pub fn cidr4(&self, host: u8) -> String {
        format!("{}/24", self.ip4(host))
    }

    /// An IPv6 address of its network, with its prefix length.
    #[must_use]
    pub fn cidr6(&self, host: u16) -> String {
        format!("fdd0:214:{:x}::{host:x}/64", self.number())
    }

    /// A loopback address of its own: a daemon that starts again finds its port free.
    #[must_use]
    pub fn listen(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(127, 214, self.number(), 1), port)
    }

    /// A name that no other lab uses, for VMs, domains and links.
    #[must_use]
    pub fn name(&self, rest: &str) -> String {
        format!("{}-{rest}", self.bridge())
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::env::var_os("DEWPOINT_KEEP").is_some() {
            eprintln!("kept until its slot is taken again: {}", self.dir.display());
            return;
        }
        leftovers::remove(self.number());
    }
}

/// The workspace that this was built from: its scripts and its image cache.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// The tiny guest's image.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn tiny_image() -> PathBuf {
    let cache = std::env::var_os("DEWPOINT_CACHE").map_or_else(|| workspace().join(".cache"), PathBuf::from);
    let path = cache.join("images/tiny.qcow2");
    assert!(path.exists(), "{} is not there: build it with `make images`", path.display());
    path
}

/// What libvirt finds out of QEMU's capabilities, shared by the labs that have a libvirt of their own.
#[must_use]
pub(crate) fn capabilities() -> PathBuf {
    root().join(format!("capabilities-{}", crate::agent::virt_type()))
}

fn root() -> PathBuf {
    PathBuf::from("/var/tmp/dewpoint-test")
}

fn dir_of(slot: u8) -> PathBuf {
    root().join(format!("{slot:02x}"))
}

fn bridge_of(slot: u8) -> String {
    format!("dwt{slot:02x}")
}

fn table_of(slot: u8) -> String {
    format!("dewpoint_test_{slot:02x}")
}

fn bridge_script() -> String {
    workspace().join("scripts/bridge").to_string_lossy().into_owned()
}
