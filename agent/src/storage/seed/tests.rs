//! The seed as others read it: blkid, xorriso, and a JSON parser for the YAML.

use std::fs;
use std::process::Command;

use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::{DiskMode, Placement, Restart};
use proptest::prelude::*;

use super::*;

fn spec(user_data: &[u8], ssh_keys: Vec<String>) -> VmSpec {
    VmSpec {
        name: "web-1".parse().unwrap(),
        vcpus: 1,
        memory_bytes: 128 * MIB,
        disk_bytes: 8 * MIB,
        disk_mode: DiskMode::Overlay,
        nics: vec![Nic {
            mac: "52:54:00:12:34:56".parse().unwrap(),
            network: None,
            bridge: None,
            addresses: vec!["192.0.2.5/24".parse().unwrap(), "2001:db8::5/64".parse().unwrap()],
            gateway4: Some("192.0.2.1".parse().unwrap()),
            gateway6: Some("2001:db8::1".parse().unwrap()),
            nameservers: vec!["192.0.2.53".parse().unwrap()],
        }],
        ssh_keys,
        user_data: user_data.to_vec(),
        labels: std::collections::BTreeMap::new(),
        placement: Placement::Bound,
        restart: Restart::default(),
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn others_read_the_volume() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seed");
    // Longer than a sector, and not a multiple of one.
    let user_data = b"#cloud-config\nruncmd: [\"echo $(rm -rf /) \\u0000\"]\n".repeat(100);
    let vm = VmId::fresh();
    fs::write(&path, build(vm, &spec(&user_data, vec![]))).unwrap();
    let iso = path.to_str().unwrap();

    assert_eq!(output("blkid", &["-p", "-o", "value", "-s", "LABEL", iso]).trim(), "cidata");
    assert_eq!(output("blkid", &["-p", "-o", "value", "-s", "TYPE", iso]).trim(), "iso9660");
    for (tree, out) in [("-rockridge", "rock-ridge"), ("-joliet", "joliet")] {
        // xorriso takes the tree that it is not told to ignore.
        let other = if tree == "-rockridge" { ["-read_fs", "norock"] } else { ["-read_fs", "nojoliet"] };
        let out = dir.path().join(out);
        let target = out.to_str().unwrap();
        output("xorriso", &["-osirrox", "on", other[0], other[1], "-indev", iso, "-extract", "/", target]);
        assert_eq!(fs::read(out.join("user-data")).unwrap(), user_data, "{tree}");
        let meta: Value = serde_json::from_slice(&fs::read(out.join("meta-data")).unwrap()).unwrap();
        assert_eq!(meta["instance-id"], vm.to_string());
        assert!(out.join("network-config").is_file());
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let vm = VmId::fresh();
    assert_eq!(build(vm, &spec(b"x", vec![])), build(vm, &spec(b"x", vec![])));
}

#[test]
fn the_network_is_told_in_what_ifupdown_and_netplan_both_take() {
    let config = network_config(&spec(b"", vec![]).nics);
    let expected = json!({ "version": 2, "ethernets": { "eth0": {
        "match": { "macaddress": "52:54:00:12:34:56" },
        "set-name": "eth0",
        "dhcp4": false,
        "dhcp6": false,
        "accept-ra": false,
        "addresses": ["192.0.2.5/24", "2001:db8::5/64"],
        "gateway4": "192.0.2.1",
        "gateway6": "2001:db8::1",
        "nameservers": { "addresses": ["192.0.2.53"] },
    } } });
    assert_eq!(config, expected);
}

proptest! {
    #[test]
    fn no_string_breaks_out_of_meta_data(key in "\\PC{0,200}", extra in any::<String>()) {
        let keys = vec![key, extra];
        let text = yaml(&meta_data(VmId::fresh(), &spec(b"", keys.clone())));
        let read: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read["public-keys"], &json!(keys));
        prop_assert_eq!(read.as_object().unwrap().len(), 3);
        // Every string is on its one line, and holds nothing that YAML folds or refuses.
        prop_assert!(text.chars().all(|c| matches!(c, '\n' | ' '..='~') || u32::from(c) > 0xffff));
        prop_assert_eq!(text.lines().count(), 8);
    }

    #[test]
    fn user_data_is_carried_as_it_is(bytes in proptest::collection::vec(any::<u8>(), 1..5000)) {
        let volume = build(VmId::fresh(), &spec(&bytes, vec![]));
        prop_assert_eq!(volume.len() % 2048, 0);
        prop_assert!(volume.windows(bytes.len()).any(|window| window == bytes));
    }
}

#[test]
fn a_seed_tells_what_it_was_made_from() {
    let vm = VmId::fresh();
    let mut made =
        spec(b"#cloud-config\n{}\n# more\n", vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me".to_owned()]);
    // More than ten, so that their names do not sort as their numbers do.
    made.nics = (0..12u8)
        .map(|n| Nic { mac: dewpoint_proto::spec::MacAddr([0x52, 0x54, 0, 0, 0, n]), ..made.nics[0].clone() })
        .collect();
    let read = read::content(&build(vm, &made)).unwrap();
    assert_eq!((read.name, read.instance_id), (made.name.clone(), vm.to_string()));
    assert_eq!((read.ssh_keys, read.user_data, read.nics), (made.ssh_keys, made.user_data, made.nics));
    let bare = VmSpec { user_data: Vec::new(), nics: Vec::new(), ..spec(b"", vec![]) };
    let read = read::content(&build(vm, &bare)).unwrap();
    assert!(read.user_data.is_empty() && read.nics.is_empty(), "what stands for nothing is nothing");
}

proptest! {
    #[test]
    fn a_volume_of_somebody_else_is_refused_and_harms_nobody(at in 0usize..70_000, byte in any::<u8>(), cut in 0usize..70_000) {
        let mut volume = build(VmId::fresh(), &spec(b"x", vec![]));
        if let Some(spoiled) = volume.get_mut(at) {
            *spoiled = byte;
        }
        volume.truncate(cut.max(1));
        let _ = read::content(&volume);
    }
}
