//! A person's word on this host: the journal goes on under a new id, after a new base of the queue. In one transaction,
//! so that a crash leaves the old journal or the new one.
//!
//! VMs that the coordinator knows and this journal does not are taken up, as they are found on the host; one that is
//! not found is taken up all the same, so that a destroy can prove that it is gone.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, Generation, JournalId, RunId, Seq, VmId};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::VmSpec;
use rusqlite::params;

use super::columns::{int, placement, spec_bytes};
use super::entry::Entry;
use super::error::JournalError;
use super::job::{Access, Tx};
use super::{Journal, append, query, schema, witness};
use crate::hypervisor::Wanted;

/// In `meta`: the queue goes on after it.
pub(super) const BASE: &str = "queue_base";
/// In `meta`: what stands there.
pub(super) const BASE_EVENT: &str = "queue_base_event";

/// How the journal goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewQueue {
    /// The journal that it is meant for.
    pub from: JournalId,
    /// Its id from then on.
    pub to: JournalId,
    /// The next delivery follows it.
    pub base: Seq,
    /// Stands there in both logs.
    pub base_event: EventId,
    /// The host's VMs, as the coordinator knows them.
    pub vms: Vec<Adopted>,
    /// What is unfinished may long be done: it ends here.
    pub end_unfinished: bool,
}

/// A VM to be taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Which VM.
    pub vm: VmId,
    /// At least.
    pub generation: Generation,
    /// What it was built as.
    pub spec: VmSpec,
    /// As its domain says, else as the coordinator knows.
    pub wanted: Wanted,
    /// As its domain says; none: it has none, or it bears no mark.
    pub parts: Option<Parts>,
}

/// What a domain's mark says of its VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The event that made its disk.
    pub disk: EventId,
    /// The event that made its seed.
    pub seed: EventId,
    /// The latest run.
    pub run: Option<RunId>,
}

/// Whether a decision was this journal's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// Done, now or before.
    Done,
    /// It is meant for another journal.
    NotOurs,
}

impl Journal {
    /// Why the journal is not believed; none: it is. While it is not, no event is admitted, and none gone on with.
    #[must_use]
    pub fn doubt(&self) -> Option<Cause> {
        self.0.doubt.borrow().clone()
    }

    /// Begins the new queue. Repeatable.
    ///
    /// # Errors
    /// When it cannot be written: then nothing was.
    pub async fn reconcile(&self, queue: NewQueue) -> Result<Reconciled, JournalError> {
        self.ask(Access::Write, move |tx| begin(tx, &queue)).await
    }
}

fn begin(tx: &mut Tx<'_>, queue: &NewQueue) -> Result<Reconciled, JournalError> {
    let journal = schema::read_epoch(tx.db)?.journal;
    if journal == queue.to {
        return Ok(Reconciled::Done);
    }
    if journal != queue.from {
        return Ok(Reconciled::NotOurs);
    }
    if queue.end_unfinished {
        end_unfinished(tx)?;
    }
    for vm in &queue.vms {
        take_up(tx, vm)?;
    }
    schema::put(tx.db, witness::PREVIOUS, &journal.to_string())?;
    schema::put(tx.db, "journal_id", &queue.to.to_string())?;
    schema::put(tx.db, BASE, &queue.base.0.to_string())?;
    schema::put(tx.db, BASE_EVENT, &queue.base_event.to_string())?;
    witness::forget(tx.db)?;
    tx.effects.journal = Some(queue.to);
    Ok(Reconciled::Done)
}

/// Nobody knows whether it happened, so nobody says that it did not.
fn end_unfinished(tx: &mut Tx<'_>) -> Result<(), JournalError> {
    let list = "SELECT event_id FROM events WHERE finished_at IS NULL ORDER BY n";
    let unfinished: Vec<EventId> = tx
        .db
        .prepare_cached(list)?
        .query_map([], |row| super::columns::parsed(row, 0))?
        .collect::<Result<_, _>>()?;
    for event in unfinished {
        let cause = Cause::new(
            Reason::Unconfirmed,
            "the journal was an older copy, and a person reconciled the host: whether it happened is not known",
        )
        .advise("look at the VM, then send the event again as a new one")
        .with("event_id", event);
        let end = Entry::Finished { outcome: Outcome::Failed(cause), vm: None, leaves: None };
        append::append(tx, event, &[end])?;
    }
    Ok(())
}

fn take_up(tx: &Tx<'_>, adopted: &Adopted) -> Result<(), JournalError> {
    let placement = placement(&adopted.spec);
    let wanted = match adopted.wanted {
        Wanted::On => "on",
        Wanted::Off => "off",
    };
    let text = |id: Option<EventId>| id.map(|id| id.to_string());
    let (disk, seed) = (adopted.parts.map(|parts| parts.disk), adopted.parts.map(|parts| parts.seed));
    let run = adopted.parts.and_then(|parts| parts.run);
    tx.db
        .prepare_cached(
            "INSERT INTO vms (vm_id, name, generation, presence, wanted, disk, seed, run, placement, spec)
             VALUES (?1, ?2, ?3, 'there', ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (vm_id) DO UPDATE SET generation = max(generation, ?3), name = coalesce(name, ?2),
                 placement = coalesce(placement, ?8), spec = coalesce(spec, ?9)",
        )?
        .execute(params![
            adopted.vm.to_string(),
            adopted.spec.name.as_str(),
            int(adopted.generation.0),
            wanted,
            text(disk),
            text(seed),
            run.map(|run| run.to_string()),
            placement,
            spec_bytes(&adopted.spec),
        ])?;
    // What this journal calls gone, or half built by nobody, is there for the coordinator: a destroy settles it.
    tx.db
        .prepare_cached(
            "UPDATE vms SET presence = 'there', name = ?2, wanted = ?3, disk = ?4, seed = ?5, run = ?6, placement = ?7,
                 spec = ?8
             WHERE vm_id = ?1 AND presence <> 'there'
                 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.vm_id = vms.vm_id AND e.finished_at IS NULL)",
        )?
        .execute(params![
            adopted.vm.to_string(),
            adopted.spec.name.as_str(),
            wanted,
            text(disk),
            text(seed),
            run.map(|run| run.to_string()),
            placement,
            spec_bytes(&adopted.spec),
        ])?;
    Ok(())
}

/// Where the queue begins: what came before it is not this journal's.
pub(super) fn base(db: &rusqlite::Connection) -> Result<Option<(Seq, EventId)>, JournalError> {
    let Some(seq) = schema::get(db, BASE)? else { return Ok(None) };
    let event = schema::get(db, BASE_EVENT)?;
    let parsed = seq.parse().ok().zip(event.and_then(|event| event.parse().ok()));
    let (seq, event) = parsed.ok_or_else(|| JournalError::Damaged("meta: queue_base".to_owned()))?;
    Ok(Some((Seq(seq), event)))
}

/// The last place of the queue.
pub(super) fn last_seq(db: &rusqlite::Connection) -> Result<Seq, JournalError> {
    let last: i64 =
        db.prepare_cached("SELECT coalesce(max(seq), 0) FROM queue")?.query_row([], |row| row.get(0))?;
    let last = Seq(u64::try_from(last).unwrap_or(0));
    Ok(base(db)?.map_or(last, |(base, _)| base.max(last)))
}

/// Entries of the queue after a place, and events by their ids: for whoever compares. At most `limit` of the queue.
pub(super) fn account(
    db: &rusqlite::Connection,
    after: Seq,
    asked: &[EventId],
    limit: u32,
) -> Result<Vec<super::rows::EventRow>, JournalError> {
    let mut rows = query::events_after(db, after, limit)?;
    for event in asked {
        if rows.iter().all(|row| row.id != *event)
            && let Some((row, _)) = query::event(db, *event)?
        {
            rows.push(row);
        }
    }
    Ok(rows)
}

impl Journal {
    /// Entries of the queue after a place, in order, at most `limit`; then those asked for by id that are not among
    /// them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn account(
        &self,
        after: Seq,
        asked: Vec<EventId>,
        limit: u32,
    ) -> Result<Vec<super::rows::EventRow>, JournalError> {
        self.ask(Access::Read, move |tx| account(tx.db, after, &asked, limit)).await
    }
}

#[cfg(test)]
mod tests;
