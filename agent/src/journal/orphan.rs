//! A VM that a person takes into the journal, as its domain's mark says: the one way in that is no event.

use dewpoint_proto::spec::{Placement, VmSpec};
use dewpoint_proto::wire::event as wire;
use prost::Message;
use rusqlite::params;

use super::admission::Presence;
use super::columns::int;
use super::error::JournalError;
use super::thread::Tx;
use crate::hypervisor::{Mark, Wanted};

/// A VM to be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Its domain's mark: id, generation, disk, seed, run, what is wanted.
    pub mark: Mark,
    /// What it is made of, as far as its domain and its seed tell.
    pub spec: VmSpec,
}

/// False: the journal has it already. A tombstone's generation is kept when it is the higher one.
pub(super) fn take_in(tx: &Tx<'_>, adopted: &Adopted) -> Result<bool, JournalError> {
    let Adopted { mark, spec } = adopted;
    let placement = match spec.placement {
        Placement::Bound => "bound",
        Placement::Movable => "movable",
    };
    let taken = tx
        .db
        .prepare_cached(
            "INSERT INTO vms (vm_id, name, generation, presence, wanted, disk, seed, run, placement, spec)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (vm_id) DO UPDATE SET name = ?2, generation = max(generation, ?3), presence = ?4,
                 wanted = ?5, disk = ?6, seed = ?7, run = ?8, placement = ?9, spec = ?10
             WHERE presence = 'gone'",
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
            placement,
            wire::VmSpec::from(spec.clone()).encode_to_vec(),
        ])?;
    Ok(taken == 1)
}
