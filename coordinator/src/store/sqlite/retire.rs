//! Hosts that will not come back, and hosts that take their place: by a person's word alone.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{HostId, VmId};
use rusqlite::Connection;

use super::assign;
use super::audit;
use super::codec::IdBytes;
use super::reconcile::make_unknown;
use super::rows::{self, all, change, columns};
use super::takeover;
use super::writer::Effect;
use crate::store::causes::no_host;
use crate::store::{
    About, Act, AuditEntry, Claims, Disks, HostRecord, HostSettled, Replacement, Retirement, Settled,
    Settlement, StoreResult,
};

/// Retires a host. Its VMs go with its disks, if a person says that those are gone.
pub(super) fn retire(db: &Connection, told: &Retirement) -> StoreResult<Effect<Settled<Settlement>>> {
    let Some(host) = rows::host(db, told.host)? else { return Ok(Effect::Undo(Err(no_host(told.host)))) };
    let vms = vms_of(db, host.id)?;
    let unfinished = takeover::unfinished(db, host.id)?;
    if told.disks == Disks::NotSaid && !(vms.is_empty() && unfinished.is_empty()) {
        return Ok(Effect::Undo(Err(in_use(&host, vms.len(), unfinished.len()))));
    }
    let mut settlement = Settlement::default();
    let cause = Cause::new(
        Reason::JournalLost,
        format!("host {} was retired, its disks are gone: {}", host.hostname, told.word.reason),
    )
    .advise("build the VM anew, or restore it from a snapshot");
    for (standing, _) in unfinished {
        settlement.changed.extend(make_unknown(db, standing, &cause, told.word.at)?);
    }
    for vm in vms {
        let Some(row) = rows::vm(db, vm)? else { continue };
        change(db, "UPDATE vms SET host_id = NULL, gone = 1 WHERE vm_id = ?1", &[&vm.bytes()])?;
        assign::release_claim(db, host.id, &row.shape)?;
        settlement.released.extend(assign::release_leases(db, vm)?);
        add(&mut settlement.freed, Claims::from(&row.shape));
        settlement.vms.push(vm);
    }
    let row = "UPDATE hosts SET retired = coalesce(retired, ?2), diverged = NULL, recovering = 0, awaited = 0, reconciling = NULL \
         WHERE host_id = ?1";
    change(db, row, &[&host.id.bytes(), &told.word.reason])?;
    let detail = format!("{} VMs gone, {} events unknown", settlement.vms.len(), settlement.changed.len());
    let (about, word) = (About::host(host.id), told.word.clone());
    audit::record(db, &AuditEntry { act: Act::Retire, about, detail, word })?;
    Ok(Effect::Keep(Ok(settlement)))
}

fn add(sum: &mut Claims, more: Claims) {
    sum.vcpus += more.vcpus;
    sum.memory_bytes += more.memory_bytes;
    sum.disk_bytes += more.disk_bytes;
    sum.vms += more.vms;
}

fn vms_of(db: &Connection, host: HostId) -> StoreResult<Vec<VmId>> {
    let list = "SELECT vm_id FROM vms WHERE host_id = ?1 ORDER BY vm_id";
    all(db, list, &[&host.bytes()], |row| columns("vms", row).id("vm_id"))
}

fn in_use(host: &HostRecord, vms: usize, events: usize) -> Cause {
    Cause::new(
        Reason::HostInUse,
        format!("host {} has {vms} VMs and {events} unfinished events", host.hostname),
    )
    .advise(
        "destroy them, or build them elsewhere from snapshots; if its disks are gone for good, say so: \
         --disks-gone",
    )
    .with("host_id", host.id)
    .with("vms", vms)
    .with("unfinished", events)
}

/// The new host becomes the old one: as soon as its agent has heard so it says hello under the old id, with a journal
/// that is another, and is reconciled as any diverged host.
pub(super) fn replace(db: &Connection, told: &Replacement) -> StoreResult<Effect<HostSettled>> {
    let Some(old) = rows::host(db, told.old)? else { return Ok(Effect::Undo(Err(no_host(told.old)))) };
    let Some(new) = rows::host(db, told.new)? else { return Ok(Effect::Undo(Err(no_host(told.new)))) };
    let (vms, unfinished) = (vms_of(db, new.id)?.len(), takeover::unfinished(db, new.id)?.len());
    if vms + unfinished > 0 || old.id == new.id {
        return Ok(Effect::Undo(Err(in_use(&new, vms, unfinished))));
    }
    if let Some(retired) = &old.retired {
        return Ok(Effect::Undo(Err(Cause::new(
            Reason::HostRetired,
            format!("host {} was retired: {retired}", old.hostname),
        )
        .advise("its VMs are gone; the other host needs no other name")
        .with("host_id", old.id))));
    }
    // Whatever machine the old one was, the person has said that it is another now.
    change(db, "UPDATE hosts SET product_uuid = NULL WHERE host_id = ?1", &[&old.id.bytes()])?;
    let why = format!("it became host {}: {}", old.id, told.word.reason);
    let row = "UPDATE hosts SET retired = ?2, becomes = ?3, diverged = NULL WHERE host_id = ?1";
    change(db, row, &[&new.id.bytes(), &why, &old.id.bytes()])?;
    let (about, word) = (About::host(old.id), told.word.clone());
    let detail = format!("by host {} ({})", new.id, new.hostname);
    audit::record(db, &AuditEntry { act: Act::Replace, about, detail, word })?;
    let settled = rows::host(db, new.id)?.map(Box::new).ok_or_else(|| no_host(new.id));
    Ok(Effect::Keep(settled))
}
