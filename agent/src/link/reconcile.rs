//! A session whose logs do not match: what the host has is told when it is asked for, and a person's word is carried
//! out. Both take looks at libvirt and disks, so they run beside the session's loop, one at a time.

use std::collections::BTreeMap;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, Generation, HostId, Seq, VmId};
use dewpoint_proto::limits;
use dewpoint_proto::spec::VmSpec;
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::from_agent;
use futures::future::BoxFuture;
use tokio::time::timeout;

use super::Parts;
use super::session::{End, Session, Standing, unreachable};
use crate::hypervisor::Wanted;
use crate::journal::reconcile::{Adopted, NewQueue, Reconciled};
use crate::report::Holding;
use crate::report::account::{Extent, chunks};

/// Entries of the queue that one account tells.
const ENTRIES_MOST: u32 = 10_000;
/// Events that may be asked for by id.
const ASKED_MOST: usize = 4096;
/// VMs that one decision may name.
const VMS_MOST: usize = 4 * limits::VMS_PER_HOST as usize;

/// What a coordinator counts stays below it, so that a queue can go on after it.
const COUNTER_MOST: u64 = 1 << 62;

/// What is done beside the session's loop.
pub(super) type Errand = BoxFuture<'static, Result<Done, Cause>>;

/// What an errand came to.
#[derive(Debug)]
pub(super) enum Done {
    /// To be sent.
    Account(Vec<wire::AccountChunk>),
    /// The journal goes on under a new id.
    Reconciled,
    /// The decision was another journal's.
    NotOurs,
}

impl Session<'_> {
    /// The coordinator asks what the host has.
    pub(super) fn asked(&mut self, ask: wire::AskAccount) -> Result<(), End> {
        if self.standing != Standing::Diverged {
            return Ok(());
        }
        let asked: Vec<EventId> =
            ask.event_ids.iter().take(ASKED_MOST).map(|id| id.parse()).collect::<Result<_, Cause>>()?;
        self.errand = Some(Box::pin(account(self.link.parts.clone(), Seq(ask.after_seq), asked)));
        Ok(())
    }

    /// A person has reconciled the host: gathered until it is complete.
    pub(super) fn reconcile(&mut self, told: wire::Reconcile) -> Result<(), End> {
        if self.standing != Standing::Diverged {
            return Ok(());
        }
        if self.adopted.len() + told.vms.len() > VMS_MOST {
            return Err(
                Cause::new(Reason::TooLarge, "the coordinator names more VMs than a host can have").into()
            );
        }
        self.adopted.extend(told.vms);
        if told.complete {
            let decision = Decision {
                queue: NewQueue {
                    from: told.from_journal_id.parse()?,
                    to: told.journal_id.parse()?,
                    base: Seq(counter("base_seq", told.base_seq)?),
                    base_event: told.base_event_id.parse()?,
                    vms: Vec::new(),
                    end_unfinished: told.end_unfinished,
                },
                vms: std::mem::take(&mut self.adopted),
            };
            self.errand = Some(Box::pin(carry_out(self.link.parts.clone(), decision)));
        }
        Ok(())
    }

    /// A person says that this host takes the place of another: only one without VMs and events may.
    pub(super) async fn become_host(&mut self, told: wire::Become) -> Result<(), End> {
        let host: HostId = told.host_id.parse()?;
        let journal = &self.link.parts.journal;
        let vms = journal.vms().await?.len();
        let unfinished = journal.unfinished().await?;
        if vms + unfinished.events.len() + unfinished.parked.len() > 0 {
            return Err(Cause::new(
                Reason::HostInUse,
                format!("this host has {vms} VMs, and cannot become {host}"),
            )
            .advise("choose a host without VMs")
            .into());
        }
        let home = self.link.parts.home.clone();
        let written = tokio::task::spawn_blocking(move || home.take_id(host)).await;
        written.map_err(|error| Cause::new(Reason::Internal, error.to_string()))??;
        tracing::warn!(host_id = %host, "this host takes the place of another; the agent starts again under its id");
        Err(End::Renamed(host))
    }

    pub(super) async fn errand_done(&mut self, done: Result<Done, Cause>) -> Result<(), End> {
        self.errand = None;
        match done? {
            Done::Account(chunks) => {
                for chunk in chunks {
                    self.say(from_agent::Message::Account(chunk)).await?;
                }
                Ok(())
            }
            Done::Reconciled => Err(unreachable("the host was reconciled, and is matched anew").into()),
            Done::NotOurs => {
                tracing::warn!("a decision on another journal than this one is passed over");
                Ok(())
            }
        }
    }
}

/// A person's word, with the VMs as the coordinator knows them.
struct Decision {
    queue: NewQueue,
    vms: Vec<wire::Adopted>,
}

async fn account(parts: Parts, after: Seq, asked: Vec<EventId>) -> Result<Done, Cause> {
    let entries = parts.journal.account(after, asked, ENTRIES_MOST + 1).await?;
    let vms = holdings(&parts).await?;
    let told = entries.iter().filter(|entry| entry.origin.seq().is_some_and(|seq| seq > after)).count();
    let extent = if told > ENTRIES_MOST as usize { Extent::Cut } else { Extent::Whole };
    Ok(Done::Account(chunks(vms, entries, parts.journal.epoch().start_count, extent)))
}

async fn carry_out(parts: Parts, decision: Decision) -> Result<Done, Cause> {
    let found: BTreeMap<VmId, Holding> =
        holdings(&parts).await?.into_iter().map(|holding| (holding.state.vm, holding)).collect();
    let vms = decision.vms.into_iter().map(|told| adopted(told, &found)).collect::<Result<_, Cause>>()?;
    match parts.journal.reconcile(NewQueue { vms, ..decision.queue }).await? {
        Reconciled::Done => Ok(Done::Reconciled),
        Reconciled::NotOurs => Ok(Done::NotOurs),
    }
}

/// Libvirt and disks are looked at one VM after the other: with more patience than a heartbeat has.
async fn holdings(parts: &Parts) -> Result<Vec<Holding>, Cause> {
    timeout(parts.timing.journal, parts.inventory.holdings()).await.map_err(|_| {
        Cause::new(Reason::CallOverran, "what the host has could not be gathered in time")
            .advise("see the agent's status on the host")
    })?
}

fn adopted(told: wire::Adopted, found: &BTreeMap<VmId, Holding>) -> Result<Adopted, Cause> {
    let vm: VmId = told.vm_id.parse()?;
    let spec =
        told.spec.ok_or_else(|| Cause::new(Reason::Invalid, "a VM without a spec").with("vm_id", vm))?;
    let generation = Generation(counter("generation", told.generation)?);
    let mark = found.get(&vm).and_then(|holding| holding.mark.as_ref());
    let told_wanted = if told.wanted_on { Wanted::On } else { Wanted::Off };
    Ok(Adopted {
        vm,
        generation: generation.max(mark.map_or(Generation(0), |mark| mark.generation)),
        spec: VmSpec::try_from(spec)?,
        wanted: mark.map_or(told_wanted, |mark| mark.wanted),
        parts: mark.map(|mark| crate::journal::reconcile::Parts {
            disk: mark.disk,
            seed: mark.seed,
            run: mark.run,
        }),
    })
}

fn counter(field: &str, told: u64) -> Result<u64, Cause> {
    if told < COUNTER_MOST {
        return Ok(told);
    }
    Err(Cause::new(Reason::Invalid, format!("{field} is {told}, and a decision's is below {COUNTER_MOST}"))
        .advise("this is a bug of the coordinator, or its database is damaged: `dewpoint-coordinator check`")
        .with(field, told))
}

/// Never, without an errand.
pub(super) async fn finished(errand: &mut Option<Errand>) -> Result<Done, Cause> {
    match errand {
        Some(errand) => errand.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
