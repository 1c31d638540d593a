//! The files of a fake host, in memory: for tests that run thousands of schedules. Nearly all others use the real ones.
//!
//! Every job has a point before, in the middle (its file is half made) and after; every call one before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use async_trait::async_trait;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::DiskDisposal;
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::spec::{ImageDigest, ImageRef, VmSpec};
use sha2::{Digest, Sha256};

use super::{
    Described, DiskPaths, ImageServer, JobProgress, NewDisk, Retirement, Seen, SnapshotFile, Space, Storage,
    Told, VmFiles,
};
use crate::hypervisor::fake::script::Fault;
use crate::hypervisor::fake::world::{Content, Folder, State, World};

/// The files of a [`World`].
#[derive(Clone, Debug)]
pub struct FakeStorage(World);

impl FakeStorage {
    /// The files of a world.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self(world)
    }

    /// One call: its effect, if its script lets it.
    async fn call<T>(&self, name: &str, effect: impl Fn(&mut State) -> Result<T, Cause>) -> Result<T, Cause> {
        self.0.fuse().point(&format!("{name}: before")).await;
        let fault = self.0.script().next(name);
        let mut done = match &fault {
            Some(Fault::Before(cause)) => return Err(cause.clone()),
            Some(Fault::Hang) => return std::future::pending().await,
            Some(Fault::After(_) | Fault::Late) | None => self.0.change(&effect),
        };
        if self.0.script().repeats() && done.is_ok() {
            done = self.0.change(&effect);
        }
        self.0.fuse().point(&format!("{name}: after")).await;
        match fault {
            Some(fault) => Err(fault.cause(name)),
            None => done,
        }
    }

    /// One job: half of its effect, then all of it.
    async fn job<T>(
        &self,
        name: &str,
        progress: &JobProgress,
        half: impl Fn(&mut State),
        whole: impl Fn(&mut State) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        progress.set(0, 2);
        self.0.change(&half);
        self.0.fuse().point(&format!("{name}: half")).await;
        progress.set(1, 2);
        // Others get a turn, as they do while a real job waits for the disk: a cancel can come in the middle.
        tokio::task::yield_now().await;
        self.call(name, whole).await
    }
}

#[async_trait]
impl Storage for FakeStorage {
    async fn observe(&self, vm: VmId) -> Seen<VmFiles> {
        match self.0.script().next("observe-files") {
            Some(_) => Seen::Unknown("the disk does not answer".to_owned()),
            None => self.0.change(|state| state.folders.get(&vm).map(seen)).map_or(Seen::Absent, Seen::There),
        }
    }

    async fn list(&self) -> Result<BTreeSet<VmId>, Cause> {
        Ok(self.0.change(|state| state.folders.keys().copied().collect()))
    }

    async fn image(&self, digest: ImageDigest) -> Seen<()> {
        match self.0.change(|state| state.images.contains_key(&digest)) {
            true => Seen::There(()),
            false => Seen::Absent,
        }
    }

    async fn fetch_image(
        &self,
        image: &ImageRef,
        _: Option<&ImageServer>,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        let digest = image.digest;
        self.job(
            "fetch-image",
            progress,
            |_| {},
            |state| {
                let content = state.server.get(&digest).copied();
                let content = content
                    .ok_or_else(|| Cause::new(Reason::ImageUnavailable, "the server has no such image"))?;
                state.images.insert(digest, content);
                Ok(())
            },
        )
        .await
    }

    async fn make_disk(&self, disk: &NewDisk, progress: &JobProgress) -> Result<(), Cause> {
        let (vm, event, image) = (disk.vm, disk.event, disk.image);
        let part = format!("{event}.qcow2.part");
        let half = |state: &mut State| {
            state.folders.entry(vm).or_default().parts.insert(part.clone());
        };
        self.job("make-disk", progress, half, |state| {
            if !state.images.contains_key(&image) {
                return Err(failed("the image is not in the cache"));
            }
            let folder = state.folders.entry(vm).or_default();
            folder.parts.remove(&part);
            folder.disks.entry(event).or_insert(Content::Image(image));
            Ok(())
        })
        .await
    }

    async fn make_seed(&self, vm: VmId, event: EventId, spec: &VmSpec) -> Result<(), Cause> {
        self.call("make-seed", |state| {
            let folder = state.folders.entry(vm).or_default();
            folder.seeds.insert(event);
            folder.made_of.get_or_insert_with(|| (event, spec.clone()));
            Ok(())
        })
        .await
    }

    async fn describe(&self, vm: VmId, _: EventId, seed: EventId) -> Result<Described, Cause> {
        let made_of = self.0.change(|state| state.folders.get(&vm).and_then(|folder| folder.made_of.clone()));
        let spec = made_of.filter(|(event, _)| *event == seed).map(|(_, spec)| spec);
        let spec = spec.ok_or_else(|| failed("the seed cannot be read"))?;
        Ok(Described { spec, told: Told::Whole })
    }

    async fn disk_paths(&self, vm: VmId, event: EventId) -> Result<DiskPaths, Cause> {
        Ok(DiskPaths { disk: path(vm, &format!("{event}.qcow2")), backing: Vec::new() })
    }

    fn seed_path(&self, vm: VmId, event: EventId) -> PathBuf {
        path(vm, &format!("{event}.seed"))
    }

    fn console_path(&self, vm: VmId) -> PathBuf {
        path(vm, "console.log")
    }

    async fn retire_disk(&self, vm: VmId, event: EventId, how: &Retirement) -> Result<(), Cause> {
        self.call("retire-disk", |state| {
            let used = |domain: &crate::hypervisor::fake::domain::FakeDomain| {
                let spec = domain.spec.as_ref().map(|spec| spec.mark.disk);
                [spec, domain.live.as_ref().map(|live| live.disk)].contains(&Some(event))
            };
            if state.domains.get(&vm).is_some_and(used) {
                state.wrongs.push(format!("the disk {event} is taken away while a domain points at it"));
            }
            let taken = state.folders.get_mut(&vm).and_then(|folder| folder.disks.remove(&event));
            if taken.is_some() && how.disposal == DiskDisposal::Recycle {
                state.recycled.insert(event, vm);
            }
            Ok(())
        })
        .await
    }

    async fn purge_recycled(&self, vm: VmId) -> Result<(), Cause> {
        self.call("purge-recycled", |state| {
            state.recycled.retain(|_, of| *of != vm);
            Ok(())
        })
        .await
    }

    async fn discard(&self, vm: VmId, event: EventId) -> Result<(), Cause> {
        self.call("discard", |state| {
            if let Some(folder) = state.folders.get_mut(&vm) {
                folder.seeds.remove(&event);
                folder.snapshots.remove(&event);
                folder.parts.retain(|part| !part.starts_with(&event.to_string()));
            }
            Ok(())
        })
        .await
    }

    async fn remove_folder(&self, vm: VmId) -> Result<(), Cause> {
        self.call("remove-folder", |state| {
            if state.folders.get(&vm).is_some_and(|folder| !folder.disks.is_empty()) {
                return Err(failed("a disk is in the folder"));
            }
            state.folders.remove(&vm);
            Ok(())
        })
        .await
    }

    async fn make_backup_target(&self, vm: VmId, event: EventId, _: EventId) -> Result<PathBuf, Cause> {
        self.call("make-target", |state| {
            state.folders.entry(vm).or_default().snapshots.insert(event, (Content::Torn, false));
            Ok(path(vm, &format!("{event}.snapshot.part")))
        })
        .await
    }

    async fn copy_snapshot(
        &self,
        vm: VmId,
        event: EventId,
        disk: EventId,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        let half = |state: &mut State| {
            state.folders.entry(vm).or_default().snapshots.insert(event, (Content::Torn, false));
        };
        self.job("copy-snapshot", progress, half, |state| {
            let on = state.domains.get(&vm).is_some_and(|domain| domain.live.is_some());
            let folder = state.folders.entry(vm).or_default();
            let content = if on { Content::Torn } else { Content::DiskOf(disk) };
            folder.snapshots.insert(event, (content, false));
            Ok(())
        })
        .await
    }

    async fn seal_snapshot(&self, vm: VmId, event: EventId) -> Result<(), Cause> {
        self.call("seal-snapshot", |state| {
            let part = state.folders.get_mut(&vm).and_then(|folder| folder.snapshots.get_mut(&event));
            part.ok_or_else(|| failed("there is nothing to seal")).map(|part| part.1 = true)
        })
        .await
    }

    async fn adopt_snapshot(
        &self,
        vm: VmId,
        event: EventId,
        progress: &JobProgress,
    ) -> Result<ImageRef, Cause> {
        self.job(
            "adopt-snapshot",
            progress,
            |_| {},
            |state| {
                let part = state.folders.get(&vm).and_then(|folder| folder.snapshots.get(&event)).copied();
                let Some((content, true)) = part else { return Err(failed("the snapshot is not sealed")) };
                let image = image_of(content);
                state.images.insert(image.digest, content);
                Ok(image)
            },
        )
        .await
    }

    async fn uploaded(&self, digest: ImageDigest, _: &ImageServer) -> Seen<()> {
        match self.0.change(|state| state.server.contains_key(&digest)) {
            true => Seen::There(()),
            false => Seen::Absent,
        }
    }

    async fn upload(&self, image: &ImageRef, _: &ImageServer, progress: &JobProgress) -> Result<(), Cause> {
        let digest = image.digest;
        self.job(
            "upload",
            progress,
            |_| {},
            |state| {
                let content = state.images.get(&digest).copied();
                state.server.insert(digest, content.ok_or_else(|| failed("the image is not in the cache"))?);
                Ok(())
            },
        )
        .await
    }

    async fn space(&self) -> Result<Space, Cause> {
        Ok(Space { total: 1 << 40, free: 1 << 39 })
    }
}

/// The image that a content makes.
#[must_use]
pub fn image_of(content: Content) -> ImageRef {
    let digest = ImageDigest(Sha256::digest(format!("{content:?}")).into());
    ImageRef { digest, size_bytes: 1 << 20, virtual_size_bytes: 1 << 30, local_path: None }
}

fn seen(folder: &Folder) -> VmFiles {
    let state = |sealed: bool| if sealed { SnapshotFile::Sealed } else { SnapshotFile::Partial };
    let backing = |content: &Content| match content {
        Content::Image(image) => Some(*image),
        Content::DiskOf(_) | Content::Torn => None,
    };
    VmFiles {
        disks: folder.disks.iter().map(|(event, content)| (*event, backing(content))).collect(),
        seeds: folder.seeds.clone(),
        snapshots: folder
            .snapshots
            .iter()
            .map(|(event, (_, sealed))| (*event, state(*sealed)))
            .collect::<BTreeMap<_, _>>(),
        leftovers: folder.parts.clone(),
    }
}

fn path(vm: VmId, name: &str) -> PathBuf {
    format!("/fake/vms/{vm}/{name}").into()
}

fn failed(text: &str) -> Cause {
    Cause::new(Reason::StorageError, text)
}
