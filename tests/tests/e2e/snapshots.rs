//! Snapshots of running and of stopped VMs, what is made from them, and creates that are cancelled.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::wire::event::DiskMode;
use dewpoint_proto::wire::fleet::{CreateVmRequest, EventRecord, GetImageRequest};
use dewpoint_tests::caller::answer;
use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::host::{files, started};
use dewpoint_tests::journal::{Journal, Moment};
use dewpoint_tests::request;

#[tokio::test]
async fn restoring_a_snapshot_of_a_running_vm_takes_back_what_was_written_since() {
    let fleet = Fleet::start().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    let guest = fleet.guest(&vm).await;
    let before = guest.until_up().await;
    guest.mark("before the snapshot").await;
    let qemu = fleet.domain(&vm).qemu_pid().map(|pid| (pid, started(pid)));

    let snapshot = fleet.caller.done(request::snapshot(&vm, "web-before")).await;
    assert_eq!(
        fleet.domain(&vm).qemu_pid().map(|pid| (pid, started(pid))),
        qemu,
        "it was not stopped for it"
    );
    assert_eq!(guest.facts().await.unwrap().boot_id, before.boot_id);
    let image = answer(fleet.caller.images().get_image(GetImageRequest { image: "web-before".into() }).await);
    let image = image.unwrap();
    assert_eq!((image.made_by_event_id, image.made_from_vm_id), (snapshot.event_id.clone(), vm.clone()));
    assert_eq!(image.digest, made_by(&snapshot));

    guest.mark("after the snapshot").await;
    let restored = fleet.caller.done(request::restore(&vm, "web-before")).await;
    let after = guest.until_rebooted(&before).await;
    assert_eq!(after.marker.as_deref(), Some("before the snapshot"));
    assert_eq!(after.instance_id, vm, "it is the same VM");
    assert_eq!(fleet.domain(&vm).mark("disk"), Some(restored.event_id));
    assert_eq!(fleet.domains().len(), 1);
}

#[tokio::test]
async fn a_vm_made_from_the_snapshot_of_a_stopped_one_has_its_disk_and_its_own_name() {
    let fleet = Fleet::start().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("first"))).await.vm_id;
    let guest = fleet.guest(&vm).await;
    guest.until_up().await;
    guest.mark("carried over").await;
    fleet.caller.done(request::stop(&vm, 60)).await;
    fleet.caller.done(request::snapshot(&vm, "golden")).await;
    assert!(!fleet.domain(&vm).active, "a snapshot starts nothing");

    let name = fleet.lab.name("second");
    let second = CreateVmRequest { image: "golden".into(), ..request::vm(&name) };
    let second = fleet.caller.done(second).await.vm_id;
    let facts = fleet.guest(&second).await.until_up().await;
    assert_eq!(facts.marker.as_deref(), Some("carried over"));
    assert_eq!((facts.hostname, facts.instance_id), (name, second));
}

#[tokio::test]
async fn a_create_that_is_cancelled_leaves_nothing_and_frees_what_it_held() {
    let mut fleet = Fleet::start().await;
    // An agent that is away begins nothing, so the cancel comes upon a create that is journaled and not yet over.
    let first = fleet.caller.done(request::vm_left_off(&fleet.lab.name("first"))).await;
    fleet.agent.kill();
    let waiting = fleet.caller.ask(request::vm(&fleet.lab.name("waiting"))).await.unwrap();
    let cancel = fleet.caller.cancel(&waiting.event_id).await.unwrap();
    fleet.agent.start().await;
    let ends = [fleet.caller.ended(&waiting.event_id).await, fleet.caller.ended(&cancel.event_id).await];
    assert_consistent(&fleet, &waiting.vm_id, &ends);

    // And one in the middle of its work: a full copy of a disk is begun and not finished when the cancel is sent.
    let request = CreateVmRequest {
        disk_bytes: 4 << 30,
        disk_mode: DiskMode::FullCopy.into(),
        ..request::vm(&fleet.lab.name("copied"))
    };
    let copied = fleet.caller.ask(request).await.unwrap();
    Journal::of(&fleet.agent).until(&copied.event_id, Moment::Step("make-disk")).await;
    match fleet.caller.cancel(&copied.event_id).await {
        Ok(cancel) => {
            let ends =
                [fleet.caller.ended(&copied.event_id).await, fleet.caller.ended(&cancel.event_id).await];
            assert_consistent(&fleet, &copied.vm_id, &ends);
        }
        Err(cause) => assert_eq!(cause.reason, Reason::TooLate),
    }
    assert!(fleet.libvirt.domain(&first.vm_id).is_some(), "the other VM is as it was");
}

/// Either the create was cancelled, and nothing of it is there; or it was over, and the cancel says that it was too late.
fn assert_consistent(fleet: &Fleet, vm: &str, [create, cancel]: &[EventRecord; 2]) {
    match (create.stage.as_str(), cancel.stage.as_str()) {
        ("cancelled", "succeeded") => {
            fleet.assert_gone(vm, None);
            let recycled = files(&fleet.agent.data().join("recycle"));
            assert!(recycled.iter().all(|file| !file.to_string_lossy().contains(vm)), "{recycled:?}");
        }
        ("succeeded", "failed" | "refused") => {
            let why = cancel.outcome.clone().and_then(|outcome| Outcome::try_from(outcome).ok());
            assert_eq!(
                why.as_ref().and_then(Outcome::cause).map(|cause| cause.reason.clone()),
                Some(Reason::TooLate)
            );
            assert!(fleet.domain(vm).active);
        }
        other => panic!("create and cancel ended {other:?}: {create:#?} {cancel:#?}"),
    }
}

fn made_by(snapshot: &EventRecord) -> String {
    match snapshot.outcome.clone().map(Outcome::try_from) {
        Some(Ok(Outcome::Succeeded(done))) => {
            done.image.map(|image| image.digest.to_string()).unwrap_or_default()
        }
        other => panic!("{other:?}"),
    }
}
