//! Images and folders made to harm.

use std::fs;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::DiskMode;

use super::support::{Lab, local, make_qcow2, run, tree};
use crate::storage::{JobProgress, Seen, Storage};

async fn refusal(lab: &Lab, bytes: &[u8], virtual_size: u64) -> Cause {
    let path = lab.path("hostile");
    fs::write(&path, bytes).unwrap();
    let image = local(&path, virtual_size);
    let cause = lab.files.fetch_image(&image, None, &JobProgress::default()).await.unwrap_err();
    assert_eq!(tree(&lab.data("images")), Vec::<String>::new(), "a refused image leaves no file");
    cause
}

/// Bytes, and where they go.
type Patch<'a> = (usize, &'a [u8]);

/// A good qcow2 with some bytes of its header changed.
fn patched(lab: &Lab, patches: &[Patch<'_>]) -> Vec<u8> {
    let path = lab.path("good.qcow2");
    make_qcow2(&path, 7);
    let mut bytes = fs::read(path).unwrap();
    for (at, patch) in patches {
        bytes[*at..*at + patch.len()].copy_from_slice(patch);
    }
    bytes
}

#[tokio::test]
async fn a_header_that_is_wrong_in_one_way_is_refused() {
    let secret = b"/etc/shadow";
    let corpus: [(&str, &[Patch<'_>]); 18] = [
        ("backing file", &[(8, &512u64.to_be_bytes()), (16, &11u32.to_be_bytes()), (512, secret)]),
        ("backing file outside its header", &[(8, &u64::MAX.to_be_bytes()), (16, &11u32.to_be_bytes())]),
        ("backing file outside its header", &[(8, &512u64.to_be_bytes()), (16, &u32::MAX.to_be_bytes())]),
        ("data file", &[(72, &4u64.to_be_bytes())]),
        ("data file", &[(104 + 8, &0x4441_5441_0000_0008u64.to_be_bytes()), (104 + 16, b"/etc/pwd")]),
        ("unknown features", &[(72, &(1u64 << 40).to_be_bytes())]),
        ("corrupt", &[(72, &2u64.to_be_bytes())]),
        ("encrypted", &[(32, &1u32.to_be_bytes())]),
        ("qcow version 1", &[(4, &1u32.to_be_bytes())]),
        ("qcow version 9", &[(4, &9u32.to_be_bytes())]),
        ("clusters of 2^", &[(20, &63u32.to_be_bytes())]),
        ("clusters of 2^", &[(20, &0u32.to_be_bytes())]),
        ("virtual size", &[(24, &u64::MAX.to_be_bytes())]),
        ("virtual size", &[(24, &0u64.to_be_bytes())]),
        ("L1 table", &[(36, &u32::MAX.to_be_bytes())]),
        ("L1 table that lies outside", &[(40, &(1u64 << 60).to_be_bytes())]),
        ("refcount table", &[(56, &u32::MAX.to_be_bytes())]),
        ("internal snapshots", &[(60, &65536u32.to_be_bytes())]),
    ];
    let lab = Lab::new();
    for (word, patches) in corpus {
        let cause = refusal(&lab, &patched(&lab, patches), 4 * MIB).await;
        assert_eq!(cause.reason, Reason::ImageRefused, "{word}: {cause:?}");
        assert!(cause.text.contains(word), "{word}: {}", cause.text);
        assert!(!cause.advice.is_empty());
    }
}

#[tokio::test]
async fn what_qemu_makes_with_other_files_in_it_is_refused() {
    let lab = Lab::new();
    let path = |name: &str| lab.path(name).to_str().unwrap().to_owned();
    make_qcow2(&lab.path("base.qcow2"), 7);
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &path("base.qcow2"), &path("overlay")],
    );
    let data = format!("data_file={}", path("data.raw"));
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &data, &path("external"), "4M"]);
    run("qemu-img", &["snapshot", "-c", "s", &path("base.qcow2")]);
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", "extended_l2=on,compression_type=zstd", &path("fine"), "4M"],
    );
    for (name, word) in
        [("overlay", "backing file"), ("external", "data file"), ("base.qcow2", "internal snapshots")]
    {
        let cause = refusal(&lab, &fs::read(lab.path(name)).unwrap(), 4 * MIB).await;
        assert!(cause.text.contains(word), "{name}: {}", cause.text);
    }
    lab.files.fetch_image(&local(&lab.path("fine"), 4 * MIB), None, &JobProgress::default()).await.unwrap();
}

#[tokio::test]
async fn cut_off_images_and_other_formats_are_refused() {
    let lab = Lab::new();
    let good = patched(&lab, &[]);
    let mut vdi = vec![0; 1024];
    vdi[0x40..0x44].copy_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
    let corpus: [(&[u8], &str); 9] = [
        (&good[..40], "cut off"),
        (&good[..100], "cut off"),
        (&good[..150_000], "outside the file"),
        (b"KDMV\x01\0\0\0", "VMDK"),
        (b"vhdxfile", "VHDX"),
        (&vdi, "VDI"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"not a disk at all", "no whole sectors"),
    ];
    for (bytes, word) in corpus {
        let cause = refusal(&lab, bytes, 4 * MIB).await;
        assert_eq!(cause.reason, Reason::ImageRefused);
        assert!(cause.text.contains(word), "{word}: {}", cause.text);
    }
}

#[tokio::test]
async fn an_image_of_another_size_than_the_event_says_is_refused() {
    let lab = Lab::new();
    let cause = refusal(&lab, &patched(&lab, &[]), 5 * MIB).await;
    assert_eq!(cause.reason, Reason::ImageRefused);
    // Also when it is in the cache already.
    let image = lab.fetched().await;
    let lie = dewpoint_proto::spec::ImageRef { virtual_size_bytes: 5 * MIB, ..image };
    let cause = lab.files.fetch_image(&lie, None, &JobProgress::default()).await.unwrap_err();
    assert_eq!(cause.reason, Reason::ImageRefused);
}

/// A raw disk's content is the guest's: one that reads like a qcow2 naming a host's file must stay raw.
#[tokio::test]
async fn a_raw_image_is_never_probed() {
    let lab = Lab::new();
    let path = lab.path("disk.raw");
    fs::write(&path, vec![1; 4 * 1024 * 1024]).unwrap();
    let image = local(&path, 4 * MIB);
    lab.files.fetch_image(&image, None, &JobProgress::default()).await.unwrap();
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;
    let paths = lab.files.disk_paths(disk.vm, disk.event).await.unwrap();
    assert_eq!(super::support::info(&paths.disk)["backing-filename-format"], "raw");
    assert_eq!(paths.backing[0].format, crate::storage::DiskFormat::Raw);
}

#[tokio::test]
async fn what_others_put_into_a_folder_is_told_and_does_no_harm() {
    let lab = Lab::new();
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;
    let folder = lab.folder(disk.vm);
    let event = dewpoint_proto::ids::EventId::fresh();
    std::os::unix::fs::symlink("/etc/passwd", folder.join(format!("{event}.qcow2"))).unwrap();
    fs::create_dir(folder.join(format!("{event}.snapshot"))).unwrap();
    fs::write(folder.join("a\nb"), "").unwrap();
    fs::write(folder.join(format!("{event}.seed.part")), "").unwrap();
    let Seen::There(seen) = lab.files.observe(disk.vm).await else { panic!() };
    assert_eq!(seen.disks.len(), 1);
    assert_eq!(seen.leftovers.len(), 4, "{:?}", seen.leftovers);
    assert!(seen.seeds.is_empty() && seen.snapshots.is_empty());

    lab.files.discard(disk.vm, event).await.unwrap();
    let Seen::There(seen) = lab.files.observe(disk.vm).await else { panic!() };
    assert_eq!(seen.leftovers.len(), 3, "only what we make is discarded");
}

#[tokio::test]
async fn a_disk_whose_header_cannot_be_read_makes_its_vm_unknown() {
    let lab = Lab::new();
    let image = lab.fetched().await;
    let disk = Lab::disk(&image, DiskMode::Overlay);
    lab.made(&disk).await;
    let path = lab.folder(disk.vm).join(format!("{}.qcow2", disk.event));
    let name = fs::read(&path).unwrap();
    let at = name.windows(5).position(|window| window == b".base").unwrap();
    let mut bytes = name.clone();
    bytes[at..at + 5].copy_from_slice(b".evil");
    fs::write(&path, bytes).unwrap();
    assert!(matches!(lab.files.observe(disk.vm).await, Seen::Unknown(why) if why.contains("did not give")));
    lab.files.disk_paths(disk.vm, disk.event).await.unwrap_err();
    fs::write(&path, b"").unwrap();
    assert!(matches!(lab.files.observe(disk.vm).await, Seen::Unknown(_)));
}
