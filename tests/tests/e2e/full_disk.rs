//! A host whose disk has no room: what does not fit fails by its name, what was begun ends and is told, VMs run on, and all
//! goes on by itself once there is room. Promises 4 and 9.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::limits::MIB;
use dewpoint_proto::wire::fleet::{CreateVmRequest, Host};
use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::host::{files, started};
use dewpoint_tests::journal::{Journal, Moment};
use dewpoint_tests::lab::Lab;
use dewpoint_tests::request;
use dewpoint_tests::volume::Volume;
use dewpoint_tests::wait::{BOOT, until};

/// Beyond what the journal needs, and less than a snapshot of the tiny guest does.
const LITTLE: u64 = 24 * MIB;

/// A fleet whose host keeps everything on a disk of its own.
async fn on_a_volume() -> (Volume, Fleet) {
    let lab = Lab::new();
    let volume = Volume::mount(&lab.dir().join("agent"), 16 << 30);
    (volume, Fleet::start_in(lab).await)
}

fn qemu(fleet: &Fleet, vm: &str) -> (u32, Option<String>) {
    let pid = fleet.domain(vm).qemu_pid().unwrap();
    (pid, started(pid))
}

async fn hosts(fleet: &Fleet) -> Result<Vec<Host>, String> {
    fleet.caller.all_hosts().await.map_err(|cause| cause.to_string())
}

/// By the disk itself, or by the journal, which gave its reserve up and withholds.
async fn until_told_full(fleet: &Fleet, wanted: bool) {
    until(&format!("that its disk is full is told: {wanted}"), BOOT, async || {
        let told: Vec<_> = hosts(fleet).await?.into_iter().flat_map(|host| host.degraded).collect();
        let is_full = |reason: &str| matches!(reason, "DISK_FULL" | "JOURNAL_ERROR");
        let full = told.iter().any(|cause| is_full(&cause.reason) && !cause.advice.is_empty());
        if full == wanted { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
}

async fn until_little_is_free(fleet: &Fleet) {
    until("how little is free is told", BOOT, async || match hosts(fleet).await?.as_slice() {
        [host] if host.disk_free_bytes <= LITTLE => Ok(()),
        hosts => Err(format!("{hosts:?}")),
    })
    .await;
}

#[tokio::test]
async fn what_does_not_fit_fails_by_name_and_leaves_the_vm_as_it_was() {
    let (volume, fleet) = on_a_volume().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    let guest = fleet.guest(&vm).await;
    let booted = guest.until_up().await.boot_id;
    let (before, there) = (qemu(&fleet, &vm), files(&fleet.agent.vm_dir(&vm)));

    volume.leave(LITTLE);
    let snapshot = fleet.caller.ask(request::snapshot(&vm, "web-before")).await.unwrap();
    let (stage, cause) = fleet.caller.did_not_succeed(&snapshot.event_id).await;
    assert_eq!((stage.as_str(), &cause.reason), ("failed", &Reason::DiskFull), "{cause:?}");
    assert!(cause.fields.contains_key("need_bytes") && !cause.advice.is_empty(), "{cause:?}");
    assert_eq!(files(&fleet.agent.vm_dir(&vm)), there, "nothing half is left");
    assert_eq!((qemu(&fleet, &vm), guest.facts().await.unwrap().boot_id), (before, booted));

    until_little_is_free(&fleet).await;
    let refused = fleet.caller.ask(request::vm(&fleet.lab.name("db"))).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NoCapacity, "{refused:?}");
    volume.free();
    fleet.caller.done(request::snapshot(&vm, "web-after")).await;
    let waits = request::vm(&fleet.lab.name("db"));
    fleet.caller.done(CreateVmRequest { wait_for_capacity: true, ..waits }).await;
}

#[tokio::test]
async fn on_a_disk_without_a_free_block_what_runs_ends_is_told_and_an_agent_starts() {
    let (volume, mut fleet) = on_a_volume().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    let stubborn = fleet.caller.done(request::stubborn_vm(&fleet.lab.name("deaf"))).await.vm_id;
    let before = qemu(&fleet, &vm);
    let journal = Journal::of(&fleet.agent);
    let stop = fleet.caller.ask(request::stop_by_force(&stubborn, 5)).await.unwrap();
    journal.until(&stop.event_id, Moment::Step("ask-shutdown")).await;

    volume.fill_up();
    fleet.caller.succeeded(&stop.event_id).await;
    assert!(!fleet.domain(&stubborn).active);
    until_told_full(&fleet, true).await;
    fleet.crash_agent().await;
    fleet.until_alive().await;
    until_told_full(&fleet, true).await;
    assert_eq!(qemu(&fleet, &vm), before, "it runs on");

    // Taken or withheld, as there is room in the journal: it is not lost.
    let reboot = fleet.caller.ask(request::hard_reboot(&vm)).await.unwrap();
    volume.free();
    fleet.caller.succeeded(&reboot.event_id).await;
    assert_eq!(fleet.domain(&vm).live("run"), Some(reboot.event_id.clone()));
    assert_eq!(journal.reports(&reboot.event_id), 1);
    until_told_full(&fleet, false).await;
    let waits = request::vm(&fleet.lab.name("db"));
    fleet.caller.done(CreateVmRequest { wait_for_capacity: true, ..waits }).await;
}
