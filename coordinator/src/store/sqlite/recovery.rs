//! A restored database waits until it has heard all its hosts: then it has missed nothing, and places again.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::HostId;
use rusqlite::Connection;

use super::codec::IdBytes;
use super::rows::{change, columns, one};
use crate::store::{HostRecord, StoreResult};

/// Which recovery may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// That of a restored database: its rows say which hosts it has to hear.
    Restored,
    /// Any: the caller knows that every host was heard, and has told all.
    Any,
}

/// Ends the recovery unless a host is awaited, or ahead. Those that are retired will not come, and are not waited for.
pub(super) fn end_if_over(db: &Connection, ends: Ends) -> StoreResult<bool> {
    let row = "UPDATE fleet SET recovering = NULL, restored = NULL WHERE recovering IS NOT NULL \
         AND (?1 OR restored IS NOT NULL) \
         AND NOT EXISTS (SELECT 1 FROM hosts WHERE (recovering = 1 OR awaited = 1) AND retired IS NULL)";
    Ok(change(db, row, &[&(ends == Ends::Any)])? > 0)
}

/// The host's log matches ours. With the last one that was awaited, the recovery of a restored database is over; one
/// that is ahead of it is left to a person.
pub(super) fn heard(db: &Connection, host: HostId) -> StoreResult<()> {
    change(db, "UPDATE hosts SET awaited = 0 WHERE host_id = ?1 AND awaited = 1", &[&host.bytes()])?;
    if end_if_over(db, Ends::Restored)? {
        tracing::info!(host_id = %host, "every host has matched since the database was restored: the recovery is over");
    }
    Ok(())
}

/// How many hosts are awaited.
pub(super) fn awaited(db: &Connection) -> StoreResult<u64> {
    let count = "SELECT count(*) AS c FROM hosts WHERE awaited = 1 AND retired IS NULL";
    let count = one(db, count, &[], |row| columns("hosts", row).count("c"))?;
    Ok(count.unwrap_or(0))
}

/// Why nothing is given to a host that was not heard since: its queue may have gone on without us.
pub(super) fn unheard(host: &HostRecord) -> Option<Cause> {
    host.awaited.then(|| {
        Cause::new(
            Reason::Diverged,
            format!("host {} was not heard since the coordinator's database was restored", host.hostname),
        )
        .advise("wait until it connects, or compare, then `dewpoint host end-recovery --reason TEXT`")
        .with("state", "recovering")
        .with("host_id", host.id)
    })
}
