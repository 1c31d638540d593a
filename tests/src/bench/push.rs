//! `push_p50`, `push_p99`: from a caller's request to the event journaled on its host, with the real daemons.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Effort;
use super::bare::{Appended, Echo};
use super::figure::{Pair, Target, ms, print, quantile};
use crate::fleet::Fleet;
use crate::local::Local;
use crate::request;

/// VMs that take turns: each has one unfinished event at most.
const VMS: usize = 4;

/// Measures and prints it.
///
/// # Panics
/// When the fleet fails.
pub async fn run(effort: Effort, fleet: &Fleet, dir: &Path) {
    let mut vms = Vec::new();
    for at in 0..VMS {
        let create = request::vm_left_off(&fleet.lab.name(&format!("push{at}")));
        vms.push(fleet.caller.done(create).await.vm_id);
    }
    let mut watch = Local::of(&fleet.agent).await;
    let mut echo = Echo::start().await;
    let mut appended = Appended::in_dir(dir);
    let (mut middle, mut late) = (Vec::new(), Vec::new());
    for _ in 0..effort.of(3, 9) {
        let (mut pushed, mut bare) = (Vec::new(), Vec::new());
        for at in 0..effort.of(100, 500) {
            pushed.push(push(fleet, &vms[at % VMS], &mut watch).await);
            bare.push(echo.round_trip().await + appended.page() + appended.page());
        }
        let at = |part| Pair {
            value: quantile(pushed.iter().copied().map(ms), part),
            baseline: quantile(bare.iter().copied().map(ms), part),
        };
        middle.push(at(0.5));
        late.push(at(0.99));
    }
    print("push_p50", "ms", Target::AtMost(2.0), &middle);
    print("push_p99", "ms", Target::AtMost(4.0), &late);
}

/// A stop of a VM that is off: it is journaled as any event, and over soon.
async fn push(fleet: &Fleet, vm: &str, watch: &mut Local) -> Duration {
    let stop = request::stop(vm, 1);
    let event = request::id_of(&stop.options);
    let caller = fleet.caller.clone();
    let began = Instant::now();
    let asked = tokio::spawn(async move { caller.ask(stop).await });
    watch.until(&event, &["accepted"]).await;
    let took = began.elapsed();
    asked.await.unwrap_or_else(|error| panic!("{error}")).unwrap_or_else(|cause| panic!("{cause:?}"));
    watch.until(&event, &["reported"]).await;
    took
}
