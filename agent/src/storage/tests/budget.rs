//! The image cache within its budget. Promises 5 and 8.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::{DiskMode, ImageRef};

use super::support::{Lab, local, make_qcow2, tree};
use crate::storage::{JobProgress, Seen, Storage};

/// An image with a content of its own, in the cache, last used so many minutes ago.
async fn cached(lab: &Lab, byte: u8, minutes: u64) -> ImageRef {
    let path = lab.path(&format!("image-{byte}.qcow2"));
    make_qcow2(&path, byte);
    let image = local(&path, 4 * MIB);
    lab.files.fetch_image(&image, None, &JobProgress::default()).await.unwrap();
    aged(lab, &image, minutes);
    image
}

fn aged(lab: &Lab, image: &ImageRef, minutes: u64) {
    let used = SystemTime::now() - Duration::from_secs(60 * minutes);
    let file = File::open(lab.data("images").join(image.digest.to_string())).unwrap();
    file.set_modified(used).unwrap();
}

async fn is_there(lab: &Lab, image: &ImageRef) -> bool {
    lab.files.image(image.digest).await == Seen::There(())
}

fn receipts(lab: &Lab) -> String {
    fs::read_to_string(lab.data("recycle/receipts.log")).unwrap_or_default()
}

#[tokio::test]
async fn over_its_budget_the_least_recently_used_image_goes_and_never_one_in_use() {
    let lab = Lab::with(|settings| settings.image_bytes = 9 * MIB / 2);
    let used = cached(&lab, 1, 0).await;
    lab.made(&Lab::disk(&used, DiskMode::Overlay)).await;
    aged(&lab, &used, 500);
    let older = cached(&lab, 3, 300).await;
    let oldest = cached(&lab, 2, 400).await;
    let newest = cached(&lab, 4, 200).await;
    assert!(is_there(&lab, &oldest).await, "within the budget nothing goes");

    let more = cached(&lab, 5, 100).await;
    assert!(!is_there(&lab, &oldest).await, "it made place for the fetch");
    assert_eq!(lab.files.sweep_cache().await.unwrap(), 0, "now it fits");
    for image in [&used, &older, &newest, &more] {
        assert!(is_there(&lab, image).await);
    }
    let log = receipts(&lab);
    assert!(log.contains(&oldest.digest.to_string()) && log.contains(r#""why":"budget""#), "{log}");
    assert!(!log.contains(&used.digest.to_string()), "{log}");
}

#[tokio::test]
async fn what_is_in_hand_stays_and_goes_once_it_is_not() {
    let lab = Lab::with(|settings| settings.image_bytes = 0);
    let image = cached(&lab, 1, 0).await;
    assert_eq!(lab.files.sweep_cache().await.unwrap(), 0, "it was fetched a moment ago");
    aged(&lab, &image, 60);
    let using = lab.files.inner.in_use.using(image.digest);
    assert_eq!(lab.files.sweep_cache().await.unwrap(), 0, "it is being uploaded, or made a disk of");
    drop(using);
    let turn = lab.files.inner.downloads.try_turn(image.digest).unwrap();
    assert_eq!(lab.files.sweep_cache().await.unwrap(), 0, "it is being fetched");
    drop(turn);
    fs::write(lab.data("images/notes.txt"), "not ours").unwrap();
    assert_eq!(lab.files.sweep_cache().await.unwrap(), 1);
    assert_eq!(tree(&lab.data("images")), ["notes.txt"], "files of others are left");
    lab.files.fetch_image(&image, None, &JobProgress::default()).await.unwrap();
    assert!(is_there(&lab, &image).await, "it can be had again");
}

#[tokio::test]
async fn a_disk_lives_on_without_its_image_in_the_cache() {
    let lab = Lab::with(|settings| settings.image_bytes = 0);
    let image = cached(&lab, 1, 0).await;
    let disk = Lab::disk(&image, DiskMode::FullCopy);
    lab.made(&disk).await;
    aged(&lab, &image, 60);
    assert_eq!(lab.files.sweep_cache().await.unwrap(), 1);
    let path = lab.folder(disk.vm).join(format!("{}.qcow2", disk.event));
    super::support::run("qemu-img", &["check", "-q", path.to_str().unwrap()]);
}
