//! Guest agents that answer well, late, not at all, or with a no, in real guests whose disk is really frozen. Whatever one
//! does, its guest writes to its disk again when the snapshot is over.

use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::wire::fleet::{CreateVmRequest, EventRecord};
use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::guest::Guest;
use dewpoint_tests::journal::{Journal, Moment};
use dewpoint_tests::request;
use dewpoint_tests::wait::{EVENT, until};

/// A fleet with a VM whose guest has an agent.
async fn with_agent() -> (Fleet, String, Guest) {
    let fleet = Fleet::start().await;
    let vm = fleet.caller.done(request::vm_with_agent(&fleet.lab.name("web"))).await.vm_id;
    let guest = fleet.guest(&vm).await;
    guest.until_up().await;
    (fleet, vm, guest)
}

/// What its outcome says of how far a snapshot can be trusted.
fn note(event: &EventRecord) -> String {
    match event.outcome.clone().map(Outcome::try_from) {
        Some(Ok(Outcome::Succeeded(done))) => done.note,
        other => panic!("{other:?}"),
    }
}

async fn assert_writes(guest: &Guest, marker: &str) {
    until("the guest writes to its disk", EVENT, async || guest.try_mark(marker).await).await;
    assert_eq!(guest.facts().await.unwrap().marker.as_deref(), Some(marker));
    assert!(!guest.agent().await.frozen, "{marker}");
}

#[tokio::test]
async fn a_snapshot_says_whether_the_guest_froze_and_never_leaves_it_frozen() {
    let (fleet, vm, guest) = with_agent().await;
    // Manners; what `times` is; whether it is sent a freeze; what the outcome says.
    let manners = [
        ("honest", 0, 1, "file-system consistent"),
        ("silent", 0, 0, "does not answer"),
        ("refuses", 0, 0, "freezes nothing"),
        // Longer than it is waited for: the freeze comes after libvirt has given it up.
        ("slow", 8, 1, "crash consistent"),
        // It freezes, and answers no thaw for longer than one call waits: thawed all the same, and not frozen again.
        ("keeps", 12, 1, "does not thaw"),
    ];
    for (manners, times, freezes, says) in manners {
        let before = guest.agent_behaves(manners, times).await.freezes;
        let snapshot = fleet.caller.done(request::snapshot(&vm, &format!("web-{manners}"))).await;
        let note = note(&snapshot);
        assert!(note.contains(says), "{manners}: {note}");
        assert_eq!(guest.agent().await.freezes - before, freezes, "{manners}");
        assert_writes(&guest, manners).await;
    }
}

#[tokio::test]
async fn an_agent_that_is_killed_while_its_guest_freezes_thaws_it_once_it_is_back() {
    let (mut fleet, vm, guest) = with_agent().await;
    // Long enough for the kill to come first on a machine with much to do.
    guest.agent_behaves("slow", 15).await;
    let snapshot = fleet.caller.ask(request::snapshot(&vm, "web")).await.unwrap().event_id;
    let journal = Journal::of(&fleet.agent);
    journal.until(&snapshot, Moment::Step("begin-backup")).await;
    until("the freeze is sent", EVENT, async || match guest.agent().await.freezes {
        0 => Err("not yet"),
        _ => Ok(()),
    })
    .await;
    fleet.agent.kill();
    until("the guest is frozen", EVENT, async || match guest.agent().await {
        agent if agent.frozen => Ok(()),
        agent => Err(format!("{agent:?}")),
    })
    .await;
    guest.agent_behaves("honest", 0).await;
    fleet.agent.start().await;
    let note = note(&fleet.caller.succeeded(&snapshot).await);
    assert!(note.contains("file-system consistent"), "the second try went well: {note}");
    assert_writes(&guest, "after the kill").await;
    assert_eq!(journal.reports(&snapshot), 1);
}

#[tokio::test]
async fn a_guest_goes_down_by_its_agent_or_else_by_its_power_button() {
    let (fleet, silent, guest) = with_agent().await;
    let name = fleet.lab.name("deaf-to-its-button");
    let user_data = b"#tiny: guest-agent\n#tiny: ignore-power-button\n".as_slice();
    let stubborn = CreateVmRequest { user_data: user_data.into(), ..request::vm(&name) };
    let stubborn = fleet.caller.done(stubborn).await.vm_id;
    fleet.guest(&stubborn).await.until_up().await;
    fleet.caller.done(request::stop(&stubborn, 60)).await;
    assert!(!fleet.domain(&stubborn).active, "by its agent");

    guest.agent_behaves("silent", 0).await;
    fleet.caller.done(request::stop(&silent, 60)).await;
    assert!(!fleet.domain(&silent).active, "by its power button");
}
