//! Rows, read into records.

use dewpoint_proto::event::{Body, KindName};
use dewpoint_proto::ids::{EventId, Generation, HostId, ReportSeq, Seq, Term, VmId};
use dewpoint_proto::spec::ImageDigest;
use prost::bytes::Bytes;
use rusqlite::types::ToSql;
use rusqlite::{Connection, Row};

use super::codec::{Columns, IdBytes, sql};
use crate::events::stage::Stage;
use crate::store::{Claims, EventRecord, HostRecord, RequestDigest, StoreResult, VmRecord};

/// Columns of an event with its host's name; explanations are long, and read only when asked for.
macro_rules! event_from {
    ($table:literal) => {
        concat!(
            "SELECT e.n AS n, e.event_id, e.vm_id, e.vm_name, e.kind, e.stage, e.host_id, e.seq, e.generation, \
             e.body, e.request, e.outcome, e.unknown, e.contradicted, e.pending, e.only_host, e.accepted_at, \
             e.not_after, e.begun_at, e.finished_at, e.retry_of, e.stage_at, e.forced, h.hostname FROM ",
            $table,
            " e LEFT JOIN hosts h ON h.host_id = e.host_id"
        )
    };
}

/// Events under way, and those that ended and were not moved yet.
pub(super) const EVENT: &str = event_from!("events");
/// Events that ended and were moved.
const FINISHED: &str = event_from!("finished");

/// A query for the events with this in common, wherever they are.
pub(super) fn events_everywhere(such: &str) -> String {
    format!("{EVENT} WHERE {such} UNION ALL {FINISHED} WHERE {such}")
}

/// Columns of a VM with its host's name and its newest unfinished event.
pub(super) const VM: &str = "SELECT v.vm_id, v.name, v.host_id, v.last_host, v.shape, v.generation, v.wanted_on, \
     v.observed, v.observed_at, v.image, v.created_at, v.gone, h.hostname, \
     (SELECT event_id FROM events WHERE vm_id = v.vm_id AND ended = 0 ORDER BY n DESC LIMIT 1) AS unfinished \
     FROM vms v LEFT JOIN hosts h ON h.host_id = v.last_host";

pub(super) fn event(db: &Connection, id: EventId) -> StoreResult<Option<EventRecord>> {
    one(db, &events_everywhere("e.event_id = ?1"), &[&id.bytes()], event_row)
}

pub(super) fn event_with_explanation(db: &Connection, id: EventId) -> StoreResult<Option<EventRecord>> {
    let Some(mut record) = event(db, id)? else { return Ok(None) };
    let text = "SELECT explanation FROM events WHERE event_id = ?1 \
         UNION ALL SELECT explanation FROM finished WHERE event_id = ?1";
    record.explanation =
        one(db, text, &[&id.bytes()], |row| columns("events", row).optional_json("explanation"))?.flatten();
    let text = "SELECT n, event_id FROM events WHERE retry_of = ?1 \
         UNION ALL SELECT n, event_id FROM finished WHERE retry_of = ?1 ORDER BY n DESC LIMIT 1";
    record.retried_by = one(db, text, &[&id.bytes()], |row| columns("events", row).id("event_id"))?;
    Ok(Some(record))
}

pub(super) fn seen(db: &Connection, id: EventId) -> StoreResult<Option<(RequestDigest, EventRecord)>> {
    one(db, &events_everywhere("e.event_id = ?1"), &[&id.bytes()], |row| {
        Ok((RequestDigest(columns("events", row).digest("request")?), event_row(row)?))
    })
}

pub(super) fn vm(db: &Connection, id: VmId) -> StoreResult<Option<VmRecord>> {
    one(db, &format!("{VM} WHERE v.vm_id = ?1"), &[&id.bytes()], vm_row)
}

pub(super) fn host(db: &Connection, id: HostId) -> StoreResult<Option<HostRecord>> {
    one(db, "SELECT * FROM hosts WHERE host_id = ?1", &[&id.bytes()], host_row)
}

/// The only row of a query, when there is one.
pub(super) fn one<T>(
    db: &Connection,
    text: &str,
    values: &[&dyn ToSql],
    read: impl Fn(&Row<'_>) -> StoreResult<T>,
) -> StoreResult<Option<T>> {
    let mut statement = db.prepare_cached(text).map_err(sql)?;
    let mut rows = statement.query(values).map_err(sql)?;
    rows.next().map_err(sql)?.map(read).transpose()
}

/// All rows of a query, which bounds them itself.
pub(super) fn all<T>(
    db: &Connection,
    text: &str,
    values: &[&dyn ToSql],
    read: impl Fn(&Row<'_>) -> StoreResult<T>,
) -> StoreResult<Vec<T>> {
    let mut statement = db.prepare_cached(text).map_err(sql)?;
    let mut rows = statement.query(values).map_err(sql)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(sql)? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Runs a statement that changes rows; how many it changed.
pub(super) fn change(db: &Connection, text: &str, values: &[&dyn ToSql]) -> StoreResult<usize> {
    db.prepare_cached(text).and_then(|mut statement| statement.execute(values)).map_err(sql)
}

/// Changes the row of the event `?1`, wherever it is.
pub(super) fn change_event(db: &Connection, set: &str, values: &[&dyn ToSql]) -> StoreResult<()> {
    for table in ["events", "finished"] {
        if change(db, &format!("UPDATE {table} SET {set} WHERE event_id = ?1"), values)? > 0 {
            break;
        }
    }
    Ok(())
}

pub(super) fn columns<'a>(table: &'static str, row: &'a Row<'a>) -> Columns<'a> {
    Columns { table, row }
}

pub(super) fn event_row(row: &Row<'_>) -> StoreResult<EventRecord> {
    let columns = columns("events", row);
    let (kind, stage): (String, String) = (columns.get("kind")?, columns.get("stage")?);
    let body: Option<Vec<u8>> = columns.get("body")?;
    // A body that only a newer version can read is shown as absent; its kind and stage are still told.
    let body = body.and_then(|bytes| Body::decode(Bytes::from(bytes)).ok());
    Ok(EventRecord {
        id: columns.id("event_id")?,
        vm: columns.id("vm_id")?,
        vm_name: columns.parsed("vm_name")?,
        kind: KindName::from_name(&kind).ok_or_else(|| columns.corrupt("kind", &kind))?,
        stage: Stage::from_name(&stage).ok_or_else(|| columns.corrupt("stage", &stage))?,
        host: columns.optional_id("host_id")?,
        hostname: columns.get("hostname")?,
        seq: columns.get::<Option<i64>>("seq")?.map(|seq| Seq(seq.unsigned_abs())),
        generation: Generation(columns.count("generation")?),
        body,
        outcome: columns.optional_json("outcome")?,
        unknown: columns.optional_json("unknown")?,
        contradicted_by: columns.optional_json("contradicted")?,
        pending: columns.optional_json("pending")?,
        explanation: None,
        accepted_at: columns.time("accepted_at")?.unwrap_or_default(),
        not_after: columns.time("not_after")?,
        begun_at: columns.time("begun_at")?,
        finished_at: columns.time("finished_at")?,
        retry_of: columns.optional_id("retry_of")?,
        retried_by: None,
        stage_since: columns.time("stage_at")?,
        forced: columns.optional_json("forced")?,
    })
}

pub(super) fn vm_row(row: &Row<'_>) -> StoreResult<VmRecord> {
    let columns = columns("vms", row);
    Ok(VmRecord {
        id: columns.id("vm_id")?,
        name: columns.parsed("name")?,
        host: columns.optional_id("host_id")?,
        last_host: columns.optional_id("last_host")?,
        hostname: columns.get("hostname")?,
        generation: Generation(columns.count("generation")?),
        shape: columns.json("shape")?,
        wanted_on: columns.get("wanted_on")?,
        observed: columns.optional_json("observed")?,
        observed_at: columns.time("observed_at")?,
        unfinished: columns.optional_id("unfinished")?,
        image: ImageDigest(columns.digest("image")?),
        created_at: columns.time("created_at")?.unwrap_or_default(),
        gone: columns.get("gone")?,
    })
}

pub(super) fn host_row(row: &Row<'_>) -> StoreResult<HostRecord> {
    let columns = columns("hosts", row);
    Ok(HostRecord {
        id: columns.id("host_id")?,
        hostname: columns.get("hostname")?,
        journal: columns.id("journal_id")?,
        start_count: columns.count("start_count")?,
        agent_version: columns.get("agent_version")?,
        term: Term(columns.count("term")?),
        last_seq: Seq(columns.count("last_seq")?),
        accepted_seq: Seq(columns.count("accepted_seq")?),
        last_report: ReportSeq(columns.count("last_report")?),
        cordoned: columns.get("cordoned")?,
        held: columns.get("held")?,
        diverged: columns.optional_json("diverged")?,
        awaited: columns.get("awaited")?,
        recovering: columns.get("recovering")?,
        product_uuid: columns.get("product_uuid")?,
        told: columns.optional_json("told")?,
        reconciling: columns.optional_json("reconciling")?,
        retired: columns.get("retired")?,
        becomes: columns.optional_id("becomes")?,
        degraded: columns.json("degraded")?,
        capacity: columns.optional_json("capacity")?,
        claims: claims_row(row)?,
        last_heartbeat: columns.time("last_heartbeat")?,
    })
}

/// The sums kept with a host.
pub(super) fn claims_row(row: &Row<'_>) -> StoreResult<Claims> {
    let columns = columns("hosts", row);
    Ok(Claims {
        vcpus: columns.count("claimed_vcpus")?,
        memory_bytes: columns.count("claimed_memory")?,
        disk_bytes: columns.count("claimed_disk")?,
        vms: u32::try_from(columns.count("claimed_vms")?).unwrap_or(u32::MAX),
    })
}
