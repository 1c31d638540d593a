//! A VM's disk: an overlay on a hard link of its image, or a copy that shares nothing with it.

use std::fs::File;
use std::path::Path;

use dewpoint_common::image::{self, Shape};
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::{DiskMode, ImageDigest};

use super::copy::copy_sparse;
use super::durable::{DISK_MODE, IMAGE_MODE, is_file, open};
use super::failure::OrFailed;
use super::files::{Files, Inner};
use super::layout::{Made, PART, base_name, part_of};
use super::made_of::MadeOf;
use super::overlay;
use super::space::Place;
use super::{BackingFile, DiskFormat, DiskPaths, JobProgress, NewDisk};

/// What an empty overlay takes, generously.
const OVERLAY_BYTES: u64 = 4 * MIB;

impl Files {
    pub(super) async fn make(&self, disk: &NewDisk, progress: &JobProgress) -> Result<(), Cause> {
        let _using = self.inner.in_use.using(disk.image);
        let turn = self.lock(disk.vm).await;
        let wanted = disk.clone();
        let Some(shape) = self.short(move |inner| inner.prepare(&wanted)).await? else {
            return Ok(());
        };
        let part = part_of(&self.inner.layout.disk(disk.vm, disk.event));
        let made = match disk.mode {
            DiskMode::Overlay => self.overlay(disk, shape).await,
            DiskMode::FullCopy => self.full_copy(disk, shape, &part, progress).await,
        };
        let named = match made {
            Ok(()) => self.name_disk(disk.vm, disk.event).await,
            Err(cause) => Err(cause),
        };
        drop(turn);
        if named.is_err() {
            self.drop_part(disk.vm, part).await;
        }
        named
    }

    async fn overlay(&self, disk: &NewDisk, shape: Shape) -> Result<(), Cause> {
        self.make_room(Place::Disks, OVERLAY_BYTES, "the disk").await?;
        let linking = disk.clone();
        let linked = self.short(move |inner| inner.link_base(linking.vm, linking.image)).await?;
        if !linked {
            let copying = disk.clone();
            self.make_room(Place::Disks, self.allocated(disk.image).await?, "the disk's base").await?;
            self.blocking(move |inner| inner.copy_base(copying.vm, copying.image)).await?;
        }
        let key = overlay::Key { image: disk.image, size_bytes: disk.size_bytes };
        let part = part_of(&self.inner.layout.disk(disk.vm, disk.event));
        let template = self.inner.overlays.of(key);
        let (making, from) = (part.clone(), template.clone());
        self.short(move |inner| {
            let empty = inner.create_part(&making)?;
            from.map_or(Ok(()), |from| from.write(&empty).or_failed("write the overlay", &making))
        })
        .await?;
        if template.is_some() {
            return Ok(());
        }
        let folder = self.inner.layout.folder(disk.vm);
        let name = format!("{}{PART}", Made::Disk.file_name(disk.event));
        let base = base_name(disk.image);
        self.inner.qemu_img.create(&folder, &name, Some((&base, shape.format)), disk.size_bytes).await?;
        self.short(move |inner| {
            let made = open(&part).and_then(|made| overlay::Template::read(&made));
            if let Some(template) = made.or_failed("read the overlay", &part)? {
                inner.overlays.keep(key, template);
            }
            Ok(())
        })
        .await
    }

    async fn full_copy(
        &self,
        disk: &NewDisk,
        shape: Shape,
        part: &Path,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        let image = self.inner.layout.image(disk.image);
        let need = match shape.format {
            DiskFormat::Qcow2 => self.allocated(disk.image).await?,
            DiskFormat::Raw => self.inner.qemu_img.measure(&image, shape.format).await?,
        };
        self.make_room(Place::Disks, need, "the disk").await?;
        let making = part.to_owned();
        self.short(move |inner| inner.create_part(&making).map(drop)).await?;
        match shape.format {
            // A qcow2 that stands alone is copied as it is: in no time where the file system shares extents.
            DiskFormat::Qcow2 => self.copy_file(&image, part, progress).await?,
            DiskFormat::Raw => {
                self.inner
                    .qemu_img
                    .convert(&image, shape.format, part, (progress, shape.virtual_size_bytes))
                    .await?;
            }
        }
        if disk.size_bytes > shape.virtual_size_bytes {
            self.inner.qemu_img.resize(part, disk.size_bytes).await?;
        }
        Ok(())
    }

    /// Copies one of our files into another that is there, with its holes.
    pub(super) async fn copy_file(
        &self,
        from: &Path,
        to: &Path,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        let (from, to, progress) = (from.to_owned(), to.to_owned(), progress.clone());
        let stop = super::copy::Stop::default();
        let _stop_when_dropped = stop.clone().on_drop();
        self.blocking(move |_| copy_sparse(&from, &to, &progress, &stop).or_failed("copy the image", &to))
            .await
    }

    async fn allocated(&self, digest: ImageDigest) -> Result<u64, Cause> {
        self.short(move |inner| {
            let path = inner.layout.image(digest);
            super::space::allocated(&path).or_failed("look at the image", &path)
        })
        .await
    }

    /// Gives a VM's folder the backing image again that one of its disks rests on, from the cache. Repeatable.
    ///
    /// # Errors
    /// `STORAGE_ERROR`, also when the image is not in the cache.
    pub async fn link_base_again(&self, vm: VmId, image: ImageDigest) -> Result<(), Cause> {
        let turn = self.lock(vm).await;
        self.blocking(move |inner| {
            let _turn = turn;
            inner.must_be_ours(vm)?;
            if inner.link_base(vm, image)? { Ok(()) } else { inner.copy_base(vm, image) }
        })
        .await
    }

    /// A disk whose `.part` is finished is synced and named.
    async fn name_disk(&self, vm: VmId, event: EventId) -> Result<(), Cause> {
        self.blocking(move |inner| {
            let path = inner.layout.disk(vm, event);
            let part = part_of(&path);
            inner
                .durable
                .sync_path(&part, DISK_MODE)
                .and_then(|()| inner.durable.take_name(&part, &path))
                .or_failed("name the disk", &path)
        })
        .await
    }

    /// A failed job's file, which may have filled the disk.
    pub(super) async fn drop_part(&self, vm: VmId, part: std::path::PathBuf) {
        let turn = self.lock(vm).await;
        let dropped = self
            .short(move |inner| {
                let _turn = turn;
                inner.durable.unlink(&part).or_failed("remove a half-made file", &part)
            })
            .await;
        if let Err(cause) = dropped {
            tracing::warn!(vm_id = %vm, reason = %cause.reason, "a half-made file is left for later: {}", cause.text);
        }
    }

    pub(super) async fn paths(&self, vm: VmId, event: EventId) -> Result<DiskPaths, Cause> {
        self.short(move |inner| {
            let disk = inner.layout.disk(vm, event);
            let base = inner.backing(&disk)?.map(|digest| inner.base_file(vm, digest)).transpose()?;
            Ok(DiskPaths { disk, backing: base.into_iter().collect() })
        })
        .await
    }
}

impl Inner {
    /// What the disk begins as; none: the disk is there already.
    fn prepare(&self, disk: &NewDisk) -> Result<Option<Shape>, Cause> {
        self.ensure_folder(disk.vm, || Some(MadeOf::of(disk.event, disk.made_of.as_deref()?)))?;
        let path = self.layout.disk(disk.vm, disk.event);
        if is_file(&path).or_failed("look for the disk", &path)? {
            return Ok(None);
        }
        self.note_use(disk.image);
        if !self.is_cached(disk.image)? {
            return Err(Cause::new(Reason::ImageUnavailable, format!("{} is not in the cache", disk.image))
                .advise("fetch it first"));
        }
        let shape = self.image_shape(disk.image)?;
        if disk.size_bytes < shape.virtual_size_bytes {
            return Err(Cause::new(
                Reason::Invalid,
                format!(
                    "the image holds {} bytes, the disk is to have {}",
                    shape.virtual_size_bytes, disk.size_bytes
                ),
            )
            .advise("make the disk at least as large as the image"));
        }
        Ok(Some(shape))
    }

    /// A disk's base, whose format its own first bytes tell: it was verified, and is never written to.
    fn base_file(&self, vm: VmId, digest: ImageDigest) -> Result<BackingFile, Cause> {
        let path = self.layout.folder(vm).join(base_name(digest));
        if !is_file(&path).or_failed("look for the disk's base", &path)? {
            return Err(Cause::new(Reason::StorageError, "the disk's base is missing")
                .advise("put the image back under this path from the catalogue; its name is its SHA-256")
                .with("path", path.display()));
        }
        let format = image::inspect(&open(&path).or_failed("open the disk's base", &path)?)?.format;
        Ok(BackingFile { path, format })
    }

    /// An empty `.part`, in place of an earlier attempt's.
    pub(super) fn create_part(&self, part: &Path) -> Result<File, Cause> {
        self.durable
            .unlink(part)
            .and_then(|_| self.durable.create(part, DISK_MODE))
            .or_failed("begin a file", part)
    }

    /// False: the image cannot be linked from there, and must be copied.
    fn link_base(&self, vm: VmId, image: ImageDigest) -> Result<bool, Cause> {
        let base = self.layout.folder(vm).join(base_name(image));
        if is_file(&base).or_failed("look for the base", &base)? {
            return Ok(true);
        }
        match self.durable.link(&self.layout.image(image), &base) {
            Ok(()) => Ok(true),
            Err(error) if may_copy(&error) => Ok(false),
            Err(error) => Err(super::failure::failed("link the base", &base, &error)),
        }
    }

    fn copy_base(&self, vm: VmId, image: ImageDigest) -> Result<(), Cause> {
        let base = self.layout.folder(vm).join(base_name(image));
        let part = part_of(&base);
        self.create_part(&part)?;
        copy_sparse(&self.layout.image(image), &part, &JobProgress::default(), &super::copy::Stop::default())
            .and_then(|()| self.durable.sync_path(&part, IMAGE_MODE))
            .and_then(|()| self.durable.take_name(&part, &base))
            .or_failed("copy the base", &base)
    }
}

/// Another file system, or as many links as a file can have.
pub(super) fn may_copy(error: &std::io::Error) -> bool {
    use nix::libc::{EMLINK, EPERM, EXDEV};
    matches!(error.raw_os_error(), Some(EXDEV | EMLINK | EPERM))
}
