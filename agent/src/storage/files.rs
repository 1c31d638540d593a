//! The real storage: a folder of the host.
//!
//! Owns: everything below the data folder's `images`, `vms`, `recycle` and `quarantine`. Blocking work runs on tokio's
//! blocking threads, with a bound on how much at once and a deadline for what should be short; what changes a VM's
//! folder, or an image, goes one at a time for that VM or image, even when an earlier caller has gone away.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dewpoint_common::durable::Witness;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, HostId, VmId};
use dewpoint_proto::spec::{ImageDigest, ImageRef, VmSpec};
use nix::unistd::{Gid, Group};
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::time::timeout;

use super::budget::InUse;
use super::cache::Downloads;
use super::durable::{Durable, PASSAGE_MODE, is_folder};
use super::failure::{OrFailed, failed};
use super::folder::names_in;
use super::layout::Layout;
use super::locks::Locks;
use super::overlay::Templates;
use super::qemu_img::QemuImg;
use super::{
    Described, DiskPaths, ImageServer, JobProgress, NewDisk, Retirement, Seen, Space, Storage, VmFiles,
};
use crate::clock::Clock;

/// What a short operation may take before the disk is called unresponsive.
pub(crate) const SHORT: Duration = Duration::from_secs(60);
/// Blocking operations at once; a hanging disk takes no more of the process's threads than these.
const BLOCKING: usize = 32;

/// Where files are kept, and within which bounds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data folder, `/var/lib/dewpoint`.
    pub data: PathBuf,
    /// This host; stands in every VM folder's mark.
    pub host: HostId,
    /// The group that QEMU runs in; files keep the agent's own group where there is none of that name.
    pub group: String,
    /// How long a replaced or deleted disk is kept.
    pub recycle_for: Duration,
    /// How much the recycle folder may take; the budget wins over the time.
    pub recycle_bytes: u64,
    /// How much images that nobody uses may take of the cache.
    pub image_bytes: u64,
    /// What is left free for the journal and for the host.
    pub reserve_bytes: u64,
    /// `qemu-img`.
    pub qemu_img: PathBuf,
    /// How long a transfer may go without a byte.
    pub stall: Duration,
}

impl Settings {
    /// The usual bounds for a host's data folder.
    #[must_use]
    pub fn new(data: PathBuf, host: HostId) -> Self {
        Self {
            data,
            host,
            group: "libvirt-qemu".into(),
            recycle_for: Duration::from_secs(72 * 3600),
            recycle_bytes: 100 * dewpoint_proto::limits::GIB,
            image_bytes: 100 * dewpoint_proto::limits::GIB,
            reserve_bytes: 2 * dewpoint_proto::limits::GIB,
            qemu_img: "/usr/bin/qemu-img".into(),
            stall: Duration::from_secs(30),
        }
    }
}

/// The storage of a host.
#[derive(Clone)]
pub struct Files {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) settings: Settings,
    pub(super) layout: Layout,
    pub(super) durable: Durable,
    pub(super) qemu_img: QemuImg,
    pub(super) overlays: Templates,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) downloads: Downloads,
    pub(super) in_use: InUse,
    /// Everything that deletes images, or begins to use one.
    pub(super) images: Mutex<()>,
    /// Everything that changes the recycle folder, or counts what is in it in order to.
    pub(super) recycle: Mutex<()>,
    vms: Locks<VmId>,
    places: Arc<Semaphore>,
}

impl Files {
    /// Opens the data folder, and makes what is missing of it. Blocks, shortly.
    ///
    /// # Errors
    /// `STORAGE_ERROR` or `DISK_FULL`.
    pub fn open(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, Cause> {
        Self::open_witnessed(settings, clock, None)
    }

    /// The same, with somebody who sees every change before it is made.
    ///
    /// # Errors
    /// As [`Files::open`].
    pub fn open_witnessed(
        settings: Settings,
        clock: Arc<dyn Clock>,
        witness: Option<Arc<dyn Witness>>,
    ) -> Result<Self, Cause> {
        std::fs::create_dir_all(&settings.data).or_failed("make the data folder", &settings.data)?;
        let layout = Layout { root: settings.data.clone() };
        let durable = Durable::new(layout.root.clone(), group(&settings), witness);
        for folder in [layout.images(), layout.vms(), layout.recycle(), layout.quarantine()] {
            durable.make_dir(&folder, PASSAGE_MODE).or_failed("make a folder", &folder)?;
            settle(&durable, &folder);
        }
        Ok(Self::with(settings, layout, durable, clock))
    }

    /// The data folder as it is, for a person's commands, beside a daemon or without one: nothing is made.
    #[must_use]
    pub fn over(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let layout = Layout { root: settings.data.clone() };
        let durable = Durable::new(layout.root.clone(), group(&settings), None);
        Self::with(settings, layout, durable, clock)
    }

    /// For an agent that only observes: nothing is made, and nothing but looking may be asked of it.
    #[must_use]
    pub fn observing(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let layout = Layout { root: settings.data.clone() };
        let durable = Durable::new(layout.root.clone(), None, None);
        Self::with(settings, layout, durable, clock)
    }

    fn with(settings: Settings, layout: Layout, durable: Durable, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner: Arc::new(Inner {
                qemu_img: QemuImg { program: settings.qemu_img.clone() },
                overlays: Templates::default(),
                settings,
                layout,
                durable,
                clock,
                downloads: Downloads::default(),
                in_use: InUse::default(),
                images: Mutex::new(()),
                recycle: Mutex::new(()),
                vms: Locks::default(),
                places: Arc::new(Semaphore::new(BLOCKING)),
            }),
        }
    }

    /// One at a time for a VM. The guard goes into the blocking work, so that a caller who gave up does not let the
    /// next one in too early.
    pub(super) async fn lock(&self, vm: VmId) -> OwnedMutexGuard<()> {
        self.inner.vms.lock(vm).await
    }

    /// Short work on a blocking thread.
    pub(super) async fn short<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Cause> + Send + 'static,
    ) -> Result<T, Cause> {
        timeout(SHORT, self.blocking(work)).await.unwrap_or_else(|_| Err(unresponsive()))
    }

    /// Work on a blocking thread whose length its caller bounds. It goes on when the caller goes away.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Cause> + Send + 'static,
    ) -> Result<T, Cause> {
        let inner = Arc::clone(&self.inner);
        let place = timeout(SHORT, Arc::clone(&inner.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(unresponsive()) };
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work(&inner)
        });
        done.await.unwrap_or_else(|error| {
            Err(Cause::new(Reason::Internal, format!("a file operation broke down: {error}"))
                .advise("report this as a bug, with the agent's log"))
        })
    }
}

fn unresponsive() -> Cause {
    Cause::new(Reason::StorageError, format!("the disk did not answer within {} s", SHORT.as_secs()))
        .advise("look at the host's disks and at the kernel's log: one may be hanging")
}

/// Whoever was here before may have been killed between a name and its sync: names last before anything is built on them.
fn settle(durable: &Durable, folder: &Path) {
    let inside = names_in(folder).unwrap_or_default().into_iter().map(|name| folder.join(name));
    let folders = inside.filter(|path| is_folder(path).unwrap_or(false));
    for path in std::iter::once(folder.to_owned()).chain(folders) {
        if let Err(error) = durable.sync_dir(&path) {
            tracing::warn!(folder = %path.display(), %error, "a folder cannot be synced");
        }
    }
}

/// The group of files that QEMU opens: none when there is none of that name, or when we may not give files to it.
fn group(settings: &Settings) -> Option<Gid> {
    let found = Group::from_name(&settings.group).ok().flatten()?;
    let may = nix::unistd::geteuid().is_root()
        || nix::unistd::getegid() == found.gid
        || nix::unistd::getgroups().is_ok_and(|groups| groups.contains(&found.gid));
    if !may {
        tracing::warn!(group = %settings.group, "files keep the agent's own group: it is no member of QEMU's");
    }
    may.then_some(found.gid)
}

impl Inner {
    /// Size and free bytes of a folder's file system, as an unprivileged writer sees them.
    pub(super) fn statvfs(&self, folder: &Path) -> Result<(u64, u64), Cause> {
        let stat = nix::sys::statvfs::statvfs(folder)
            .map_err(|error| failed("ask for the free space of the data folder", folder, &error.into()))?;
        let unit = stat.fragment_size();
        Ok((stat.blocks() * unit, stat.blocks_available() * unit))
    }
}

#[async_trait]
impl Storage for Files {
    async fn observe(&self, vm: VmId) -> Seen<VmFiles> {
        self.see(vm).await
    }

    async fn list(&self) -> Result<BTreeSet<VmId>, Cause> {
        self.list_folders().await
    }

    async fn image(&self, digest: ImageDigest) -> Seen<()> {
        self.cached(digest).await
    }

    async fn fetch_image(
        &self,
        image: &ImageRef,
        from: Option<&ImageServer>,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        self.fetch(image, from, progress).await
    }

    async fn make_disk(&self, disk: &NewDisk, progress: &JobProgress) -> Result<(), Cause> {
        self.make(disk, progress).await
    }

    async fn make_seed(&self, vm: VmId, event: EventId, spec: &VmSpec) -> Result<(), Cause> {
        self.seed(vm, event, spec).await
    }

    async fn describe(&self, vm: VmId, disk: EventId, seed: EventId) -> Result<Described, Cause> {
        self.described_of(vm, disk, seed).await
    }

    async fn disk_paths(&self, vm: VmId, event: EventId) -> Result<DiskPaths, Cause> {
        self.paths(vm, event).await
    }

    fn seed_path(&self, vm: VmId, event: EventId) -> PathBuf {
        self.inner.layout.seed(vm, event)
    }

    fn console_path(&self, vm: VmId) -> PathBuf {
        self.inner.layout.console(vm)
    }

    async fn retire_disk(&self, vm: VmId, disk: EventId, how: &Retirement) -> Result<(), Cause> {
        self.retire(vm, disk, how.clone()).await
    }

    async fn purge_recycled(&self, vm: VmId) -> Result<(), Cause> {
        self.purge_recycled_of(vm).await
    }

    async fn discard(&self, vm: VmId, event: EventId) -> Result<(), Cause> {
        self.discard_of(vm, event).await
    }

    async fn remove_folder(&self, vm: VmId) -> Result<(), Cause> {
        self.remove_folder_of(vm).await
    }

    async fn make_backup_target(&self, vm: VmId, event: EventId, disk: EventId) -> Result<PathBuf, Cause> {
        self.backup_target(vm, event, disk).await
    }

    async fn copy_snapshot(
        &self,
        vm: VmId,
        event: EventId,
        disk: EventId,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        self.copy_of(vm, event, disk, progress).await
    }

    async fn seal_snapshot(&self, vm: VmId, event: EventId) -> Result<(), Cause> {
        self.seal(vm, event).await
    }

    async fn adopt_snapshot(
        &self,
        vm: VmId,
        event: EventId,
        progress: &JobProgress,
    ) -> Result<ImageRef, Cause> {
        self.adopt(vm, event, progress).await
    }

    async fn uploaded(&self, digest: ImageDigest, to: &ImageServer) -> Seen<()> {
        self.is_uploaded(digest, to).await
    }

    async fn upload(&self, image: &ImageRef, to: &ImageServer, progress: &JobProgress) -> Result<(), Cause> {
        let _using = self.inner.in_use.using(image.digest);
        self.check_cached(image).await?;
        self.put(image, to, progress).await
    }

    async fn space(&self) -> Result<Space, Cause> {
        self.measure_space().await
    }

    async fn degraded(&self) -> Vec<Cause> {
        self.trouble().await
    }
}
