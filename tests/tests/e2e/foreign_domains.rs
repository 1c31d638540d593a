//! Promise 5: what carries no mark of Dewpoint's is never touched.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::ids::VmId;
use dewpoint_proto::wire::fleet::CreateVmRequest;
use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::host::{DomainSeen, started};
use dewpoint_tests::request;

/// Somebody else's VM, which runs: firmware alone, no disk. Its console log ties it to the lab, for cleaning up.
fn somebodys(fleet: &Fleet, name: &str, uuid: &str) -> (DomainSeen, Option<String>) {
    let log = fleet.lab.dir().join("somebodys.log");
    let xml = format!(
        "<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os>\
         <devices><serial type='file'><source path='{}'/></serial></devices></domain>",
        log.display()
    );
    let domain = fleet.libvirt.connection().define_domain_xml(&xml).unwrap();
    domain.create().unwrap();
    look(fleet, uuid)
}

fn look(fleet: &Fleet, uuid: &str) -> (DomainSeen, Option<String>) {
    let seen = fleet.domain(uuid);
    let run = seen.qemu_pid().and_then(started);
    (seen, run)
}

#[tokio::test]
async fn a_domain_of_somebody_else_with_the_same_uuid_is_never_touched() {
    let mut fleet = Fleet::start().await;
    let vm = VmId::fresh().to_string();
    let before = somebodys(&fleet, &fleet.lab.name("somebodys"), &vm);
    let create = CreateVmRequest { vm_id: vm.clone(), ..request::vm(&fleet.lab.name("web")) };
    let asked = fleet.caller.ask(create).await.unwrap();
    let (stage, cause) = fleet.caller.did_not_succeed(&asked.event_id).await;
    assert_eq!((stage.as_str(), cause.reason), ("failed", Reason::ForeignDomain));
    assert_eq!(look(&fleet, &vm), before);

    // Nor when the agent starts anew, or a caller wants it gone.
    fleet.crash_agent().await;
    if let Ok(asked) = fleet.caller.ask(request::destroy_now(&vm)).await {
        fleet.caller.ended(&asked.event_id).await;
    }
    assert_eq!(look(&fleet, &vm), before);
}

#[tokio::test]
async fn a_domain_of_somebody_else_with_the_same_name_is_never_touched() {
    let fleet = Fleet::start().await;
    let (vm, theirs) = (VmId::fresh(), VmId::fresh().to_string());
    let name = fleet.lab.name("web");
    // As the agent names its domains: the VM's name and the end of its id.
    let taken = format!("{name}.{}", &vm.0.simple().to_string()[24..]);
    let before = somebodys(&fleet, &taken, &theirs);
    let create = CreateVmRequest { vm_id: vm.to_string(), ..request::vm(&name) };
    let asked = fleet.caller.ask(create).await.unwrap();
    let (stage, cause) = fleet.caller.did_not_succeed(&asked.event_id).await;
    assert_eq!((stage.as_str(), cause.reason), ("failed", Reason::ForeignDomain));
    assert_eq!(look(&fleet, &theirs), before);
    fleet.assert_gone(&vm.to_string(), None);
}
