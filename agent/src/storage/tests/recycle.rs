//! The recycle folder: what is kept, for how long, and the receipts of what is not.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use dewpoint_proto::event::DiskDisposal;
use dewpoint_proto::ids::EventId;
use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::DiskMode;
use dewpoint_proto::time::Millis;

use super::support::{Lab, how, mode, run, same_content, tree};
use crate::clock::Clock;
use crate::storage::{Files, JobProgress, NewDisk, Storage};

#[derive(Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn wall(&self) -> Millis {
        Millis(1_795_000_000_000 + self.0.fetch_add(1000, Ordering::Relaxed))
    }

    fn since_boot(&self) -> Duration {
        Duration::ZERO
    }
}

/// A lab with a clock that goes a second forward at each look.
fn lab(recycle_bytes: u64) -> Lab {
    let mut lab = Lab::with(|settings| settings.recycle_bytes = recycle_bytes);
    lab.files = Files::open(lab.settings.clone(), Arc::new(Hand::default())).unwrap();
    lab
}

/// A full copy with 3 MiB of its own, retired.
async fn retired(lab: &Lab) -> NewDisk {
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;
    let path = lab.folder(disk.vm).join(format!("{}.qcow2", disk.event));
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 5 0 3M", path.to_str().unwrap()]);
    lab.files.retire_disk(disk.vm, disk.event, &how(DiskDisposal::Recycle)).await.unwrap();
    disk
}

fn kept(lab: &Lab) -> Vec<String> {
    let mut names: Vec<String> =
        tree(&lab.data("recycle")).into_iter().filter(|path| path.ends_with(".qcow2")).collect();
    names.sort();
    names
}

fn receipts(lab: &Lab) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(lab.data("recycle/receipts.log")).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_retired_disk_can_still_be_read_and_says_what_it_was() {
    let lab = lab(100 * MIB);
    let disk = retired(&lab).await;
    assert_eq!(tree(&lab.folder(disk.vm)), ["vm.json"], "its base went with it");
    let [path] = &kept(&lab)[..] else { panic!("{:?}", kept(&lab)) };
    let path = lab.data("recycle").join(path);
    run("qemu-io", &["-r", "-f", "qcow2", "-c", "read -P 5 0 3M", path.to_str().unwrap()]);
    run(
        "qemu-img",
        &[
            "convert",
            "-f",
            "qcow2",
            "-O",
            "qcow2",
            path.to_str().unwrap(),
            lab.path("back").to_str().unwrap(),
        ],
    );
    same_content(&lab.path("back"), &path);
    let receipt = fs::read(path.with_file_name("receipt.json")).unwrap();
    let receipt: serde_json::Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!(
        (&receipt["vm"], &receipt["disk"]),
        (&disk.vm.to_string().into(), &disk.event.to_string().into())
    );
    assert_eq!(receipt["image"], disk.image.to_string());
    assert_eq!(receipt["until"].as_i64().unwrap() - receipt["retired_at"].as_i64().unwrap(), 3_600_000);
    assert_eq!(mode(path.parent().unwrap()), 0o700);

    lab.files.retire_disk(disk.vm, disk.event, &how(DiskDisposal::Recycle)).await.unwrap();
    assert_eq!(kept(&lab).len(), 1, "asking again changes nothing");
    assert!(receipts(&lab).is_empty());
}

#[tokio::test]
async fn the_budget_wins_and_the_oldest_go_first_with_a_receipt() {
    let lab = lab(8 * MIB);
    let disks = [retired(&lab).await, retired(&lab).await, retired(&lab).await];
    let left = kept(&lab);
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!left.iter().any(|path| path.contains(&disks[0].event.to_string())));
    let [receipt] = &receipts(&lab)[..] else { panic!() };
    assert_eq!((&receipt["why"], &receipt["disk"]), (&"budget".into(), &disks[0].event.to_string().into()));
    let space = lab.files.space().await.unwrap();
    assert!(space.free > 0 && space.free <= space.total);
}

#[tokio::test]
async fn time_ends_it_too() {
    let lab = lab(100 * MIB);
    retired(&lab).await;
    let second = retired(&lab).await;
    lab.files.sweep_recycle(Millis(1_795_000_000_000)).await.unwrap();
    assert_eq!(kept(&lab).len(), 2);
    let log = fs::read_to_string(lab.data("recycle/receipts.log"));
    assert!(log.is_err(), "no deletion, no receipt");
    lab.files.sweep_recycle(Millis(1_795_000_000_000 + 24 * 3_600_000)).await.unwrap();
    assert_eq!(kept(&lab).len(), 0);
    assert_eq!(tree(&lab.data("recycle")), ["receipts.log"]);
    let receipts = receipts(&lab);
    assert_eq!(receipts.len(), 2);
    assert_eq!(receipts[1]["disk"], second.event.to_string());
}

#[tokio::test]
async fn now_means_now_and_leaves_a_receipt() {
    let lab = lab(100 * MIB);
    let disk = retired(&lab).await;
    // Retired before, by an event that was cut off: `--now` finds it there.
    lab.files.retire_disk(disk.vm, disk.event, &how(DiskDisposal::DeleteNow)).await.unwrap();
    assert_eq!(tree(&lab.data("recycle")), ["receipts.log"]);
    assert_eq!(receipts(&lab)[0]["why"], "now");
}

#[tokio::test]
async fn what_others_put_into_recycle_is_left_alone() {
    let lab = lab(1);
    let theirs = lab.data("recycle/my-backup");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("disk.qcow2"), "x").unwrap();
    let id = dewpoint_proto::ids::VmId::fresh();
    let lookalike = lab.data("recycle").join(format!("20200101T000000.000Z-{id}-{id}"));
    fs::create_dir(&lookalike).unwrap();
    fs::write(lookalike.join(format!("{id}.qcow2")), "x").unwrap();
    retired(&lab).await;
    lab.files.sweep_recycle(Millis(i64::MAX)).await.unwrap();
    assert!(theirs.join("disk.qcow2").is_file() && lookalike.join(format!("{id}.qcow2")).is_file());
    assert_eq!(receipts(&lab).len(), 1);
}

#[tokio::test]
async fn what_a_vm_left_in_recycle_is_deleted_on_demand_and_others_stay() {
    let lab = lab(100 * MIB);
    let (gone, stays) = (retired(&lab).await, retired(&lab).await);
    for _ in 0..2 {
        lab.files.purge_recycled(gone.vm).await.unwrap();
        assert_eq!(kept(&lab).len(), 1);
        assert!(kept(&lab)[0].contains(&stays.vm.to_string()));
    }
    let [receipt] = &receipts(&lab)[..] else { panic!("one receipt") };
    assert_eq!((&receipt["why"], &receipt["vm"]), (&"now".into(), &gone.vm.to_string().into()));
}

#[tokio::test]
async fn the_log_of_receipts_is_bounded() {
    let lab = lab(100 * MIB);
    let (log, old) = (lab.data("recycle/receipts.log"), lab.data("recycle/receipts.log.1"));
    fs::write(&old, "older still").unwrap();
    fs::File::create(&log).unwrap().set_len(8 * MIB).unwrap();
    let disk = retired(&lab).await;
    lab.files.retire_disk(disk.vm, disk.event, &how(DiskDisposal::DeleteNow)).await.unwrap();
    assert_eq!(fs::metadata(&old).unwrap().len(), 8 * MIB, "the full one is kept, in place of the older one");
    let [receipt] = &receipts(&lab)[..] else { panic!("{:?}", receipts(&lab)) };
    assert_eq!(receipt["disk"], disk.event.to_string());
    assert_eq!(tree(&lab.data("recycle")), ["receipts.log", "receipts.log.1"]);
}

#[tokio::test]
async fn a_recycled_disk_says_what_it_is_and_is_copied_out_whole() {
    let lab = lab(100 * MIB);
    let (one, other) = (retired(&lab).await, retired(&lab).await);
    let listed = lab.files.recycled_disks().await.unwrap();
    assert_eq!(listed.iter().map(|kept| kept.disk).collect::<Vec<_>>(), [one.event, other.event]);
    let kept = &listed[0];
    assert_eq!((kept.vm, kept.image), (one.vm, Some(one.image)));
    assert_eq!(kept.spec, Some(super::support::spec()), "all that its VM was made of");
    assert!(kept.by.is_some() && kept.size_bytes > 0 && kept.until > kept.since);

    let to = lab.path("copy.qcow2");
    let before = tree(&lab.settings.data);
    let progress = JobProgress::default();
    let restored = lab.files.restore_recycled(one.event, &to, &progress).await.unwrap();
    assert_eq!((restored.from.disk, &restored.to), (one.event, &to));
    same_content(&to, &restored.from.path);
    assert!(super::support::info(&to).get("backing-filename").is_none(), "it stands alone");
    assert_eq!(tree(&lab.settings.data), before, "the recycled disk stays where it is");
    assert_eq!(mode(&to), 0o600);

    let again = lab.files.restore_recycled(one.event, &to, &progress).await.unwrap_err();
    assert!(again.text.contains("is there already") && again.advice.contains("nothing is ever replaced"));
    let missing = lab.files.restore_recycled(EventId::fresh(), &lab.path("x"), &progress).await.unwrap_err();
    assert!(missing.advice.contains("recycle ls"), "{missing:?}");
    assert!(!lab.path("x").exists() && !lab.path("x.part").exists());
}

#[tokio::test]
async fn a_person_purges_what_is_named_and_nothing_else() {
    let lab = lab(100 * MIB);
    let (gone, stays) = (retired(&lab).await, retired(&lab).await);
    let purged = lab.files.purge_recycled_disks(vec![gone.event]).await.unwrap();
    assert_eq!(purged.iter().map(|kept| kept.disk).collect::<Vec<_>>(), [gone.event]);
    assert!(lab.files.purge_recycled_disks(vec![gone.event]).await.unwrap().is_empty(), "it was gone");
    let left = lab.files.recycled_disks().await.unwrap();
    assert_eq!(left.iter().map(|kept| kept.disk).collect::<Vec<_>>(), [stays.event]);
    let [receipt] = &receipts(&lab)[..] else { panic!("one receipt") };
    assert_eq!((&receipt["why"], &receipt["disk"]), (&"person".into(), &gone.event.to_string().into()));
}

#[tokio::test]
async fn what_an_older_agent_recycled_is_listed_and_copied_all_the_same() {
    let lab = lab(100 * MIB);
    let disk = retired(&lab).await;
    let folder = lab.files.recycled_disk(disk.event).await.unwrap().path.parent().unwrap().to_owned();
    fs::remove_file(folder.join("vm.spec")).unwrap();
    let mut receipt: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("receipt.json")).unwrap()).unwrap();
    receipt.as_object_mut().unwrap().remove("by");
    fs::write(folder.join("receipt.json"), receipt.to_string()).unwrap();
    let kept = lab.files.recycled_disk(disk.event).await.unwrap();
    assert_eq!((kept.by, kept.spec), (None, None));
    lab.files.restore_recycled(disk.event, &lab.path("copy"), &JobProgress::default()).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_names_a_file_of_others_is_not_copied() {
    let lab = lab(100 * MIB);
    let disk = retired(&lab).await;
    let kept = lab.files.recycled_disk(disk.event).await.unwrap();
    run("qemu-img", &["rebase", "-u", "-F", "raw", "-b", "/etc/passwd", kept.path.to_str().unwrap()]);
    let refused =
        lab.files.restore_recycled(disk.event, &lab.path("copy"), &JobProgress::default()).await.unwrap_err();
    assert!(refused.text.contains("did not give it"), "{refused:?}");
    assert!(!lab.path("copy").exists());
}
