//! One call for each domain at a time, also past its deadline: an abandoned call keeps its domain until it returns.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::VmId;
use tokio::sync::OwnedMutexGuard;

const POWER_OFF: &str = "power-off";

/// The domains that have calls under way.
#[derive(Clone, Default)]
pub(super) struct Lanes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    lanes: Mutex<HashMap<VmId, Lane>>,
    tickets: AtomicU64,
}

#[derive(Default)]
struct Lane {
    lock: Arc<tokio::sync::Mutex<()>>,
    active: Vec<Active>,
}

struct Active {
    ticket: u64,
    call: &'static str,
    overran: Option<Instant>,
}

/// The right to make a call for a domain; given back when dropped, by whoever made the call.
pub(super) struct Ticket {
    lanes: Lanes,
    vm: VmId,
    id: u64,
    /// None: a power-off beside a call that overran.
    guard: Option<OwnedMutexGuard<()>>,
}

impl Lanes {
    /// Waits for the domain, for `wait` at most. While an earlier call is still at work past its deadline, only a
    /// power-off may go beside it: that is what frees a domain whose QEMU hangs.
    pub(super) async fn enter(&self, vm: VmId, call: &'static str, wait: Duration) -> Result<Ticket, Cause> {
        let lock = self.lock_of(vm, call)?;
        let guard = match lock {
            None => None,
            Some(lock) => match tokio::time::timeout(wait, lock.lock_owned()).await {
                Ok(guard) => Some(guard),
                Err(_) => return Err(taken(vm, call)),
            },
        };
        let id = self.0.tickets.fetch_add(1, Ordering::Relaxed);
        let mut lanes = self.lanes();
        lanes.entry(vm).or_default().active.push(Active { ticket: id, call, overran: None });
        Ok(Ticket { lanes: self.clone(), vm, id, guard })
    }

    /// Says that a call went past its deadline; nothing if it has returned meanwhile.
    pub(super) fn overran(&self, vm: VmId, ticket: u64) {
        if let Some(lane) = self.lanes().get_mut(&vm)
            && let Some(active) = lane.active.iter_mut().find(|active| active.ticket == ticket)
        {
            active.overran = Some(Instant::now());
        }
    }

    /// The call that is still at work for a domain past its deadline, for people.
    pub(super) fn at_work(&self, vm: VmId) -> Option<String> {
        let lanes = self.lanes();
        let active = lanes.get(&vm)?.active.iter().find(|active| active.overran.is_some())?;
        let since = active.overran.map_or(0, |at| at.elapsed().as_secs());
        Some(format!("an earlier {} is still at work, {since} s past its deadline", active.call))
    }

    /// The lock to wait for; none: go beside what overran.
    fn lock_of(&self, vm: VmId, call: &str) -> Result<Option<Arc<tokio::sync::Mutex<()>>>, Cause> {
        let mut lanes = self.lanes();
        // A waiter that gave up left its lane behind.
        lanes.retain(|_, lane| !lane.active.is_empty() || Arc::strong_count(&lane.lock) > 1);
        let lane = lanes.entry(vm).or_default();
        if lane.active.iter().all(|active| active.overran.is_none()) {
            return Ok(Some(Arc::clone(&lane.lock)));
        }
        let powering_off = lane.active.iter().any(|active| active.call == POWER_OFF);
        if call == POWER_OFF && !powering_off { Ok(None) } else { Err(overrun_before(vm, &lane.active)) }
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<VmId, Lane>> {
        // No code that can panic runs under this lock.
        self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The domain it is for.
    pub(super) fn vm(&self) -> VmId {
        self.vm
    }

    /// Its number, for [`Lanes::overran`].
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut lanes = self.lanes.lanes();
        self.guard = None;
        if let Some(lane) = lanes.get_mut(&self.vm) {
            lane.active.retain(|active| active.ticket != self.id);
            if lane.active.is_empty() && Arc::strong_count(&lane.lock) == 1 {
                lanes.remove(&self.vm);
            }
        }
    }
}

fn taken(vm: VmId, call: &str) -> Cause {
    Cause::new(Reason::TooBusy, format!("another call for the domain did not end in time for this {call}"))
        .advise("try again later")
        .with("vm", vm)
}

fn overrun_before(vm: VmId, active: &[Active]) -> Cause {
    let names: Vec<_> = active.iter().map(|active| active.call).collect();
    Cause::new(
        Reason::CallOverran,
        format!("an earlier call for the domain is still at work past its deadline: {}", names.join(", ")),
    )
    .advise("see `virsh domcontrol`; when QEMU hangs, power the VM off")
    .with("vm", vm)
}
