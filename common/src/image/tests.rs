use std::io::Write;

use super::*;

/// A valid empty qcow2 of version 3 with clusters of 64 KiB, as `qemu-img create` lays it out.
fn qcow2_image(disk_bytes: u64) -> Vec<u8> {
    let mut image = vec![0; 4 * 65536];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &qcow2::MAGIC);
    put(4, &3u32.to_be_bytes());
    put(20, &16u32.to_be_bytes());
    put(24, &disk_bytes.to_be_bytes());
    put(36, &u32::try_from(disk_bytes.div_ceil(65536 * 8192)).unwrap().to_be_bytes());
    put(40, &(3u64 * 65536).to_be_bytes());
    put(48, &65536u64.to_be_bytes());
    put(56, &1u32.to_be_bytes());
    put(96, &4u32.to_be_bytes());
    put(100, &104u32.to_be_bytes());
    image
}

fn seen(bytes: &[u8]) -> Result<Shape, Cause> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    inspect(&file)
}

/// The image, with bytes put over it.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = qcow2_image(1 << 30);
    image[at..at + bytes.len()].copy_from_slice(bytes);
    image
}

#[test]
fn a_plain_qcow2_and_a_raw_disk_pass() {
    let found = seen(&qcow2_image(1 << 30)).unwrap();
    assert_eq!((found.format, found.virtual_size_bytes), (DiskFormat::Qcow2, 1 << 30));
    let found = seen(&vec![7; 2 << 20]).unwrap();
    assert_eq!(found, Shape { format: DiskFormat::Raw, size_bytes: 2 << 20, virtual_size_bytes: 2 << 20 });
}

#[test]
fn what_qemu_img_makes_passes_unless_it_names_other_files() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, arguments: &[&str]| {
        let path = folder.path().join(name);
        let made = std::process::Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .args(arguments)
            .arg(&path)
            .arg("64M")
            .output();
        // The hand-made headers above cover the rules where qemu-img is not installed.
        made.ok().map(|out| {
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            inspect(&File::open(path).unwrap())
        })
    };
    for options in [
        "compat=0.10",
        "compat=1.1",
        "compression_type=zstd",
        "extended_l2=on",
        "cluster_size=512",
        "cluster_size=2M",
    ] {
        let Some(found) = make("plain", &["-o", options]) else { return };
        assert_eq!(found.unwrap().virtual_size_bytes, 64 << 20, "{options}");
    }
    let base = folder.path().join("plain");
    let base = base.to_str().unwrap();
    let overlay = make("overlay", &["-b", base, "-F", "qcow2"]).unwrap().unwrap_err();
    assert!(overlay.reason == Reason::ImageRefused && overlay.text.contains("backing file"), "{overlay:?}");
    let data = format!("data_file={}", folder.path().join("data").display());
    let external = make("external", &["-o", &data]).unwrap().unwrap_err();
    assert!(external.reason == Reason::ImageRefused && external.text.contains("data file"), "{external:?}");
}

#[test]
fn hostile_qcow2_headers_are_refused_by_name() {
    let data_file = with(104, &[0x44, 0x41, 0x54, 0x41, 0, 0, 0, 4, b'/', b'e', b't', b'c']);
    for (image, says) in [
        (with(8, &200u64.to_be_bytes()), "backing file"),
        (with(16, &4u32.to_be_bytes()), "backing file"),
        (with(72, &4u64.to_be_bytes()), "data file"),
        (data_file, "data file"),
        (with(72, &1u64.to_be_bytes()), "not closed cleanly"),
        (with(72, &2u64.to_be_bytes()), "corrupt"),
        (with(72, &(1u64 << 40).to_be_bytes()), "unknown features"),
        (with(32, &2u32.to_be_bytes()), "encrypted"),
        (with(60, &1u32.to_be_bytes()), "snapshots"),
        (with(4, &1u32.to_be_bytes()), "version 1"),
        (with(4, &4u32.to_be_bytes()), "version 4"),
        (with(20, &40u32.to_be_bytes()), "clusters"),
        (with(24, &u64::MAX.to_be_bytes()), "virtual size"),
        (with(36, &0u32.to_be_bytes()), "L1 table"),
        (with(36, &u32::MAX.to_be_bytes()), "L1 table"),
        (with(40, &u64::MAX.to_be_bytes()), "L1 table"),
        (with(40, &8u64.to_be_bytes()), "L1 table"),
        (with(48, &0u64.to_be_bytes()), "refcount table"),
        (with(56, &u32::MAX.to_be_bytes()), "refcount table"),
        (with(96, &7u32.to_be_bytes()), "reference count"),
        (with(100, &4u32.to_be_bytes()), "header of 4 bytes"),
        (with(100, &108u32.to_be_bytes()), "header of 108 bytes"),
        (with(104, &[0x05, 0x37, 0xbe, 0x77, 0, 0, 0, 8]), "encrypted"),
        (with(104, &[1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff]), "extension"),
        (qcow2_image(1 << 30)[..70].to_vec(), "cut off"),
        (qcow2_image(4096), "4096 bytes"),
    ] {
        let cause = seen(&image).unwrap_err();
        assert!(cause.reason == Reason::ImageRefused && cause.text.contains(says), "{says}: {cause:?}");
    }
}

#[test]
fn other_formats_are_refused_with_the_way_out() {
    for (at, magic, says) in [
        (0, &b"KDMV"[..], "vmdk"),
        (64, b"\x7f\x10\xda\xbe", "vdi"),
        (0, b"vhdxfile", "vhdx"),
        (0, b"QED\0", "qed"),
        (0, b"\xfd7zXZ\0", "unxz"),
        (0, b"\x1f\x8b\x08", "gunzip"),
    ] {
        let mut image = vec![0; 2 << 20];
        image[at..at + magic.len()].copy_from_slice(magic);
        let cause = seen(&image).unwrap_err();
        assert_eq!(cause.reason, Reason::ImageRefused);
        assert!(format!("{} {}", cause.text, cause.advice).contains(says), "{says}: {cause:?}");
    }
    assert!(seen(b"<!DOCTYPE html>").unwrap_err().text.contains("sectors"));
    assert!(seen(&[0; 512]).unwrap_err().text.contains("512 bytes"));
    assert_eq!(seen(b"").unwrap_err().reason, Reason::ImageRefused);
}

proptest::proptest! {
    #[test]
    fn no_header_makes_it_panic(noise in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
        let mut image = qcow2_image(1 << 30);
        let length = noise.len().min(image.len() - 4);
        image[4..4 + length].copy_from_slice(&noise[..length]);
        let _ = seen(&image);
        let _ = seen(&noise);
    }
}
