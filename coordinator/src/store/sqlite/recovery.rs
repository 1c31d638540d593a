//! A restored database waits until it has heard all its hosts: then it has missed nothing, and places again.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::HostId;
use rusqlite::Connection;

use super::codec::IdBytes;
use super::rows::{change, columns, one};
use crate::store::{HostRecord, StoreResult};

/// The host's log matches ours. With the last one that was awaited, the recovery of a restored database is over; one
/// that is ahead of it is left to a person.
pub(super) fn heard(db: &Connection, host: HostId) -> StoreResult<()> {
    change(db, "UPDATE hosts SET awaited = 0 WHERE host_id = ?1 AND awaited = 1", &[&host.bytes()])?;
    let over = "UPDATE fleet SET recovering = NULL, restored = NULL WHERE restored IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM hosts WHERE awaited = 1 OR recovering = 1)";
    if change(db, over, &[])? > 0 {
        tracing::info!(%host, "every host has matched since the database was restored: the recovery is over");
    }
    Ok(())
}

/// How many hosts are awaited.
pub(super) fn awaited(db: &Connection) -> StoreResult<u64> {
    let count = one(db, "SELECT count(*) AS c FROM hosts WHERE awaited = 1", &[], |row| {
        columns("hosts", row).count("c")
    })?;
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
