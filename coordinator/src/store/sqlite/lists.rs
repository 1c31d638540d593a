//! Lists, in pages that go on after a key.

use dewpoint_proto::event::Body;
use dewpoint_proto::ids::{Generation, HostId, Seq, VmId};
use prost::bytes::Bytes;
use rusqlite::Connection;
use rusqlite::types::ToSql;

use super::catalogue::paged;
use super::codec::{IdBytes, int};
use super::rows::{EVENT, VM, all, columns, event_row, host_row, vm_row};
use crate::store::page::bad_token;
use crate::store::{
    EventFilter, EventRecord, HostRecord, Page, Paged, PendingCreate, QueueEntry, StoreError, StoreResult,
    VmFilter, VmRecord,
};

/// Rows of VMs that one page looks at, at most, when labels sort most of them out.
const LOOKED_AT_MOST: u32 = 20_000;

/// Entries of a host's queue after `after`, in order without gaps.
pub(super) fn deliverable(
    db: &Connection,
    host: HostId,
    after: Seq,
    limit: u32,
) -> StoreResult<Vec<QueueEntry>> {
    let list =
        "SELECT seq, generation, body FROM events WHERE host_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
    let entries = all(db, list, &[&host.bytes(), &int(after.0), &limit], |row| {
        let columns = columns("events", row);
        let body: Vec<u8> = columns.get("body")?;
        Ok(QueueEntry {
            seq: Seq(columns.count("seq")?),
            generation: Generation(columns.count("generation")?),
            body: Body::decode(Bytes::from(body)).map_err(|cause| columns.corrupt("body", cause))?,
        })
    })?;
    // A gap would make the agent wait for ever; it is a bug, and said here.
    let expected = (after.0 + 1..).zip(&entries).find(|(seq, entry)| entry.seq.0 != *seq);
    match expected {
        Some((seq, _)) => {
            Err(StoreError::Corrupt { table: "events", text: format!("{host} has no seq {seq}") })
        }
        None => Ok(entries),
    }
}

/// Newest first; a page's token is the row number of its last item.
pub(super) fn events(db: &Connection, filter: &EventFilter, page: &Page) -> StoreResult<Paged<EventRecord>> {
    let before = page.token().map(str::parse::<i64>).transpose().map_err(|_| wrong_token())?;
    let ids =
        [filter.event.map(IdBytes::bytes), filter.vm.map(IdBytes::bytes), filter.host.map(IdBytes::bytes)];
    let mut conditions: Vec<&str> = Vec::new();
    let mut values: Vec<&dyn ToSql> = Vec::new();
    for (condition, id) in ["e.event_id = ?", "e.vm_id = ?", "e.host_id = ?"].into_iter().zip(&ids) {
        if let Some(id) = id {
            conditions.push(condition);
            values.push(id);
        }
    }
    if let Some(before) = &before {
        conditions.push("e.n < ?");
        values.push(before);
    }
    if filter.unfinished_only {
        conditions.push("e.ended = 0");
    }
    let size = page.size();
    let limit = size + 1;
    values.push(&limit);
    let such = if conditions.is_empty() { "1" } else { &conditions.join(" AND ") };
    let text = format!("{EVENT} WHERE {such} ORDER BY e.n DESC LIMIT ?");
    let items =
        all(db, &text, &values, |row| Ok((columns("events", row).get::<i64>("n")?, event_row(row)?)))?;
    let Paged { items, next } = paged(items, size, |(n, _)| n.to_string());
    Ok(Paged { items: items.into_iter().map(|(_, event)| event).collect(), next })
}

fn wrong_token() -> StoreError {
    StoreError::Refused(bad_token())
}

pub(super) fn pending(db: &Connection, limit: u32) -> StoreResult<Vec<PendingCreate>> {
    all(db, &format!("{EVENT} WHERE e.stage = 'pending' ORDER BY e.n LIMIT ?1"), &[&limit], |row| {
        let only_host = columns("events", row).optional_id("only_host")?;
        Ok(PendingCreate { record: event_row(row)?, only_host })
    })
}

/// By name, then id; a page's token is both of its last item.
pub(super) fn vms(db: &Connection, filter: &VmFilter, page: &Page) -> StoreResult<Paged<VmRecord>> {
    let mut after = match page.token() {
        None => (String::new(), None),
        Some(token) => {
            let (name, id) = token.rsplit_once('.').ok_or_else(wrong_token)?;
            (name.to_owned(), Some(id.parse::<VmId>().map_err(|_| wrong_token())?))
        }
    };
    let size = page.size() as usize;
    let (mut found, mut looked_at) = (Vec::new(), 0);
    // Labels are not in an index: pages are read until one is full, or enough rows were looked at.
    loop {
        let limit = page.size() + 1;
        let rows = vms_after(db, filter, &after, limit)?;
        let last = rows.len() < limit as usize;
        looked_at += limit;
        for vm in rows {
            if found.len() == size {
                return Ok(Paged { next: found.last().map(token), items: found });
            }
            after = (vm.name.to_string(), Some(vm.id));
            if labels_fit(&vm, filter) {
                found.push(vm);
            }
        }
        if last {
            return Ok(Paged { items: found, next: None });
        }
        if looked_at >= LOOKED_AT_MOST {
            let next = after.1.map(|id| format!("{}.{id}", after.0));
            return Ok(Paged { items: found, next });
        }
    }
}

fn token(vm: &VmRecord) -> String {
    format!("{}.{}", vm.name, vm.id)
}

fn labels_fit(vm: &VmRecord, filter: &VmFilter) -> bool {
    filter.labels.iter().all(|(key, wanted)| {
        vm.shape.labels.get(key).is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
    })
}

fn vms_after(
    db: &Connection,
    filter: &VmFilter,
    after: &(String, Option<VmId>),
    limit: u32,
) -> StoreResult<Vec<VmRecord>> {
    let id = after.1.map_or(Vec::new(), |id| id.bytes().to_vec());
    let text = format!(
        "{VM} WHERE (v.name, v.vm_id) > (?1, ?2) AND (?3 IS NULL OR v.vm_id = ?3) \
         AND (?4 IS NULL OR v.name = ?4) AND (?5 IS NULL OR v.last_host = ?5) AND (?6 OR v.gone = 0) \
         ORDER BY v.name, v.vm_id LIMIT ?7"
    );
    all(
        db,
        &text,
        &[
            &after.0,
            &id,
            &filter.vm.map(IdBytes::bytes),
            &filter.name,
            &filter.host.map(IdBytes::bytes),
            &filter.include_gone,
            &limit,
        ],
        vm_row,
    )
}

pub(super) fn hosts_named(db: &Connection, hostname: &str) -> StoreResult<Vec<HostRecord>> {
    all(db, "SELECT * FROM hosts WHERE hostname = ?1 ORDER BY host_id LIMIT 2", &[&hostname], host_row)
}

/// By hostname, then id; a page's token is both of its last item.
pub(super) fn hosts(db: &Connection, page: &Page) -> StoreResult<Paged<HostRecord>> {
    let (name, id) = match page.token() {
        None => (String::new(), Vec::new()),
        Some(token) => {
            let (name, id) = token.rsplit_once('/').ok_or_else(wrong_token)?;
            let id: HostId = id.parse().map_err(|_| wrong_token())?;
            (name.to_owned(), id.bytes().to_vec())
        }
    };
    let list = "SELECT * FROM hosts WHERE (hostname, host_id) > (?1, ?2) ORDER BY hostname, host_id LIMIT ?3";
    let size = page.size();
    let items = all(db, list, &[&name, &id, &(size + 1)], host_row)?;
    Ok(paged(items, size, |host| format!("{}/{}", host.hostname, host.id)))
}
