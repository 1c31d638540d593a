//! The hypervisor as libvirt has it. The only folder that names libvirt's types.
//!
//! Owns: worker threads with a connection each (`workers`), one lane for each domain (`lanes`), and the thread that
//! listens to libvirt's events (`events`). Never: changes a domain without our mark, takes an error for an absence,
//! repeats a call, or leaves a decision about a domain's life to libvirt (autostart, managed save).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::VmId;
use tokio::sync::broadcast;

use self::events::Events;
use self::lanes::Lanes;
use self::workers::{Abandoned, Job, Pool};
use super::{
    Call, CallKind, Consistency, Control, Domain, DomainEvent, Domains, Hypervisor, Inspected, Seen,
};

mod backup;
mod call;
mod eventloop;
mod events;
mod ffi;
mod guest;
mod inspect;
mod lanes;
mod link;
mod mark;
mod observe;
mod settings;
mod sources;
mod trouble;
mod workers;
mod xml;

#[cfg(test)]
mod tests;

pub use self::settings::{Cpu, Deadlines, Settings, VirtType};

/// Workers for observing; two, so that one slow answer does not stop all eyes.
const OBSERVERS: usize = 2;
/// Workers for power-offs alone: they must get through when all others hang.
const STOPPERS: usize = 2;

/// The host's domains, by libvirt.
pub struct Libvirt {
    settings: Settings,
    events: Events,
    lanes: Lanes,
    abandoned: Abandoned,
    observers: Pool,
    stoppers: Pool,
    callers: Pool,
}

impl Libvirt {
    /// Begins to listen to libvirt's events; libvirt need not be there yet. Connections are opened when first needed.
    ///
    /// # Errors
    /// `INTERNAL` when there can be no thread or no event loop.
    pub fn new(settings: Settings) -> Result<Self, Cause> {
        eventloop::ensure()?;
        let (lanes, abandoned) = (Lanes::default(), Abandoned::default());
        let pool = |name, size| Pool::new(name, &settings.uri, size, abandoned.clone(), lanes.clone());
        Ok(Self {
            events: Events::begin(&settings.uri)?,
            observers: pool("observe", OBSERVERS),
            stoppers: pool("stop", STOPPERS),
            callers: pool("call", settings.workers.max(1)),
            lanes,
            abandoned,
            settings,
        })
    }

    /// A call that overran is still at work, whatever libvirt says of the channel: it may be waiting for it.
    fn with_overrun(&self, mut domain: Domain) -> Domain {
        if let Some(why) = self.lanes.at_work(domain.vm) {
            domain.control = Control::Busy(why);
        }
        domain
    }

    async fn made(&self, call: Call) -> Result<Option<Consistency>, Cause> {
        let (name, deadline) = (call.name(), self.deadline(call.kind()));
        let ticket = self.lanes.enter(call.vm(), name, deadline).await?;
        let pool = if matches!(call, Call::PowerOff(_)) { &self.stoppers } else { &self.callers };
        let settings = self.settings.clone();
        let job = Job { name, deadline, ticket: Some(ticket) };
        pool.run(job, move |link| {
            link.once(call::what(&call), |session| call::make(session, &settings, &call))
        })
        .await
    }
}

#[async_trait]
impl Hypervisor for Libvirt {
    async fn observe(&self, vm: VmId) -> Seen<Domain> {
        let job = Job { name: "observe", deadline: self.settings.deadlines.observe, ticket: None };
        let here = self.settings.host;
        let look = move |link: &mut link::Link| {
            link.ask("tell of the domain", |connect| observe::one(connect, here, vm))
        };
        let seen = self.observers.run(job, look).await;
        match seen {
            Ok(Seen::There(domain)) => Seen::There(self.with_overrun(domain)),
            // An abandoned define may still bring it into being.
            Ok(Seen::Absent) => self.lanes.at_work(vm).map_or(Seen::Absent, Seen::Unknown),
            Ok(Seen::Unknown(why)) => Seen::Unknown(why),
            Err(cause) => Seen::Unknown(cause.text),
        }
    }

    async fn list(&self) -> Result<Domains, Cause> {
        let job = Job { name: "list", deadline: self.settings.deadlines.list, ticket: None };
        let here = self.settings.host;
        let look =
            move |link: &mut link::Link| link.ask("list the domains", |connect| observe::all(connect, here));
        let domains = self.observers.run(job, look).await?;
        Ok(domains.into_iter().map(|(vm, domain)| (vm, self.with_overrun(domain))).collect())
    }

    async fn disk_files(&self) -> Result<BTreeMap<VmId, Vec<PathBuf>>, Cause> {
        let job = Job { name: "disk files", deadline: self.settings.deadlines.list, ticket: None };
        let here = self.settings.host;
        let look = move |link: &mut link::Link| {
            link.ask("tell of the domains' disks", |connect| sources::all(connect, here))
        };
        self.observers.run(job, look).await
    }

    async fn inspect(&self, which: Option<VmId>) -> Result<BTreeMap<VmId, Inspected>, Cause> {
        let job = Job { name: "inspect", deadline: self.settings.deadlines.list, ticket: None };
        let here = self.settings.host;
        let look = move |link: &mut link::Link| {
            link.ask("tell of the domains", |connect| inspect::inspect(connect, here, which))
        };
        let mut found = self.observers.run(job, look).await?;
        for inspected in found.values_mut() {
            inspected.domain = self.with_overrun(inspected.domain.clone());
        }
        Ok(found)
    }

    async fn apply(&self, call: Call) -> Result<Option<Consistency>, Cause> {
        let (vm, name, began) = (call.vm(), call.name(), Instant::now());
        let result = self.made(call).await;
        let took_ms = began.elapsed().as_millis();
        match &result {
            Ok(_) => tracing::debug!(vm_id = %vm, call = name, took_ms, "libvirt call"),
            Err(cause) => {
                tracing::debug!(vm_id = %vm, call = name, took_ms, reason = %cause.reason, error = %cause, "libvirt call");
            }
        }
        result
    }

    fn deadline(&self, call: CallKind) -> Duration {
        self.settings.deadlines.of(call)
    }

    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.events.subscribe()
    }

    fn degraded(&self) -> Vec<Cause> {
        self.events.degraded().into_iter().chain(self.abandoned.degraded()).collect()
    }
}
