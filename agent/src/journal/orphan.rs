//! What mending a host asks of the journal: to take in a VM as its domain's mark says, which a person wants and no event
//! brought; and what only the doctor reads.

use std::collections::BTreeSet;

use dewpoint_proto::ids::VmId;
use dewpoint_proto::spec::VmSpec;
use dewpoint_proto::time::Millis;
use rusqlite::{Connection, params};

use super::Journal;
use super::admission::Presence;
use super::columns::{int, parsed, placement, spec_bytes};
use super::error::JournalError;
use super::job::{Access, Tx};
use crate::hypervisor::{Mark, Wanted};

/// A VM to be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Its domain's mark: id, generation, disk, seed, run, what is wanted.
    pub mark: Mark,
    /// What it is made of, as far as its domain and its seed tell.
    pub spec: VmSpec,
}

impl Journal {
    /// Takes in a VM that no event brought here, or that was taken over without its spec: a person adopts its domain.
    /// False: the journal has it already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn take_in(&self, adopted: Adopted) -> Result<bool, JournalError> {
        self.ask(Access::Write, move |tx| take_in(tx, &adopted)).await
    }
}

/// False: the journal has it already, with what it is made of. A tombstone's generation is kept when it is the higher one.
fn take_in(tx: &Tx<'_>, adopted: &Adopted) -> Result<bool, JournalError> {
    let Adopted { mark, spec } = adopted;
    let taken = tx
        .db
        .prepare_cached(
            "INSERT INTO vms (vm_id, name, generation, presence, wanted, disk, seed, run, placement, spec)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (vm_id) DO UPDATE SET name = ?2, generation = max(generation, ?3), presence = ?4,
                 wanted = ?5, disk = ?6, seed = ?7, run = ?8, placement = ?9, spec = ?10
             WHERE presence = 'gone' OR spec IS NULL",
        )?
        .execute(params![
            mark.vm.to_string(),
            spec.name.as_str(),
            int(mark.generation.0),
            Presence::There.as_str(),
            if mark.wanted == Wanted::On { "on" } else { "off" },
            mark.disk.to_string(),
            mark.seed.to_string(),
            mark.run.map(|run| run.to_string()),
            placement(spec),
            spec_bytes(spec),
        ])?;
    Ok(taken == 1)
}

/// Every VM that was here and is gone.
pub(super) fn gone(db: &Connection) -> Result<BTreeSet<VmId>, JournalError> {
    let mut statement = db.prepare_cached("SELECT vm_id FROM vms WHERE presence = 'gone'")?;
    let rows = statement.query_map([], |row| parsed(row, 0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// When the oldest of the waiting reports was written.
pub(super) const WAITS_SINCE: &str = "SELECT min(finished_at) FROM reports WHERE acked = 0";

/// When the oldest report was written that waits for an acknowledgement.
pub(super) fn waits_since(db: &Connection) -> Result<Option<Millis>, JournalError> {
    let oldest: Option<i64> = db.prepare_cached(WAITS_SINCE)?.query_row([], |row| row.get(0))?;
    Ok(oldest.map(Millis))
}
