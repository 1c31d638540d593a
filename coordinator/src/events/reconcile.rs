//! Hosts whose logs do not match, and hosts that retire or are replaced: a person looks, and says what becomes of them.
//!
//! A diverged host is asked what it has. The plan is made of that and of the rows; it is carried out only as it was
//! shown, and the host hears of it until it has done its part.

mod orders;
pub(super) mod plan;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, HostId, JournalId, Term, VmId};

use super::liveness::Liveness;
use super::read::every_host;
use super::request::HostSelector;
use super::{Events, HostStatus, Inner, every};
use crate::store::matching::{LogMatch, match_logs};
use crate::store::{
    Account, Cure, Disks, EventFilter, EventRecord, HostRecord, NewQueue, Reconciliation, Replacement,
    Retirement, StoreError, TakeOver, VmFilter, VmRecord, Word,
};
pub use orders::Order;
use plan::{Plan, Sides, Standing};

/// What diverged hosts told that they have, each under the term of the session that told it.
#[derive(Default)]
pub(super) struct Accounts(Mutex<HashMap<HostId, (Term, Account)>>);

impl Accounts {
    fn lock(&self) -> MutexGuard<'_, HashMap<HostId, (Term, Account)>> {
        // Single inserts and removes: a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, host: HostId) {
        self.lock().remove(&host);
    }

    fn of(&self, host: HostId, term: Term) -> Option<Account> {
        self.lock().get(&host).filter(|(under, _)| *under == term).map(|(_, account)| account.clone())
    }
}

/// What a retirement came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// As it is now.
    pub host: HostStatus,
    /// VMs that are gone with its disks.
    pub vms: Vec<VmId>,
    /// Their events, which are unknown now.
    pub unknown: Vec<EventId>,
}

impl Events {
    /// Takes what a diverged host has. One that this database is behind is taken over at once.
    ///
    /// # Errors
    /// `TERM_LOST`, or when the store cannot be written.
    pub async fn account(&self, host: HostId, term: Term, account: Account) -> Result<(), Cause> {
        let inner = &self.inner;
        let record = inner.store.host(host).await?.filter(|record| record.term == term);
        let record = record.ok_or(StoreError::TermLost { host, term })?;
        if !record.recovering {
            tracing::info!(
                vms = account.vms.len(),
                entries = account.entries.len(),
                "a diverged host told what it has"
            );
            inner.accounts.lock().insert(host, (term, account));
            return Ok(());
        }
        let told = TakeOver { host, term, account: account.clone(), at: inner.now() };
        match inner.store.take_over(told).await? {
            Ok(taken) => {
                tracing::warn!(
                    events = taken.changed.len(),
                    vms = taken.vms.len(),
                    "what the host knew and this database did not was taken over"
                );
                for cause in &taken.contradictions {
                    tracing::warn!(reason = %cause.reason, "{cause}");
                }
                inner.tell(taken.changed);
            }
            Err(cause) => {
                tracing::error!(reason = %cause.reason, advice = cause.advice, "not taken over: {cause}");
                inner.accounts.lock().insert(host, (term, account));
            }
        }
        inner.settled_host(host).await
    }

    /// What reconciling a host comes to.
    ///
    /// # Errors
    /// `INVALID` when there is nothing to reconcile, `UNREACHABLE` when the host has not told what it has.
    pub async fn plan_reconcile(&self, host: HostSelector) -> Result<Plan, Cause> {
        let record = self.inner.host_of(&host).await?;
        Ok(self.inner.plan(&record).await?.0)
    }

    /// Carries out the plan of that digest.
    ///
    /// # Errors
    /// `PLAN_CHANGED` when it is another by now; else as [`Events::plan_reconcile`].
    pub async fn reconcile(&self, host: HostSelector, digest: &str, word: Word) -> Result<Plan, Cause> {
        let inner = &self.inner;
        let record = inner.host_of(&host).await?;
        let (plan, account) = inner.plan(&record).await?;
        if plan.digest() != digest {
            return Err(Cause::new(Reason::PlanChanged, "what was shown is not what there is any more")
                .advise("look at the plan again, and give it its new digest")
                .with("digest", plan.digest()));
        }
        let reconciliation = Reconciliation {
            host: record.id,
            term: record.term,
            last_seq: record.last_seq,
            cure: cure(&plan, &record, account, &word.reason),
            word: word.clone(),
        };
        let settlement = inner.store.reconcile(reconciliation).await??;
        tracing::warn!(host_id = %record.id, who = word.who, why = word.reason, unknown = settlement.changed.len(), adopted = settlement.vms.len(),
            "a person reconciled the host: {}", plan.diverged);
        {
            let mut fleet = inner.fleet_mut();
            settlement.changed.iter().for_each(|changed| fleet.ended(changed.event));
        }
        inner.tell(settlement.changed);
        inner.settled_host(record.id).await?;
        Ok(plan)
    }

    /// A person says that a host will not come back.
    ///
    /// # Errors
    /// `HOST_IN_USE` while it is connected, or has VMs whose disks are not said to be gone.
    pub async fn retire(&self, host: HostSelector, disks: Disks, word: Word) -> Result<Retired, Cause> {
        let inner = &self.inner;
        let id = inner.absent(&host, "retired").await?.id;
        let retirement = Retirement { host: id, disks, word: word.clone() };
        let settlement = inner.store.retire_host(retirement).await??;
        tracing::warn!(host_id = %id, who = word.who, why = word.reason, ?disks, vms = settlement.vms.len(), "a person retired the host");
        let unknown = settlement.changed.iter().map(|changed| changed.event).collect();
        {
            let mut fleet = inner.fleet_mut();
            settlement.changed.iter().for_each(|changed| fleet.ended(changed.event));
        }
        if !settlement.released.is_empty() {
            let released = settlement.released.iter().map(|(network, address)| (network, *address));
            inner.pools().release(released);
        }
        inner.tell(settlement.changed);
        inner.settled_host(id).await?;
        let record = inner.host_of(&HostSelector::Id(id)).await?;
        Ok(Retired { host: inner.status(record), vms: settlement.vms, unknown })
    }

    /// A person says that a host without VMs takes the place of one that is lost.
    ///
    /// # Errors
    /// `HOST_IN_USE` while the old one is connected, or the new one has VMs; `HOST_RETIRED`.
    pub async fn replace(
        &self,
        old: HostSelector,
        new: HostSelector,
        word: Word,
    ) -> Result<HostStatus, Cause> {
        let inner = &self.inner;
        let old = inner.absent(&old, "replaced").await?.id;
        let new = inner.host_of(&new).await?.id;
        let replacement = Replacement { old, new, word: word.clone() };
        let record = inner.store.replace_host(replacement).await??;
        tracing::warn!(old_host_id = %old, new_host_id = %new, who = word.who, why = word.reason, "a person replaced the host");
        inner.settled_host(old).await?;
        inner.settled_host(new).await?;
        Ok(inner.status(*record))
    }
}

fn cure(plan: &Plan, record: &HostRecord, account: Account, reason: &str) -> Cure {
    if plan.machine.is_some() {
        return Cure::Machine;
    }
    let lost = plan.lost(reason);
    let queue = NewQueue {
        from: plan.journal,
        to: JournalId::fresh(),
        base: plan.base,
        base_event: EventId::fresh(),
        end_unfinished: record.told.as_ref().is_some_and(|told| told.doubt.is_some()),
    };
    let both = plan.vms.iter().filter(|vm| vm.standing == Standing::Both);
    let adopted = |vm: &VmId| plan.vms.iter().any(|one| one.vm == *vm && one.standing == Standing::Adopted);
    Cure::NewQueue {
        queue,
        unknown: plan.unknown.iter().map(|event| (event.event, lost.clone())).collect(),
        continued: plan.continued.iter().map(|event| event.event).collect(),
        raised: both.map(|vm| (vm.vm, vm.generation.max(vm.host_generation))).collect(),
        adopted: account.vms.into_iter().filter(|holding| adopted(&holding.state.vm)).collect(),
    }
}

impl Inner {
    async fn plan(&self, record: &HostRecord) -> Result<(Plan, Account), Cause> {
        let nothing = |text: String, advice: &str| {
            Cause::new(Reason::Invalid, text).advise(advice).with("host_id", record.id)
        };
        let name = &record.hostname;
        if record.recovering {
            return Err(nothing(
                format!("host {name} is ahead of this database, and is taken over when it tells what it has"),
                "wait for it; `dewpoint host end-recovery` goes on without",
            ));
        }
        let (Some(diverged), Some(told)) = (&record.diverged, &record.told) else {
            return Err(nothing(format!("the logs of host {name} match"), "there is nothing to reconcile"));
        };
        if record.reconciling.is_some_and(|queue| queue.from == told.journal) || record.becomes.is_some() {
            return Err(nothing(
                format!("host {name} has yet to hear what was decided"),
                "it does so when its agent is connected",
            ));
        }
        let log = self.store.log_of(record.id, told.last_seq).await?;
        let logs_match = matches!(match_logs(told, log.as_ref()), LogMatch::Matched { .. });
        let account = match self.accounts.of(record.id, record.term) {
            Some(account) => account,
            None => return Err(untold(record)),
        };
        let unfinished = self.unfinished_of(record.id).await?;
        let ours = self.vms_of(record.id).await?;
        let mut known = BTreeMap::new();
        for holding in &account.vms {
            if let Some(row) = self.store.vm(holding.state.vm).await? {
                known.insert(row.id, row);
            }
        }
        let sides = Sides {
            host: record,
            diverged,
            told,
            logs_match,
            unfinished: &unfinished,
            ours: &ours,
            known: &known,
            account: &account,
        };
        Ok((plan::make(&sides), account))
    }

    /// A host that nobody hears.
    async fn absent(&self, host: &HostSelector, what: &str) -> Result<HostRecord, Cause> {
        let record = self.host_of(host).await?;
        let heard = self.fleet().last_heartbeat(record.id);
        match Liveness::of(heard, self.now(), self.rules.liveness) {
            Liveness::Alive | Liveness::Late => Err(Cause::new(
                Reason::HostInUse,
                format!("host {} is heard, and is not {what}", record.hostname),
            )
            .advise("stop its agent, and wait until it is lost")
            .with("host_id", record.id)),
            _ => Ok(record),
        }
    }

    async fn unfinished_of(&self, host: HostId) -> Result<Vec<EventRecord>, Cause> {
        let filter = EventFilter { host: Some(host), unfinished_only: true, ..EventFilter::default() };
        let (mut all, mut page) = (Vec::new(), Some(every()));
        while let Some(this) = page {
            let found = self.store.events(filter.clone(), this.clone()).await?;
            all.extend(found.items);
            page = found.next.map(|token| this.at(token));
        }
        Ok(all)
    }

    async fn vms_of(&self, host: HostId) -> Result<Vec<VmRecord>, Cause> {
        let filter = VmFilter { host: Some(host), ..VmFilter::default() };
        let (mut all, mut page) = (Vec::new(), Some(every()));
        while let Some(this) = page {
            let found = self.store.vms(filter.clone(), this.clone()).await?;
            all.extend(found.items.into_iter().filter(|vm| vm.host == Some(host)));
            page = found.next.map(|token| this.at(token));
        }
        Ok(all)
    }

    /// After a decision on a host: placement sees it, and its session looks what there is to tell.
    async fn settled_host(&self, host: HostId) -> Result<(), Cause> {
        self.take_host(host).await?;
        self.fleet().wake(host);
        self.room.notify_one();
        Ok(())
    }

    /// Ends a recovery when every host was heard, and told all that it had to tell.
    pub(super) async fn settle_recovery(&self) -> Result<(), Cause> {
        if self.store.fleet().await?.recovering.is_none() {
            return Ok(());
        }
        for host in every_host(self.store.as_ref()).await? {
            let told = self.fleet().heard_of(host.id).is_some_and(|told| host.last_report >= told);
            if host.retired.is_none() && (host.recovering || !told) {
                return Ok(());
            }
        }
        if let Some(cause) = self.store.settle_recovery().await? {
            tracing::warn!("all hosts have told, and the recovery is over: {cause}");
            self.room.notify_one();
        }
        Ok(())
    }
}

fn untold(record: &HostRecord) -> Cause {
    let old = record.told.as_ref().is_some_and(|told| told.protocol < 2);
    let advice = if old {
        "its agent is older, and cannot tell: upgrade it"
    } else {
        "it tells within seconds of connecting: see that its agent runs, and try again"
    };
    Cause::new(Reason::Unreachable, format!("host {} has not told what it has", record.hostname))
        .advise(advice)
        .with("host_id", record.id)
}

#[cfg(test)]
mod tests;
