//! Deadlines and the bound on abandoned workers, without libvirt.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::VmId;

use super::host::eventually;
use crate::hypervisor::libvirt::lanes::Lanes;
use crate::hypervisor::libvirt::workers::{Abandoned, Job, MOST_ABANDONED, Pool};

const SOON: Duration = Duration::from_millis(20);
const LATER: Duration = Duration::from_secs(30);

fn job(deadline: Duration) -> Job {
    Job { name: "test", deadline, ticket: None }
}

/// A call that hangs until the sender is dropped.
async fn hang(pool: &Pool, job: Job) -> (Result<(), Cause>, SyncSender<()>) {
    let (release, held) = sync_channel::<()>(0);
    let result = pool
        .run(job, move |_| {
            let _ = held.recv();
            Ok(())
        })
        .await;
    (result, release)
}

#[tokio::test]
async fn sixteen_calls_that_hang_degrade_the_host_until_they_return() {
    let abandoned = Abandoned::default();
    let pool = Pool::new("test", "none:///", 2, abandoned.clone(), Lanes::default());
    let mut held = Vec::new();
    for _ in 0..MOST_ABANDONED {
        assert_eq!(abandoned.degraded(), None);
        let (result, release) = hang(&pool, job(SOON)).await;
        assert_eq!(result.unwrap_err().reason, Reason::CallOverran);
        held.push(release);
    }
    assert_eq!(abandoned.degraded().unwrap().reason, Reason::CallOverran);
    let refused = pool.run(job(LATER), |_| Ok(())).await.unwrap_err();
    assert_eq!(refused.reason, Reason::CallOverran, "nothing more is begun");

    held.pop();
    eventually("one returned", || abandoned.degraded().is_none()).await;
    pool.run(job(LATER), |_| Ok(())).await.unwrap();
}

#[tokio::test]
async fn a_domain_is_held_until_its_call_returns_however_late() {
    let lanes = Lanes::default();
    let pool = Pool::new("test", "none:///", 2, Abandoned::default(), lanes.clone());
    let vm = VmId::fresh();
    let ticket = lanes.enter(vm, "start", LATER).await.unwrap();
    let (result, release) = hang(&pool, Job { ticket: Some(ticket), ..job(SOON) }).await;
    result.unwrap_err();
    assert!(lanes.at_work(vm).unwrap().contains("start"));
    assert_eq!(lanes.enter(vm, "mark", LATER).await.err().unwrap().reason, Reason::CallOverran);

    let beside = lanes.enter(vm, "power-off", LATER).await.unwrap();
    assert!(lanes.enter(vm, "power-off", LATER).await.is_err(), "one power-off at a time");
    drop(beside);
    lanes.enter(VmId::fresh(), "mark", LATER).await.expect("other domains go on");

    drop(release);
    eventually("it returned", || lanes.at_work(vm).is_none()).await;
    lanes.enter(vm, "mark", LATER).await.unwrap();
}

#[tokio::test]
async fn calls_for_one_domain_follow_each_other_and_do_not_wait_forever() {
    let lanes = Lanes::default();
    let vm = VmId::fresh();
    let first = lanes.enter(vm, "start", LATER).await.unwrap();
    assert_eq!(lanes.enter(vm, "mark", SOON).await.err().unwrap().reason, Reason::TooBusy);
    let (second, ()) = tokio::join!(lanes.enter(vm, "mark", LATER), async { drop(first) });
    drop(second.unwrap());
    assert_eq!(lanes.at_work(vm), None);
}

#[tokio::test]
async fn more_work_than_workers_waits_and_then_is_refused_unbegun() {
    let pool = Pool::new("test", "none:///", 1, Abandoned::default(), Lanes::default());
    let (release, held) = sync_channel::<()>(0);
    let other = pool.clone();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let long = tokio::spawn(async move {
        other
            .run(job(LATER), move |_| {
                let _ = begun.send(());
                let _ = held.recv();
                Ok(())
            })
            .await
    });
    begins.await.unwrap();
    let refused = pool.run(job(SOON), |_| Ok(())).await.unwrap_err();
    assert_eq!(refused.reason, Reason::TooBusy);
    drop(release);
    long.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dropped_caller_does_not_stop_its_call_nor_its_deadline() {
    let abandoned = Abandoned::default();
    let lanes = Lanes::default();
    let pool = Pool::new("test", "none:///", 1, abandoned, lanes.clone());
    let vm = VmId::fresh();
    let ticket = lanes.enter(vm, "start", LATER).await.unwrap();
    let (release, held) = sync_channel::<()>(0);
    let call = pool.run(Job { ticket: Some(ticket), ..job(SOON) }, move |_| {
        let _ = held.recv();
        Ok(())
    });
    let gave_up = tokio::time::timeout(SOON / 10, call).await;
    assert!(gave_up.is_err());
    eventually("it overran", || lanes.at_work(vm).is_some()).await;
    drop(release);
    eventually("it returned", || lanes.at_work(vm).is_none()).await;
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_costs_one_thread() {
    let pool = Pool::new("test", "none:///", 1, Abandoned::default(), Lanes::default());
    let result = pool.run::<(), _>(job(LATER), |_| panic!("as a test")).await;
    assert_eq!(result.unwrap_err().reason, Reason::Internal);
    pool.run(job(LATER), |_| Ok(())).await.unwrap();
}
