//! The data folder moved, or its image cache on another file system. Mounting takes root: without it those tests say so
//! and end.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::event::DiskDisposal;
use dewpoint_proto::ids::EventId;
use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::DiskMode;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::support::{Lab, how, local, make_qcow2, open, run, tree};
use crate::clock::SystemClock;
use crate::storage::{Files, JobProgress, Seen, Settings, Storage};

/// A lab whose image cache is on a file system of its own, of so many MiB.
struct Elsewhere {
    lab: Lab,
    images: PathBuf,
}

impl Elsewhere {
    fn of(mib: u64) -> Option<Self> {
        let mut lab = Lab::new();
        let images = lab.data("images");
        let size = format!("size={mib}m,mode=0711");
        let mounted =
            mount(Some("dewpoint-test"), &images, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()));
        if let Err(error) = mounted {
            eprintln!("skipped: a small file system cannot be mounted here: {error}");
            return None;
        }
        lab.files = open(&lab.settings, None);
        Some(Self { lab, images })
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = umount2(&self.images, MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn a_cache_on_another_file_system_is_copied_from_and_to() {
    let Some(elsewhere) = Elsewhere::of(16) else { return };
    let lab = &elsewhere.lab;
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;
    let folder = lab.folder(disk.vm);
    let base = fs::metadata(folder.join(format!("{}.base", image.digest))).unwrap();
    let cached = fs::metadata(lab.data("images").join(image.digest.to_string())).unwrap();
    assert_ne!(base.dev(), cached.dev());
    assert_eq!(base.nlink(), 1, "a full copy, which the cache can do without");
    let path = folder.join(format!("{}.qcow2", disk.event));
    run("qemu-img", &["check", "-q", path.to_str().unwrap()]);

    let event = EventId::fresh();
    let progress = JobProgress::default();
    lab.files.copy_snapshot(disk.vm, event, disk.event, &progress).await.unwrap();
    lab.files.seal_snapshot(disk.vm, event).await.unwrap();
    let snapshot = lab.files.adopt_snapshot(disk.vm, event, &progress).await.unwrap();
    assert_eq!(lab.files.image(snapshot.digest).await, Seen::There(()));
    assert_eq!(lab.files.adopt_snapshot(disk.vm, event, &progress).await.unwrap(), snapshot, "repeatable");
    let left: Vec<_> = tree(&lab.data("images")).into_iter().filter(|name| name.ends_with(".part")).collect();
    assert_eq!(left, Vec::<String>::new());
    lab.files.discard(disk.vm, event).await.unwrap();
    lab.files.retire_disk(disk.vm, disk.event, &how(DiskDisposal::Recycle)).await.unwrap();
}

#[tokio::test]
async fn a_cache_that_is_full_says_so_though_the_disks_have_room() {
    let Some(elsewhere) = Elsewhere::of(2) else { return };
    let lab = &elsewhere.lab;
    lab.fetched().await;
    make_qcow2(&lab.path("other.qcow2"), 9);
    let other = local(&lab.path("other.qcow2"), 4 * MIB);
    let cause = lab.files.fetch_image(&other, None, &JobProgress::default()).await.unwrap_err();
    assert_eq!(cause.reason, Reason::DiskFull, "{cause:?}");
    let space = lab.files.space().await.unwrap();
    assert!(space.total > 2 * MIB, "what is told is the disks' file system: {space:?}");
}

#[tokio::test]
async fn a_data_folder_that_was_moved_is_whole_at_its_new_place() {
    let mut lab = Lab::new();
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;
    let moved = lab.path("moved");
    fs::rename(&lab.settings.data, &moved).unwrap();
    lab.settings.data = moved;
    lab.files = open(&lab.settings, None);
    let Seen::There(files) = lab.files.observe(disk.vm).await else { panic!("it is ours") };
    assert_eq!(files.disks[&disk.event], Some(image.digest));
    let paths = lab.files.disk_paths(disk.vm, disk.event).await.unwrap();
    assert!(
        paths.disk.starts_with(&lab.settings.data) && paths.backing[0].path.starts_with(&lab.settings.data)
    );
    // The overlay names its base relatively: QEMU finds it where it is now.
    run("qemu-img", &["compare", "-q", paths.disk.to_str().unwrap(), paths.disk.to_str().unwrap()]);
    run("qemu-img", &["check", "-q", paths.disk.to_str().unwrap()]);
}

#[tokio::test]
async fn an_agent_that_only_observes_makes_nothing_and_still_tells_of_its_space() {
    let lab = Lab::new();
    let data = lab.path("fresh");
    fs::create_dir(&data).unwrap();
    let settings = Settings { data: data.clone(), ..lab.settings.clone() };
    let files = Files::observing(settings, Arc::new(SystemClock));
    assert!(files.space().await.unwrap().total > 0);
    assert_eq!(files.degraded().await, []);
    assert_eq!(tree(&data), Vec::<String>::new());
}
