//! A data folder of a test's own, images made on the spot, and what is seen of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use dewpoint_common::durable::Witness;
use dewpoint_proto::event::DiskDisposal;
use dewpoint_proto::ids::{EventId, HostId, VmId};
use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::{DiskMode, ImageDigest, ImageRef, Placement, Restart, VmSpec};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::clock::SystemClock;
use crate::storage::{Files, JobProgress, NewDisk, Retirement, Settings, Storage};

/// A data folder, and an image file beside it.
pub(super) struct Lab {
    pub(super) dir: TempDir,
    pub(super) files: Files,
    pub(super) settings: Settings,
}

impl Lab {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::Builder::new().prefix("dewpoint-storage-").tempdir().unwrap();
        let mut settings = settings(dir.path().join("data"));
        change(&mut settings);
        let files = open(&settings, None);
        Self { dir, files, settings }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.settings.data.join(name)
    }

    /// A qcow2 of 4 MiB with some data in it.
    pub(super) fn qcow2(&self, name: &str) -> ImageRef {
        let path = self.path(name);
        make_qcow2(&path, 7);
        local(&path, 4 * MIB)
    }

    pub(super) async fn fetched(&self) -> ImageRef {
        let image = self.qcow2("image.qcow2");
        self.files.fetch_image(&image, None, &JobProgress::default()).await.unwrap();
        image
    }

    /// A disk of 8 MiB.
    pub(super) fn disk(image: &ImageRef, mode: DiskMode) -> NewDisk {
        let (vm, event) = (VmId::fresh(), EventId::fresh());
        NewDisk { vm, event, image: image.digest, mode, size_bytes: 8 * MIB, made_of: None }
    }

    pub(super) async fn made(&self, disk: &NewDisk) {
        self.files.make_disk(disk, &JobProgress::default()).await.unwrap();
    }

    pub(super) fn folder(&self, vm: VmId) -> PathBuf {
        self.data("vms").join(vm.to_string())
    }
}

pub(super) fn settings(data: PathBuf) -> Settings {
    Settings {
        reserve_bytes: 0,
        recycle_for: Duration::from_secs(3600),
        stall: Duration::from_secs(5),
        ..Settings::new(data, HostId::fresh())
    }
}

pub(super) fn open(settings: &Settings, witness: Option<Arc<dyn Witness>>) -> Files {
    Files::open_witnessed(settings.clone(), Arc::new(SystemClock), witness).unwrap()
}

/// A qcow2 of 4 MiB whose second MiB is full of `byte`.
pub(super) fn make_qcow2(path: &Path, byte: u8) {
    let raw = path.with_extension("raw");
    let mut content = vec![0; 4 * 1024 * 1024];
    content[1024 * 1024..2 * 1024 * 1024].fill(byte);
    fs::write(&raw, content).unwrap();
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", raw.to_str().unwrap(), path.to_str().unwrap()]);
    fs::remove_file(raw).unwrap();
}

/// A reference to a file of this machine.
pub(super) fn local(path: &Path, virtual_size_bytes: u64) -> ImageRef {
    let bytes = fs::read(path).unwrap();
    ImageRef {
        digest: ImageDigest(Sha256::digest(&bytes).into()),
        size_bytes: bytes.len() as u64,
        virtual_size_bytes,
        local_path: Some(path.to_str().unwrap().to_owned()),
    }
}

/// A disk taken away by an event of a VM that is known.
pub(super) fn how(disposal: DiskDisposal) -> Retirement {
    Retirement { disposal, by: Some(EventId::fresh()), spec: Some(spec()) }
}

pub(super) fn spec() -> VmSpec {
    VmSpec {
        name: "web-1".parse().unwrap(),
        vcpus: 1,
        memory_bytes: 128 * MIB,
        disk_bytes: 8 * MIB,
        disk_mode: DiskMode::Overlay,
        nics: vec![],
        ssh_keys: vec![],
        user_data: vec![],
        labels: std::collections::BTreeMap::new(),
        placement: Placement::Bound,
        restart: Restart::default(),
    }
}

/// What a command prints; it must succeed.
pub(super) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// What QEMU says of an image.
pub(super) fn info(path: &Path) -> serde_json::Value {
    serde_json::from_str(&run("qemu-img", &["info", "--output=json", "-f", "qcow2", path.to_str().unwrap()]))
        .unwrap()
}

/// Whether two disks hold the same, as far as the first goes.
pub(super) fn same_content(one: &Path, other: &Path) {
    run("qemu-img", &["compare", "-q", one.to_str().unwrap(), other.to_str().unwrap()]);
}

pub(super) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Every path below a folder, sorted, relative.
pub(super) fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            found.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}
