//! What is read: by the thread for the agent, and by [`super::reader`] for the local commands.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::BodyDigest;
use dewpoint_proto::ids::{EventId, Generation, ReportSeq, Seq, Term, VmId};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::VmSpec;
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::VmState;
use dewpoint_proto::wire::event as wire;
use prost::Message;
use prost::bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::admission::{Origin, Presence};
use super::columns::{count, digest, int, maybe_count, maybe_json, maybe_parsed, moment, parsed, wrong};
use super::error::JournalError;
use super::kept::Kept;
use super::moment::{Deadline, Moment};
use super::rows::{
    EntryRow, EventFilter, EventRow, Page, Parked, Recovery, ReportRow, Session, Tail, Unfinished, VmRow,
    Written,
};
use super::schema;
use super::stage::Stage;
use super::{admit, reconcile};
use crate::hypervisor::Wanted;

/// The most rows that one call gives.
const MOST: u32 = 1000;

/// What writing needs of an event.
pub(super) struct Standing {
    pub(super) stage: Stage,
    pub(super) vm: VmId,
    pub(super) kind: String,
    pub(super) seq: Option<Seq>,
    pub(super) generation: Generation,
    pub(super) begun_at: Option<Millis>,
}

/// Where an event stands.
pub(super) fn standing(db: &Connection, event: EventId) -> Result<Option<Standing>, JournalError> {
    let found = db
        .prepare_cached(
            "SELECT stage, outcome, vm_id, kind, seq, generation, begun_at FROM events WHERE event_id = ?1",
        )?
        .query_row([event.to_string()], |row| {
            Ok(Standing {
                stage: stage(row, 0, 1)?,
                vm: parsed(row, 2)?,
                kind: row.get(3)?,
                seq: maybe_count(row, 4)?.map(Seq),
                generation: Generation(count(row, 5)?),
                begun_at: row.get::<_, Option<i64>>(6)?.map(Millis),
            })
        })
        .optional()?;
    Ok(found)
}

fn stage(row: &Row<'_>, name: usize, outcome: usize) -> rusqlite::Result<Stage> {
    let text: String = row.get(name)?;
    let ended = |make: fn(Outcome) -> Stage| {
        maybe_json(row, outcome)?.map(make).ok_or_else(|| strange(name, &format!("{text} without outcome")))
    };
    match text.as_str() {
        "accepted" => Ok(Stage::Accepted),
        "running" => Ok(Stage::Running),
        "undoing" => Ok(Stage::Undoing),
        "finished" => ended(Stage::Finished),
        "reported" => ended(Stage::Reported),
        _ => Err(strange(name, &text)),
    }
}

fn strange(at: usize, text: &str) -> rusqlite::Error {
    wrong(at, Cause::new(Reason::JournalError, format!("`{text}` is not what this version writes")))
}

/// A presence from a column.
pub(super) fn presence(row: &Row<'_>, at: usize) -> rusqlite::Result<Presence> {
    let text: String = row.get(at)?;
    Presence::from_name(&text).ok_or_else(|| strange(at, &text))
}

fn wanted(row: &Row<'_>, at: usize) -> rusqlite::Result<Wanted> {
    let text: String = row.get(at)?;
    match text.as_str() {
        "on" => Ok(Wanted::On),
        "off" => Ok(Wanted::Off),
        _ => Err(strange(at, &text)),
    }
}

const VM: &str =
    "SELECT vms.vm_id, name, generation, presence, wanted, disk, seed, run, spec, keeping.version,
    keeping.json, EXISTS (SELECT 1 FROM events e WHERE e.vm_id = vms.vm_id AND e.finished_at IS NULL)
    FROM vms LEFT JOIN keeping ON keeping.vm_id = vms.vm_id";

fn vm_row(row: &Row<'_>) -> rusqlite::Result<VmRow> {
    let spec: Option<Vec<u8>> = row.get(8)?;
    Ok(VmRow {
        vm: parsed(row, 0)?,
        name: maybe_parsed(row, 1)?,
        generation: Generation(count(row, 2)?),
        presence: presence(row, 3)?,
        wanted: wanted(row, 4)?,
        disk: maybe_parsed(row, 5)?,
        seed: maybe_parsed(row, 6)?,
        run: maybe_parsed(row, 7)?,
        spec: spec.map(|bytes| vm_spec(&bytes)).transpose().map_err(|cause| wrong(8, cause))?,
        kept: kept_of(row, 9)?,
        unfinished: row.get(11)?,
    })
}

fn kept_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Kept> {
    let stored: (Option<u32>, Option<String>) = (row.get(at)?, row.get(at + 1)?);
    let (Some(version), Some(json)) = stored else { return Ok(Kept::default()) };
    Kept::from_stored(version, &json).map_err(|cause| wrong(at, cause))
}

fn vm_spec(bytes: &[u8]) -> Result<VmSpec, Cause> {
    let message = wire::VmSpec::decode(bytes)
        .map_err(|error| Cause::new(Reason::JournalError, format!("a VM's spec cannot be read: {error}")))?;
    VmSpec::try_from(message)
}

/// One VM.
pub(super) fn vm(db: &Connection, vm: VmId) -> Result<Option<VmRow>, JournalError> {
    Ok(db
        .prepare_cached(&format!("{VM} WHERE vms.vm_id = ?1"))?
        .query_row([vm.to_string()], vm_row)
        .optional()?)
}

/// Every VM that is there or being built.
pub(super) fn vms(db: &Connection) -> Result<Vec<VmRow>, JournalError> {
    let mut statement =
        db.prepare_cached(&format!("{VM} WHERE presence <> 'gone' ORDER BY name, vms.vm_id"))?;
    let rows = statement.query_map([], vm_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Every VM that has or had that name, gone ones last; at most ten.
pub(super) fn vms_named(db: &Connection, name: &str) -> Result<Vec<VmRow>, JournalError> {
    let mut statement = db.prepare_cached(&format!(
        "{VM} WHERE name = ?1 ORDER BY presence = 'gone', vms.vm_id DESC LIMIT 10"
    ))?;
    let rows = statement.query_map([name], vm_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What the newest Welcome said.
pub(super) fn session(db: &Connection) -> Result<Session, JournalError> {
    let damaged = |what: &str| JournalError::Damaged(format!("meta: {what}"));
    let term = match schema::get(db, "term")? {
        Some(text) => Term(text.parse().map_err(|_| damaged("term"))?),
        None => Term(0),
    };
    let clock = schema::get(db, "clock")?
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|_| damaged("clock"))?;
    let hold = schema::get(db, "hold")?.is_some_and(|text| text == "held");
    Ok(Session { term, clock, hold })
}

/// Up to where everything is acknowledged; the number given when nothing waits.
pub(super) const ACKNOWLEDGED: &str = "SELECT coalesce(min(report_seq) - 1, ?1) FROM reports WHERE acked = 0";

/// Where the journal ends.
pub(super) fn tail(db: &Connection) -> Result<Tail, JournalError> {
    let last = db
        .prepare_cached("SELECT seq, event_id FROM queue ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| Ok((Seq(count(row, 0)?), parsed(row, 1)?)))
        .optional()?;
    let last = match (last, reconcile::base(db)?) {
        (Some((seq, event)), Some((base, _))) if seq > base => Some((seq, event)),
        (last, None) => last,
        (_, base) => base,
    };
    let acknowledged =
        db.prepare_cached(ACKNOWLEDGED)?.query_row([int(last_report(db)?.0)], |row| count(row, 0))?;
    Ok(Tail {
        epoch: schema::read_epoch(db)?,
        last,
        last_report: last_report(db)?,
        acknowledged: ReportSeq(acknowledged),
        session: session(db)?,
    })
}

/// The highest number ever given, whatever was deleted since.
pub(super) fn last_report(db: &Connection) -> Result<ReportSeq, JournalError> {
    let n = db
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'reports'")?
        .query_row([], |row| count(row, 0))
        .optional()?;
    Ok(ReportSeq(n.unwrap_or(0)))
}

/// Reports after this one, acknowledged or not: a coordinator that was restored asks for old ones again.
pub(super) fn reports_after(
    db: &Connection,
    after: ReportSeq,
    limit: u32,
) -> Result<Vec<ReportRow>, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT r.report_seq, r.event_id, r.seq, r.generation, r.outcome, r.vm, r.begun_at, r.finished_at,
             CASE WHEN e.origin = 'local' THEN e.body END
         FROM reports r LEFT JOIN events e ON e.event_id = r.event_id
         WHERE r.report_seq > ?1 ORDER BY r.report_seq LIMIT ?2",
    )?;
    let rows = statement.query_map(params![int(after.0), limit.min(MOST)], report_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn report_row(row: &Row<'_>) -> rusqlite::Result<ReportRow> {
    let n = ReportSeq(count(row, 0)?);
    let vm: Option<VmState> = maybe_json(row, 5)?;
    Ok(ReportRow {
        n,
        event: parsed(row, 1)?,
        seq: maybe_count(row, 2)?.map(Seq),
        generation: Generation(count(row, 3)?),
        outcome: maybe_json(row, 4)?.ok_or_else(|| strange(4, "no outcome"))?,
        // The state was observed for this very report.
        vm: vm.map(|state| VmState { as_of: n, ..state }),
        begun_at: row.get::<_, Option<i64>>(6)?.map(Millis),
        finished_at: Millis(row.get(7)?),
        body: row.get::<_, Option<Vec<u8>>>(8)?.map(Bytes::from),
    })
}

const EVENT: &str =
    "SELECT n, event_id, vm_id, origin, seq, term, generation, kind, digest, body, stage, supersedes,
    deadline, accepted_at, accepted_since_boot, accepted_boot, begun_at, finished_at, outcome FROM events";

/// An event with what only recovery needs.
struct WholeEvent {
    row: EventRow,
    stage: Stage,
    deadline: Option<Deadline>,
    accepted: Moment,
}

fn whole_event(row: &Row<'_>) -> rusqlite::Result<WholeEvent> {
    let deadline: Option<Deadline> = maybe_json(row, 12)?;
    let accepted = moment(row, 13)?;
    let generation = Generation(count(row, 6)?);
    let seq = maybe_count(row, 4)?.map(Seq);
    let term = maybe_count(row, 5)?.map(Term);
    let origin = match (seq, term) {
        (Some(seq), Some(term)) => Origin::Delivered { seq, term, generation },
        _ => Origin::Local,
    };
    let stage = stage(row, 10, 18)?;
    let event = EventRow {
        n: row.get(0)?,
        id: parsed(row, 1)?,
        vm: parsed(row, 2)?,
        origin,
        generation,
        kind: row.get(7)?,
        digest: BodyDigest(digest(row, 8)?),
        body: row.get::<_, Option<Vec<u8>>>(9)?.map(Bytes::from),
        stage: stage.name().to_owned(),
        supersedes: maybe_parsed(row, 11)?,
        not_after: deadline.map(|deadline| deadline.not_after),
        accepted_at: accepted.wall,
        begun_at: row.get::<_, Option<i64>>(16)?.map(Millis),
        finished_at: row.get::<_, Option<i64>>(17)?.map(Millis),
        outcome: maybe_json(row, 18)?,
    };
    Ok(WholeEvent { row: event, stage, deadline, accepted })
}

/// Events, the newest first.
pub(super) fn events(
    db: &Connection,
    filter: &EventFilter,
    page: Page,
) -> Result<Vec<EventRow>, JournalError> {
    let mut statement = db.prepare_cached(&format!(
        "{EVENT} WHERE n < ?1 AND (?2 IS NULL OR vm_id = ?2) AND (NOT ?3 OR finished_at IS NULL)
         ORDER BY n DESC LIMIT ?4"
    ))?;
    let rows = statement.query_map(
        params![
            page.before.unwrap_or(i64::MAX),
            filter.vm.map(|vm| vm.to_string()),
            filter.unfinished,
            page.limit.min(MOST)
        ],
        |row| whole_event(row).map(|event| event.row),
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Events of the queue after a place, in its order.
pub(super) fn events_after(db: &Connection, after: Seq, limit: u32) -> Result<Vec<EventRow>, JournalError> {
    let mut statement = db.prepare_cached(&format!(
        "{EVENT} WHERE event_id IN (SELECT event_id FROM queue WHERE seq > ?1 ORDER BY seq LIMIT ?2) ORDER BY seq"
    ))?;
    let rows =
        statement.query_map(params![int(after.0), limit], |row| whole_event(row).map(|event| event.row))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// One event with its entries.
pub(super) fn event(
    db: &Connection,
    event: EventId,
) -> Result<Option<(EventRow, Vec<EntryRow>)>, JournalError> {
    let found = db
        .prepare_cached(&format!("{EVENT} WHERE event_id = ?1"))?
        .query_row([event.to_string()], |row| whole_event(row).map(|event| event.row))
        .optional()?;
    found.map(|row| Ok((row, entries(db, event)?))).transpose()
}

/// An event's entries, the oldest first.
fn entries(db: &Connection, event: EventId) -> Result<Vec<EntryRow>, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT n, kind, version, json, wall, since_boot, boot FROM entries WHERE event_id = ?1 ORDER BY n",
    )?;
    let rows = statement.query_map([event.to_string()], |row| {
        Ok(EntryRow {
            n: row.get(0)?,
            kind: row.get(1)?,
            version: row.get(2)?,
            json: row.get(3)?,
            at: moment(row, 4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What a start has to go on with, and what it cannot.
pub(super) fn recovery(db: &Connection) -> Result<Recovery, JournalError> {
    let mut statement = db.prepare_cached(&format!("{EVENT} WHERE finished_at IS NULL ORDER BY n"))?;
    let rows = statement.query_map([], |row| {
        let named = (parsed(row, 1)?, parsed(row, 2)?, row.get::<_, String>(7)?);
        // What else is in the row may be a newer version's; then this event alone is parked.
        Ok((named, whole_event(row).map_err(|error| error.to_string())))
    })?;
    let mut recovery = Recovery::default();
    for row in rows {
        let ((event, vm, kind), whole): ((EventId, VmId, String), _) = row?;
        let gone_on = match whole {
            Ok(whole) => unfinished(whole, &entries(db, event)?),
            Err(why) => Err(damaged((&kind, event, vm), &why)),
        };
        match gone_on {
            Ok(event) => recovery.events.push(event),
            Err(cause) => recovery.parked.push(Parked { event, vm, kind, cause }),
        }
    }
    Ok(recovery)
}

/// Replays an event's entries through the one function that live writes come through.
fn unfinished(event: WholeEvent, entries: &[EntryRow]) -> Result<Unfinished, Cause> {
    let mut stage = Stage::Accepted;
    let mut history = Vec::with_capacity(entries.len());
    for row in entries {
        let entry = row.entry()?;
        stage = stage.after(&entry).map_err(|error| damaged(event.row.named(), &error.to_string()))?;
        history.push(Written { entry, at: row.at });
    }
    if stage != event.stage {
        let why = format!("its entries make it {}, its row says {}", stage.name(), event.stage.name());
        return Err(damaged(event.row.named(), &why));
    }
    let proof = admit::proof(&event.row, event.deadline, event.accepted)?;
    Ok(Unfinished { proof, stage, history })
}

/// The cause of an event whose rows cannot be gone on with.
pub(super) fn damaged((kind, event, vm): (&str, EventId, VmId), why: &str) -> Cause {
    Cause::new(Reason::JournalError, format!("the {kind} event {event} is damaged in the journal: {why}"))
        .advise("install the agent version that wrote it, or restore the data folder's agent.db")
        .with("event_id", event)
        .with("vm_id", vm)
}
