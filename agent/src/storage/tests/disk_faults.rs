//! A disk that turns read-only or fails, on a real ext4 of the test's own. Mounting takes root: without it these tests
//! say so and end. Promises 5 and 9.

use std::fs;
use std::path::Path;
use std::process::Command;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::DiskDisposal;
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::DiskMode;

use super::full_disk::lab;
use super::support::{Lab, how, local, make_qcow2, run, spec, tree};
use crate::storage::{JobProgress, Seen, Storage};

fn remount(at: &Path, how: &str) {
    run("mount", &["-o", &format!("remount,{how}"), at.to_str().unwrap()]);
}

/// From now on every call on it ends with an input/output error, as on a disk that was pulled out.
fn shut_down(at: &Path) -> bool {
    // EXT4_IOC_SHUTDOWN, by the one interpreter that every Debian has.
    let ioctl =
        "open(my $f, '<', $ARGV[0]) or exit 1; my $how = pack('L', 2); ioctl($f, 0x8004587d, $how) or exit 1";
    Command::new("perl").args(["-e", ioctl]).arg(at).status().is_ok_and(|status| status.success())
}

/// Each thing that writes, on a disk that does not let it. None leaves a trace.
async fn all_refused(lab: &Lab, says: &str) {
    make_qcow2(&lab.path("other.qcow2"), 9);
    let image = local(&lab.path("other.qcow2"), 4 * MIB);
    let (vm, event) = (VmId::fresh(), EventId::fresh());
    let files = &lab.files;
    let outcomes: [(&str, Result<(), Cause>); 3] = [
        ("fetch", files.fetch_image(&image, None, &JobProgress::default()).await),
        ("seed", files.make_seed(vm, event, &spec()).await),
        ("disk", files.make_disk(&Lab::disk(&image, DiskMode::Overlay), &JobProgress::default()).await),
    ];
    for (what, outcome) in outcomes {
        let cause = outcome.unwrap_err();
        assert_eq!(cause.reason, Reason::StorageError, "{what}: {cause:?}");
        assert!(!cause.advice.is_empty(), "{what}: {cause:?}");
        assert!(cause.text.contains(says), "{what}: {cause:?}");
    }
}

#[tokio::test]
async fn on_a_disk_that_turned_read_only_nothing_changes_and_all_goes_on_once_it_is_writable() {
    let Some((lab, small)) = lab() else { return };
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;
    let before = tree(&lab.settings.data);
    assert!(lab.files.trouble().await.is_empty());

    remount(small.at(), "ro");
    all_refused(&lab, "Read-only").await;
    let cause = lab.files.retire_disk(disk.vm, disk.event, &how(DiskDisposal::DeleteNow)).await.unwrap_err();
    assert!(cause.advice.contains("read-only"), "{cause:?}");
    let told = lab.files.trouble().await;
    assert!(told.iter().any(|cause| cause.text.contains("read-only")), "{told:?}");
    let Seen::There(files) = lab.files.observe(disk.vm).await else { panic!("it can be looked at") };
    assert!(files.disks.contains_key(&disk.event));
    assert_eq!(tree(&lab.settings.data), before);

    remount(small.at(), "rw");
    assert!(lab.files.trouble().await.is_empty());
    lab.made(&Lab::disk(&image, DiskMode::Overlay)).await;
    lab.files.retire_disk(disk.vm, disk.event, &how(DiskDisposal::DeleteNow)).await.unwrap();
}

#[tokio::test]
async fn on_a_disk_that_fails_nothing_is_concluded() {
    let Some((lab, small)) = lab() else { return };
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;
    if !shut_down(small.at()) {
        eprintln!("skipped: the file system could not be made to fail");
        return;
    }
    all_refused(&lab, "error").await;
    let seen = lab.files.observe(disk.vm).await;
    assert!(matches!(seen, Seen::Unknown(_)), "a disk that cannot be read is not an absent one: {seen:?}");
    let cause = lab.files.retire_disk(disk.vm, disk.event, &how(DiskDisposal::DeleteNow)).await.unwrap_err();
    assert!(cause.advice.contains("kernel"), "{cause:?}");
}

#[tokio::test]
async fn a_snapshot_that_does_not_fit_is_not_begun_and_leaves_nothing() {
    let Some((lab, small)) = lab() else { return };
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::FullCopy);
    lab.made(&disk).await;
    let before = tree(&lab.folder(disk.vm));
    small.fill(MIB);
    let event = EventId::fresh();
    let copied = lab.files.copy_snapshot(disk.vm, event, disk.event, &JobProgress::default()).await;
    assert_eq!(copied.unwrap_err().reason, Reason::DiskFull);
    let target = lab.files.make_backup_target(disk.vm, event, disk.event).await;
    assert_eq!(target.unwrap_err().reason, Reason::DiskFull);
    assert_eq!(tree(&lab.folder(disk.vm)), before);
}

#[tokio::test]
async fn a_disk_that_does_not_fit_is_not_begun_and_leaves_nothing() {
    let Some((lab, small)) = lab() else { return };
    make_qcow2(&lab.path("image.qcow2"), 7);
    let image = lab.fetched().await;
    small.fill(MIB / 2);
    for mode in [DiskMode::FullCopy, DiskMode::Overlay] {
        let disk = Lab::disk(&image, mode);
        let cause = lab.files.make_disk(&disk, &JobProgress::default()).await.unwrap_err();
        assert_eq!(cause.reason, Reason::DiskFull, "{mode:?}: {cause:?}");
        let left = fs::read_dir(lab.folder(disk.vm)).unwrap().count();
        assert_eq!(left, 1, "nothing but the folder's mark");
    }
}
