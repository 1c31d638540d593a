//! Full disks, on a small ext4 of the test's own. Mounting takes root: without it these tests say so and end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::event::DiskDisposal;
use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::DiskMode;

use super::http::{Answer, Server};
use super::support::{Lab, how, make_qcow2, open, run, spec, tree};
use crate::storage::{DiskFormat, JobProgress, Storage};

/// An ext4 of 48 MiB.
pub(super) struct Small(PathBuf);

impl Small {
    fn mount(lab: &Lab) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: mounting a small file system takes root");
            return None;
        }
        let (file, at) = (lab.path("small.ext4"), lab.path("small"));
        fs::create_dir(&at).unwrap();
        run("truncate", &["-s", "48M", file.to_str().unwrap()]);
        run("mkfs.ext4", &["-q", "-m", "0", file.to_str().unwrap()]);
        run("mount", &["-o", "loop", file.to_str().unwrap(), at.to_str().unwrap()]);
        Some(Self(at))
    }

    pub(super) fn at(&self) -> &Path {
        &self.0
    }

    pub(super) fn fill(&self, leave: u64) {
        fill(&self.0, leave);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Leaves about so many bytes free; 0: none at all.
fn fill(disk: &Path, leave: u64) {
    let stat = nix::sys::statvfs::statvfs(disk).unwrap();
    let free = stat.blocks_available() * stat.fragment_size();
    let path = disk.join("filler");
    // The file's own tables take room as well.
    let length = free.saturating_sub(leave.max(MIB / 8)).to_string();
    run("fallocate", &["-l", &length, path.to_str().unwrap()]);
    let mut rest = fs::File::create(disk.join("rest")).unwrap();
    while leave == 0 && std::io::Write::write_all(&mut rest, &[1; 4096]).is_ok() {}
}

/// A lab whose data folder is on a small disk.
pub(super) fn lab() -> Option<(Lab, Small)> {
    let mut lab = Lab::new();
    let small = Small::mount(&lab)?;
    lab.settings.data = small.0.join("data");
    lab.files = open(&lab.settings, None);
    Some((lab, small))
}

#[tokio::test]
async fn a_full_disk_is_told_before_anything_is_written_to_it() {
    let Some((lab, small)) = lab() else { return };
    assert_eq!(lab.files.degraded().await, []);
    small.fill(0);
    let told = lab.files.degraded().await;
    assert_eq!(told.iter().map(|cause| &cause.reason).collect::<Vec<_>>(), [&Reason::DiskFull], "{told:?}");
    fs::remove_file(small.at().join("filler")).unwrap();
    assert_eq!(lab.files.degraded().await, []);
}

#[tokio::test]
async fn what_does_not_fit_is_not_begun() {
    let Some((lab, small)) = lab() else { return };
    let image = lab.qcow2("image.qcow2");
    small.fill(MIB);
    let cause = lab.files.fetch_image(&image, None, &JobProgress::default()).await.unwrap_err();
    assert_eq!(cause.reason, Reason::DiskFull);
    assert!(cause.fields.contains_key("need_bytes") && !cause.advice.is_empty(), "{cause:?}");
    assert!(
        lab.files
            .make_seed(
                Lab::disk(&image, DiskMode::Overlay).vm,
                dewpoint_proto::ids::EventId::fresh(),
                &spec()
            )
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_disk_that_fills_up_meanwhile_is_told_and_nothing_half_is_left() {
    let Some((lab, small)) = lab() else { return };
    let mut image = lab.qcow2("image.qcow2");
    let bytes = fs::read(image.local_path.take().unwrap()).unwrap();
    let filling = small.0.clone();
    let server = Server::start(move |request, _| {
        fill(&filling, 64 * 1024);
        Answer::file(&bytes, request)
    })
    .await;
    let fetched = lab.files.fetch_image(&image, Some(&server.address), &JobProgress::default()).await;
    assert_eq!(fetched.unwrap_err().reason, Reason::DiskFull);
    assert_eq!(tree(&lab.data("images")), Vec::<String>::new());
}

#[tokio::test]
async fn qemu_img_on_a_full_disk_is_told_as_such() {
    let Some((lab, small)) = lab() else { return };
    make_qcow2(&lab.path("image.qcow2"), 7);
    small.fill(300 * 1024);
    let to = small.0.join("copy");
    let progress = JobProgress::default();
    let qemu_img = &lab.files.inner.qemu_img;
    let cause = qemu_img
        .convert(&lab.path("image.qcow2"), DiskFormat::Qcow2, &to, (&progress, MIB))
        .await
        .unwrap_err();
    assert_eq!(cause.reason, Reason::DiskFull, "{cause:?}");
}

#[tokio::test]
async fn recycled_disks_give_way_to_new_ones() {
    let Some((lab, small)) = lab() else { return };
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::FullCopy);
    lab.made(&disk).await;
    let path = lab.folder(disk.vm).join(format!("{}.qcow2", disk.event));
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 5 0 8M", path.to_str().unwrap()]);
    lab.files.retire_disk(disk.vm, disk.event, &how(DiskDisposal::Recycle)).await.unwrap();
    small.fill(MIB);
    let space = lab.files.space().await.unwrap();
    assert!(space.free > 7 * MIB, "recycle counts as free: {space:?}");
    lab.made(&Lab::disk(&image, DiskMode::Overlay)).await;
    let log = fs::read_to_string(lab.data("recycle/receipts.log")).unwrap();
    assert!(log.contains(r#""why":"room""#), "{log}");
}

#[tokio::test]
async fn a_full_disk_can_be_emptied_by_destroying() {
    let Some((lab, small)) = lab() else { return };
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;
    small.fill(0);
    fs::write(small.0.join("more"), vec![1; 1 << 20]).unwrap_err();
    lab.files.retire_disk(disk.vm, disk.event, &how(DiskDisposal::DeleteNow)).await.unwrap();
    lab.files.remove_folder(disk.vm).await.unwrap();
    let log = fs::read_to_string(lab.data("recycle/receipts.log")).unwrap();
    assert!(log.contains(&disk.event.to_string()), "the receipt came once there was room: {log}");
}

#[tokio::test]
async fn images_that_nobody_uses_count_as_free_and_give_way() {
    let Some((lab, small)) = lab() else { return };
    let image = lab.fetched().await;
    let cached = lab.data("images").join(image.digest.to_string());
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::open(&cached).unwrap().set_modified(hour_ago).unwrap();
    small.fill(MIB / 2);
    let space = lab.files.space().await.unwrap();
    assert!(space.free > MIB, "an unused image counts as free: {space:?}");
    make_qcow2(&lab.path("other.qcow2"), 9);
    let other = super::support::local(&lab.path("other.qcow2"), 4 * MIB);
    lab.files.fetch_image(&other, None, &JobProgress::default()).await.unwrap();
    assert!(!cached.exists());
    let log = fs::read_to_string(lab.data("recycle/receipts.log")).unwrap();
    assert!(log.contains(r#""why":"room""#) && log.contains(&image.digest.to_string()), "{log}");
}
