//! What hosts tell of events: acceptance, begin, end. Each is stored under the host's term, once.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::KindName;
use dewpoint_proto::ids::{EventId, ReportSeq, Seq, VmId};
use rusqlite::Connection;

use super::codec::{IdBytes, int, json};
use super::observed;
use super::rows::{self, all, change, columns, one};
use super::writer::Effect;
use crate::events::stage::{After, End, Entry, Stage};
use crate::store::{Changed, EventRecord, HostReport, Recorded, StoreError, StoreResult, Under};

/// Fails unless the host is still held under this term.
pub(super) fn check_term(db: &Connection, under: Under) -> StoreResult<()> {
    let host = under.host;
    let term = one(db, "SELECT term FROM hosts WHERE host_id = ?1", &[&host.bytes()], |row| {
        columns("hosts", row).count("term")
    })?;
    if term == Some(under.term.0) { Ok(()) } else { Err(StoreError::TermLost { host, term: under.term }) }
}

/// All up to `seq` are journaled on the host.
pub(super) fn accepted(db: &Connection, under: Under, seq: Seq) -> StoreResult<Effect<Vec<Changed>>> {
    check_term(db, under)?;
    let host = super::assign::host_of(db, under.host)?;
    if seq > host.last_seq {
        return Err(StoreError::Refused(
            Cause::new(
                Reason::Invalid,
                format!("{} acknowledges seq {seq} of {}", host.hostname, host.last_seq),
            )
            .with("host_id", host.id),
        ));
    }
    mark_accepted(db, under, host.accepted_seq, seq).map(Effect::Keep)
}

/// Moves what is in the queue after `known` up to `seq`.
pub(super) fn mark_accepted(
    db: &Connection,
    under: Under,
    known: Seq,
    seq: Seq,
) -> StoreResult<Vec<Changed>> {
    let list = "SELECT event_id, vm_id, stage, kind FROM events WHERE host_id = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq";
    let values: [&dyn rusqlite::types::ToSql; 3] = [&under.host.bytes(), &int(known.0), &int(seq.0)];
    let moved = move_all(db, under, all(db, list, &values, standing)?, Entry::Accepted)?;
    let row = "UPDATE hosts SET accepted_seq = max(accepted_seq, ?2) WHERE host_id = ?1";
    change(db, row, &[&under.host.bytes(), &int(seq.0)])?;
    Ok(moved)
}

/// These have begun. Those that are not the host's are passed over.
pub(super) fn running(
    db: &Connection,
    under: Under,
    events: &[EventId],
) -> StoreResult<Effect<Vec<Changed>>> {
    check_term(db, under)?;
    let mut found = Vec::with_capacity(events.len());
    for event in events {
        let row = "SELECT event_id, vm_id, stage, kind FROM events WHERE event_id = ?1 AND host_id = ?2";
        found.extend(one(db, row, &[&event.bytes(), &under.host.bytes()], standing)?);
    }
    move_all(db, under, found, Entry::Running).map(Effect::Keep)
}

type Standing = (EventId, VmId, Stage, Option<KindName>);

fn standing(row: &rusqlite::Row<'_>) -> StoreResult<Standing> {
    let columns = columns("events", row);
    let stage: String = columns.get("stage")?;
    let stage = Stage::from_name(&stage).ok_or_else(|| columns.corrupt("stage", stage))?;
    let kind: String = columns.get("kind")?;
    Ok((columns.id("event_id")?, columns.id("vm_id")?, stage, KindName::from_name(&kind)))
}

fn move_all(db: &Connection, under: Under, events: Vec<Standing>, entry: Entry) -> StoreResult<Vec<Changed>> {
    let mut moved = Vec::new();
    for (event, vm, stage, kind) in events {
        let Ok(After::Moved(next)) = stage.after(entry) else { continue };
        let begun = (next == Stage::Running).then_some(under.at.0);
        let row = "UPDATE events SET stage = ?2, begun_at = coalesce(begun_at, ?3), stage_at = ?4 WHERE event_id = ?1";
        change(db, row, &[&event.bytes(), &next.as_str(), &begun, &under.at.0])?;
        moved.push(Changed { event, vm, host: Some(under.host), kind });
    }
    Ok(moved)
}

/// Stores a report, once.
pub(super) fn report(db: &Connection, under: Under, told: &HostReport) -> StoreResult<Effect<Recorded>> {
    check_term(db, under)?;
    let host = super::assign::host_of(db, under.host)?;
    if let Some(cause) = host.diverged {
        return Err(StoreError::Refused(cause));
    }
    let open = one(db, "SELECT report_open FROM hosts WHERE host_id = ?1", &[&under.host.bytes()], |row| {
        columns("hosts", row).get::<bool>("report_open")
    })?;
    if open != Some(true) {
        if told.report_seq <= host.last_report {
            return Ok(Effect::Undo(Recorded { acked: host.last_report, ..Recorded::default() }));
        }
        if told.report_seq != host.last_report.next() {
            return Err(StoreError::Refused(gap(told, host.last_report)));
        }
    }
    let mut recorded = Recorded { acked: told.report_seq, ..Recorded::default() };
    let known = match rows::event(db, told.event)? {
        Some(event) if event.host == Some(under.host) => end(db, under, &event, told, &mut recorded)?,
        Some(event) => {
            recorded.contradiction = Some(not_its_own(&event, under));
            false
        }
        None => observed::local_event(db, under, told, &mut recorded)?,
    };
    if known {
        observed::after_report(db, under, told, &mut recorded)?;
    }
    let row = "UPDATE hosts SET last_report = ?2, report_open = 0 WHERE host_id = ?1";
    change(db, row, &[&under.host.bytes(), &int(told.report_seq.0)])?;
    Ok(Effect::Keep(recorded))
}

/// Writes the end of an event of this host.
fn end(
    db: &Connection,
    under: Under,
    event: &EventRecord,
    told: &HostReport,
    recorded: &mut Recorded,
) -> StoreResult<bool> {
    let outcome = json("events", &told.outcome)?;
    match event.stage.after(Entry::Ended(End::from(&told.outcome))) {
        Ok(After::Moved(stage)) => {
            change(
                db,
                "UPDATE events SET stage = ?2, ended = 1, outcome = ?3, begun_at = coalesce(?4, begun_at), \
                 finished_at = ?5, generation = max(generation, ?6), stage_at = ?7 WHERE event_id = ?1",
                &[
                    &event.id.bytes(),
                    &stage.as_str(),
                    &outcome,
                    &told.begun_at.map(|at| at.0),
                    &told.finished_at.0,
                    &int(told.generation.0),
                    &under.at.0,
                ],
            )?;
        }
        Ok(After::Contradicted) => {
            rows::change_event(db, "contradicted = ?2", &[&event.id.bytes(), &outcome])?;
            recorded.contradiction = Some(
                Cause::new(
                    Reason::Internal,
                    format!(
                        "event {} is {}, its host reports {}",
                        event.id,
                        event.stage,
                        told.outcome.name()
                    ),
                )
                .advise("look at the VM on its host")
                .with("event_id", event.id),
            );
        }
        Ok(After::Same) => return Ok(true),
        Err(illegal) => return Err(StoreError::Corrupt { table: "events", text: illegal.to_string() }),
    }
    recorded.changed.push(Changed {
        event: event.id,
        vm: event.vm,
        host: event.host,
        kind: Some(event.kind),
    });
    Ok(true)
}

fn gap(told: &HostReport, stored: ReportSeq) -> Cause {
    Cause::new(Reason::Invalid, format!("report {} came after report {stored}", told.report_seq))
        .advise("close the session: the host sends again what is not acknowledged")
        .with("report_seq", told.report_seq)
        .with("stored", stored)
}

fn not_its_own(event: &EventRecord, under: Under) -> Cause {
    Cause::new(Reason::Internal, format!("host {} reports event {} of another host", under.host, event.id))
        .advise("was a host's disk cloned?")
        .with("event_id", event.id)
        .with("host_id", under.host)
}
