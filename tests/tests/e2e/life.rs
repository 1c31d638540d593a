//! The life of one VM through the coordinator, told by the guest itself.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::wire::fleet::CreateVmRequest;
use dewpoint_tests::fleet::{Fleet, address4};
use dewpoint_tests::host::{files, rules};
use dewpoint_tests::request;
use sha2::{Digest, Sha256};

#[tokio::test]
async fn a_vm_boots_as_asked_and_every_reboot_is_a_real_one() {
    let fleet = Fleet::start().await;
    let name = fleet.lab.name("web");
    let user_data = b"#cloud-config\n# carried as it is: \xc3\xa4 <&> '\" %s $(id)\n".to_vec();
    let create = CreateVmRequest { user_data: user_data.clone().into(), ..request::vm(&name) };
    let created = fleet.caller.done(create).await;
    let vm = created.vm_id;
    let guest = fleet.guest(&vm).await;
    let first = guest.until_up().await;

    assert_eq!(first.hostname, name);
    assert_eq!(first.instance_id, vm);
    assert_eq!(first.user_data_sha256, hex::encode(Sha256::digest(&user_data)));
    assert_eq!((first.cpus, first.boots), (1, 1));
    let shown = fleet.caller.vm(&vm).await.unwrap();
    for address in &shown.nics[0].addresses {
        assert!(first.nics[0].addresses.contains(address), "{address} is not among {:?}", first.nics);
    }
    assert_eq!(first.nics[0].mac, shown.nics[0].mac);
    assert_eq!(fleet.domain(&vm).live("run"), Some(created.event_id));

    guest.mark("written before the reboots").await;
    let soft = fleet.caller.done(request::soft_reboot(&vm)).await;
    let second = guest.until_rebooted(&first).await;
    assert_eq!((second.boots, second.marker.as_deref()), (2, Some("written before the reboots")));
    assert_eq!(fleet.domain(&vm).live("run"), Some(soft.event_id));

    let hard = fleet.caller.done(request::hard_reboot(&vm)).await;
    let third = guest.until_rebooted(&second).await;
    // Not `boots`: what a guest had not synced is lost with the plug pulled, as it should be.
    assert_eq!(third.marker.as_deref(), Some("written before the reboots"));
    assert_eq!(fleet.domain(&vm).live("run"), Some(hard.event_id));
    assert_eq!(fleet.domains().len(), 1);
}

#[tokio::test]
async fn destroy_keeps_the_disk_for_a_while_and_destroy_now_leaves_nothing() {
    let fleet = Fleet::start().await;
    let recycle = fleet.agent.data().join("recycle");

    let kept = fleet.caller.done(request::vm(&fleet.lab.name("kept"))).await;
    let tap = fleet.domain(&kept.vm_id).tap().unwrap();
    assert!(rules(&fleet.lab).contains(&tap), "a VM that runs is shielded");
    fleet.caller.done(request::destroy(&kept.vm_id)).await;
    fleet.assert_gone(&kept.vm_id, Some(&tap));
    let recycled = files(&recycle);
    let disk = format!("{}.qcow2", kept.event_id);
    assert!(recycled.iter().any(|file| file.ends_with(&disk)), "no {disk} among {recycled:?}");

    let gone = fleet.caller.done(request::vm(&fleet.lab.name("gone"))).await;
    let tap = fleet.domain(&gone.vm_id).tap().unwrap();
    fleet.caller.done(request::destroy_now(&gone.vm_id)).await;
    fleet.assert_gone(&gone.vm_id, Some(&tap));
    let disk = format!("{}.qcow2", gone.event_id);
    assert!(!files(&recycle).iter().any(|file| file.ends_with(&disk)), "{:?}", files(&recycle));

    assert!(fleet.domains().is_empty());
    assert!(fleet.caller.vm(&gone.vm_id).await.unwrap().gone);
    let hosts = fleet.caller.all_hosts().await.unwrap();
    assert_eq!((hosts[0].vms, hosts[0].claimed_memory_bytes), (0, 0), "what they held is free again");
}

#[tokio::test]
async fn an_address_is_given_out_once_and_again_when_its_vm_is_gone() {
    let fleet = Fleet::start().await;
    let wanted = |name: &str| {
        let mut vm = CreateVmRequest { leave_off: true, ..request::vm(name) };
        vm.nics[0].address4 = fleet.lab.ip4(77).to_string();
        vm
    };
    let first = fleet.caller.done(wanted(&fleet.lab.name("first"))).await;
    let refused = fleet.caller.ask(wanted(&fleet.lab.name("second"))).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NoAddress);
    fleet.caller.done(request::destroy_now(&first.vm_id)).await;
    let again = fleet.caller.done(wanted(&fleet.lab.name("third"))).await;
    let vm = fleet.caller.vm(&again.vm_id).await.unwrap();
    assert_eq!(address4(&vm), fleet.lab.ip4(77));
}
