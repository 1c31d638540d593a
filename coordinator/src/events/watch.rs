//! Watches: a snapshot, then every change, without a gap.
//!
//! A change names what changed, and the watcher reads it again: it always sees the newest, never an older one after a
//! newer one. It listens before it reads the snapshot, so nothing falls between; one that fell behind begins anew.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{EventId, HostId, VmId};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};

use super::{EventStatus, Inner, Watched};
use crate::store::{Changed, EventFilter, Page, Paged, VmFilter, VmRecord};

/// Changes that a watcher may be behind, at most.
pub(super) const BEHIND_MOST: usize = 4096;
/// Changes taken together: one that changed twice is read once.
const TOGETHER: usize = 256;
/// Items read at once for the snapshot.
const SNAPSHOT_PAGE: u32 = 200;

/// What changed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// An event's row, or its progress; with it its VM's unfinished event.
    Event(Changed),
    /// An event's progress.
    Progress {
        /// Which event.
        event: EventId,
        /// Who told it.
        host: HostId,
    },
    /// A VM's row.
    Vm(VmId),
}

/// What can be watched.
pub(super) trait Watchable: Send + Sync + 'static {
    type Item: Send + 'static;
    type Key: PartialEq + Copy + Send;
    /// A page of the snapshot.
    fn page(
        &self,
        inner: &Inner,
        page: Page,
    ) -> impl Future<Output = Result<Paged<Self::Item>, Cause>> + Send;
    /// Whether a change may concern it.
    fn concerns(&self, change: Change) -> Option<Self::Key>;
    /// The newest of one; none: the filter passes it over.
    fn newest(
        &self,
        inner: &Inner,
        key: Self::Key,
    ) -> impl Future<Output = Result<Option<Self::Item>, Cause>> + Send;
}

impl Watchable for EventFilter {
    type Item = EventStatus;
    type Key = EventId;

    async fn page(&self, inner: &Inner, page: Page) -> Result<Paged<EventStatus>, Cause> {
        inner.events(self.clone(), page).await
    }

    fn concerns(&self, change: Change) -> Option<EventId> {
        let changed = match change {
            Change::Event(changed) => changed,
            // Of which VM it is, reading it again tells.
            Change::Progress { event, host } => {
                let fits = self.event.is_none_or(|wanted| wanted == event)
                    && self.host.is_none_or(|wanted| wanted == host);
                return fits.then_some(event);
            }
            Change::Vm(_) => return None,
        };
        let fits = self.event.is_none_or(|event| event == changed.event)
            && self.vm.is_none_or(|vm| vm == changed.vm)
            && self.host.is_none_or(|host| Some(host) == changed.host);
        fits.then_some(changed.event)
    }

    async fn newest(&self, inner: &Inner, event: EventId) -> Result<Option<EventStatus>, Cause> {
        // Its end is told even when only unfinished ones were asked for.
        let one = Self { event: Some(event), unfinished_only: false, ..self.clone() };
        Ok(inner.events(one, Page::first(1)).await?.items.pop())
    }
}

impl Watchable for VmFilter {
    type Item = VmRecord;
    type Key = VmId;

    async fn page(&self, inner: &Inner, page: Page) -> Result<Paged<VmRecord>, Cause> {
        Ok(inner.store.vms(self.clone(), page).await?)
    }

    fn concerns(&self, change: Change) -> Option<VmId> {
        let vm = match change {
            Change::Event(changed) => changed.vm,
            Change::Vm(vm) => vm,
            Change::Progress { .. } => return None,
        };
        self.vm.is_none_or(|wanted| wanted == vm).then_some(vm)
    }

    async fn newest(&self, inner: &Inner, vm: VmId) -> Result<Option<VmRecord>, Cause> {
        // That it is gone is told even when only those that are there were asked for.
        let one = Self { vm: Some(vm), include_gone: true, ..self.clone() };
        Ok(inner.store.vms(one, Page::first(1)).await?.items.pop())
    }
}

/// A stream that ends when the coordinator stops, or after an error.
pub(super) fn watch<W: Watchable>(
    inner: Arc<Inner>,
    what: W,
) -> BoxStream<'static, Result<Watched<W::Item>, Cause>> {
    let changes = inner.changes.subscribe();
    let phase = Phase::Snapshot(Page::first(SNAPSHOT_PAGE));
    let watcher = Watcher { inner, what, changes, ready: VecDeque::new(), phase };
    stream::unfold(watcher, Watcher::next).boxed()
}

enum Phase {
    Snapshot(Page),
    Live,
    Over,
}

struct Watcher<W: Watchable> {
    inner: Arc<Inner>,
    what: W,
    changes: broadcast::Receiver<Change>,
    ready: VecDeque<Watched<W::Item>>,
    phase: Phase,
}

impl<W: Watchable> Watcher<W> {
    async fn next(mut self) -> Option<(Result<Watched<W::Item>, Cause>, Self)> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some((Ok(item), self));
            }
            let step = match &self.phase {
                Phase::Snapshot(page) => {
                    let page = page.clone();
                    self.snapshot(page).await
                }
                Phase::Live => self.live().await,
                Phase::Over => return None,
            };
            if let Err(cause) = step {
                self.phase = Phase::Over;
                return Some((Err(cause), self));
            }
        }
    }

    async fn snapshot(&mut self, page: Page) -> Result<(), Cause> {
        let found = self.what.page(&self.inner, page.clone()).await?;
        self.ready.extend(found.items.into_iter().map(Watched::Item));
        self.phase = match found.next {
            Some(next) => Phase::Snapshot(page.at(next)),
            None => {
                self.ready.push_back(Watched::SnapshotComplete);
                Phase::Live
            }
        };
        Ok(())
    }

    async fn live(&mut self) -> Result<(), Cause> {
        let first = tokio::select! {
            () = self.inner.stop.cancelled() => Err(RecvError::Closed),
            change = self.changes.recv() => change,
        };
        let mut keys: Vec<W::Key> = Vec::new();
        match first {
            Ok(change) => keys.extend(self.what.concerns(change)),
            Err(RecvError::Lagged(_)) => return self.begin_anew(),
            Err(RecvError::Closed) => {
                self.phase = Phase::Over;
                return Ok(());
            }
        }
        for _ in 1..TOGETHER {
            match self.changes.try_recv() {
                Ok(change) => {
                    let key = self.what.concerns(change);
                    keys.extend(key.filter(|key| !keys.contains(key)));
                }
                Err(TryRecvError::Lagged(_)) => return self.begin_anew(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        for key in keys {
            let item = self.what.newest(&self.inner, key).await?;
            self.ready.extend(item.map(Watched::Item));
        }
        Ok(())
    }

    fn begin_anew(&mut self) -> Result<(), Cause> {
        self.changes = self.inner.changes.subscribe();
        self.phase = Phase::Snapshot(Page::first(SNAPSHOT_PAGE));
        Ok(())
    }
}
