//! The coordinator is killed around each transition of an event: nothing is lost, nothing is done twice, and a caller
//! who asks again under the same id gets the same event.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::wire::fleet::{CreateVmRequest, ListVmsRequest};
use dewpoint_tests::caller::answer;
use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::journal::{Journal, Moment};
use dewpoint_tests::request;
use dewpoint_tests::wait::{SOON, until};

/// When the coordinator is killed; the agent's journal tells.
#[derive(Clone, Copy, Debug)]
enum Killed {
    /// As soon as the caller has its answer: before the delivery, or during it.
    Answered,
    /// The delivery is journaled; its acknowledgement may be on its way.
    Delivered,
    /// The event has begun.
    Running,
    /// The event has ended; its report may be on its way.
    Reported,
}

async fn kill_at(fleet: &mut Fleet, killed: Killed, request: CreateVmRequest) -> String {
    let journal = Journal::of(&fleet.agent);
    let event = fleet.caller.ask(request).await.unwrap().event_id;
    match killed {
        Killed::Answered => {}
        Killed::Delivered => journal.until(&event, Moment::Accepted).await,
        Killed::Running => journal.until(&event, Moment::Step("make-disk")).await,
        Killed::Reported => journal.until(&event, Moment::Finished).await,
    }
    fleet.coordinator.kill();
    event
}

#[tokio::test]
async fn an_event_survives_the_coordinators_death_at_every_transition() {
    let mut fleet = Fleet::start().await;
    let journal = Journal::of(&fleet.agent);
    let cases = [Killed::Answered, Killed::Delivered, Killed::Running, Killed::Reported];
    for (at, killed) in cases.into_iter().enumerate() {
        let request = request::vm_left_off(&fleet.lab.name(&format!("vm{at}")));
        let event = kill_at(&mut fleet, killed, request.clone()).await;
        fleet.coordinator.start().await;

        // The caller cannot know whether its answer was the last word, and asks again.
        let again = fleet.caller.ask(request.clone()).await.unwrap();
        assert_eq!(again.event_id, event, "{killed:?}");
        let other = CreateVmRequest { vcpus: 2, ..request };
        let refused = fleet.caller.ask(other).await.unwrap_err();
        assert_eq!(refused.reason, Reason::EventIdReused, "{killed:?}");

        let done = fleet.caller.succeeded(&event).await;
        assert_eq!(done.seq, at as u64 + 1, "{killed:?}: no seq is lost or given twice");
        assert_eq!(journal.reports(&event), 1, "{killed:?}");
        assert_eq!(fleet.domains().len(), at + 1, "{killed:?}");
    }
    assert_eq!(journal.queue(), [1, 2, 3, 4]);
    let listed = answer(fleet.caller.vms().list_vms(ListVmsRequest::default()).await).unwrap();
    assert_eq!(listed.vms.len(), cases.len());
    let hosts = fleet.caller.all_hosts().await.unwrap();
    assert_eq!(hosts[0].vms, 4, "claims survive with their VMs");
}

#[tokio::test]
async fn what_ends_while_the_coordinator_is_away_is_reported_when_it_is_back() {
    let mut fleet = Fleet::start().await;
    let journal = Journal::of(&fleet.agent);
    // The image is on the host by then: the coordinator is not needed for it.
    fleet.caller.done(request::vm_left_off(&fleet.lab.name("first"))).await;
    let create = request::vm_left_off(&fleet.lab.name("web"));
    let event = kill_at(&mut fleet, Killed::Delivered, create).await;
    journal.until(&event, Moment::Finished).await;
    assert_eq!(journal.stage(&event).as_deref(), Some("finished"), "nobody has acknowledged it");
    fleet.coordinator.start().await;
    let done = fleet.caller.succeeded(&event).await;
    assert_eq!(fleet.domain(&done.vm_id).mark("event"), Some(event.clone()));
    until("its acknowledgement is journaled", SOON, async || {
        let stage = journal.stage(&event);
        if stage.as_deref() == Some("reported") { Ok(()) } else { Err(format!("{stage:?}")) }
    })
    .await;
}

#[tokio::test]
async fn both_killed_at_once_find_each_other_again() {
    let mut fleet = Fleet::start().await;
    let create = request::vm(&fleet.lab.name("web"));
    let event = kill_at(&mut fleet, Killed::Running, create).await;
    fleet.agent.kill();
    fleet.agent.start().await;
    fleet.coordinator.start().await;
    let done = fleet.caller.succeeded(&event).await;
    assert_eq!(fleet.domain(&done.vm_id).live("run"), Some(event));
    assert_eq!(fleet.domains().len(), 1);
}
