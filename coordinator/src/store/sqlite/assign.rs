//! Claims on hosts, places in their queues, leases of networks: taken and given back inside the caller's savepoint.

use std::net::IpAddr;

use dewpoint_proto::event::Kind;
use dewpoint_proto::ids::{Generation, HostId, Seq, VmId};
use dewpoint_proto::names::NetworkName;
use rusqlite::Connection;

use super::codec::{IdBytes, int, json};
use super::rows::{self, all, change, columns, one};
use super::writer::Effect;
use crate::events::stage::{After, Entry, Stage};
use crate::store::{
    Candidate, EventRecord, HostRecord, Lease, PlaceAgain, Placed, StoreError, StoreResult, VmShape,
};

/// A place in a host's queue.
pub(super) struct Place {
    pub(super) host: HostId,
    pub(super) hostname: String,
    pub(super) seq: Seq,
}

/// Claims the first candidate whose sums still allow it and that is neither cordoned, held, diverged nor retired.
pub(super) fn claim_first(
    db: &Connection,
    candidates: &[Candidate],
    shape: &VmShape,
) -> StoreResult<Option<Place>> {
    const CLAIM: &str = "UPDATE hosts SET last_seq = last_seq + 1, claimed_vcpus = claimed_vcpus + ?2, \
         claimed_memory = claimed_memory + ?3, claimed_disk = claimed_disk + ?4, claimed_vms = claimed_vms + 1 \
         WHERE host_id = ?1 AND cordoned IS NULL AND held IS NULL AND diverged IS NULL AND retired IS NULL \
         AND claimed_vcpus + ?2 <= ?5 AND claimed_memory + ?3 + ?9 * (claimed_vms + 1) <= ?6 \
         AND claimed_disk + ?4 <= ?7 AND claimed_vms + 1 <= ?8";
    for candidate in candidates {
        let most = candidate.most;
        let claimed = change(
            db,
            CLAIM,
            &[
                &candidate.host.bytes(),
                &shape.vcpus,
                &int(shape.memory_bytes),
                &int(shape.disk_bytes),
                &int(most.vcpus),
                &int(most.memory_bytes),
                &int(most.disk_bytes),
                &most.vms.min(dewpoint_proto::limits::VMS_PER_HOST),
                &int(candidate.memory_overhead_bytes),
            ],
        )?;
        if claimed > 0 {
            return last_place(db, candidate.host).map(Some);
        }
    }
    Ok(None)
}

/// The next position of a host's queue.
pub(super) fn next_place(db: &Connection, host: HostId) -> StoreResult<Place> {
    change(db, "UPDATE hosts SET last_seq = last_seq + 1 WHERE host_id = ?1", &[&host.bytes()])?;
    last_place(db, host)
}

/// The place that was taken just now. Asked for apart: with RETURNING, SQLite keeps a journal for the one statement.
fn last_place(db: &Connection, host: HostId) -> StoreResult<Place> {
    let row = "SELECT last_seq, hostname FROM hosts WHERE host_id = ?1";
    one(db, row, &[&host.bytes()], |row| place_row(host, row))?
        .ok_or_else(|| StoreError::Corrupt { table: "hosts", text: format!("{host} has VMs and no row") })
}

fn place_row(host: HostId, row: &rusqlite::Row<'_>) -> StoreResult<Place> {
    let columns = columns("hosts", row);
    Ok(Place { host, hostname: columns.get("hostname")?, seq: Seq(columns.count("last_seq")?) })
}

/// Adds a VM that a host made on its own: it is there, whether it fits or not.
pub(super) fn claim_anyway(db: &Connection, host: HostId, shape: &VmShape) -> StoreResult<()> {
    shift(db, host, shape, 1)
}

/// Gives back what a VM held on its host.
pub(super) fn release_claim(db: &Connection, host: HostId, shape: &VmShape) -> StoreResult<()> {
    shift(db, host, shape, -1)
}

fn shift(db: &Connection, host: HostId, shape: &VmShape, by: i64) -> StoreResult<()> {
    change(
        db,
        "UPDATE hosts SET claimed_vcpus = claimed_vcpus + ?2, claimed_memory = claimed_memory + ?3, \
         claimed_disk = claimed_disk + ?4, claimed_vms = claimed_vms + ?5 WHERE host_id = ?1",
        &[
            &host.bytes(),
            &(by * i64::from(shape.vcpus)),
            &(by * int(shape.memory_bytes)),
            &(by * int(shape.disk_bytes)),
            &by,
        ],
    )?;
    Ok(())
}

/// Takes MAC and addresses for a VM; the lease that is taken already, when one is.
pub(super) fn take_leases<'a>(
    db: &Connection,
    vm: VmId,
    leases: &'a [Lease],
) -> StoreResult<Option<&'a Lease>> {
    for lease in leases {
        let network = lease.network.as_str();
        let nic = "INSERT OR IGNORE INTO nics (network, mac, vm_id) VALUES (?1, ?2, ?3)";
        if change(db, nic, &[&network, &lease.mac.0, &vm.bytes()])? == 0 {
            return Ok(Some(lease));
        }
        for address in &lease.addresses {
            let row =
                "INSERT OR IGNORE INTO addresses (network, address, mac, vm_id) VALUES (?1, ?2, ?3, ?4)";
            if change(db, row, &[&network, &address.to_string(), &lease.mac.0, &vm.bytes()])? == 0 {
                return Ok(Some(lease));
            }
        }
    }
    Ok(None)
}

/// Gives back all leases of a VM; the addresses that are free again.
pub(super) fn release_leases(db: &Connection, vm: VmId) -> StoreResult<Vec<(NetworkName, IpAddr)>> {
    let list = "SELECT network, address FROM addresses WHERE vm_id = ?1";
    let freed = all(db, list, &[&vm.bytes()], |row| {
        let columns = columns("addresses", row);
        Ok((columns.parsed("network")?, columns.parsed("address")?))
    })?;
    change(db, "DELETE FROM addresses WHERE vm_id = ?1", &[&vm.bytes()])?;
    change(db, "DELETE FROM nics WHERE vm_id = ?1", &[&vm.bytes()])?;
    Ok(freed)
}

/// Tries a pending event again.
pub(super) fn place_again(db: &Connection, place: &PlaceAgain) -> StoreResult<Effect<Placed>> {
    let Some(event) = rows::event(db, place.event)?.filter(|event| event.stage == Stage::Pending) else {
        return Ok(Effect::Undo(Placed::NotPending));
    };
    let overdue = event.not_after.is_some_and(|not_after| not_after < place.at);
    let Some(Kind::Create(create)) = event.body.as_ref().map(|body| &body.event().kind) else {
        return Ok(Effect::Undo(Placed::StillPending));
    };
    if overdue || super::hosts::fleet(db)?.recovering.is_some() {
        return Ok(Effect::Undo(Placed::StillPending));
    }
    let shape = VmShape::from(&create.spec);
    match claim_first(db, &place.candidates, &shape)? {
        Some(found) => assign_pending(db, event, place, found),
        None => {
            let why = json("events", &place.pending)?;
            let row = "UPDATE events SET pending = ?2 WHERE event_id = ?1";
            change(db, row, &[&place.event.bytes(), &why])?;
            Ok(Effect::Keep(Placed::StillPending))
        }
    }
}

fn assign_pending(
    db: &Connection,
    mut event: EventRecord,
    place: &PlaceAgain,
    found: Place,
) -> StoreResult<Effect<Placed>> {
    let Ok(After::Moved(stage)) = event.stage.after(Entry::Assigned) else {
        return Ok(Effect::Undo(Placed::NotPending));
    };
    let generation = Generation(1);
    change(
        db,
        "UPDATE events SET stage = ?2, host_id = ?3, seq = ?4, generation = ?5, pending = NULL, explanation = ?6, \
         stage_at = ?7 WHERE event_id = ?1",
        &[
            &event.id.bytes(),
            &stage.as_str(),
            &found.host.bytes(),
            &int(found.seq.0),
            &int(generation.0),
            &json("events", &place.explanation)?,
            &place.at.0,
        ],
    )?;
    change(
        db,
        "UPDATE vms SET host_id = ?2, last_host = ?2, generation = ?3 WHERE vm_id = ?1",
        &[&event.vm.bytes(), &found.host.bytes(), &int(generation.0)],
    )?;
    event.stage = stage;
    event.host = Some(found.host);
    event.hostname = Some(found.hostname);
    event.seq = Some(found.seq);
    event.generation = generation;
    event.pending = None;
    event.stage_since = Some(place.at);
    Ok(Effect::Keep(Placed::Assigned(Box::new(event))))
}

/// The host of that id, which must be there.
pub(super) fn host_of(db: &Connection, host: HostId) -> StoreResult<HostRecord> {
    rows::host(db, host)?
        .ok_or_else(|| StoreError::Corrupt { table: "hosts", text: format!("{host} has VMs and no row") })
}
