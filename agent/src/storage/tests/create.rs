//! What a create needs: an image, a disk, a seed; and what a destroy takes away again.

use std::fs;
use std::os::unix::fs::MetadataExt;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::event::DiskDisposal;
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::DiskMode;

use super::support::{Lab, how, info, local, mode, open, run, same_content, spec, tree};
use crate::storage::{DiskFormat, JobProgress, Seen, Storage};

#[tokio::test]
async fn an_overlay_rests_on_its_own_link_of_the_image() {
    let lab = Lab::new();
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;

    let paths = lab.files.disk_paths(disk.vm, disk.event).await.unwrap();
    let seen = info(&paths.disk);
    assert_eq!(seen["virtual-size"], 8 * MIB);
    assert_eq!(
        seen["backing-filename"],
        format!("{}.base", image.digest),
        "relative, so that the folder can move"
    );
    assert_eq!(seen["backing-filename-format"], "qcow2");
    let cached = lab.data("images").join(image.digest.to_string());
    assert_eq!(fs::metadata(&paths.backing[0].path).unwrap().ino(), fs::metadata(&cached).unwrap().ino());
    assert_eq!((mode(&cached), mode(&paths.disk), mode(&lab.folder(disk.vm))), (0o440, 0o660, 0o2750));

    assert_eq!(paths.backing[0].format, DiskFormat::Qcow2);

    // The cache can be emptied without harm.
    fs::remove_file(cached).unwrap();
    same_content(&paths.disk, &lab.path("image.qcow2"));
    let Seen::There(files) = lab.files.observe(disk.vm).await else { panic!() };
    assert_eq!(files.disks.into_iter().collect::<Vec<_>>(), [(disk.event, Some(image.digest))]);
    assert!(files.leftovers.is_empty());
}

#[tokio::test]
async fn a_full_copy_stands_alone() {
    let lab = Lab::new();
    for image in [lab.fetched().await, raw_image(&lab).await] {
        let disk = Lab::disk(&image, DiskMode::FullCopy);
        lab.made(&disk).await;
        let paths = lab.files.disk_paths(disk.vm, disk.event).await.unwrap();
        assert!(paths.backing.is_empty());
        let seen = info(&paths.disk);
        assert_eq!(
            (&seen["virtual-size"], &seen["backing-filename"]),
            (&(8 * MIB).into(), &serde_json::Value::Null)
        );
        same_content(&paths.disk, image.local_path.as_ref().unwrap().as_ref());
        assert_eq!(tree(&lab.folder(disk.vm)), [format!("{}.qcow2", disk.event), "vm.json".into()]);
    }
}

async fn raw_image(lab: &Lab) -> dewpoint_proto::spec::ImageRef {
    let path = lab.path("disk.raw");
    let mut content = vec![0; 4 * 1024 * 1024];
    content[3 * 1024 * 1024..].fill(9);
    fs::write(&path, content).unwrap();
    let image = local(&path, 4 * MIB);
    lab.files.fetch_image(&image, None, &JobProgress::default()).await.unwrap();
    let cached = fs::metadata(lab.data("images").join(image.digest.to_string())).unwrap();
    assert!(cached.blocks() * 512 < 2 * MIB, "holes stay holes");
    image
}

#[tokio::test]
async fn everything_may_be_asked_for_twice() {
    let lab = Lab::new();
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    for _ in 0..2 {
        lab.files.fetch_image(&image, None, &JobProgress::default()).await.unwrap();
        lab.made(&disk).await;
        lab.files.make_seed(disk.vm, disk.event, &spec()).await.unwrap();
    }
    let names = ["qcow2", "seed"].map(|end| format!("{}.{end}", disk.event));
    let mut expected = vec![format!("{}.base", image.digest), "vm.json".into()];
    expected.extend(names);
    expected.sort();
    assert_eq!(tree(&lab.folder(disk.vm)), expected);

    for _ in 0..2 {
        lab.files.retire_disk(disk.vm, disk.event, &how(DiskDisposal::DeleteNow)).await.unwrap();
        lab.files.discard(disk.vm, disk.event).await.unwrap();
        lab.files.remove_folder(disk.vm).await.unwrap();
    }
    assert_eq!(lab.files.observe(disk.vm).await, Seen::Absent);
    assert_eq!(tree(&lab.data("vms")), Vec::<String>::new());
    let log = fs::read_to_string(lab.data("recycle/receipts.log")).unwrap();
    assert_eq!(log.matches(&disk.event.to_string()).count(), 1, "{log}");
}

#[tokio::test]
async fn a_folder_of_another_host_is_never_touched() {
    let lab = Lab::new();
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;
    let mut settings = lab.settings.clone();
    settings.host = dewpoint_proto::ids::HostId::fresh();
    let stranger = open(&settings, None);
    let before = tree(&lab.settings.data);

    assert!(
        matches!(stranger.observe(disk.vm).await, Seen::Unknown(why) if why.contains("belongs to the host"))
    );
    let refusals = [
        stranger.make_disk(&disk, &JobProgress::default()).await,
        stranger.make_seed(disk.vm, disk.event, &spec()).await,
        stranger.retire_disk(disk.vm, disk.event, &how(DiskDisposal::DeleteNow)).await,
        stranger.discard(disk.vm, disk.event).await,
        stranger.remove_folder(disk.vm).await,
    ];
    for refusal in refusals {
        let cause = refusal.unwrap_err();
        assert_eq!(cause.reason, Reason::StorageError);
        assert!(!cause.advice.is_empty());
    }
    assert_eq!(tree(&lab.settings.data), before);
}

#[tokio::test]
async fn files_without_a_mark_are_never_touched() {
    let lab = Lab::new();
    let vm = VmId::fresh();
    fs::create_dir(lab.folder(vm)).unwrap();
    fs::write(lab.folder(vm).join("precious"), "x").unwrap();
    assert!(matches!(lab.files.observe(vm).await, Seen::Unknown(_)));
    lab.files.remove_folder(vm).await.unwrap_err();
    lab.files.make_seed(vm, EventId::fresh(), &spec()).await.unwrap_err();
    assert_eq!(tree(&lab.folder(vm)), ["precious"]);
}

#[tokio::test]
async fn the_folder_goes_only_after_its_disks_and_keeps_what_others_put_there() {
    let lab = Lab::new();
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;
    fs::write(lab.folder(disk.vm).join("notes.txt"), "keep me").unwrap();
    fs::create_dir(lab.folder(disk.vm).join(format!("{}.seed", EventId::fresh()))).unwrap();
    fs::write(lab.folder(disk.vm).join("console.log"), "boot").unwrap();

    lab.files.remove_folder(disk.vm).await.unwrap_err();
    lab.files.retire_disk(disk.vm, disk.event, &how(DiskDisposal::DeleteNow)).await.unwrap();
    lab.files.remove_folder(disk.vm).await.unwrap();
    assert_eq!(lab.files.observe(disk.vm).await, Seen::Absent);
    let aside = tree(&lab.data("quarantine"));
    assert!(aside.iter().any(|path| path.ends_with("notes.txt")), "{aside:?}");
    assert!(!aside.iter().any(|path| path.ends_with("console.log")), "{aside:?}");
}

/// Not even the owner's own processes are asked to change owners: QEMU's user opens what the agent made.
#[tokio::test]
async fn qemus_own_user_opens_the_files() {
    if !nix::unistd::geteuid().is_root()
        || nix::unistd::User::from_name("libvirt-qemu").ok().flatten().is_none()
    {
        eprintln!("skipped: takes root and a user libvirt-qemu");
        return;
    }
    let lab = Lab::new();
    fs::set_permissions(lab.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;
    lab.files.make_seed(disk.vm, disk.event, &spec()).await.unwrap();
    let target = lab.files.make_backup_target(disk.vm, disk.event, disk.event).await.unwrap();
    let as_qemu = |arguments: &[&str]| {
        let user = ["--reuid=libvirt-qemu", "--regid=kvm", "--init-groups", "--"];
        run("setpriv", &[&user[..], arguments].concat())
    };
    let path = lab.files.disk_paths(disk.vm, disk.event).await.unwrap().disk;
    for file in [&path, &target] {
        as_qemu(&["qemu-io", "-f", "qcow2", "-c", "write 0 64k", file.to_str().unwrap()]);
    }
    as_qemu(&["cat", lab.files.seed_path(disk.vm, disk.event).to_str().unwrap()]);
    assert_eq!(mode(&lab.files.seed_path(disk.vm, disk.event)), 0o640);
    let others = ["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", "cat"];
    let denied = std::process::Command::new("setpriv").args(others).arg(&path).output().unwrap();
    assert!(!denied.status.success(), "nobody else does");
}
