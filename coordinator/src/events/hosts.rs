//! What the router brings. Every write is under the host's term: `TERM_LOST` means close the session.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{HostId, ReportSeq, Seq, Term};
use dewpoint_proto::vm_state::VmState;
use dewpoint_proto::wire::event::Progress;
use tokio::sync::watch as level;

use super::fleet::Kept;
use super::liveness::Liveness;
use super::watch::Change;
use super::{Events, HostHeartbeat, Inner, say};
use crate::store::{Claims, Hello, HostClaim, HostReport, QueueEntry, Recorded, StoreError, Under};

/// Events of one host whose progress is kept: each VM has one unfinished event, or two.
const PROGRESS_MOST: usize = 2 * dewpoint_proto::limits::VMS_PER_HOST as usize;

impl Events {
    /// Takes the host's queue under a new term and matches the logs. The host counts as heard.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn claim_host(&self, hello: Hello) -> Result<HostClaim, Cause> {
        let (host, last_report) = (hello.host, hello.last_report);
        let claim = self.inner.store.claim_host(hello, self.inner.now()).await?;
        self.inner.take_host(host).await?;
        self.inner.fleet_mut().greeted(host, self.inner.now());
        self.inner.progress().remove(&host);
        self.inner.accounts.forget(host);
        if let HostClaim::Matched { changed, .. } = &claim {
            self.inner.fleet_mut().matched(host, last_report);
            self.inner.tell(changed.iter().copied());
        }
        self.inner.room.notify_one();
        Ok(claim)
    }

    /// Notes whether the host only observes, as its Hello says; heartbeats say it again. After [`Events::claim_host`].
    pub fn host_observes(&self, host: HostId, observe_only: bool) {
        self.inner.fleet_mut().observes(host, observe_only);
    }

    /// Entries of a host's queue after `after`, at most `limit`, in order without gaps. Empty for a held host or fleet.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn deliverable(&self, host: HostId, after: Seq, limit: u32) -> Result<Vec<QueueEntry>, Cause> {
        if self.held(host).is_some() {
            return Ok(Vec::new());
        }
        Ok(self.inner.store.deliverable(host, after, limit).await?)
    }

    /// What was queued for the host last, when it comes right after `after` and may be delivered: what the next look at
    /// [`Events::deliverable`] would find, and nothing else. Given out once.
    #[must_use]
    pub fn newest(&self, host: HostId, after: Seq) -> Option<QueueEntry> {
        let mut fleet = self.inner.fleet_mut();
        if fleet.held(host).is_some() { None } else { fleet.newest(host, after.next()) }
    }

    /// Changes whenever the host's queue may have something new, or its hold or the fleet's was switched. Look at
    /// [`Events::deliverable`] and [`Events::held`] after each change, and once before the first. Take it after
    /// [`Events::claim_host`]: of a host never claimed it never changes.
    #[must_use]
    pub fn queue_of(&self, host: HostId) -> level::Receiver<u64> {
        self.inner.fleet().queue(host).unwrap_or_else(|| level::channel(0).1)
    }

    /// Why the host is delivered nothing: its own hold, or the fleet's.
    #[must_use]
    pub fn held(&self, host: HostId) -> Option<String> {
        self.inner.fleet().held(host)
    }

    /// Whether a person has retired the host, or let it become another: its session ends.
    #[must_use]
    pub fn is_retired(&self, host: HostId) -> bool {
        self.inner.fleet().is_retired(host)
    }

    /// All up to `seq` are journaled on the host.
    ///
    /// # Errors
    /// `TERM_LOST`.
    pub async fn accepted(&self, host: HostId, term: Term, seq: Seq) -> Result<(), Cause> {
        let changed = self.inner.store.accepted_up_to(self.inner.under(host, term), seq).await?;
        self.inner.tell(changed);
        Ok(())
    }

    /// Stores a report; acknowledge all up to the answer.
    ///
    /// # Errors
    /// `TERM_LOST`, or when the store cannot be written: close the session then, so that the host sends it again.
    pub async fn report(&self, host: HostId, term: Term, report: HostReport) -> Result<ReportSeq, Cause> {
        let (event, outcome) = (report.event, report.outcome.clone());
        let recorded = self.inner.store.record_report(self.inner.under(host, term), report).await?;
        if let Some(known) = self.inner.progress().get_mut(&host) {
            known.remove(&event);
        }
        {
            let mut fleet = self.inner.fleet_mut();
            fleet.ended(event);
            fleet.shift(host, recorded.gained, recorded.freed);
        }
        if let Some(cause) = &recorded.contradiction {
            tracing::warn!(event_id = %event, reason = %cause.reason, "a report contradicts what is known: {}", cause.text);
        }
        say::ended(event, &outcome, &recorded.changed);
        let acked = recorded.acked;
        self.inner.settled(recorded);
        Ok(acked)
    }

    /// Takes what a heartbeat brings: in memory always, stored when it matters.
    ///
    /// # Errors
    /// `TERM_LOST`.
    pub async fn heartbeat(&self, host: HostId, term: Term, heartbeat: HostHeartbeat) -> Result<(), Cause> {
        let inner = &self.inner;
        let under = inner.under(host, term);
        let was = Liveness::of(inner.fleet().last_heartbeat(host), under.at, inner.rules.liveness);
        let kept = inner.fleet_mut().heard(host, term, &heartbeat, under.at);
        match kept.ok_or(StoreError::TermLost { host, term })? {
            Kept::InMemory => {}
            Kept::Store => {
                inner.store.record_heartbeat(under, heartbeat.facts).await?;
                inner.room.notify_one();
            }
        }
        if was != Liveness::Alive {
            inner.room.notify_one();
        }
        if !heartbeat.running.is_empty() {
            let changed = inner.store.record_running(under, heartbeat.running).await?;
            say::begun(&changed);
            inner.tell(changed);
        }
        if !heartbeat.changed.is_empty() {
            self.observe(host, term, heartbeat.changed).await?;
        }
        Ok(())
    }

    /// Takes VM states of an inventory.
    ///
    /// # Errors
    /// `TERM_LOST`.
    pub async fn observe(&self, host: HostId, term: Term, states: Vec<VmState>) -> Result<(), Cause> {
        let observed = self.inner.store.observe_vms(self.inner.under(host, term), states).await?;
        for vm in observed.foreign {
            tracing::warn!(vm_id = %vm, "a host has a VM that this coordinator does not place there");
        }
        for vm in observed.changed {
            let _ = self.inner.changes.send(Change::Vm(vm));
        }
        Ok(())
    }

    /// Passes progress on to watchers; kept in memory alone, and nothing is decided on it.
    pub fn progress(&self, host: HostId, progress: Progress) {
        let Ok(event) = progress.event_id.parse() else { return };
        {
            let mut all = self.inner.progress();
            let known = all.entry(host).or_default();
            if known.len() >= PROGRESS_MOST && !known.contains_key(&event) {
                return;
            }
            known.insert(event, progress);
        }
        let _ = self.inner.changes.send(Change::Progress { event, host });
    }
}

impl Inner {
    fn under(&self, host: HostId, term: Term) -> Under {
        Under { host, term, at: self.now() }
    }

    /// After a write that may have freed something.
    pub(super) fn settled(&self, recorded: Recorded) {
        let Recorded { changed, released, freed, .. } = recorded;
        if !released.is_empty() {
            self.pools().release(released.iter().map(|(network, address)| (network, *address)));
        }
        if freed != Claims::default() {
            self.room.notify_one();
        }
        self.tell(changed);
    }
}
