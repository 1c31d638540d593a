//! Waits until a fleet that was let go has come to rest: bounded, and what was waited for last is said.

use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::wire::fleet::{ListEventsRequest, ListVmsRequest, Vm};
use tokio::time::{Instant, interval, timeout};

use super::callers::Shared;
use super::history::What;
use super::machine::Machine;
use crate::caller::answer;
use crate::host::qemus;
use crate::journal::Journal;

/// What the slowest may need: a guest that ignores its button for as long as it may, behind a host that boots six others.
const PATIENCE: Duration = Duration::from_secs(420);
/// How long nothing may change before it counts as rest.
const REST: Duration = Duration::from_secs(6);
const LOOK: Duration = Duration::from_secs(2);
/// How often what is waited for is noted.
const NOTE: Duration = Duration::from_secs(20);

/// Waits; notes when it is in vain.
pub async fn settle(machine: &mut Machine, shared: &Arc<Shared>) {
    let (began, mut looks) = (Instant::now(), interval(LOOK));
    let (mut since, mut before) = (Instant::now(), Vec::new());
    let (mut detail, mut noted) = (String::new(), began);
    shared.history.add(What::Settling { detail: "all was let go".to_owned() });
    while began.elapsed() < PATIENCE {
        looks.tick().await;
        machine.supervise(shared);
        machine.resume_paused();
        let waits = match timeout(Duration::from_secs(15), waits_for(machine, shared)).await {
            Ok(waits) => waits,
            Err(_) => "a coordinator that does not answer".to_owned(),
        };
        let now = qemus(machine.lab.dir());
        if !waits.is_empty() || now != before {
            (since, before) = (Instant::now(), now);
        } else if since.elapsed() >= REST {
            return;
        }
        detail = waits;
        if noted.elapsed() >= NOTE {
            noted = Instant::now();
            shared.history.add(What::Settling { detail: detail.clone() });
        }
    }
    shared
        .history
        .add(What::NotSettled { detail: format!("after {PATIENCE:?} it still waits for {detail}") });
}

/// What it waits for; empty: nothing.
async fn waits_for(machine: &Machine, shared: &Shared) -> String {
    let request = ListEventsRequest { unfinished_only: true, page_size: 100, ..ListEventsRequest::default() };
    let open = match answer(shared.caller.events().list_events(request).await) {
        Ok(listed) => listed.events,
        Err(cause) => return format!("the coordinator: {cause}"),
    };
    if !open.is_empty() {
        let words = open.iter().map(|event| {
            let waiting =
                event.progress.as_ref().map(|progress| progress.waiting_for.as_str()).unwrap_or_default();
            format!("{} {} ({}: {waiting})", event.kind, event.event_id, event.stage)
        });
        return words.collect::<Vec<_>>().join("; ");
    }
    let hosts = match shared.caller.all_hosts().await {
        Ok(hosts) => hosts,
        Err(cause) => return format!("the coordinator: {cause}"),
    };
    if let Some(host) = hosts.iter().find(|host| host.liveness != "alive" || !host.degraded.is_empty()) {
        return format!("the host, which is {}: {:?}", host.liveness, host.degraded);
    }
    let listed = ListVmsRequest { page_size: 100, ..ListVmsRequest::default() };
    let vms = match answer(shared.caller.vms().list_vms(listed).await) {
        Ok(listed) => listed.vms,
        Err(cause) => return format!("the coordinator: {cause}"),
    };
    let to_start = |vm: &&Vm| vm.observed.as_ref().is_some_and(|told| told.restart_at_ms != 0);
    if let Some(vm) = vms.iter().find(to_start) {
        return format!("VM {}, which is to be started again", vm.vm_id);
    }
    match Journal::of(&machine.agent).unacknowledged() {
        0 => String::new(),
        reports => format!("{reports} reports that are not acknowledged"),
    }
}
