//! Whether the rows agree with each other: claims, leases, queues, unfinished events, the two tables of events.
//!
//! Each check is one query for what should not be there, bounded. Changes nothing but the sums, and those when asked.

use std::fmt::Write;
use std::path::Path;

use dewpoint_proto::ids::{EventId, HostId, VmId};
use rusqlite::{Connection, Row};

use super::codec::{Columns, failed};
use super::rows::{all, columns};
use super::{copy, hosts, schema};
use crate::store::{Miscount, StoreError, StoreResult};

/// Findings of one check, at most: more say no more.
const FOUND_MOST: u32 = 100;

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Which check found it: `claims`, `leases`, `queue`, `unfinished`, `history`, `file` or `images`.
    pub check: &'static str,
    /// For people.
    pub text: String,
    /// It was set right.
    pub repaired: bool,
}

impl Finding {
    /// As found, not repaired.
    #[must_use]
    pub fn new(check: &'static str, text: String) -> Self {
        Self { check, text, repaired: false }
    }
}

/// What should not be there: a query with an optional limit behind, and how a row of it is told.
struct Check {
    name: &'static str,
    query: &'static str,
    tell: fn(&Columns<'_>) -> StoreResult<String>,
}

const CHECKS: [Check; 9] = [
    Check {
        name: "leases",
        query: "SELECT n.network AS network, n.vm_id AS vm_id FROM nics n LEFT JOIN vms v ON v.vm_id = n.vm_id \
             WHERE v.vm_id IS NULL OR v.gone = 1",
        tell: |row| {
            Ok(format!("network {} has a NIC of VM {}, which is gone", text(row, "network")?, vm(row)?))
        },
    },
    Check {
        name: "leases",
        query: "SELECT a.network AS network, a.address AS address, a.vm_id AS vm_id FROM addresses a \
             LEFT JOIN nics n ON n.network = a.network AND n.mac = a.mac WHERE n.vm_id IS NOT a.vm_id",
        tell: |row| {
            let (network, address) = (text(row, "network")?, text(row, "address")?);
            Ok(format!("address {address} of {network} is given to VM {}, which has no such NIC", vm(row)?))
        },
    },
    Check {
        name: "claims",
        query: "SELECT v.vm_id AS vm_id, v.host_id AS host_id FROM vms v LEFT JOIN hosts h ON h.host_id = v.host_id \
             WHERE v.host_id IS NOT NULL AND (h.host_id IS NULL OR v.gone = 1 OR v.last_host IS NOT v.host_id)",
        tell: |row| Ok(format!("VM {} claims host {}, which does not fit its row", vm(row)?, host(row)?)),
    },
    Check {
        name: "queue",
        query: "SELECT h.host_id AS host_id, h.last_seq - h.base_seq AS c, count(q.seq) AS d FROM hosts h \
             LEFT JOIN (SELECT host_id, seq FROM events WHERE seq IS NOT NULL UNION \
             SELECT host_id, seq FROM finished WHERE seq IS NOT NULL) q \
             ON q.host_id = h.host_id AND q.seq > h.base_seq AND q.seq <= h.last_seq \
             WHERE h.recovering = 0 GROUP BY h.host_id HAVING c != d",
        tell: |row| {
            Ok(format!(
                "the queue of host {} has {} entries of {}",
                host(row)?,
                row.count("d")?,
                row.count("c")?
            ))
        },
    },
    Check {
        name: "queue",
        query: "SELECT host_id, accepted_seq AS c, last_seq AS d FROM hosts WHERE accepted_seq > last_seq",
        tell: |row| {
            Ok(format!(
                "host {} took {} entries of {} given out",
                host(row)?,
                row.count("c")?,
                row.count("d")?
            ))
        },
    },
    // Of a VM that is gone, too: what was on its way when its host destroyed it is refused there.
    Check {
        name: "unfinished",
        query: "SELECT e.event_id AS event_id, e.kind AS kind, e.vm_id AS vm_id FROM events e \
             LEFT JOIN vms v ON v.vm_id = e.vm_id WHERE e.ended = 0 \
             AND (v.vm_id IS NULL OR e.host_id IS NOT CASE v.gone WHEN 0 THEN v.host_id ELSE v.last_host END)",
        tell: |row| {
            Ok(format!(
                "unfinished {} {} is on another host than VM {}",
                text(row, "kind")?,
                event(row)?,
                vm(row)?
            ))
        },
    },
    Check {
        name: "unfinished",
        query: "SELECT vm_id, count(*) AS c FROM events WHERE ended = 0 AND kind NOT IN ('cancel', 'destroy') \
             GROUP BY vm_id HAVING c > 1",
        tell: |row| Ok(format!("VM {} has {} unfinished events", vm(row)?, row.count("c")?)),
    },
    Check {
        name: "unfinished",
        query: "SELECT vm_id FROM vms WHERE gone = 0 AND host_id IS NULL AND vm_id NOT IN \
             (SELECT vm_id FROM events WHERE ended = 0)",
        tell: |row| Ok(format!("VM {} has no host and no event that would place it", vm(row)?)),
    },
    Check {
        name: "history",
        query: "SELECT event_id FROM finished WHERE event_id IN (SELECT event_id FROM events) OR ended = 0 \
             UNION SELECT event_id FROM events WHERE ended != (stage NOT IN ('pending', 'assigned', 'accepted', 'running'))",
        tell: |row| Ok(format!("event {} is both finished and not", event(row)?)),
    },
];

fn text(row: &Columns<'_>, column: &'static str) -> StoreResult<String> {
    row.get(column)
}

fn vm(row: &Columns<'_>) -> StoreResult<VmId> {
    row.id("vm_id")
}

fn host(row: &Columns<'_>) -> StoreResult<HostId> {
    row.id("host_id")
}

fn event(row: &Columns<'_>) -> StoreResult<EventId> {
    row.id("event_id")
}

/// Looks at a database as it is at one instant; a coordinator may run on it meanwhile.
///
/// # Errors
/// When it cannot be read, or is of another schema.
pub fn check(path: &Path) -> StoreResult<Vec<Finding>> {
    let db = schema::open_reader(path)?;
    known(&db)?;
    db.execute_batch("BEGIN").map_err(|e| failed("read the database", &e))?;
    let mut found = findings(&db)?;
    found.extend(hosts::miscounts(&db)?.iter().map(|count| Finding::new("claims", told(count))));
    Ok(found)
}

/// The same, with the sums set right. No coordinator may run on it.
///
/// # Errors
/// When it cannot be written, or is of another schema.
pub fn repair(path: &Path) -> StoreResult<Vec<Finding>> {
    let db = schema::open_writer(path)?;
    let mut found = findings(&db)?;
    db.execute_batch("BEGIN IMMEDIATE").map_err(|e| failed("repair the database", &e))?;
    let counts = hosts::correct(&db)?;
    db.execute_batch("COMMIT").map_err(|e| failed("repair the database", &e))?;
    found
        .extend(counts.iter().map(|count| Finding { repaired: true, ..Finding::new("claims", told(count)) }));
    Ok(found)
}

fn known(db: &Connection) -> StoreResult<()> {
    match copy::schema_of(db)? {
        schema::KNOWN => Ok(()),
        found if found > schema::KNOWN => Err(StoreError::Newer { found, known: schema::KNOWN }),
        found => Err(StoreError::Failed {
            doing: "check the database",
            text: format!(
                "it has schema {found}: start the coordinator once, which brings it to {}",
                schema::KNOWN
            ),
        }),
    }
}

fn findings(db: &Connection) -> StoreResult<Vec<Finding>> {
    let mut found: Vec<Finding> =
        copy::quick_check(db)?.into_iter().map(|line| Finding::new("file", line)).collect();
    for check in &CHECKS {
        let query = format!("{} LIMIT {FOUND_MOST}", check.query);
        let read = |row: &Row<'_>| (check.tell)(&columns(check.name, row));
        found.extend(all(db, &query, &[], read)?.into_iter().map(|text| Finding::new(check.name, text)));
    }
    Ok(found)
}

fn told(count: &Miscount) -> String {
    let Miscount { host, kept, counted } = count;
    let mut text = format!("the sums of host {host} are");
    for (what, kept, counted) in [
        ("vCPUs", kept.vcpus, counted.vcpus),
        ("bytes of memory", kept.memory_bytes, counted.memory_bytes),
        ("bytes of disk", kept.disk_bytes, counted.disk_bytes),
        ("VMs", u64::from(kept.vms), u64::from(counted.vms)),
    ] {
        if kept != counted {
            // Writing to a String does not fail.
            let _ = write!(text, " {kept} {what}, its VMs come to {counted};");
        }
    }
    text.trim_end_matches(';').to_owned()
}

/// The images of the catalogue, to be compared with their files.
///
/// # Errors
/// When the database cannot be read.
pub fn catalogue(path: &Path) -> StoreResult<Vec<copy::CopiedImage>> {
    let db = schema::open_reader(path)?;
    copy::catalogue(&db)
}
