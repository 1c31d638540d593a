//! What is written of events that are here: entries, ends, acknowledgements; and what is dropped in time.

use std::time::Duration;

use dewpoint_proto::event::KindName;
use dewpoint_proto::ids::{EventId, ReportSeq, Term, VmId};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::VmState;
use rusqlite::params;

use super::columns::{int, to_json};
use super::entry::{Entry, Leaves, VERSION};
use super::error::JournalError;
use super::job::Tx;
use super::moment::ClockOffset;
use super::query::{self, Standing};
use super::rows::{Change, ReportRow, Session};
use super::stage::Stage;
use super::{Settings, kept, schema};
use crate::hypervisor::Wanted;

/// Writes entries of one event, in order.
pub(super) fn append(tx: &mut Tx<'_>, event: EventId, entries: &[Entry]) -> Result<Stage, JournalError> {
    let mut standing = query::standing(tx.db, event)?.ok_or(JournalError::NoEvent(event))?;
    for entry in entries {
        standing.stage = standing.stage.after(entry).map_err(JournalError::Illegal)?;
        insert(tx, event, entry)?;
        apply(tx, event, &mut standing, entry)?;
    }
    let change = Change { event, vm: standing.vm, stage: standing.stage.clone(), entries: entries.to_vec() };
    tx.effects.changes.push(change);
    Ok(standing.stage)
}

fn insert(tx: &Tx<'_>, event: EventId, entry: &Entry) -> Result<(), JournalError> {
    tx.db
        .prepare_cached(
            "INSERT INTO entries (event_id, kind, version, json, wall, since_boot, boot)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            event.to_string(),
            entry.name(),
            VERSION,
            to_json(entry)?,
            tx.now.wall.0,
            int(tx.now.since_boot_ms),
            tx.now.boot.0.to_string(),
        ])?;
    Ok(())
}

/// What an entry means for the rows beside it.
fn apply(
    tx: &mut Tx<'_>,
    event: EventId,
    standing: &mut Standing,
    entry: &Entry,
) -> Result<(), JournalError> {
    match entry {
        Entry::StepStarted { .. } => {
            standing.begun_at.get_or_insert(tx.now.wall);
            set_stage(tx, event, standing)
        }
        Entry::UndoDecided { .. } | Entry::Acknowledged => set_stage(tx, event, standing),
        // Neither changes the stage.
        Entry::StepDone { .. } | Entry::StepFailed { .. } => Ok(()),
        Entry::Finished { outcome, vm, leaves } => {
            finish(tx, event, standing, (outcome, vm.as_ref()))?;
            leave(tx, standing, outcome, leaves.as_ref())
        }
    }
}

fn set_stage(tx: &Tx<'_>, event: EventId, standing: &Standing) -> Result<(), JournalError> {
    tx.db
        .prepare_cached("UPDATE events SET stage = ?2, begun_at = ?3 WHERE event_id = ?1")?
        .execute(params![event.to_string(), standing.stage.name(), standing.begun_at.map(|at| at.0)])?;
    Ok(())
}

fn finish(
    tx: &mut Tx<'_>,
    event: EventId,
    standing: &Standing,
    (outcome, vm): (&Outcome, Option<&VmState>),
) -> Result<(), JournalError> {
    tx.db
        .prepare_cached("UPDATE events SET stage = ?2, finished_at = ?3, outcome = ?4 WHERE event_id = ?1")?
        .execute(params![event.to_string(), standing.stage.name(), tx.now.wall.0, to_json(outcome)?])?;
    let report = ReportRow {
        n: ReportSeq(0),
        event,
        seq: standing.seq,
        generation: standing.generation,
        outcome: outcome.clone(),
        vm: vm.cloned(),
        body: None,
        begun_at: standing.begun_at,
        finished_at: tx.now.wall,
    };
    write_report(tx, &report)
}

/// Puts a report into the outbox; its number is the database's to give.
pub(super) fn write_report(tx: &mut Tx<'_>, report: &ReportRow) -> Result<(), JournalError> {
    tx.db
        .prepare_cached(
            "INSERT INTO reports (event_id, seq, generation, outcome, vm, begun_at, finished_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            report.event.to_string(),
            report.seq.map(|seq| int(seq.0)),
            int(report.generation.0),
            to_json(&report.outcome)?,
            report.vm.as_ref().map(to_json).transpose()?,
            report.begun_at.map(|at| at.0),
            report.finished_at.0,
        ])?;
    tx.effects.report = Some(ReportSeq(u64::try_from(tx.db.last_insert_rowid()).unwrap_or(0)));
    Ok(())
}

/// What later events of the VM start from.
fn leave(
    tx: &Tx<'_>,
    standing: &Standing,
    outcome: &Outcome,
    leaves: Option<&Leaves>,
) -> Result<(), JournalError> {
    match leaves {
        Some(Leaves::Vm { disk, seed, wanted, run }) => {
            tx.db
                .prepare_cached(
                    "UPDATE vms SET presence = 'there', disk = ?2, seed = ?3, wanted = ?4, run = ?5
                     WHERE vm_id = ?1",
                )?
                .execute(params![
                    standing.vm.to_string(),
                    disk.to_string(),
                    seed.to_string(),
                    wanted_name(*wanted),
                    run.map(|run| run.to_string()),
                ])?;
            Ok(())
        }
        Some(Leaves::Gone) => bury(tx, standing.vm),
        // A create that was never begun has built nothing.
        None if standing.kind == KindName::Create.as_str() && matches!(outcome, Outcome::Expired(_)) => {
            bury(tx, standing.vm)
        }
        None => Ok(()),
    }
}

/// The generation stays; the rest, with the user-data, goes.
fn bury(tx: &Tx<'_>, vm: VmId) -> Result<(), JournalError> {
    tx.db
        .prepare_cached(
            "UPDATE vms SET presence = 'gone', wanted = 'off', disk = NULL, seed = NULL, run = NULL, spec = NULL
             WHERE vm_id = ?1",
        )?
        .execute([vm.to_string()])?;
    kept::forget(tx.db, vm)
}

fn wanted_name(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::On => "on",
        Wanted::Off => "off",
    }
}

/// What a Welcome said, unless its coordinator has lost its claim.
pub(super) fn welcomed(tx: &Tx<'_>, term: Term, theirs: Millis, hold: bool) -> Result<Session, JournalError> {
    if term >= query::session(tx.db)?.term {
        schema::put(tx.db, "term", &int(term.0).to_string())?;
        schema::put(tx.db, "clock", &to_json(&ClockOffset { at: tx.now, theirs })?)?;
        set_hold(tx, hold)?;
    }
    query::session(tx.db)
}

/// Held by an operator, or no longer.
pub(super) fn set_hold(tx: &Tx<'_>, hold: bool) -> Result<(), JournalError> {
    Ok(schema::put(tx.db, "hold", if hold { "held" } else { "free" })?)
}

/// Marks what was waiting up to a number.
pub(super) const ACKNOWLEDGE: &str =
    "UPDATE reports SET acked = 1 WHERE acked = 0 AND report_seq <= ?1 RETURNING event_id";

/// The coordinator has every report up to this one: their events are `reported`.
pub(super) fn acknowledge(tx: &mut Tx<'_>, up_to: ReportSeq) -> Result<(), JournalError> {
    let acknowledged: Vec<EventId> = tx
        .db
        .prepare_cached(ACKNOWLEDGE)?
        .query_map([int(up_to.0)], |row| super::columns::parsed(row, 0))?
        .collect::<Result<_, _>>()?;
    for event in acknowledged {
        let standing = query::standing(tx.db, event)?;
        // The report of a reused id names an event that has a report of its own, or is not over yet.
        if standing.is_some_and(|found| matches!(found.stage, Stage::Finished(_))) && all_acked(tx, event)? {
            append(tx, event, &[Entry::Acknowledged])?;
        }
    }
    Ok(())
}

fn all_acked(tx: &Tx<'_>, event: EventId) -> Result<bool, JournalError> {
    Ok(tx
        .db
        .prepare_cached("SELECT NOT EXISTS (SELECT 1 FROM reports WHERE event_id = ?1 AND acked = 0)")?
        .query_row([event.to_string()], |row| row.get(0))?)
}

/// Drops what has been kept long enough, by the wall clock and by `unmoved`, so that a moved clock takes no event's time away. What
/// the coordinator has not heard of yet stays whole; ids, digests and outcomes stay for good.
pub(super) fn prune(tx: &Tx<'_>, settings: &Settings, unmoved: Millis) -> Result<(), JournalError> {
    let now = tx.now.wall.0.min(unmoved.0);
    let before = |kept: Duration| now.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
    let alone = query::session(tx.db)?.term == Term(0);
    if alone {
        // With no coordinator ever, nobody will acknowledge: the outbox would grow without bound.
        tx.db.execute("DELETE FROM reports WHERE finished_at < ?1", [before(settings.keep_events)])?;
    }
    tx.db.execute(
        "UPDATE events SET body = NULL WHERE body IS NOT NULL AND finished_at < ?1
             AND NOT EXISTS (SELECT 1 FROM reports r WHERE r.event_id = events.event_id AND r.acked = 0)",
        [before(settings.keep_bodies)],
    )?;
    tx.db.execute(
        "DELETE FROM entries WHERE event_id IN (SELECT event_id FROM events WHERE finished_at < ?1
             AND NOT EXISTS (SELECT 1 FROM reports r WHERE r.event_id = events.event_id AND r.acked = 0))",
        [before(settings.keep_events)],
    )?;
    tx.db.execute(
        "DELETE FROM reports WHERE acked = 1 AND finished_at < ?1",
        [before(settings.keep_events)],
    )?;
    Ok(())
}
