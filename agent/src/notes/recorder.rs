//! The hypervisor with a pen: passes everything on, and records it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::VmId;
use dewpoint_proto::time::Millis;
use tokio::sync::broadcast;

use super::Notes;
use super::rows::{CallEnd, CallNote, Sight};
use crate::hypervisor::{
    Call, CallKind, Consistency, Domain, DomainEvent, Domains, Hypervisor, Inspected, Seen,
};

/// A look at one VM.
pub(super) const OBSERVE: &str = "observe";
/// A look at all.
const LIST: &str = "list";
/// The files of all.
const DISK_FILES: &str = "disk-files";
/// A close look, for whoever mends the host.
const INSPECT: &str = "inspect";

/// A hypervisor whose calls are recorded, and what they show.
pub struct Recorded {
    inner: Arc<dyn Hypervisor>,
    notes: Notes,
}

impl Recorded {
    /// Records what is asked of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Hypervisor>, notes: Notes) -> Self {
        Self { inner, notes }
    }
}

/// A call under way.
struct Begun(Millis, Instant);

impl Begun {
    fn now() -> Self {
        Self(Millis::now(), Instant::now())
    }

    fn ended(self, vm: Option<VmId>, call: &'static str, end: CallEnd) -> CallNote {
        CallNote { vm, call, at: self.0, took: self.1.elapsed(), end }
    }
}

#[async_trait]
impl Hypervisor for Recorded {
    async fn observe(&self, vm: VmId) -> Seen<Domain> {
        let begun = Begun::now();
        let seen = self.inner.observe(vm).await;
        let end = match &seen {
            Seen::There(_) | Seen::Absent => CallEnd::Well,
            Seen::Unknown(why) => CallEnd::Failed { reason: None, error: why.clone() },
        };
        self.notes.call(begun.ended(Some(vm), OBSERVE, end));
        match &seen {
            Seen::There(domain) => self.look_at(domain),
            Seen::Absent => self.notes.missed(vm, Millis::now()),
            // Nothing is concluded from what could not be seen.
            Seen::Unknown(_) => {}
        }
        seen
    }

    async fn list(&self) -> Result<Domains, Cause> {
        let begun = Begun::now();
        let listed = self.inner.list().await;
        match &listed {
            Ok(domains) => {
                domains.values().for_each(|domain| self.look_at(domain));
                self.notes.missed_but(|vm| domains.contains_key(&vm), Millis::now());
            }
            // Those that go well come every few seconds, and say nothing of any VM.
            Err(cause) => self.notes.call(begun.ended(None, LIST, CallEnd::of(cause))),
        }
        listed
    }

    async fn apply(&self, call: Call) -> Result<Option<Consistency>, Cause> {
        let (begun, vm, name) = (Begun::now(), call.vm(), call.name());
        let result = self.inner.apply(call).await;
        let end = result.as_ref().map_or_else(CallEnd::of, |_| CallEnd::Well);
        self.notes.call(begun.ended(Some(vm), name, end));
        result
    }

    async fn disk_files(&self) -> Result<BTreeMap<VmId, Vec<PathBuf>>, Cause> {
        let begun = Begun::now();
        let listed = self.inner.disk_files().await;
        if let Err(cause) = &listed {
            self.notes.call(begun.ended(None, DISK_FILES, CallEnd::of(cause)));
        }
        listed
    }

    async fn inspect(&self, which: Option<VmId>) -> Result<BTreeMap<VmId, Inspected>, Cause> {
        let begun = Begun::now();
        let inspected = self.inner.inspect(which).await;
        if let Err(cause) = &inspected {
            self.notes.call(begun.ended(which, INSPECT, CallEnd::of(cause)));
        }
        inspected
    }

    fn deadline(&self, call: CallKind) -> Duration {
        self.inner.deadline(call)
    }

    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.inner.events()
    }

    fn degraded(&self) -> Vec<Cause> {
        self.inner.degraded()
    }
}

impl Recorded {
    fn look_at(&self, domain: &Domain) {
        if let Some(sight) = Sight::of(domain) {
            self.notes.saw(domain.vm, sight, Millis::now());
        }
    }
}
