//! Promise 4: whatever becomes of the agent or the coordinator, a VM that runs is not touched.

use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::request;
use dewpoint_tests::wait::{SOON, until};

use crate::agent_crashes::Bystander;

#[tokio::test]
async fn a_running_vm_is_untouched_by_crashes_stops_and_losses_around_it() {
    let mut fleet = Fleet::start().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    let guest = fleet.guest(&vm).await;
    let bystander = Bystander::of(&fleet, &vm);
    let before = guest.until_up().await;

    fleet.crash_agent().await;
    bystander.assert_untouched(&fleet);

    let status = fleet.agent.stop().await;
    assert!(status.success(), "SIGTERM is obeyed: {status}");
    bystander.assert_untouched(&fleet);
    fleet.agent.start().await;

    fleet.coordinator.kill();
    // Without a coordinator the agent goes on, and says what is wrong.
    let down = fleet.agent.json(&["status"]);
    assert_eq!(down["daemon"], "up", "{down}");
    until("the agent notices that its coordinator is gone", SOON, async || {
        let status = fleet.agent.json(&["status"]);
        if status["connected"] == false { Ok(()) } else { Err(status) }
    })
    .await;
    bystander.assert_untouched(&fleet);
    fleet.crash_agent().await;
    fleet.coordinator.start().await;
    fleet.until_alive().await;

    bystander.assert_untouched(&fleet);
    let after = guest.facts().await.unwrap();
    assert_eq!((after.boot_id, after.boots), (before.boot_id, 1));
    let shown = fleet.caller.vm(&vm).await.unwrap();
    assert_eq!(shown.generation, 1, "nothing was done to it");
}
