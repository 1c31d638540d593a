//! libvirt goes away, stalls and comes back, and QEMUs with it: a libvirt of the test's own, so that nobody else notices.

use std::time::Duration;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::event::{IncidentKind, Power, VmState};
use dewpoint_proto::wire::fleet::{EventOptions, VmRequest};
use dewpoint_tests::caller::has_ended;
use dewpoint_tests::fleet::Site;
use dewpoint_tests::host::{Libvirt, Qemu, qemus};
use dewpoint_tests::journal::{Journal, Moment};
use dewpoint_tests::process::signal;
use dewpoint_tests::request;
use dewpoint_tests::wait::{BOOT, EVENT, until, until_holds};
use nix::sys::signal::Signal;

/// How libvirtd ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Killed,
    Stopped,
}

async fn end(site: &mut Site, end: End) {
    match end {
        End::Killed => site.libvirtd.kill(),
        End::Stopped => {
            site.libvirtd.stop().await;
        }
    }
}

fn the_qemu(site: &Site, vm: &str) -> Qemu {
    let mut found = qemus(site.fleet.lab.dir());
    found.retain(|qemu| qemu.uuid == vm);
    assert_eq!(found.len(), 1, "one QEMU for {vm}: {found:?}");
    found.remove(0)
}

#[tokio::test]
async fn a_build_goes_on_when_libvirtd_was_killed_and_comes_back() {
    a_build_goes_on_after(End::Killed).await;
}

#[tokio::test]
async fn a_build_goes_on_when_libvirtd_was_stopped_and_comes_back() {
    a_build_goes_on_after(End::Stopped).await;
}

async fn a_build_goes_on_after(how: End) {
    let mut site = Site::start().await;
    let beside = site.fleet.caller.done(request::vm(&site.fleet.lab.name("beside"))).await.vm_id;
    let bystander = the_qemu(&site, &beside);
    for (at, moment) in [Moment::Step("define"), Moment::Step("start")].into_iter().enumerate() {
        let journal = Journal::of(&site.fleet.agent);
        let create = request::vm(&site.fleet.lab.name(&format!("vm{at}")));
        let event = site.fleet.caller.ask(create).await.unwrap();
        journal.until(&event.event_id, moment).await;
        end(&mut site, how).await;
        site.until_libvirt_is_missed().await;
        site.start_libvirtd().await;

        site.fleet.caller.succeeded(&event.event_id).await;
        let domain = site.fleet.domain(&event.vm_id);
        assert!(domain.active, "{how:?} at {moment:?}");
        assert_eq!(domain.live("run"), Some(event.event_id.clone()), "{how:?} at {moment:?}");
        assert_eq!(domain.qemu_pid(), Some(the_qemu(&site, &event.vm_id).pid), "{how:?} at {moment:?}");
        assert_eq!(journal.reports(&event.event_id), 1, "{how:?} at {moment:?}: one report");
        assert_eq!(the_qemu(&site, &beside), bystander, "promise 4: the VM beside it runs on");
        site.until_well().await;
        site.fleet.caller.done(request::destroy_now(&event.vm_id)).await;
        site.fleet.assert_gone(&event.vm_id, None);
    }
}

#[tokio::test]
async fn an_agent_that_finds_no_libvirt_is_ready_says_so_and_goes_on_when_it_comes() {
    let mut site = Site::start().await;
    let vm = site.fleet.caller.done(request::vm(&site.fleet.lab.name("web"))).await.vm_id;
    let qemu = the_qemu(&site, &vm);
    site.fleet.agent.kill();
    site.libvirtd.kill();
    site.fleet.agent.start().await;
    site.until_libvirt_is_missed().await;

    let event = site.fleet.caller.ask(request::hard_reboot(&vm)).await.unwrap();
    let journal = Journal::of(&site.fleet.agent);
    journal.until(&event.event_id, Moment::Accepted).await;
    until("the event says that it waits for libvirt", BOOT, async || {
        let event = site.fleet.caller.event(&event.event_id).await.map_err(|cause| cause.to_string())?;
        let waiting = event.progress.map(|progress| progress.waiting_for).unwrap_or_default();
        if waiting.contains("libvirt") { Ok(()) } else { Err(format!("{}: `{waiting}`", event.stage)) }
    })
    .await;
    assert_eq!(the_qemu(&site, &vm), qemu, "what cannot be seen is not touched");

    site.start_libvirtd().await;
    site.fleet.caller.succeeded(&event.event_id).await;
    assert_eq!(site.fleet.domain(&vm).live("run"), Some(event.event_id));
    assert_ne!(the_qemu(&site, &vm), qemu);
    site.until_well().await;
}

#[tokio::test]
async fn a_qemu_that_died_while_libvirtd_was_away_is_found_dead() {
    let mut site = Site::start().await;
    let killed = site.fleet.caller.done(request::vm(&site.fleet.lab.name("killed"))).await;
    let beside = site.fleet.caller.done(request::vm(&site.fleet.lab.name("beside"))).await.vm_id;
    let bystander = the_qemu(&site, &beside);
    site.libvirtd.kill();
    // No event will ever tell of this one.
    signal(the_qemu(&site, &killed.vm_id).pid, Signal::SIGKILL);
    site.start_libvirtd().await;

    until("the coordinator hears that the run is over", BOOT, async || {
        let vm = site.fleet.caller.vm(&killed.vm_id).await.map_err(|cause| cause.to_string())?;
        let observed = vm.observed.unwrap_or_default();
        if observed.run != killed.event_id && observed.power() != Power::Unknown {
            return Ok(());
        }
        Err(format!("{observed:?}"))
    })
    .await;
    assert_eq!(the_qemu(&site, &beside), bystander, "promise 4: the VM beside it runs on");
    site.fleet.caller.done(request::start(&killed.vm_id)).await;
    assert_ne!(site.fleet.domain(&killed.vm_id).live("run"), Some(killed.event_id), "a run of its own");
    the_qemu(&site, &killed.vm_id);
}

#[tokio::test]
async fn a_qemu_that_is_stopped_holds_up_its_own_vm_alone() {
    let site = Site::start().await;
    let stuck = site.fleet.caller.done(request::vm(&site.fleet.lab.name("stuck"))).await.vm_id;
    let beside = site.fleet.caller.done(request::vm(&site.fleet.lab.name("beside"))).await.vm_id;
    let qemu = the_qemu(&site, &stuck);
    signal(qemu.pid, Signal::SIGSTOP);
    // The request for a shutdown hangs in QEMU's monitor.
    let stop = site.fleet.caller.ask(request::stop_by_force(&stuck, 1)).await.unwrap();
    Journal::of(&site.fleet.agent).until(&stop.event_id, Moment::Step("ask-shutdown")).await;

    site.fleet.caller.done(request::hard_reboot(&beside)).await;
    site.fleet.caller.done(request::vm(&site.fleet.lab.name("new"))).await;
    let waiting = site.fleet.caller.event(&stop.event_id).await.unwrap();
    assert_eq!(waiting.stage, "running", "it waits, and nothing else did: {waiting:?}");

    signal(qemu.pid, Signal::SIGCONT);
    site.fleet.caller.succeeded(&stop.event_id).await;
    assert!(!site.fleet.domain(&stuck).active);
}

#[tokio::test]
async fn a_libvirtd_that_answers_nothing_holds_events_up_and_loses_none() {
    let mut site = Site::start().await;
    let vm = site.fleet.caller.done(request::vm(&site.fleet.lab.name("web"))).await.vm_id;
    let qemu = the_qemu(&site, &vm);
    site.libvirtd.stall();
    let event = site.fleet.caller.ask(request::hard_reboot(&vm)).await.unwrap();
    Journal::of(&site.fleet.agent).until(&event.event_id, Moment::Accepted).await;
    // A new agent must not take silence for absence either.
    site.fleet.crash_agent().await;
    site.until_libvirt_is_missed().await;
    assert_eq!(the_qemu(&site, &vm), qemu, "what cannot be seen is not touched");

    site.libvirtd.resume();
    site.fleet.reconnect_libvirt();
    site.fleet.caller.succeeded(&event.event_id).await;
    assert_eq!(site.fleet.domain(&vm).live("run"), Some(event.event_id.clone()));
    assert_eq!(the_qemu(&site, &vm).pid, site.fleet.domain(&vm).qemu_pid().unwrap());
    assert_eq!(Journal::of(&site.fleet.agent).reports(&event.event_id), 1);
    site.until_well().await;
}

/// However long it is away: what is asked meanwhile is taken, waits, and is carried out once; what may not wait expires.
#[tokio::test]
async fn what_is_asked_while_libvirt_is_away_waits_for_it_or_expires_and_nothing_is_placed_there() {
    let mut site = Site::start().await;
    let web = site.fleet.caller.done(request::vm(&site.fleet.lab.name("web"))).await.vm_id;
    let old = site.fleet.caller.done(request::vm(&site.fleet.lab.name("old"))).await.vm_id;
    let idle = site.fleet.caller.done(request::vm_left_off(&site.fleet.lab.name("idle"))).await.vm_id;
    let journal = Journal::of(&site.fleet.agent);
    let before = (the_qemu(&site, &web), the_qemu(&site, &old));
    site.libvirtd.kill();
    site.until_libvirt_is_missed().await;

    let unplaced = site.fleet.caller.ask(request::vm(&site.fleet.lab.name("new"))).await.unwrap_err();
    assert_eq!(unplaced.reason, Reason::NoCapacity, "{unplaced:?}");
    let reboot = site.fleet.caller.ask(request::hard_reboot(&web)).await.unwrap();
    let destroy = site.fleet.caller.ask(request::destroy_now(&old)).await.unwrap();
    let soon = Millis::now().plus(Duration::from_secs(2)).0;
    let start = request::start(&idle);
    let options = start.options.map(|options| EventOptions { not_after_ms: soon, ..options });
    let late = site.fleet.caller.ask(VmRequest { options, ..start }).await.unwrap();
    assert_eq!(site.fleet.caller.ended(&late.event_id).await.stage, "expired", "it may not wait that long");
    for event in [&reboot, &destroy] {
        journal.until(&event.event_id, Moment::Accepted).await;
        assert!(!has_ended(&site.fleet.caller.event(&event.event_id).await.unwrap()));
    }
    assert_eq!((the_qemu(&site, &web), the_qemu(&site, &old)), before, "what cannot be seen is not touched");

    site.start_libvirtd().await;
    for event in [&reboot, &destroy] {
        site.fleet.caller.succeeded(&event.event_id).await;
        assert_eq!(journal.reports(&event.event_id), 1);
    }
    assert_eq!(site.fleet.domain(&web).live("run"), Some(reboot.event_id));
    site.fleet.assert_gone(&old, None);
    assert!(!site.fleet.domain(&idle).active, "it is not carried out late");
    site.until_well().await;
    site.fleet.caller.done(request::vm(&site.fleet.lab.name("new"))).await;
}

/// Promise 5: nobody told the agent, so it compares what is there with what it saw last.
#[tokio::test]
async fn a_configuration_that_somebody_edited_while_the_agent_was_away_is_told() {
    let mut site = Site::start().await;
    let vm = site.fleet.caller.done(request::vm(&site.fleet.lab.name("web"))).await.vm_id;
    let (qemu, journal) = (the_qemu(&site, &vm), Journal::of(&site.fleet.agent));
    until_holds("its configuration is noted", EVENT, async || journal.config(&vm).is_some()).await;
    let as_made = journal.config(&vm);

    site.libvirtd.kill();
    site.until_libvirt_is_missed().await;
    site.start_libvirtd().await;
    site.until_well().await;
    site.fleet.agent.kill();
    let title = "</name>\n  <title>somebody was here</title>";
    let xml = site.fleet.domain(&vm).persistent.replacen("</name>", title, 1);
    Libvirt::connect_to(site.fleet.lab.hypervisor()).connection().define_domain_xml(&xml).unwrap();
    assert_eq!(journal.config(&vm), as_made, "libvirt's own restart changed nothing");
    site.fleet.agent.start().await;

    let edited = |seen: &VmState| {
        seen.incident.as_ref().is_some_and(|incident| incident.kind() == IncidentKind::EditedByHand)
    };
    let seen = site.fleet.caller.until_told(&vm, "it was edited", edited).await;
    assert_eq!(seen.power(), Power::Running);
    assert_eq!(the_qemu(&site, &vm), qemu, "promise 4: it runs on");
    assert_ne!(journal.config(&vm), as_made);
    assert!(site.fleet.domain(&vm).persistent.contains("somebody was here"), "and nothing is put back");
}
