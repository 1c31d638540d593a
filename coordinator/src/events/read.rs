//! Questions and watches.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::KindName;
use dewpoint_proto::ids::{EventId, HostId};
use dewpoint_proto::time::Millis;
use futures::stream::BoxStream;

use super::fleet::Fleet;
use super::liveness::Liveness;
use super::request::{HostSelector, VmSelector};
use super::stage::Stage;
use super::{EventStatus, Events, HostStatus, Inner, Watched, every, watch};
use crate::store::causes::{no_event, no_host, no_vm};
use crate::store::{
    EventFilter, EventRecord, FleetRecord, HostRecord, Page, Paged, Store, VmFilter, VmRecord,
};

impl Events {
    /// One event, with its explanation and progress.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`.
    pub async fn event(&self, id: EventId) -> Result<EventStatus, Cause> {
        let record = self.inner.store.event(id).await?.ok_or_else(|| no_event(id))?;
        Ok(self.inner.with_progress(record))
    }

    /// Newest first.
    ///
    /// # Errors
    /// `INVALID` for a wrong page token.
    pub async fn events(&self, filter: EventFilter, page: Page) -> Result<Paged<EventStatus>, Cause> {
        self.inner.events(filter, page).await
    }

    /// A snapshot, then every change, progress included.
    #[must_use]
    pub fn watch_events(
        &self,
        filter: EventFilter,
    ) -> BoxStream<'static, Result<Watched<EventStatus>, Cause>> {
        watch::watch(self.inner.clone(), filter)
    }

    /// One VM.
    ///
    /// # Errors
    /// `VM_NOT_FOUND`, `NAME_AMBIGUOUS`.
    pub async fn vm(&self, vm: VmSelector) -> Result<VmRecord, Cause> {
        let id = self.inner.vm_of(&vm).await?;
        self.inner.store.vm(id).await?.ok_or_else(|| no_vm(id))
    }

    /// By name.
    ///
    /// # Errors
    /// `INVALID` for a wrong page token.
    pub async fn vms(&self, filter: VmFilter, page: Page) -> Result<Paged<VmRecord>, Cause> {
        Ok(self.inner.store.vms(filter, page).await?)
    }

    /// A snapshot, then every change.
    #[must_use]
    pub fn watch_vms(&self, filter: VmFilter) -> BoxStream<'static, Result<Watched<VmRecord>, Cause>> {
        watch::watch(self.inner.clone(), filter)
    }

    /// One host.
    ///
    /// # Errors
    /// `HOST_NOT_FOUND`, `NAME_AMBIGUOUS`.
    pub async fn host(&self, host: HostSelector) -> Result<HostStatus, Cause> {
        let record = self.inner.host_of(&host).await?;
        Ok(self.inner.status(record))
    }

    /// By hostname.
    ///
    /// # Errors
    /// `INVALID` for a wrong page token.
    pub async fn hosts(&self, page: Page) -> Result<Paged<HostStatus>, Cause> {
        let Paged { items, next } = self.inner.store.hosts(page).await?;
        Ok(Paged { items: items.into_iter().map(|host| self.inner.status(host)).collect(), next })
    }

    /// What holds for the whole fleet.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn fleet(&self) -> Result<FleetRecord, Cause> {
        Ok(self.inner.store.fleet().await?)
    }
}

impl Inner {
    pub(super) async fn events(&self, filter: EventFilter, page: Page) -> Result<Paged<EventStatus>, Cause> {
        let Paged { items, next } = self.store.events(filter, page).await?;
        Ok(Paged { items: items.into_iter().map(|record| self.with_progress(record)).collect(), next })
    }

    /// A step that is told has begun its event. Its row says so with the host's next heartbeat, seconds later.
    fn with_progress(&self, mut record: EventRecord) -> EventStatus {
        let host = record.host.filter(|_| !record.stage.has_ended());
        let progress =
            host.and_then(|host| self.progress().get(&host).and_then(|known| known.get(&record.id)).cloned());
        if record.stage == Stage::Accepted && progress.as_ref().is_some_and(|told| !told.step.is_empty()) {
            record.stage = Stage::Running;
        }
        let waiting_for = self.waiting_for(&record, progress.as_ref());
        EventStatus { record, progress, waiting_for }
    }

    pub(super) async fn host_of(&self, host: &HostSelector) -> Result<HostRecord, Cause> {
        let name = match host {
            HostSelector::Id(id) => return self.store.host(*id).await?.ok_or_else(|| no_host(id)),
            HostSelector::Name(name) => name,
        };
        let mut found = self.store.hosts_named(name).await?;
        match (found.pop(), found.pop()) {
            (None, _) => Err(no_host(name)),
            (Some(one), None) => Ok(one),
            (Some(one), Some(other)) => {
                Err(Cause::new(Reason::NameAmbiguous, format!("more than one host is called {name}"))
                    .advise("give the host's id")
                    .with("host_id", one.id)
                    .with("other_host_id", other.id))
            }
        }
    }

    pub(super) fn status(&self, mut record: HostRecord) -> HostStatus {
        let observe_only = {
            let fleet = self.fleet();
            fleet.freshen(&mut record);
            fleet.view(record.id).is_some_and(|view| view.observe_only)
        };
        let heard = Liveness::of(record.last_heartbeat, self.now(), self.rules.liveness);
        let liveness = match &record {
            retired if retired.retired.is_some() => Liveness::Retired,
            diverged if diverged.diverged.is_some() => Liveness::Diverged,
            _ => heard,
        };
        HostStatus { record, liveness, observe_only }
    }

    /// Reads every host's row into the view.
    pub(super) async fn take_every_host(&self) -> Result<(), Cause> {
        for host in every_host(self.store.as_ref()).await? {
            self.fleet_mut().take(&host);
        }
        Ok(())
    }

    /// Reads a host's row into the view.
    pub(super) async fn take_host(&self, host: HostId) -> Result<(), Cause> {
        if let Some(record) = self.store.host(host).await? {
            self.fleet_mut().take(&record);
        }
        Ok(())
    }
}

pub(super) async fn every_host(store: &dyn Store) -> Result<Vec<HostRecord>, Cause> {
    let (mut all, mut page) = (Vec::new(), Some(every()));
    while let Some(this) = page {
        let found = store.hosts(this.clone()).await?;
        all.extend(found.items);
        page = found.next.map(|token| this.at(token));
    }
    Ok(all)
}

/// The view at the start: all hosts, and the builds under way.
pub(super) async fn whole_fleet(store: &dyn Store, now: Millis) -> Result<Fleet, Cause> {
    let mut fleet = Fleet::new(store.fleet().await?);
    for mut host in every_host(store).await? {
        // Heard when the clock was ahead: from now on its silence counts.
        host.last_heartbeat = host.last_heartbeat.map(|heard| heard.min(now));
        fleet.take(&host);
    }
    let filter = EventFilter { unfinished_only: true, ..EventFilter::default() };
    let mut page = Some(every());
    while let Some(this) = page {
        let found = store.events(filter.clone(), this.clone()).await?;
        for event in &found.items {
            if let (KindName::Create | KindName::Restore, Some(host)) = (event.kind, event.host) {
                fleet.builds(event.id, host);
            }
        }
        page = found.next.map(|token| this.at(token));
    }
    Ok(fleet)
}
