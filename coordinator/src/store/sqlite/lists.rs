//! Lists, in pages that go on after a key.

use dewpoint_proto::event::Body;
use dewpoint_proto::ids::{Generation, HostId, Seq, VmId};
use prost::bytes::Bytes;
use rusqlite::Connection;

use super::catalogue::paged;
use super::codec::{IdBytes, int};
use super::conditions::Conditions;
use super::rows::{EVENT, VM, all, columns, event_row, events_everywhere, host_row, vm_row};
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
    let (event, vm) = (filter.event.map(IdBytes::bytes), filter.vm.map(IdBytes::bytes));
    let host = filter.host.map(IdBytes::bytes);
    let size = page.size();
    let limit = size + 1;
    let mut such = Conditions::default();
    such.with_any("e.event_id =", &event);
    such.with_any("e.vm_id =", &vm);
    such.with_any("e.host_id =", &host);
    such.with_any("e.n <", &before);
    let limit = such.value(&limit);
    let which = if filter.unfinished_only {
        format!("{EVENT} WHERE {} AND e.ended = 0", such.such())
    } else {
        events_everywhere(&such.such())
    };
    let text = format!("{which} ORDER BY n DESC LIMIT {limit}");
    let read = |row: &rusqlite::Row<'_>| Ok((columns("events", row).get::<i64>("n")?, event_row(row)?));
    let items = all(db, &text, such.values(), read)?;
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
    let (vm, host) = (filter.vm.map(IdBytes::bytes), filter.host.map(IdBytes::bytes));
    let mut such = Conditions::default();
    let key = (such.value(&after.0), such.value(&id));
    such.that(&format!("(v.name, v.vm_id) > ({}, {})", key.0, key.1));
    such.with_any("v.vm_id =", &vm);
    such.with_any("v.name =", &filter.name);
    // VMs that are gone pile up: those that are there have indexes of their own.
    if filter.include_gone {
        such.with_any("v.last_host =", &host);
    } else {
        such.with_any("v.host_id =", &host);
        such.that("v.gone = 0");
    }
    let limit = such.value(&limit);
    let text = format!("{VM} WHERE {} ORDER BY v.name, v.vm_id LIMIT {limit}", such.such());
    all(db, &text, such.values(), vm_row)
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
