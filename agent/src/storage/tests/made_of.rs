//! What a VM is made of, as its folder tells: all of it where the mark has it and may be believed, else a part.

use std::fs;
use std::sync::Arc;

use dewpoint_proto::ids::EventId;
use dewpoint_proto::limits::{self, MIB};
use dewpoint_proto::spec::{DiskMode, MacAddr, Nic, Placement, Restart, VmSpec};
use serde_json::{Value, json};

use super::support::{Lab, mode, spec};
use crate::storage::{Described, NewDisk, Seen, Storage, Told};

/// One that a seed and a disk do not tell all of.
fn whole() -> VmSpec {
    let mut whole = spec();
    whole.vcpus = 3;
    whole.disk_bytes = 8 * MIB;
    whole.ssh_keys = vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA me".to_owned()];
    whole.user_data = b"#cloud-config\npassword: secret\n".to_vec();
    whole.labels = [("role".to_owned(), "db \"one\"".to_owned())].into();
    whole.placement = Placement::Movable;
    whole.restart = Restart::Always;
    whole
}

/// A disk and a seed, as a create makes them.
async fn built(lab: &Lab, spec: &VmSpec) -> NewDisk {
    let image = lab.fetched().await;
    let disk = NewDisk { made_of: Some(Arc::new(spec.clone())), ..Lab::disk(&image, DiskMode::Overlay) };
    lab.made(&disk).await;
    lab.files.make_seed(disk.vm, disk.event, spec).await.unwrap();
    disk
}

async fn described(lab: &Lab, disk: &NewDisk) -> Described {
    lab.files.describe(disk.vm, disk.event, disk.event).await.unwrap()
}

#[tokio::test]
async fn a_folder_tells_all_that_its_vm_is_made_of_and_keeps_no_secret_twice() {
    let lab = Lab::new();
    let disk = built(&lab, &whole()).await;
    assert_eq!(described(&lab, &disk).await, Described { spec: whole(), told: Told::Whole });
    let path = lab.folder(disk.vm).join("vm.json");
    let mark = fs::read_to_string(&path).unwrap();
    assert!(mark.contains("db") && !mark.contains("secret") && !mark.contains("ssh-ed25519"), "{mark}");
    assert_eq!(mode(&path), 0o640);
    assert!(matches!(lab.files.observe(disk.vm).await, Seen::There(files) if files.leftovers.is_empty()));

    // A restore makes another disk; the VM stays what it is.
    let other = NewDisk { event: EventId::fresh(), ..disk.clone() };
    lab.made(&other).await;
    let after = lab.files.describe(disk.vm, other.event, disk.event).await.unwrap();
    assert_eq!(after, Described { spec: whole(), told: Told::Whole });
}

#[tokio::test]
async fn what_does_not_fit_is_not_believed_and_the_folder_stays_ours() {
    let lab = Lab::new();
    let disk = built(&lab, &whole()).await;
    let path = lab.folder(disk.vm).join("vm.json");
    let good: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    type Spoil = fn(&mut Value);
    let spoilt: [Spoil; 7] = [
        |mark| drop(mark.as_object_mut().unwrap().remove("made_of")),
        |mark| mark["made_of"] = json!("anything"),
        |mark| mark["made_of"]["version"] = json!(2),
        |mark| mark["made_of"]["by"] = json!(EventId::fresh()),
        |mark| mark["made_of"]["spec"]["name"] = json!("other"),
        |mark| mark["made_of"]["spec"]["vcpus"] = json!(100_000),
        |mark| mark["made_of"]["spec"]["new"] = json!(true),
    ];
    for (at, spoil) in spoilt.into_iter().enumerate() {
        let mut mark = good.clone();
        spoil(&mut mark);
        fs::write(&path, mark.to_string()).unwrap();
        let Described { spec, told } = described(&lab, &disk).await;
        assert_eq!(told, Told::InPart, "{at}");
        assert_eq!((spec.name, spec.ssh_keys, spec.disk_bytes), (whole().name, whole().ssh_keys, 8 * MIB));
        assert!(matches!(lab.files.observe(disk.vm).await, Seen::There(_)), "{at}");
    }
}

#[tokio::test]
async fn the_largest_spec_that_there_may_be_fits_into_the_mark() {
    let lab = Lab::new();
    let mut spec = whole();
    let nic = |n: u8| Nic {
        mac: MacAddr([0x52, 0x54, 0, 0, 0, n]),
        network: None,
        bridge: Some("bridge-of-15-ch".parse().unwrap()),
        addresses: vec!["2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128".parse().unwrap(); limits::ADDRESSES],
        gateway4: Some([192, 0, 2, 1].into()),
        gateway6: Some("2001:db8:ffff:ffff:ffff:ffff:ffff:fffe".parse().unwrap()),
        nameservers: vec!["2001:db8:ffff:ffff:ffff:ffff:ffff:fffd".parse().unwrap(); limits::NAMESERVERS],
    };
    spec.nics = (0..limits::NICS).map(|n| nic(u8::try_from(n).unwrap())).collect();
    let label = |n| (format!("{n:-<253}"), "\\".repeat(limits::LABEL_BYTES));
    spec.labels = (10..10 + limits::LABELS).map(label).collect();
    let spec = spec.checked().unwrap();
    let disk = built(&lab, &spec).await;
    assert_eq!(described(&lab, &disk).await, Described { spec, told: Told::Whole });
}

#[tokio::test]
async fn a_disk_out_of_the_quarantine_still_knows_its_vm() {
    let lab = Lab::new();
    let disk = built(&lab, &whole()).await;
    lab.files.quarantine_folder(disk.vm, "a test").await.unwrap();
    let [kept] = &lab.files.quarantined().await.unwrap()[..] else { panic!("one") };
    lab.files.empty_quarantined(&kept.name).await.unwrap();
    let [recycled] = &lab.files.recycled_disks().await.unwrap()[..] else { panic!("one") };
    assert_eq!(recycled.spec, Some(whole()), "sizes, labels and policy as well");
}
