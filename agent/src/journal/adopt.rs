//! VMs that a new journal takes over from the marks on the host.

use rusqlite::{Connection, params};

use super::columns::{int, placement, spec_bytes};
use super::error::JournalError;
use super::job::Tx;
use super::rows::VmRow;
use super::schema;
use crate::hypervisor::Wanted;

/// In `meta` once the host was looked at.
const DONE: &str = "adopted";

/// Whether nothing was ever accepted here, and the host was not looked at yet.
pub(super) fn is_awaited(db: &Connection) -> Result<bool, JournalError> {
    let used: bool =
        db.query_row("SELECT EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM queue)", [], |row| {
            row.get(0)
        })?;
    Ok(!used && schema::get(db, DONE)?.is_none())
}

/// Takes VMs over; what was read from an older journal stays where a mark says nothing of it. The number of rows.
pub(super) fn adopt(tx: &mut Tx<'_>, rows: &[VmRow]) -> Result<usize, JournalError> {
    if !is_awaited(tx.db)? {
        return Ok(0);
    }
    for row in rows {
        tx.db
            .prepare_cached(
                "INSERT INTO vms (vm_id, name, generation, presence, wanted, disk, seed, run, placement, spec)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT (vm_id) DO UPDATE SET name = coalesce(name, ?2), generation = max(generation, ?3),
                     presence = ?4, wanted = ?5, disk = ?6, seed = ?7, run = ?8,
                     placement = iif(spec IS NULL, ?9, placement), spec = coalesce(spec, ?10)",
            )?
            .execute(params![
                row.vm.to_string(),
                row.name.as_ref().map(|name| name.as_str()),
                int(row.generation.0),
                row.presence.as_str(),
                wanted(row),
                row.disk.map(|disk| disk.to_string()),
                row.seed.map(|seed| seed.to_string()),
                row.run.map(|run| run.to_string()),
                row.spec.as_ref().map(placement),
                row.spec.as_ref().map(spec_bytes),
            ])?;
    }
    schema::put(tx.db, DONE, "yes")?;
    Ok(rows.len())
}

fn wanted(row: &VmRow) -> &'static str {
    match row.wanted {
        Wanted::On => "on",
        Wanted::Off => "off",
    }
}
