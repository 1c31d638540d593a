//! The agent is killed at a moment of an event and started again: the same end as without, one VM, one report, and no
//! other VM touched. (After every entry and every step, on the fake: `agent/tests`. Here: real libvirt, real SIGKILL.)

use dewpoint_proto::wire::fleet::{EventRecord, GetImageRequest};
use dewpoint_tests::caller::{Ask, answer};
use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::host::{files, started};
use dewpoint_tests::journal::{Journal, Moment};
use dewpoint_tests::request;

/// A VM that runs beside what is tested: its QEMU must stay the same process.
pub(crate) struct Bystander {
    vm: String,
    qemu: (u32, Option<String>),
}

impl Bystander {
    /// That VM, as it runs now.
    pub(crate) fn of(fleet: &Fleet, vm: &str) -> Self {
        let pid = fleet.domain(vm).qemu_pid().unwrap();
        Self { vm: vm.to_owned(), qemu: (pid, started(pid)) }
    }

    /// One more VM.
    async fn beside(fleet: &Fleet) -> Self {
        let vm = fleet.caller.done(request::vm(&fleet.lab.name("bystander"))).await.vm_id;
        Self::of(fleet, &vm)
    }

    /// Fails when another process runs it, or none.
    pub(crate) fn assert_untouched(&self, fleet: &Fleet) {
        let pid = fleet.domain(&self.vm).qemu_pid().unwrap();
        assert_eq!((pid, started(pid)), self.qemu, "promise 4: the VM beside it was restarted");
    }
}

/// Asks, kills the agent at that moment, starts it again, and waits for the event's success, reported once.
async fn cut_off(fleet: &mut Fleet, ask: impl Into<Ask>, moment: Moment) -> EventRecord {
    let journal = Journal::of(&fleet.agent);
    let event = fleet.caller.ask(ask).await.unwrap_or_else(|cause| panic!("{moment:?}: {cause:?}"));
    journal.until(&event.event_id, moment).await;
    fleet.agent.kill();
    println!("{} cut off at {moment:?}: {:?}", event.kind, journal.entries(&event.event_id));
    fleet.agent.start().await;
    let event = fleet.caller.succeeded(&event.event_id).await;
    assert_eq!(journal.reports(&event.event_id), 1, "{moment:?}: one report");
    event
}

#[tokio::test]
async fn a_create_cut_off_anywhere_is_finished_once() {
    let mut fleet = Fleet::start().await;
    let bystander = Bystander::beside(&fleet).await;
    let moments = [
        Moment::Accepted,
        Moment::Step("make-disk"),
        Moment::Step("set-shield"),
        Moment::Step("define"),
        Moment::Step("start"),
        Moment::Finished,
    ];
    for (at, moment) in moments.into_iter().enumerate() {
        let create = request::vm(&fleet.lab.name(&format!("vm{at}")));
        let event = cut_off(&mut fleet, create, moment).await;
        let domain = fleet.domain(&event.vm_id);
        assert!(domain.active, "{moment:?}");
        let id = Some(event.event_id.clone());
        assert_eq!(
            (domain.live("run"), domain.mark("disk"), domain.mark("seed")),
            (id.clone(), id.clone(), id)
        );
        assert_eq!(domain.mark("generation").as_deref(), Some("1"), "{moment:?}");
        assert_eq!(fleet.domains().len(), 2, "{moment:?}: this VM and the one beside it");
        let left = files(&fleet.agent.vm_dir(&event.vm_id));
        assert!(!left.iter().any(|file| file.to_string_lossy().ends_with(".part")), "{moment:?}: {left:?}");
        bystander.assert_untouched(&fleet);
        fleet.caller.done(request::destroy_now(&event.vm_id)).await;
        fleet.assert_gone(&event.vm_id, None);
    }
}

#[tokio::test]
async fn a_restore_cut_off_anywhere_gives_one_new_disk() {
    let mut fleet = Fleet::start().await;
    let bystander = Bystander::beside(&fleet).await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    let moments = [
        Moment::Step("make-disk"),
        Moment::Step("power-off"),
        Moment::Step("point-at-new"),
        Moment::Step("start"),
        Moment::Step("retire-disks"),
    ];
    for moment in moments {
        let event = cut_off(&mut fleet, request::restore(&vm, request::IMAGE), moment).await;
        let domain = fleet.domain(&vm);
        assert!(domain.active, "{moment:?}");
        let id = Some(event.event_id.clone());
        assert_eq!(
            (domain.live("run"), domain.live("disk"), domain.mark("disk")),
            (id.clone(), id.clone(), id)
        );
        let disks: Vec<_> = files(&fleet.agent.vm_dir(&vm));
        let disks: Vec<_> =
            disks.iter().filter(|file| file.extension().is_some_and(|e| e == "qcow2")).collect();
        assert_eq!(disks, [std::path::Path::new(&format!("{}.qcow2", event.event_id))], "{moment:?}");
        bystander.assert_untouched(&fleet);
    }
}

#[tokio::test]
async fn a_snapshot_cut_off_anywhere_is_one_image_of_a_vm_that_ran_on() {
    let mut fleet = Fleet::start().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    let itself = Bystander::of(&fleet, &vm);
    let moments = ["begin-backup", "seal-snapshot", "adopt-snapshot", "upload"].map(Moment::Step);
    for (at, moment) in moments.into_iter().enumerate() {
        let name = format!("cut-{at}");
        let event = cut_off(&mut fleet, request::snapshot(&vm, &name), moment).await;
        let image = fleet.caller.images().get_image(GetImageRequest { image: name }).await;
        assert_eq!(answer(image).unwrap().made_by_event_id, event.event_id, "{moment:?}");
        itself.assert_untouched(&fleet);
        let left = files(&fleet.agent.vm_dir(&vm));
        assert!(!left.iter().any(|file| file.to_string_lossy().contains("snapshot")), "{moment:?}: {left:?}");
    }
}

#[tokio::test]
async fn a_destroy_cut_off_anywhere_leaves_nothing() {
    let mut fleet = Fleet::start().await;
    let bystander = Bystander::beside(&fleet).await;
    let moments =
        ["power-off", "undefine", "clear-shield", "retire-disks", "remove-folder"].map(Moment::Step);
    for (at, moment) in moments.into_iter().enumerate() {
        let vm = fleet.caller.done(request::vm(&fleet.lab.name(&format!("vm{at}")))).await.vm_id;
        let tap = fleet.domain(&vm).tap();
        cut_off(&mut fleet, request::destroy_now(&vm), moment).await;
        fleet.assert_gone(&vm, tap.as_deref());
        assert_eq!(fleet.domains().len(), 1, "{moment:?}: the one beside it");
        bystander.assert_untouched(&fleet);
    }
}

#[tokio::test]
async fn a_reboot_cut_off_anywhere_is_one_new_run() {
    let mut fleet = Fleet::start().await;
    let bystander = Bystander::beside(&fleet).await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    let guest = fleet.guest(&vm).await;
    let mut before = guest.until_up().await;
    for moment in [Moment::Step("ask-shutdown"), Moment::Step("start")] {
        let event = cut_off(&mut fleet, request::soft_reboot(&vm), moment).await;
        assert_eq!(fleet.domain(&vm).live("run"), Some(event.event_id));
        let after = guest.until_rebooted(&before).await;
        assert_eq!(after.boots, before.boots + 1, "{moment:?}: rebooted once");
        before = after;
        bystander.assert_untouched(&fleet);
    }
    let event = cut_off(&mut fleet, request::hard_reboot(&vm), Moment::Step("power-off")).await;
    assert_eq!(fleet.domain(&vm).live("run"), Some(event.event_id));
    guest.until_rebooted(&before).await;
}

#[tokio::test]
async fn a_stop_and_a_start_cut_off_anywhere_end_as_asked() {
    let mut fleet = Fleet::start().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    for (stop, start) in [("mark", "mark"), ("ask-shutdown", "start"), ("power-off", "start")] {
        // Its guest has not booted, and hears nothing.
        let stopped = cut_off(&mut fleet, request::stop_by_force(&vm, 2), Moment::Step(stop)).await;
        let domain = fleet.domain(&vm);
        assert!(!domain.active, "{stop}");
        assert_eq!(
            (domain.mark("wanted").as_deref(), domain.mark("event")),
            (Some("off"), Some(stopped.event_id))
        );
        let started = cut_off(&mut fleet, request::start(&vm), Moment::Step(start)).await;
        let domain = fleet.domain(&vm);
        assert!(domain.active, "{start}");
        assert_eq!(
            (domain.mark("wanted").as_deref(), domain.live("run")),
            (Some("on"), Some(started.event_id))
        );
    }
}

#[tokio::test]
async fn a_cancel_that_is_cut_off_undoes_its_event_once() {
    let mut fleet = Fleet::start().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    let itself = Bystander::of(&fleet, &vm);
    let journal = Journal::of(&fleet.agent);
    for moment in [Moment::Accepted, Moment::Finished] {
        let stop = fleet.caller.ask(request::stop(&vm, 300)).await.unwrap().event_id;
        journal.until(&stop, Moment::Step("ask-shutdown")).await;
        let cancel = fleet.caller.cancel(&stop).await.unwrap().event_id;
        journal.until(&cancel, moment).await;
        fleet.agent.kill();
        fleet.agent.start().await;
        fleet.caller.succeeded(&cancel).await;
        assert_eq!(fleet.caller.did_not_succeed(&stop).await.0, "cancelled", "{moment:?}");
        assert_eq!((journal.reports(&stop), journal.reports(&cancel)), (1, 1), "{moment:?}");
        assert_eq!(fleet.domain(&vm).mark("wanted").as_deref(), Some("on"), "as it was: {moment:?}");
        itself.assert_untouched(&fleet);
    }
}
