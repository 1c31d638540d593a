//! What ended badly is tried again under a new id, when there is sense in it.

use super::*;
use crate::events::request::RetryEvent;
use crate::events::stage::ForcedAs;

fn retry(target: EventId) -> RetryEvent {
    RetryEvent { options: Options::default(), target, when_full: WhenFull::Refuse }
}

fn failed() -> Outcome {
    Outcome::Failed(Cause::new(Reason::ImageUnavailable, "no such server"))
}

#[tokio::test]
async fn a_failed_create_is_tried_again_with_all_that_was_asked() {
    let world = World::new().await;
    let term = world.join(1).await;
    let mut asked = CreateVm { user_data: b"#cloud-config\n".to_vec(), ..create("web") };
    asked.options.note = "for the shop".into();
    let first = world.events.create(asked).await.unwrap();
    let unfinished = world.events.retry(retry(first.id)).await.unwrap_err();
    assert_eq!(unfinished.reason, Reason::WrongStage);
    let undone = HostReport { outcome: failed(), ..report(1, &first, true) };
    world.events.report(host(1), term, undone).await.unwrap();

    let second = world.events.retry(retry(first.id)).await.unwrap();
    assert_eq!((second.retry_of, second.stage), (Some(first.id), Stage::Assigned));
    assert_ne!(second.vm, first.vm, "a VM's id is used once");
    let (was, is) = (first.body.as_ref().unwrap().event(), second.body.as_ref().unwrap().event());
    assert_eq!((&is.kind, &is.note), (&was.kind, &was.note), "the same is asked");
    let again = world.events.retry(retry(first.id)).await.unwrap_err();
    assert!(again.reason == Reason::WrongStage && again.text.contains(&second.id.to_string()), "{again:?}");
    assert_eq!(world.events.event(first.id).await.unwrap().record.retried_by, Some(second.id));
}

#[tokio::test]
async fn a_repeated_retry_is_the_same_event() {
    let world = World::new().await;
    let term = world.join(1).await;
    let first = world.events.create(create("web")).await.unwrap();
    let undone = HostReport { outcome: failed(), ..report(1, &first, true) };
    world.events.report(host(1), term, undone).await.unwrap();
    let mut request = retry(first.id);
    request.options.event = Some(EventId::fresh());
    let second = world.events.retry(request.clone()).await.unwrap();
    assert_eq!(world.events.retry(request.clone()).await.unwrap().id, second.id);
    request.options.note = "another".into();
    assert_eq!(world.events.retry(request).await.unwrap_err().reason, Reason::EventIdReused);
}

#[tokio::test]
async fn what_makes_no_sense_to_try_again_is_refused_with_what_to_do() {
    let world = World::new().await;
    let term = world.join(1).await;
    let made = world.events.create(create("web")).await.unwrap();
    world.events.report(host(1), term, report(1, &made, false)).await.unwrap();
    let done = world.events.retry(retry(made.id)).await.unwrap_err();
    assert!(done.reason == Reason::WrongStage && !done.advice.is_empty());
    assert_eq!(world.events.retry(retry(EventId::fresh())).await.unwrap_err().reason, Reason::EventNotFound);
    // A create whose VM may still be there.
    let other = world.events.create(create("db")).await.unwrap();
    world.events.accepted(host(1), term, Seq(2)).await.unwrap();
    world.events.force(other.id, ForcedAs::Failed, word("silent")).await.unwrap();
    let there = world.events.retry(retry(other.id)).await.unwrap_err();
    assert!(there.reason == Reason::WrongStage && there.advice.contains("destroy"), "{there:?}");
    // A retry names one event.
    let two = Options { retry_of: Some(made.id), ..Options::default() };
    let start = ChangeVm { options: Options::default(), vm: VmSelector::Id(made.vm), change: Change::Start };
    let start = world.events.change(start).await.unwrap();
    let refused = HostReport { outcome: failed(), ..report(2, &start, false) };
    world.events.report(host(1), term, refused).await.unwrap();
    let wrong = RetryEvent { options: two, ..retry(start.id) };
    assert_eq!(world.events.retry(wrong).await.unwrap_err().reason, Reason::Invalid);
    let again = world.events.retry(retry(start.id)).await.unwrap();
    assert_eq!((again.vm, again.kind, again.retry_of), (made.vm, start.kind, Some(start.id)));
}

#[tokio::test]
async fn what_an_event_waits_for_is_said_with_its_host() {
    let world = World::new().await;
    let pending = world.events.create(CreateVm { when_full: WhenFull::Wait, ..create("web") }).await.unwrap();
    let waits = async || world.events.event(pending.id).await.unwrap().waiting_for;
    assert_eq!(waits().await.as_deref(), Some("a host that fits"));
    let term = world.join(1).await;
    let placed = until(&world, pending.id, Stage::Assigned).await;
    assert!(placed.stage_since > Some(placed.accepted_at));
    assert_eq!(waits().await.as_deref(), Some("h1 to take it"));
    world.events.accepted(host(1), term, Seq(1)).await.unwrap();
    assert_eq!(waits().await.as_deref(), Some("h1 to begin it"));
    let hold = crate::store::HoldScope::Host(host(1));
    world.events.hold(hold, Switch::On, word("smoke")).await.unwrap();
    assert_eq!(waits().await.as_deref(), Some("a person to release h1"));
    world.events.hold(hold, Switch::Off, word("")).await.unwrap();
    let step =
        Progress { event_id: pending.id.to_string(), step: "fetch-image".into(), ..Default::default() };
    world.events.progress(host(1), step);
    assert_eq!(waits().await.as_deref(), Some("h1 to finish fetch-image"));
    world.events.report(host(1), term, report(1, &placed, false)).await.unwrap();
    assert_eq!(waits().await, None);
}
