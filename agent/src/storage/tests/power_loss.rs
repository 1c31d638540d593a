//! Files survive power loss: cut before every change, with the worst that may be left, the same end is found.
//!
//! For each story (a create, also with a full copy; a restore; snapshots of VMs that are on and off; a destroy): for each of
//! its changes cut the power just before it, build what the next boot would find (four kinds), open the storage on that, do
//! the story again, and compare. Then the same cut as the end of a process alone: the next one ends the story, and the
//! power goes only then; nothing that was done is lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use dewpoint_common::durable::recorder::{Recorder, Survives};
use dewpoint_proto::event::DiskDisposal;
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::{DiskMode, ImageRef};

use super::support::{Lab, how, info, make_qcow2, open, run, settings, spec, tree};
use crate::storage::{Described, Files, JobProgress, NewDisk, Seen, Settings, Storage, Told};

type Done<'a> = Pin<Box<dyn Future<Output = Result<(), dewpoint_proto::cause::Cause>> + Send + 'a>>;

/// The ids of a story, the same in each telling.
struct Cast {
    image: ImageRef,
    disk: NewDisk,
    snapshot: EventId,
    restore: EventId,
}

async fn create(files: &Files, cast: &Cast) -> Result<(), dewpoint_proto::cause::Cause> {
    let progress = JobProgress::default();
    files.fetch_image(&cast.image, None, &progress).await?;
    files.make_disk(&cast.disk, &progress).await?;
    let (vm, event) = (cast.disk.vm, cast.disk.event);
    files.make_seed(vm, event, &spec()).await?;
    let described = files.describe(vm, event, event).await?;
    assert_eq!(described, Described { spec: spec(), told: Told::Whole }, "wherever it was cut");
    Ok(())
}

/// What planning from observation does: a step is left out when its end is seen.
async fn snapshot(files: &Files, cast: &Cast) -> Result<(), dewpoint_proto::cause::Cause> {
    let (vm, event) = (cast.disk.vm, cast.snapshot);
    let Seen::There(seen) = files.observe(vm).await else {
        return Err(dewpoint_proto::cause::Cause::new(dewpoint_proto::cause::Reason::Internal, "no VM"));
    };
    let progress = JobProgress::default();
    if seen.snapshots.get(&event) != Some(&crate::storage::SnapshotFile::Sealed) {
        files.copy_snapshot(vm, event, cast.disk.event, &progress).await?;
        files.seal_snapshot(vm, event).await?;
    }
    files.adopt_snapshot(vm, event, &progress).await.map(drop)
}

/// The same of a VM that is on: QEMU writes into the file, and syncs nothing. After the next boot the VM is off, so a file
/// that is not sealed is discarded first.
async fn backup(files: &Files, cast: &Cast) -> Result<(), dewpoint_proto::cause::Cause> {
    let (vm, event) = (cast.disk.vm, cast.snapshot);
    let seen = files.observe(vm).await;
    let Seen::There(seen) = seen else { panic!("no VM: {seen:?}") };
    if seen.snapshots.get(&event) != Some(&crate::storage::SnapshotFile::Sealed) {
        files.discard(vm, event).await?;
        let target = files.make_backup_target(vm, event, cast.disk.event).await?;
        run("qemu-io", &["-f", "qcow2", "-c", "write -P 5 6M 1M", target.to_str().unwrap()]);
        files.seal_snapshot(vm, event).await?;
    }
    files.adopt_snapshot(vm, event, &JobProgress::default()).await.map(drop)
}

async fn restore(files: &Files, cast: &Cast) -> Result<(), dewpoint_proto::cause::Cause> {
    let progress = JobProgress::default();
    files.fetch_image(&cast.image, None, &progress).await?;
    let new = NewDisk { event: cast.restore, ..cast.disk.clone() };
    files.make_disk(&new, &progress).await?;
    let whole = files.disk_paths(new.vm, new.event).await?;
    assert_eq!(info(&whole.disk)["virtual-size"], new.size_bytes, "before the domain is pointed at it");
    files.retire_disk(new.vm, cast.disk.event, &how(DiskDisposal::Recycle)).await
}

async fn destroy(
    files: &Files,
    cast: &Cast,
    disposal: DiskDisposal,
) -> Result<(), dewpoint_proto::cause::Cause> {
    let (vm, event) = (cast.disk.vm, cast.disk.event);
    files.retire_disk(vm, event, &how(disposal)).await?;
    files.discard(vm, event).await?;
    files.remove_folder(vm).await
}

/// What is there in the end: names (stamps of time left out), and for disks what QEMU finds in them.
fn end(root: &Path) -> BTreeMap<String, String> {
    let name = |path: &str| match path.strip_prefix("recycle/2") {
        Some(rest) => format!("recycle/{}", rest.split_once('-').map_or(rest, |(_, rest)| rest)),
        None => path.to_owned(),
    };
    let content = |path: &str| {
        let path = root.join(path);
        if path.extension().is_some_and(|end| end == "qcow2") {
            return info(&path)["virtual-size"].to_string();
        }
        let receipt = path.file_name().is_some_and(|name| name.to_str().unwrap().starts_with("receipt"));
        if path.is_dir() || receipt {
            String::new()
        } else {
            format!("{} bytes", fs::metadata(&path).unwrap().len())
        }
    };
    tree(root).iter().map(|path| (name(path), content(path))).collect()
}

/// Tells `story` after `before`, cut at every change.
async fn survives(
    before: impl for<'a> Fn(&'a Files, &'a Cast) -> Done<'a>,
    story: impl for<'a> Fn(&'a Files, &'a Cast) -> Done<'a>,
) {
    survives_with(DiskMode::Overlay, before, story).await;
}

/// The same, of a VM whose disk is made in that way.
async fn survives_with(
    mode: DiskMode,
    before: impl for<'a> Fn(&'a Files, &'a Cast) -> Done<'a>,
    story: impl for<'a> Fn(&'a Files, &'a Cast) -> Done<'a>,
) {
    let lab = Lab::new();
    make_qcow2(&lab.path("image.qcow2"), 7);
    let image = lab.qcow2("image.qcow2");
    let disk = NewDisk { made_of: Some(Arc::new(spec())), ..Lab::disk(&image, mode) };
    let cast = Cast { image, disk, snapshot: EventId::fresh(), restore: EventId::fresh() };
    let base = settings(lab.path("unused"));
    let at = |name: &str| Settings { data: lab.path(name), ..base.clone() };

    let (mut cut, mut expected) = (0, None);
    loop {
        let watched = at(&format!("cut-{cut}"));
        before(&open(&watched, None), &cast).await.unwrap();
        let recorder = Arc::new(Recorder::watch(&watched.data, cut).unwrap());
        let files = Files::open_witnessed(
            watched.clone(),
            Arc::new(crate::clock::SystemClock),
            Some(recorder.clone()),
        );
        let told = match &files {
            Ok(files) => story(files, &cast).await,
            Err(cause) => Err(cause.clone()),
        };
        if cut == 0 {
            // The measure of all others: a telling that nothing cuts.
            let whole = at("whole");
            before(&open(&whole, None), &cast).await.unwrap();
            story(&open(&whole, None), &cast).await.unwrap();
            expected = Some(end(&whole.data));
        }
        let was_cut = recorder.is_cut();
        for kind in Survives::ALL {
            let found = at(&format!("cut-{cut}-{kind:?}"));
            recorder.rebuild(kind, &found.data).unwrap();
            let files = open(&found, None);
            story(&files, &cast).await.unwrap_or_else(|cause| {
                panic!("cut before change {cut}, {kind:?}: {cause:?}\n{:#?}", tree(&found.data))
            });
            files.sweep_recycle(dewpoint_proto::time::Millis(1)).await.unwrap();
            assert_eq!(Some(end(&found.data)), expected, "cut before change {cut}, {kind:?}");
            fs::remove_dir_all(&found.data).unwrap();
        }
        // It was no power cut: the agent alone was killed there, and the next one has the power go after its end.
        recorder.go_on();
        let files = open(&watched, Some(recorder.clone()));
        if told.is_err() {
            story(&files, &cast).await.unwrap();
        }
        let found = at(&format!("killed-{cut}"));
        recorder.rebuild(Survives::Nothing, &found.data).unwrap();
        let files = open(&found, None);
        files.sweep_recycle(dewpoint_proto::time::Millis(1)).await.unwrap();
        assert_eq!(Some(end(&found.data)), expected, "killed before change {cut}, and the power went later");
        fs::remove_dir_all(&found.data).unwrap();
        fs::remove_dir_all(&watched.data).unwrap();
        if !was_cut {
            told.unwrap();
            assert!(cut > 5, "the recorder saw the story's changes");
            return;
        }
        cut += 1;
    }
}

fn nothing<'a>(_: &'a Files, _: &'a Cast) -> Done<'a> {
    Box::pin(async { Ok(()) })
}

fn created<'a>(files: &'a Files, cast: &'a Cast) -> Done<'a> {
    Box::pin(create(files, cast))
}

#[tokio::test]
async fn a_create_survives_power_loss_at_every_change() {
    survives(nothing, created).await;
}

#[tokio::test]
async fn a_create_with_a_full_copy_survives_power_loss_at_every_change() {
    survives_with(DiskMode::FullCopy, nothing, created).await;
}

#[tokio::test]
async fn a_restore_survives_power_loss_at_every_change() {
    survives(created, |files, cast| Box::pin(restore(files, cast))).await;
}

#[tokio::test]
async fn a_backup_survives_power_loss_at_every_change() {
    survives(created, |files, cast| Box::pin(backup(files, cast))).await;
}

#[tokio::test]
async fn a_snapshot_survives_power_loss_at_every_change() {
    survives(created, |files, cast| Box::pin(snapshot(files, cast))).await;
}

#[tokio::test]
async fn a_destroy_survives_power_loss_at_every_change() {
    survives(created, |files, cast| Box::pin(destroy(files, cast, DiskDisposal::Recycle))).await;
}

#[tokio::test]
async fn a_destroy_at_once_survives_power_loss_at_every_change() {
    survives(created, |files, cast| Box::pin(destroy(files, cast, DiskDisposal::DeleteNow))).await;
}

#[tokio::test]
async fn the_recorder_drops_what_was_not_synced() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path().join("data"));
    drop(open(&settings, None));
    let recorder = Arc::new(Recorder::watch(&settings.data, usize::MAX).unwrap());
    let files = open(&settings, Some(recorder.clone()));
    let (vm, durable) = (VmId::fresh(), &files.inner.durable);
    let folder = settings.data.join("vms").join(vm.to_string());
    durable.make_dir(&folder, 0o750).unwrap();
    durable.create(&folder.join("unsynced"), 0o640).unwrap();
    fs::write(folder.join("unsynced"), vec![1; usize::try_from(MIB).unwrap()]).unwrap();
    durable.write_new(&folder.join("synced"), b"x", 0o640).unwrap();
    durable.link(&folder.join("synced"), &folder.join("second")).unwrap();

    let [nothing, names, half, zeros] = Survives::ALL.map(|kind| {
        let into = dir.path().join(format!("{kind:?}"));
        recorder.rebuild(kind, &into).unwrap();
        into.join("vms").join(vm.to_string())
    });
    // Syncing the folder for `synced` also kept the other name that was in it by then, and no content of it.
    assert_eq!(tree(&nothing), ["synced", "unsynced"]);
    assert_eq!(fs::metadata(nothing.join("unsynced")).unwrap().len(), 0);
    assert_eq!(tree(&names), ["second", "synced", "unsynced"]);
    assert_eq!(fs::metadata(half.join("unsynced")).unwrap().len(), MIB / 2);
    assert_eq!(fs::metadata(zeros.join("unsynced")).unwrap().len(), MIB);
    assert!(fs::read(zeros.join("unsynced")).unwrap().iter().all(|byte| *byte == 0));
    assert_eq!(fs::read(nothing.join("synced")).unwrap(), b"x");
}
