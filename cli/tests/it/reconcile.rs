//! Diverged hosts: the plan is shown, and carried out only as it was shown.

use dewpoint::Exit;
use dewpoint_proto::wire::event;
use dewpoint_proto::wire::fleet::{Host, PlannedEvent, PlannedVm, ReconcilePlan};

use crate::fake::{EVENT, Fake};
use crate::run::run;

const VM: &str = "018f3c5e-0000-7000-8000-00000000000b";

fn diverged() -> Fake {
    let fake = Fake::start();
    let digest = "ab".repeat(32);
    fake.with(|script| {
        script.hosts = vec![Host { host_id: "1".into(), hostname: "hv1".into(), ..Host::default() }];
        script.plan = ReconcilePlan {
            host_id: "018f3c5e-0000-7000-8000-00000000000a".into(),
            hostname: "hv1".into(),
            diverged: Some(event::Cause {
                reason: "DIVERGED".into(),
                text: "host hv1: it has another journal than before".into(),
                ..Default::default()
            }),
            digest,
            unknown: vec![PlannedEvent {
                event_id: EVENT.into(),
                kind: "create".into(),
                vm_id: VM.into(),
                vm_name: "v".repeat(63),
                stage: "running".into(),
                host_stage: String::new(),
            }],
            vms: vec![PlannedVm {
                vm_id: VM.into(),
                name: "web".into(),
                standing: "both".into(),
                generation: 3,
                host_generation: 4,
                text: "goes on; it has disks and no domain: look at it".into(),
            }],
            base_seq: 12,
            ..ReconcilePlan::default()
        };
    });
    fake
}

#[test]
fn a_plan_is_shown_and_nothing_is_done_without_a_persons_word() {
    let fake = diverged();
    let shown = run(&fake.url, &["host", "reconcile", "hv1"]);
    assert_eq!(shown.exit, Exit::Ok, "{shown:?}");
    for text in
        ["another journal", "become unknown", "begins anew after seq 12", "look at it", "Nothing was changed"]
    {
        assert!(shown.out.contains(text), "{text} in\n{}", shown.out);
    }
    for line in shown.out.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    assert!(shown.out.contains(&format!("--plan {}", "ab".repeat(32))), "{}", shown.out);
    assert_eq!(run(&fake.url, &["host", "reconcile", "hv1", "--yes"]).exit, Exit::Usage, "no reason");
    assert!(fake.state.asked("reconcile_host").is_empty());
}

#[test]
fn a_plan_is_carried_out_as_it_was_shown_and_no_other() {
    let fake = diverged();
    let command =
        |plan: &'static str| ["host", "reconcile", "hv1", "--yes", "--reason", "disk swap", "--plan", plan];
    let other = run(&fake.url, &command("cd"));
    assert_eq!(other.exit, Exit::Refused, "{other:?}");
    assert!(other.err.contains("PLAN_CHANGED") || other.err.contains("what was shown"), "{other:?}");
    let ab: &'static str = Box::leak("ab".repeat(32).into_boxed_str());
    let done = run(&fake.url, &command(ab));
    assert!(done.exit == Exit::Ok && done.out.contains("Done:"), "{done:?}");
    let json = run(&fake.url, &["host", "reconcile", "hv1", "--json"]).json();
    assert_eq!((&json["carried_out"], &json["vms"][0]["standing"]), (&false.into(), &"both".into()));
}

#[test]
fn a_host_with_vms_is_retired_only_when_its_disks_are_gone() {
    let fake = diverged();
    let refused = run(&fake.url, &["host", "retire", "hv1", "--reason", "scrap"]);
    assert!(refused.exit == Exit::Refused && refused.err.contains("--disks-gone"), "{refused:?}");
    let retired = run(&fake.url, &["host", "retire", "hv1", "--disks-gone", "--reason", "scrap"]);
    assert!(
        retired.out.contains("host hv1 is retired") && retired.out.contains("gone: VM vm-1"),
        "{retired:?}"
    );
    assert_eq!(run(&fake.url, &["host", "retire", "hv1", "--disks-gone"]).exit, Exit::Usage, "no reason");
    assert_eq!(run(&fake.url, &["host", "replace", "old", "hv1", "--reason", "board"]).exit, Exit::Ok);
}
