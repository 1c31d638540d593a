//! Snapshots of disks, with the real `qemu-img` and its locks.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::ids::EventId;
use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::{DiskMode, ImageRef};

use super::support::{Lab, info, local, mode, run, same_content, tree};
use crate::storage::{JobProgress, NewDisk, Seen, SnapshotFile, Storage};

/// A disk with 1 MiB of its own over its image.
async fn written(lab: &Lab) -> (ImageRef, NewDisk) {
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;
    let path = lab.folder(disk.vm).join(format!("{}.qcow2", disk.event));
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 5 6M 1M", path.to_str().unwrap()]);
    (image, disk)
}

#[tokio::test]
async fn a_snapshot_is_an_image_that_stands_alone() {
    let lab = Lab::new();
    let (_, disk) = written(&lab).await;
    let event = EventId::fresh();
    let progress = JobProgress::default();
    lab.files.copy_snapshot(disk.vm, event, disk.event, &progress).await.unwrap();
    assert_eq!(progress.get(), (8 * MIB, 8 * MIB));
    let Seen::There(seen) = lab.files.observe(disk.vm).await else { panic!() };
    assert_eq!(seen.snapshots.get(&event), Some(&SnapshotFile::Partial));

    let mut images = vec![];
    for _ in 0..2 {
        lab.files.seal_snapshot(disk.vm, event).await.unwrap();
        images.push(lab.files.adopt_snapshot(disk.vm, event, &progress).await.unwrap());
    }
    assert_eq!(images[0], images[1]);
    let Seen::There(seen) = lab.files.observe(disk.vm).await else { panic!() };
    assert_eq!(seen.snapshots.get(&event), Some(&SnapshotFile::Sealed));

    let image = &images[0];
    let cached = lab.data("images").join(image.digest.to_string());
    assert_eq!(local(&cached, 8 * MIB).digest, image.digest);
    assert_eq!((image.virtual_size_bytes, mode(&cached)), (8 * MIB, 0o440));
    let path = lab.folder(disk.vm).join(format!("{}.qcow2", disk.event));
    same_content(&path, &cached);

    // A new VM begins as the snapshot, also when the snapshot's own file is gone.
    lab.files.discard(disk.vm, event).await.unwrap();
    let other = Lab::disk(image, DiskMode::Overlay);
    lab.made(&other).await;
    same_content(&lab.files.disk_paths(other.vm, other.event).await.unwrap().disk, &path);
}

/// A process that has a disk open for writing.
struct InUse(Child);

impl InUse {
    fn open(path: &std::path::Path) -> Self {
        let mut child = Command::new("qemu-io")
            .args(["-f", "qcow2", path.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Its prompt comes once the disk is open.
        let mut prompt = [0; 7];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut prompt).unwrap();
        Self(child)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_disk_in_use_is_not_copied() {
    let lab = Lab::new();
    let (_, disk) = written(&lab).await;
    let _user = InUse::open(&lab.folder(disk.vm).join(format!("{}.qcow2", disk.event)));
    let refused =
        lab.files.copy_snapshot(disk.vm, EventId::fresh(), disk.event, &JobProgress::default()).await;
    let cause = refused.unwrap_err();
    assert_eq!(cause.reason, Reason::StorageError);
    assert!(cause.advice.contains("in use"), "{cause:?}");
    assert!(!tree(&lab.folder(disk.vm)).iter().any(|name| name.ends_with(".part")));
}

#[tokio::test]
async fn a_backup_target_is_empty_and_made_anew() {
    let lab = Lab::new();
    let (_, disk) = written(&lab).await;
    let event = EventId::fresh();
    let target = lab.files.make_backup_target(disk.vm, event, disk.event).await.unwrap();
    run("qemu-io", &["-f", "qcow2", "-c", "write 0 1M", target.to_str().unwrap()]);
    assert_eq!(lab.files.make_backup_target(disk.vm, event, disk.event).await.unwrap(), target);
    assert_eq!(mode(&target), 0o660);
    let seen = info(&target);
    assert_eq!(seen["virtual-size"], 8 * MIB);
    assert!(seen["actual-size"].as_u64().unwrap() < MIB, "what an earlier backup wrote is gone");
    let Seen::There(seen) = lab.files.observe(disk.vm).await else { panic!() };
    assert_eq!(seen.snapshots.get(&event), Some(&SnapshotFile::Partial));
}

#[tokio::test]
async fn a_snapshot_that_is_not_whole_is_not_sealed() {
    let lab = Lab::new();
    let (_, disk) = written(&lab).await;
    let event = EventId::fresh();
    let nothing = lab.files.seal_snapshot(disk.vm, event).await.unwrap_err();
    assert_eq!(nothing.reason, Reason::ImageRefused);

    lab.files.copy_snapshot(disk.vm, event, disk.event, &JobProgress::default()).await.unwrap();
    let part = lab.folder(disk.vm).join(format!("{event}.snapshot.part"));
    let whole = fs::read(&part).unwrap();
    for spoiled in [&whole[..whole.len() / 2], &whole[..100], b""] {
        fs::write(&part, spoiled).unwrap();
        let cause = lab.files.seal_snapshot(disk.vm, event).await.unwrap_err();
        assert_eq!(cause.reason, Reason::ImageRefused, "{cause:?}");
    }
    fs::write(&part, whole).unwrap();
    lab.files.seal_snapshot(disk.vm, event).await.unwrap();
}

#[tokio::test]
async fn a_job_that_is_dropped_leaves_at_most_a_part() {
    let lab = Lab::new();
    let (_, disk) = written(&lab).await;
    let event = EventId::fresh();
    let progress = JobProgress::default();
    let copying = lab.files.copy_snapshot(disk.vm, event, disk.event, &progress);
    let _ = tokio::time::timeout(Duration::from_millis(5), copying).await;
    let names = tree(&lab.folder(disk.vm));
    assert!(!names.iter().any(|name| name.ends_with(".snapshot")), "{names:?}");
    lab.files.copy_snapshot(disk.vm, event, disk.event, &progress).await.unwrap();
    lab.files.seal_snapshot(disk.vm, event).await.unwrap();
}
