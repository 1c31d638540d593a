//! Watches: one line a change, nothing twice, and an end of their own for one event.

use dewpoint::Exit;
use dewpoint_proto::wire::fleet::{EventRecord, Vm, WatchVmsResponse};

use crate::fake::{EVENT, Fake, Told, failed, record, running, succeeded};
use crate::run::run;

#[test]
fn watching_one_event_ends_with_its_outcome() {
    let fake = Fake::start();
    fake.with(|script| {
        script.watches.extend([
            vec![Told::Event(running("define", 0, 0)), Told::Event(succeeded()), Told::Silence],
            vec![Told::Event(failed()), Told::Silence],
        ]);
    });
    let ran = run(&fake.url, &["event", "watch", EVENT]);
    assert_eq!(ran.exit, Exit::Ok);
    let said: Vec<&str> = ran.out.lines().map(|line| &line[10..]).collect();
    assert_eq!(said, ["create web: running on hv1: define", "create web: succeeded on hv1 after 12s"]);
    assert_eq!(run(&fake.url, &["event", "watch", EVENT]).exit, Exit::Failed);
    let gone = run(&fake.url, &["event", "watch", EVENT]);
    assert_eq!(gone.exit, Exit::Refused, "{gone:?}");
}

#[test]
fn a_snapshot_after_a_loss_repeats_nothing() {
    let fake = Fake::start();
    fake.with(|script| {
        script.watches.extend([
            vec![Told::Event(record("stop", "running")), Told::SnapshotComplete, Told::Break],
            vec![
                Told::Event(record("stop", "running")),
                Told::SnapshotComplete,
                Told::Event(record("stop", "succeeded")),
                Told::Silence,
            ],
        ]);
    });
    let ran = run(&fake.url, &["event", "watch", "--vm", "web", "--timeout", "3s", "--json"]);
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    let stages: Vec<_> = ran
        .json_lines()
        .iter()
        .filter_map(|line| line["event"]["stage"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(stages, ["running", "succeeded"]);
    assert_eq!(ran.json_lines()[1]["snapshot_complete"], true);
    assert!(ran.err.contains(r#"{"notice":"#), "{}", ran.err);
}

#[test]
fn people_are_told_what_has_not_ended_and_then_what_changes() {
    let fake = Fake::start();
    let at = |mut event: EventRecord, id: &str, ms| {
        (event.event_id, event.accepted_at_ms) = (id.into(), ms);
        Told::Event(event)
    };
    fake.with(|script| {
        script.watches.push_back(vec![
            at(record("reboot", "running"), "3", 3),
            at(succeeded(), "2", 2),
            at(record("stop", "accepted"), "1", 1),
            Told::SnapshotComplete,
            at(succeeded(), "2", 2),
            at(record("stop", "running"), "1", 1),
            Told::Silence,
        ]);
    });
    let ran = run(&fake.url, &["event", "watch", "--timeout", "500ms"]);
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    let said: Vec<&str> = ran.out.lines().map(|line| &line[10..]).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    for (line, (kind, stage)) in
        said.iter().zip([("stop", "accepted"), ("reboot", "running"), ("stop", "running")])
    {
        assert!(line.starts_with(kind) && line.contains(stage), "{said:?}");
    }
}

#[test]
fn vms_are_followed_until_the_time_is_over() {
    let fake = Fake::start();
    let said = |wanted_on| WatchVmsResponse {
        vm: Some(Vm {
            vm_id: "1".into(),
            name: "web".into(),
            hostname: "hv1".into(),
            generation: 2,
            wanted_on,
            ..Vm::default()
        }),
        snapshot_complete: false,
    };
    fake.with(|script| script.vm_watches.push_back(vec![said(true), said(true), said(false)]));
    let ran = run(&fake.url, &["vm", "watch", "--timeout", "500ms"]);
    assert_eq!(ran.exit, Exit::Ok);
    let said: Vec<&str> = ran.out.lines().map(|line| &line[10..]).collect();
    assert_eq!(
        said,
        ["web: unseen on hv1, wanted on, generation 2", "web: unseen on hv1, wanted off, generation 2"]
    );
}
