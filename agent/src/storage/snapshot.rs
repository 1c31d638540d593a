//! Snapshots: a self-contained qcow2 beside the disk it is taken of, then an image of the cache.
//!
//! `<event>.snapshot.part` is written by QEMU's backup job into a file that we made, or by `qemu-img convert` when the
//! VM is off; sealed, it becomes `<event>.snapshot`; adopted, it has a second name in the image cache.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dewpoint_common::image;
use dewpoint_common::image::qcow2::{Header, Unreadable};
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::spec::{ImageDigest, ImageRef};
use sha2::{Digest, Sha256};

use super::copy::{Stop, copy_sparse};
use super::disk::may_copy;
use super::durable::{DISK_MODE, IMAGE_MODE, is_file, open};
use super::failure::{OrFailed, failed, refused};
use super::files::{Files, Inner};
use super::layout::{Made, PART, base_name, part_of};
use super::part::STEP;
use super::space::{Place, allocated};
use super::{DiskFormat, JobProgress};

/// What the tables of a snapshot may take beside its data.
const TABLES: u64 = 16 * 1024 * 1024;

impl Files {
    pub(super) async fn backup_target(
        &self,
        vm: VmId,
        event: EventId,
        disk: EventId,
    ) -> Result<PathBuf, Cause> {
        let _turn = self.lock(vm).await;
        let size = self.begin_snapshot(vm, event, disk).await?;
        let folder = self.inner.layout.folder(vm);
        let name = format!("{}{PART}", Made::Snapshot.file_name(event));
        self.inner.qemu_img.create(&folder, &name, None, size).await?;
        let target = folder.join(name);
        let synced = target.clone();
        self.short(move |inner| {
            let folder = inner.layout.folder(vm);
            inner
                .durable
                .sync_path(&synced, DISK_MODE)
                .and_then(|()| inner.durable.sync_dir(&folder))
                .or_failed("make the backup's target", &synced)
        })
        .await?;
        Ok(target)
    }

    pub(super) async fn copy_of(
        &self,
        vm: VmId,
        event: EventId,
        disk: EventId,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        let turn = self.lock(vm).await;
        let size = self.begin_snapshot(vm, event, disk).await?;
        let (from, to) = (self.inner.layout.disk(vm, disk), part_of(&self.inner.layout.snapshot(vm, event)));
        let copied = self.inner.qemu_img.convert(&from, DiskFormat::Qcow2, &to, (progress, size)).await;
        drop(turn);
        if copied.is_err() {
            self.drop_part(vm, to).await;
        }
        copied
    }

    /// Room, and an empty `.part`; the virtual size that it is to have.
    async fn begin_snapshot(&self, vm: VmId, event: EventId, disk: EventId) -> Result<u64, Cause> {
        let (need, size) = self.short(move |inner| inner.snapshot_need(vm, disk)).await?;
        self.make_room(Place::Disks, need, "the snapshot").await?;
        self.short(move |inner| inner.create_part(&part_of(&inner.layout.snapshot(vm, event))).map(drop))
            .await?;
        Ok(size)
    }

    pub(super) async fn seal(&self, vm: VmId, event: EventId) -> Result<(), Cause> {
        let turn = self.lock(vm).await;
        let whole = self.inner.layout.snapshot(vm, event);
        let part = part_of(&whole);
        let looking = (whole.clone(), part.clone());
        let sealed = self
            .short(move |_| {
                let (whole, part) = looking;
                let there = |path| is_file(path).or_failed("look for the snapshot", path);
                Ok((there(&whole)?, there(&part)?))
            })
            .await?;
        match sealed {
            (true, _) => return Ok(()),
            (false, true) => {}
            (false, false) => return Err(refused("that the snapshot was to make is not there")),
        }
        let checked = part.clone();
        self.short(move |_| check_alone(&checked)).await?;
        self.inner.qemu_img.info(&part, DiskFormat::Qcow2).await?.check_plain()?;
        self.inner.qemu_img.check(&part).await?;
        self.blocking(move |inner| {
            let _turn = turn;
            inner
                .durable
                .sync_path(&part, IMAGE_MODE)
                .and_then(|()| inner.durable.take_name(&part, &whole))
                .or_failed("seal the snapshot", &whole)
        })
        .await
    }

    pub(super) async fn adopt(
        &self,
        vm: VmId,
        event: EventId,
        progress: &JobProgress,
    ) -> Result<ImageRef, Cause> {
        let _turn = self.lock(vm).await;
        let path = self.inner.layout.snapshot(vm, event);
        let (stop, progress) = (Stop::default(), progress.clone());
        let _stop_when_dropped = stop.clone().on_drop();
        let (image, linked) = self
            .blocking(move |inner| {
                let image = hash(&path, &progress, &stop)?;
                let linked = inner.link_image(&path, &image)?;
                Ok((image, linked))
            })
            .await?;
        if !linked {
            self.copy_into_cache(vm, event, &image).await?;
        }
        Ok(image)
    }

    /// Where the cache is on another file system.
    async fn copy_into_cache(&self, vm: VmId, event: EventId, image: &ImageRef) -> Result<(), Cause> {
        let _using = self.inner.in_use.using(image.digest);
        let turn = self.inner.downloads.turn(image.digest).await;
        self.make_room(Place::Images, image.size_bytes, "the snapshot's image").await?;
        let digest = image.digest;
        self.blocking(move |inner| {
            let _turn = turn;
            inner.copy_image(&inner.layout.snapshot(vm, event), digest)
        })
        .await
    }
}

impl Inner {
    /// At most what the disk and its base take now, and the disk's virtual size.
    fn snapshot_need(&self, vm: VmId, disk: EventId) -> Result<(u64, u64), Cause> {
        let path = self.layout.disk(vm, disk);
        let header = Header::read(&open(&path).or_failed("open the disk", &path)?);
        let header = header.map_err(|error| match error {
            Unreadable::Io(error) => failed("read the disk", &path, &error),
            Unreadable::Malformed(what) => super::failure::not_ours(&path, what),
        })?;
        let mut need = allocated(&path).or_failed("look at the disk", &path)?;
        if let Some(base) = self.backing(&path)? {
            let base = self.layout.folder(vm).join(base_name(base));
            need += allocated(&base).or_failed("look at the disk's base", &base)?;
        }
        Ok((need.min(header.virtual_size) + TABLES, header.virtual_size))
    }

    /// False: the cache is on another file system, and the image must be copied.
    fn link_image(&self, snapshot: &Path, image: &ImageRef) -> Result<bool, Cause> {
        let path = self.layout.image(image.digest);
        let linked = match self.durable.link(snapshot, &path) {
            Err(error) if may_copy(&error) => return Ok(false),
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => self.durable.sync_dir(&self.layout.images()),
        };
        linked.or_failed("take the snapshot into the image cache", &path).map(|()| true)
    }

    fn copy_image(&self, snapshot: &Path, digest: ImageDigest) -> Result<(), Cause> {
        if self.is_cached(digest)? {
            return Ok(());
        }
        let (path, part) = (self.layout.image(digest), self.layout.image_part(digest));
        self.create_part(&part)?;
        copy_sparse(snapshot, &part, &JobProgress::default(), &Stop::default())
            .and_then(|()| self.durable.sync_path(&part, IMAGE_MODE))
            .and_then(|()| self.durable.take_name(&part, &path))
            .or_failed("copy the snapshot into the image cache", &path)
    }
}

/// A quick look before the thorough one: a cut-off or dependent file is told in our words.
fn check_alone(part: &Path) -> Result<(), Cause> {
    let found = image::inspect(&open(part).or_failed("open the snapshot", part)?)?;
    if found.format == DiskFormat::Qcow2 {
        Ok(())
    } else {
        Err(refused("that the snapshot made is not a qcow2"))
    }
}

/// Hashes and inspects an image file that a person names on the host itself. Blocks for as long as reading takes.
///
/// # Errors
/// `IMAGE_REFUSED`, `STORAGE_ERROR`.
pub fn describe_image(path: &Path) -> Result<ImageRef, Cause> {
    hash(path, &JobProgress::default(), &Stop::default())
}

fn hash(path: &Path, progress: &JobProgress, stop: &Stop) -> Result<ImageRef, Cause> {
    let file = open(path).or_failed("open the snapshot", path)?;
    let size = file.metadata().or_failed("look at the snapshot", path)?.len();
    let mut hasher = Sha256::new();
    let mut piece = vec![0; STEP];
    let mut at = 0;
    loop {
        stop.check().or_failed("hash the snapshot", path)?;
        let got = file.read_at(&mut piece, at).or_failed("read the snapshot", path)?;
        if got == 0 {
            break;
        }
        hasher.update(&piece[..got]);
        at += got as u64;
        progress.set(at, size);
    }
    if at != size {
        return Err(Cause::new(Reason::StorageError, "the snapshot changed while it was hashed")
            .advise("find who writes into the VM's folder, and take the snapshot again"));
    }
    let virtual_size_bytes = image::inspect(&file)?.virtual_size_bytes;
    Ok(ImageRef {
        digest: ImageDigest(hasher.finalize().into()),
        size_bytes: size,
        virtual_size_bytes,
        local_path: None,
    })
}
