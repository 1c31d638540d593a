//! Powering off and on, asked and by force, and ending what was begun.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::wire::fleet::RebootVmRequest;
use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::journal::{Journal, Moment};
use dewpoint_tests::process::signal;
use dewpoint_tests::request;
use nix::sys::signal::Signal;

#[tokio::test]
async fn a_guest_that_is_asked_goes_down_and_comes_back_with_its_disk() {
    let fleet = Fleet::start().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    let guest = fleet.guest(&vm).await;
    let before = guest.until_up().await;
    guest.mark("kept").await;

    fleet.caller.done(request::stop(&vm, 60)).await;
    assert!(!fleet.domain(&vm).active);
    assert_eq!(fleet.domain(&vm).mark("wanted").as_deref(), Some("off"));
    let again = fleet.caller.done(request::stop(&vm, 60)).await;
    assert_eq!(again.stage, "succeeded", "a VM that is off is stopped");

    let started = fleet.caller.done(request::start(&vm)).await;
    let after = guest.until_rebooted(&before).await;
    assert_eq!((after.boots, after.marker.as_deref()), (2, Some("kept")));
    assert_eq!(fleet.domain(&vm).live("run"), Some(started.event_id.clone()));
    // Both daemons tell of an event's life with the same fields. Of a short one the coordinator hears when it is over.
    let log = |name: &str| std::fs::read_to_string(fleet.lab.dir().join(name)).unwrap();
    for (daemon, log) in [("agent", log("agent.log")), ("coordinator", log("coordinator.log"))] {
        for said in ["accepted", "succeeded"] {
            let is =
                |line: &&str| line.contains(&format!(" INFO {said}")) && line.contains(&started.event_id);
            let line =
                log.lines().find(is).unwrap_or_else(|| panic!("the {daemon} never said `{said}`:\n{log}"));
            assert!(line.contains(&format!("vm_id={vm}")) && line.contains("kind=start"), "{daemon}: {line}");
        }
    }
}

#[tokio::test]
async fn a_guest_that_ignores_the_button_runs_on_unless_forced() {
    let fleet = Fleet::start().await;
    let stubborn = request::stubborn_vm(&fleet.lab.name("stubborn"));
    let vm = fleet.caller.done(stubborn).await.vm_id;
    let guest = fleet.guest(&vm).await;
    let before = guest.until_up().await;
    let qemu = fleet.domain(&vm).qemu_pid();

    let asked = fleet.caller.ask(request::stop(&vm, 3)).await.unwrap();
    let (stage, cause) = fleet.caller.did_not_succeed(&asked.event_id).await;
    assert_eq!((stage.as_str(), cause.reason), ("failed", Reason::GuestIgnoredRequest));
    let reboot = RebootVmRequest { timeout_seconds: 3, ..request::soft_reboot(&vm) };
    let rebooted = fleet.caller.ask(reboot).await.unwrap();
    let (stage, cause) = fleet.caller.did_not_succeed(&rebooted.event_id).await;
    assert_eq!((stage.as_str(), cause.reason), ("failed", Reason::GuestIgnoredRequest));
    assert_eq!(guest.until_up().await.boot_id, before.boot_id, "it runs on, in the same boot");
    assert_eq!(fleet.domain(&vm).qemu_pid(), qemu);
    assert_eq!(fleet.domain(&vm).mark("wanted").as_deref(), Some("on"));

    fleet.caller.done(request::stop_by_force(&vm, 2)).await;
    assert!(!fleet.domain(&vm).active);
}

#[tokio::test]
async fn a_stop_that_waits_for_its_guest_can_be_cancelled_and_one_event_is_all_a_vm_has() {
    let fleet = Fleet::start().await;
    let stubborn = request::stubborn_vm(&fleet.lab.name("stubborn"));
    // It is asked at once: a guest that has not booted ignores the button as well.
    let vm = fleet.caller.done(stubborn).await.vm_id;
    let qemu = fleet.domain(&vm).qemu_pid();
    let stop = fleet.caller.ask(request::stop(&vm, 300)).await.unwrap().event_id;
    Journal::of(&fleet.agent).until(&stop, Moment::Step("ask-shutdown")).await;

    let busy = fleet.caller.ask(request::hard_reboot(&vm)).await.unwrap_err();
    assert_eq!(busy.reason, Reason::VmBusy);
    assert_eq!(busy.fields.get("event_id"), Some(&stop), "it names the unfinished event: {busy:?}");

    let cancel = fleet.caller.cancel(&stop).await.unwrap();
    fleet.caller.succeeded(&cancel.event_id).await;
    let (stage, cause) = fleet.caller.did_not_succeed(&stop).await;
    assert_eq!((stage.as_str(), cause.reason), ("cancelled", Reason::CancelledByCaller));
    assert!(fleet.domain(&vm).active);
    assert_eq!(fleet.domain(&vm).qemu_pid(), qemu);
    fleet.caller.done(request::destroy_now(&vm)).await;
    fleet.assert_gone(&vm, None);
}

/// A QEMU that is stopped makes each call for its domain take long: libvirt kills it after some seconds, or waits for it.
#[tokio::test]
async fn an_agent_that_is_told_to_stop_finishes_what_is_in_hand_and_no_more_than_its_bound() {
    let mut fleet = Fleet::start().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    signal(fleet.domain(&vm).qemu_pid().unwrap(), Signal::SIGSTOP);
    let reboot = fleet.caller.ask(request::hard_reboot(&vm)).await.unwrap().event_id;
    Journal::of(&fleet.agent).until(&reboot, Moment::Step("power-off")).await;
    assert!(fleet.agent.stop().await.success());
    let story = fleet.agent.json(&["why", &vm]);
    let mut steps = story["items"].as_array().unwrap().iter().filter(|item| item["what"] == "step");
    let last = steps.next_back().unwrap();
    assert_eq!((&last["step"], &last["end"]["end"]), (&"power-off".into(), &"returned".into()), "{story}");
    assert_eq!(story["now"]["unfinished"][0]["waiting_for"], "the agent to be started");
    fleet.agent.start().await;
    fleet.caller.succeeded(&reboot).await;

    let qemu = fleet.domain(&vm).qemu_pid().unwrap();
    signal(qemu, Signal::SIGSTOP);
    let stop = fleet.caller.ask(request::stop_by_force(&vm, 1)).await.unwrap().event_id;
    Journal::of(&fleet.agent).until(&stop, Moment::Step("ask-shutdown")).await;
    // QEMU will not answer, and the call may take longer than the agent waits.
    assert!(fleet.agent.stop().await.success());
    let log = std::fs::read_to_string(fleet.agent.log()).unwrap();
    assert!(log.contains("WARN not drained in time"), "{log}");
    signal(qemu, Signal::SIGCONT);
    fleet.agent.start().await;
    fleet.caller.succeeded(&stop).await;
    assert!(!fleet.domain(&vm).active);
}
