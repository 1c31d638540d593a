//! This database is behind its hosts: what they know is taken into its rows, and then it places again.
//!
//! A host that is ahead tells its journal's entries and its VMs. Those are facts: events get the rows that were lost, VMs
//! their claims and leases. What differs at the same place of the queue is no loss but another history: the host
//! diverges, and a person decides.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Body, Kind};
use dewpoint_proto::ids::{Generation, HostId, Seq, VmId};
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::time::Millis;
use rusqlite::Connection;

use super::admit::insert_vm;
use super::assign::{self, Place};
use super::audit;
use super::codec::{IdBytes, int, json};
use super::new_event::NewEvent;
use super::reconcile::{self, stale};
use super::recovery::{self, Ends};
use super::rows::{self, all, change, columns, one};
use super::writer::Effect;
use crate::events::stage::Stage;
use crate::store::{
    About, Act, AuditEntry, Changed, Hello, Holding, HostRecord, JournalEntry, Lease, RequestDigest, Settled,
    Settlement, StoreResult, TakeOver, TakenOver, VmShape, Word,
};

/// The host, and placement in the whole fleet, wait. How far ahead the host is stands in its hello; its queue here stays as
/// it is until that is decided on.
pub(super) fn begin(db: &Connection, hello: &Hello, cause: &Cause) -> StoreResult<()> {
    let text = json("hosts", cause)?;
    let row = "UPDATE hosts SET diverged = ?2, recovering = 1 WHERE host_id = ?1";
    change(db, row, &[&hello.host.bytes(), &text])?;
    change(db, "UPDATE fleet SET recovering = coalesce(recovering, ?1)", &[&text])?;
    Ok(())
}

/// No host is ahead: placement goes on. Whether all have been heard is for the caller to know.
pub(super) fn settle(db: &Connection) -> StoreResult<Effect<Option<Cause>>> {
    let was = super::hosts::fleet(db)?.recovering;
    let ended = recovery::end_if_over(db, Ends::Any)?;
    Ok(Effect::Keep(was.filter(|_| ended)))
}

/// A person says so: the hosts that are ahead go on from their own last seq. What they were given by this database and
/// had not acknowledged stands behind that seq, and is never delivered: it is unknown.
pub(super) fn end(db: &Connection, word: Word) -> StoreResult<Effect<Settlement>> {
    let at = word.at;
    let detail = super::hosts::fleet(db)?.recovering.map(|cause| cause.text).unwrap_or_default();
    audit::record(db, &AuditEntry { act: Act::EndRecovery, about: About::default(), detail, word })?;
    let mut settlement = Settlement::default();
    let cause =
        Cause::new(Reason::JournalLost, "the recovery was ended by a person before its host told of it")
            .advise("look at the VM, then send the event again as a new one");
    let ahead = all(db, "SELECT host_id FROM hosts WHERE recovering = 1", &[], |row| {
        columns("hosts", row).id::<HostId>("host_id")
    })?;
    for host in ahead {
        let Some(host) = rows::host(db, host)? else { continue };
        let standing = unfinished(db, host.id)?.into_iter().filter(|(_, seq)| is_passed_over(&host, *seq));
        for (standing, _) in standing.collect::<Vec<_>>() {
            settlement.changed.extend(reconcile::make_unknown(db, standing, &cause, at)?);
        }
        go_on(db, &host)?;
    }
    change(db, "UPDATE hosts SET awaited = 0 WHERE awaited = 1", &[])?;
    change(db, "UPDATE fleet SET recovering = NULL, restored = NULL", &[])?;
    Ok(Effect::Keep(settlement))
}

/// It was given out by this database, not acknowledged, and its place is another event's by now.
fn is_passed_over(host: &HostRecord, seq: Option<Seq>) -> bool {
    let last = host.told.as_ref().map_or(host.last_seq, |told| told.last_seq);
    seq.is_some_and(|seq| seq > host.accepted_seq && seq <= last)
}

/// The queue of a host that was ahead goes on where its journal ends.
fn go_on(db: &Connection, host: &HostRecord) -> StoreResult<()> {
    let (last, event) =
        host.told.as_ref().map_or((host.last_seq, None), |told| (told.last_seq, told.last_seq_event));
    change(
        db,
        "UPDATE hosts SET base_seq = ?2, base_event = ?3, last_seq = ?2, accepted_seq = ?2, report_open = 1, \
         diverged = NULL, recovering = 0 WHERE host_id = ?1",
        &[&host.id.bytes(), &int(last.0), &event.map(IdBytes::bytes)],
    )?;
    Ok(())
}

/// Takes what a host knows into the rows.
pub(super) fn take_over(db: &Connection, told: &TakeOver) -> StoreResult<Effect<Settled<TakenOver>>> {
    let Some(host) = rows::host(db, told.host)?.filter(|host| host.term == told.term && host.recovering)
    else {
        return Ok(Effect::Undo(Err(stale(told.host))));
    };
    if told.account.truncated {
        return Ok(Effect::Undo(Err(too_far(&host))));
    }
    if let Some(cause) = other_history(db, &host, &told.account.entries)? {
        let row = "UPDATE hosts SET diverged = ?2, recovering = 0 WHERE host_id = ?1";
        change(db, row, &[&host.id.bytes(), &json("hosts", &cause)?])?;
        return Ok(Effect::Keep(Err(cause)));
    }
    let mut taken = TakenOver::default();
    for entry in &told.account.entries {
        take_entry(db, &host, entry, &mut taken)?;
    }
    for holding in told.account.vms.iter().filter(|holding| !holding.state.gone) {
        adopt(db, &host, holding, told.at, &mut taken)?;
    }
    go_on(db, &host)?;
    Ok(Effect::Keep(Ok(taken)))
}

fn too_far(host: &HostRecord) -> Cause {
    Cause::new(Reason::TooLarge, format!("host {} is further ahead than it can tell at once", host.hostname))
        .advise("restore a newer backup, or compare and `dewpoint host end-recovery --reason TEXT`")
        .with("host_id", host.id)
}

/// Another event at the same place: both sides went on after the backup.
fn other_history(db: &Connection, host: &HostRecord, entries: &[JournalEntry]) -> StoreResult<Option<Cause>> {
    for entry in entries {
        let Some(seq) = entry.seq else { continue };
        let Some(ours) = super::hosts::event_at(db, host.id, seq)?.filter(|ours| *ours != entry.event) else {
            continue;
        };
        return Ok(Some(
            Cause::new(Reason::Diverged, format!("host {}: another event is at seq {seq}", host.hostname))
                .advise("events were accepted after a backup was restored and before the host was back; see `dewpoint host reconcile HOST`")
                .with("state", "diverged")
                .with("host_id", host.id)
                .with("seq", seq)
                .with("journal_event_id", entry.event)
                .with("our_event_id", ours),
        ));
    }
    Ok(None)
}

/// An event gets the row that was lost, or its place, if it was waiting for one.
fn take_entry(
    db: &Connection,
    host: &HostRecord,
    entry: &JournalEntry,
    taken: &mut TakenOver,
) -> StoreResult<()> {
    let (Some(body), Some(seq)) = (&entry.body, entry.seq) else { return Ok(()) };
    let place = || Place { host: host.id, hostname: host.hostname.clone(), seq };
    match rows::event(db, entry.event)? {
        Some(known) if known.stage == Stage::Pending => {
            let row = "UPDATE events SET stage = 'accepted', host_id = ?2, seq = ?3, generation = ?4, pending = NULL \
                 WHERE event_id = ?1";
            change(db, row, &[&known.id.bytes(), &host.id.bytes(), &int(seq.0), &int(entry.generation.0)])?;
            place_vm(db, host.id, entry)?;
        }
        Some(_) => return Ok(()),
        None => {
            if let Kind::Create(create) = &body.event().kind {
                let shape = VmShape::from(&create.spec);
                if insert_vm(db, body, create, &shape, Some(&place()))? {
                    assign::claim_anyway(db, host.id, &shape)?;
                    lease(db, body.event().vm, &shape, taken)?;
                    taken.vms.push(entry.vm);
                }
            }
            insert_event(db, entry, body, place())?;
        }
    }
    let row = "UPDATE vms SET generation = max(generation, ?2) WHERE vm_id = ?1";
    change(db, row, &[&entry.vm.bytes(), &int(entry.generation.0)])?;
    taken.changed.push(Changed { event: entry.event, vm: entry.vm, host: Some(host.id), kind: None });
    Ok(())
}

fn insert_event(db: &Connection, entry: &JournalEntry, body: &Body, place: Place) -> StoreResult<()> {
    // A VM that is not known has no name here; its event is told by the VM's id.
    let vm_name = match &body.event().kind {
        Kind::Create(create) => create.spec.name.clone(),
        _ => match rows::vm(db, entry.vm)? {
            Some(vm) => vm.name,
            None => return Ok(()),
        },
    };
    NewEvent {
        body,
        // No caller's request: only its own body can repeat it.
        request: RequestDigest(body.digest().0),
        vm_name,
        generation: entry.generation,
        image: None,
        place: Some(place),
        pending: None,
    }
    .insert(db, None)?;
    change(db, "UPDATE events SET stage = 'accepted' WHERE event_id = ?1", &[&entry.event.bytes()])?;
    Ok(())
}

/// The VM of a create that waited, and was placed after the backup.
fn place_vm(db: &Connection, host: HostId, entry: &JournalEntry) -> StoreResult<()> {
    let Some(vm) = rows::vm(db, entry.vm)?.filter(|vm| vm.host.is_none() && !vm.gone) else { return Ok(()) };
    let row = "UPDATE vms SET host_id = ?2, last_host = ?2 WHERE vm_id = ?1";
    change(db, row, &[&vm.id.bytes(), &host.bytes()])?;
    assign::claim_anyway(db, host, &vm.shape)
}

/// A VM that the host has and these rows do not: it gets its row, its claim and its leases.
pub(super) fn adopt(
    db: &Connection,
    host: &HostRecord,
    holding: &Holding,
    at: Millis,
    taken: &mut TakenOver,
) -> StoreResult<()> {
    let vm = holding.state.vm;
    let Some(spec) = &holding.spec else { return Ok(()) };
    if one(db, "SELECT 1 FROM vms WHERE vm_id = ?1", &[&vm.bytes()], |_| Ok(()))?.is_some() {
        return Ok(());
    }
    let shape = VmShape::from(spec);
    change(
        db,
        "INSERT INTO vms (vm_id, name, host_id, last_host, vcpus, memory, disk, shape, generation, wanted_on, image, \
         created_at) VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        &[
            &vm.bytes(),
            &spec.name.as_str(),
            &host.id.bytes(),
            &shape.vcpus,
            &int(shape.memory_bytes),
            &int(shape.disk_bytes),
            &json("vms", &shape)?,
            &int(holding.state.generation.max(Generation(1)).0),
            &holding.state.wanted_on,
            &holding.image.unwrap_or(ImageDigest([0; 32])).0,
            &at.0,
        ],
    )?;
    assign::claim_anyway(db, host.id, &shape)?;
    lease(db, vm, &shape, taken)?;
    taken.vms.push(vm);
    Ok(())
}

/// Its addresses, as far as no other VM has them by now.
fn lease(db: &Connection, vm: VmId, shape: &VmShape, taken: &mut TakenOver) -> StoreResult<()> {
    for nic in &shape.nics {
        let Some(network) = nic.network.clone() else { continue };
        let addresses = nic.addresses.iter().map(|cidr| cidr.address).collect();
        let lease = [Lease { network, mac: nic.mac, addresses }];
        if let Some(lost) = assign::take_leases(db, vm, &lease)? {
            taken.contradictions.push(
                Cause::new(Reason::NoAddress, format!("VM {vm} has an address of another VM"))
                    .advise("give one of the two another address")
                    .with("vm_id", vm)
                    .with("network", &lost.network)
                    .with("mac", lost.mac),
            );
        }
    }
    Ok(())
}

/// What is unfinished in a host's queue, with its place.
pub(super) fn unfinished(
    db: &Connection,
    host: HostId,
) -> StoreResult<Vec<(reconcile::Standing, Option<Seq>)>> {
    let list = "SELECT event_id, vm_id, host_id, stage, seq FROM events WHERE host_id = ?1 AND ended = 0";
    all(db, list, &[&host.bytes()], |row| {
        let seq: Option<i64> = columns("events", row).get("seq")?;
        Ok((reconcile::standing(row)?, seq.map(|seq| Seq(seq.unsigned_abs()))))
    })
}
