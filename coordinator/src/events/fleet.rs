//! The fleet as placement sees it: rows at the start, then each write and heartbeat. A view, never the truth: what is
//! decided on it is conditional in the store.

use std::collections::HashMap;

use dewpoint_proto::ids::{EventId, HostId, ReportSeq, Seq, Term};
use dewpoint_proto::time::Millis;
use tokio::sync::watch;

use super::HostHeartbeat;
use crate::scheduler::HostView;
use crate::store::{Claims, FleetRecord, HostFacts, HostRecord, QueueEntry};

/// What is known of each host, in the order of first contact.
pub(super) struct Fleet {
    views: Vec<HostView>,
    live: Vec<HostLive>,
    places: HashMap<HostId, usize>,
    held: Option<String>,
    /// Creates and restores assigned and unfinished: bounded by VMs, one for each.
    building: HashMap<EventId, HostId>,
}

/// What only the running coordinator knows of a host.
struct HostLive {
    term: Term,
    held: Option<String>,
    facts: HostFacts,
    facts_stored_at: Option<Millis>,
    /// A person has retired it, or let it become another.
    retired: bool,
    /// Its highest report, told since this coordinator started by a hello that matched.
    heard: Option<ReportSeq>,
    queue: watch::Sender<u64>,
    /// The newest of its queue, until it is delivered: spares its session a look into the store.
    newest: Option<QueueEntry>,
}

/// What is to be done with a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// In memory is enough.
    InMemory,
    /// It matters after a restart, too.
    Store,
}

/// How long a heartbeat and its measurements may be kept in memory alone.
const STORE_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

impl Fleet {
    pub(super) fn new(fleet: FleetRecord) -> Self {
        Self {
            views: Vec::new(),
            live: Vec::new(),
            places: HashMap::new(),
            held: fleet.held,
            building: HashMap::new(),
        }
    }

    pub(super) fn views(&self) -> &[HostView] {
        &self.views
    }

    /// Takes a host's row as it is now; what its heartbeats told since stays.
    pub(super) fn take(&mut self, record: &HostRecord) {
        let place = *self.places.entry(record.id).or_insert_with(|| {
            self.views.push(new_view(record));
            self.live.push(HostLive {
                term: record.term,
                held: None,
                facts: HostFacts { capacity: record.capacity.clone(), degraded: record.degraded.clone() },
                facts_stored_at: None,
                retired: false,
                heard: None,
                queue: watch::channel(0).0,
                newest: None,
            });
            self.views.len() - 1
        });
        let (view, live) = (&mut self.views[place], &mut self.live[place]);
        if live.term != record.term || live.held != record.held {
            live.term = record.term;
            live.held.clone_from(&record.held);
            // Under another term its queue may be numbered anew.
            live.newest = None;
            wake(live);
        }
        live.retired = record.retired.is_some();
        view.hostname.clone_from(&record.hostname);
        view.cordoned = record.cordoned.is_some() || record.retired.is_some();
        view.held = record.held.is_some() || self.held.is_some();
        view.diverged = record.diverged.is_some();
        view.claims = record.claims;
    }

    /// Whether a host is not to be served any more.
    pub(super) fn is_retired(&self, host: HostId) -> bool {
        self.places.get(&host).is_some_and(|&place| self.live[place].retired)
    }

    /// A hello, whether it matched or not.
    pub(super) fn greeted(&mut self, host: HostId, now: Millis) {
        if let Some(&place) = self.places.get(&host) {
            self.views[place].last_heartbeat = Some(now);
        }
    }

    /// A hello that matched.
    pub(super) fn matched(&mut self, host: HostId, last_report: ReportSeq) {
        if let Some(&place) = self.places.get(&host) {
            self.live[place].heard = Some(last_report);
        }
    }

    /// What its newest hello that matched said, since this coordinator started.
    pub(super) fn heard_of(&self, host: HostId) -> Option<ReportSeq> {
        self.places.get(&host).and_then(|&place| self.live[place].heard)
    }

    /// A heartbeat under this term; none: the host is held under another.
    pub(super) fn heard(
        &mut self,
        host: HostId,
        term: Term,
        heartbeat: &HostHeartbeat,
        now: Millis,
    ) -> Option<Kept> {
        let place = *self.places.get(&host)?;
        let (view, live) = (&mut self.views[place], &mut self.live[place]);
        if live.term != term {
            return None;
        }
        view.last_heartbeat = Some(now);
        let facts = &heartbeat.facts;
        let matters = differs(&live.facts, facts)
            || live.facts_stored_at.is_none_or(|stored| now.since(stored) >= STORE_EVERY);
        if let Some(capacity) = &facts.capacity {
            view.capacity = Some(capacity.clone());
            live.facts.capacity = Some(capacity.clone());
        }
        live.facts.degraded.clone_from(&facts.degraded);
        view.observe_only = heartbeat.observe_only;
        view.degraded = facts.degraded.first().map(|cause| cause.reason.to_string());
        if matters {
            live.facts_stored_at = Some(now);
        }
        Some(if matters { Kept::Store } else { Kept::InMemory })
    }

    /// As the host's Hello says, before its first heartbeat.
    pub(super) fn observes(&mut self, host: HostId, observe_only: bool) {
        if let Some(&place) = self.places.get(&host) {
            self.views[place].observe_only = observe_only;
        }
    }

    pub(super) fn last_heartbeat(&self, host: HostId) -> Option<Millis> {
        self.view(host)?.last_heartbeat
    }

    pub(super) fn view(&self, host: HostId) -> Option<&HostView> {
        self.places.get(&host).map(|&place| &self.views[place])
    }

    /// Puts what heartbeats told into a row that was read.
    pub(super) fn freshen(&self, record: &mut HostRecord) {
        let Some(&place) = self.places.get(&record.id) else { return };
        let (view, live) = (&self.views[place], &self.live[place]);
        // The row may have been written when the clock was ahead.
        record.last_heartbeat = view.last_heartbeat;
        if live.facts.capacity.is_some() {
            record.capacity.clone_from(&live.facts.capacity);
        }
        record.degraded.clone_from(&live.facts.degraded);
    }

    /// What claims of a host gained and lost. Relative, since writes are told in any order; the sweep sets it right
    /// should a row have been read in between.
    pub(super) fn shift(&mut self, host: HostId, gained: Claims, freed: Claims) {
        let Some(&place) = self.places.get(&host) else { return };
        let claims = &mut self.views[place].claims;
        claims.vcpus = (claims.vcpus + gained.vcpus).saturating_sub(freed.vcpus);
        claims.memory_bytes = (claims.memory_bytes + gained.memory_bytes).saturating_sub(freed.memory_bytes);
        claims.disk_bytes = (claims.disk_bytes + gained.disk_bytes).saturating_sub(freed.disk_bytes);
        claims.vms = (claims.vms + gained.vms).saturating_sub(freed.vms);
    }

    /// A create or restore was assigned.
    pub(super) fn builds(&mut self, event: EventId, host: HostId) {
        if let Some(&place) = self.places.get(&host)
            && self.building.insert(event, host).is_none()
        {
            self.views[place].builds += 1;
        }
    }

    /// An event ended, whatever it was.
    pub(super) fn ended(&mut self, event: EventId) {
        if let Some(host) = self.building.remove(&event)
            && let Some(&place) = self.places.get(&host)
        {
            self.views[place].builds = self.views[place].builds.saturating_sub(1);
        }
    }

    pub(super) fn set_fleet_held(&mut self, held: Option<String>) {
        self.held = held;
        for (view, live) in self.views.iter_mut().zip(&self.live) {
            view.held = self.held.is_some() || live.held.is_some();
            wake(live);
        }
    }

    /// Why a host is delivered nothing.
    pub(super) fn held(&self, host: HostId) -> Option<String> {
        let own = self.places.get(&host).and_then(|&place| self.live[place].held.clone());
        own.or_else(|| self.held.clone())
    }

    /// The host's queue has this.
    pub(super) fn queued(&mut self, host: HostId, entry: QueueEntry) {
        if let Some(&place) = self.places.get(&host) {
            self.live[place].newest = Some(entry);
            wake(&self.live[place]);
        }
    }

    /// What was queued last, when it is what comes next.
    pub(super) fn newest(&mut self, host: HostId, next: Seq) -> Option<QueueEntry> {
        let place = *self.places.get(&host)?;
        self.live[place].newest.take_if(|entry| entry.seq == next)
    }

    /// The host's queue has something, or may be delivered again.
    pub(super) fn wake(&self, host: HostId) {
        if let Some(&place) = self.places.get(&host) {
            wake(&self.live[place]);
        }
    }

    pub(super) fn queue(&self, host: HostId) -> Option<watch::Receiver<u64>> {
        self.places.get(&host).map(|&place| self.live[place].queue.subscribe())
    }
}

fn wake(live: &HostLive) {
    live.queue.send_modify(|count| *count = count.wrapping_add(1));
}

fn new_view(record: &HostRecord) -> HostView {
    HostView {
        id: record.id,
        hostname: record.hostname.clone(),
        last_heartbeat: record.last_heartbeat,
        cordoned: false,
        held: false,
        observe_only: false,
        diverged: false,
        degraded: record.degraded.first().map(|cause| cause.reason.to_string()),
        capacity: record.capacity.clone(),
        claims: record.claims,
        builds: 0,
    }
}

/// Whether more than the measured figures changed.
fn differs(old: &HostFacts, new: &HostFacts) -> bool {
    let lasting = |facts: &HostFacts| {
        facts.capacity.as_ref().map(|capacity| {
            let c = capacity;
            (c.cpus, c.memory_bytes, c.disk_bytes, c.cpu_arch.clone(), c.bridges.clone())
        })
    };
    let reasons =
        |facts: &HostFacts| facts.degraded.iter().map(|cause| cause.reason.clone()).collect::<Vec<_>>();
    new.capacity.is_some() && lasting(old) != lasting(new) || reasons(old) != reasons(new)
}
