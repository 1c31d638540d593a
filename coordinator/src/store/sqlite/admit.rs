//! Admissions: idempotent by event id, one unfinished event per VM.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Body, Create, InitialPower, Kind, KindName};
use dewpoint_proto::ids::{EventId, Generation, VmId};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::time::Millis;
use rusqlite::Connection;

use super::assign::{self, Place};
use super::codec::{IdBytes, int, json};
use super::destroys;
use super::new_event::{NewEvent, Waiting};
use super::rows::{self, all, columns, one};
use super::writer::Effect;
use crate::events::stage::{After, End, Entry, Stage};
use crate::store::causes::{no_event, no_network, no_vm, reused};
use crate::store::{
    Admission, ChangeAdmission, Changed, CreateAdmission, Recorded, RequestDigest, StoreError, StoreResult,
    Unplaced, VmRecord, VmShape,
};

/// Events waiting for a host, at most.
const PENDING_MOST: i64 = 10_000;
/// Pending events that one call ends, at most; the next call ends the rest.
const EXPIRED_MOST: u32 = 500;
/// A VM's unfinished events.
pub(super) const UNFINISHED: &str =
    "SELECT event_id, kind FROM events WHERE vm_id = ?1 AND ended = 0 ORDER BY n";

fn undo(cause: Cause) -> Effect<Admission> {
    Effect::Undo(Admission::Refused(cause))
}

/// Admits a create.
pub(super) fn create(
    db: &Connection,
    admission: &CreateAdmission,
    explanation: &str,
) -> StoreResult<Effect<Admission>> {
    let body = &admission.body;
    if let Some(seen) = repeated(db, body.event().id, admission.request)? {
        return Ok(seen);
    }
    let Kind::Create(create) = &body.event().kind else {
        return Ok(undo(Cause::new(Reason::Internal, "an event that is not a create was admitted as one")));
    };
    if let Some(cause) = super::hosts::fleet(db)?.recovering {
        return Ok(undo(cause));
    }
    if let Some(cause) = missing_image(db, create.source.digest)? {
        return Ok(undo(cause));
    }
    for lease in &admission.leases {
        if !super::catalogue::network_is_there(db, &lease.network)? {
            return Ok(undo(no_network(&lease.network)));
        }
    }
    if let Some(taken) = assign::take_leases(db, body.event().vm, &admission.leases)? {
        return Ok(Effect::Undo(Admission::LeaseTaken(taken.clone())));
    }
    let shape = VmShape::from(&create.spec);
    let place = assign::claim_first(db, &admission.candidates, &shape)?;
    let pending = match (&place, &admission.unplaced) {
        (Some(_), _) => None,
        (None, Unplaced::Wait { why, only_host }) if admission.candidates.is_empty() => {
            Some(Waiting { why: why.clone(), only_host: *only_host })
        }
        (None, _) => return Ok(Effect::Undo(Admission::ClaimLost)),
    };
    if pending.is_some() && count_pending(db)? >= PENDING_MOST {
        return Ok(undo(
            Cause::new(Reason::TooBusy, format!("{PENDING_MOST} events wait for a host"))
                .advise("add hosts, or try again later"),
        ));
    }
    if !insert_vm(db, body, create, &shape, place.as_ref())? {
        return Ok(undo(
            Cause::new(Reason::VmExists, format!("VM {} exists, or existed", body.event().vm))
                .advise("leave the VM id empty, or give a fresh one")
                .with("vm_id", body.event().vm),
        ));
    }
    let generation = Generation(u64::from(place.is_some()));
    let image = Some(create.source.digest);
    let vm_name = create.spec.name.clone();
    let record = NewEvent { body, request: admission.request, vm_name, generation, image, place, pending }
        .insert(db, Some(explanation))?;
    Ok(Effect::Keep(match record.stage {
        Stage::Assigned => Admission::Assigned(Box::new(record)),
        _ => Admission::Pending(Box::new(record)),
    }))
}

/// Admits any other kind.
pub(super) fn change(db: &Connection, admission: &ChangeAdmission) -> StoreResult<Effect<Admission>> {
    let body = &admission.body;
    let event = body.event();
    if let Some(seen) = repeated(db, event.id, admission.request)? {
        return Ok(seen);
    }
    let Some(vm) = rows::vm(db, event.vm)?.filter(|vm| !vm.gone) else {
        return Ok(undo(no_vm(event.vm)));
    };
    if let Some(cause) = hindrance(db, &event.kind, &vm)? {
        return Ok(undo(cause));
    }
    let Some(host) = vm.host else { return end_unplaced(db, admission, &vm) };
    let record = assign::host_of(db, host)?;
    if let Some(cause) = super::recovery::unheard(&record).or(record.diverged) {
        return Ok(undo(cause));
    }
    if event.kind.name() == KindName::Destroy
        && let Some(cause) = destroys::admit(db, event.accepted_at, admission.destroys_a_minute)?
    {
        return Ok(undo(cause));
    }
    let place = assign::next_place(db, host)?;
    let generation = vm.generation.next();
    let row = "UPDATE vms SET generation = ?2 WHERE vm_id = ?1";
    rows::change(db, row, &[&vm.id.bytes(), &int(generation.0)])?;
    let new = NewEvent {
        body,
        request: admission.request,
        vm_name: vm.name,
        generation,
        image: needed_image(&event.kind),
        place: Some(place),
        pending: None,
    };
    Ok(Effect::Keep(Admission::Assigned(Box::new(new.insert(db, None)?))))
}

/// The same id came before: the same request has its answer, another is refused.
fn repeated(db: &Connection, id: EventId, request: RequestDigest) -> StoreResult<Option<Effect<Admission>>> {
    let row = "SELECT request FROM events WHERE event_id = ?1 \
         UNION ALL SELECT request FROM finished WHERE event_id = ?1";
    let known = one(db, row, &[&id.bytes()], |row| columns("events", row).digest("request"))?;
    Ok(match known {
        None => None,
        Some(known) if RequestDigest(known) == request => {
            let record = rows::event(db, id)?
                .ok_or_else(|| StoreError::Corrupt { table: "events", text: format!("{id} vanished") })?;
            Some(Effect::Undo(Admission::Seen(Box::new(record))))
        }
        Some(_) => Some(undo(reused(id))),
    })
}

/// Why the VM cannot take this event now.
fn hindrance(db: &Connection, kind: &Kind, vm: &VmRecord) -> StoreResult<Option<Cause>> {
    if let Some(image) = needed_image(kind)
        && let Some(cause) = missing_image(db, image)?
    {
        return Ok(Some(cause));
    }
    let unfinished: Vec<(EventId, String)> = all(db, UNFINISHED, &[&vm.id.bytes()], |row| {
        let columns = columns("events", row);
        Ok((columns.id("event_id")?, columns.get("kind")?))
    })?;
    if let Kind::Cancel(cancel) = kind
        && let Some(cause) = wrong_target(db, cancel.target, vm.id)?
    {
        return Ok(Some(cause));
    }
    // Superseding events supersede each other only one way: destroy comes after all, nothing comes twice.
    let in_the_way = unfinished.iter().find(|(_, other)| match kind.name() {
        KindName::Cancel | KindName::Destroy => kind.name().as_str() == other,
        _ => true,
    });
    Ok(in_the_way.map(|(event, other)| {
        Cause::new(Reason::VmBusy, format!("VM {} has an unfinished {other}: {event}", vm.name))
            .advise("wait until it ends, or cancel it")
            .with("event_id", event)
            .with("kind", other)
            .with("vm_id", vm.id)
    }))
}

fn wrong_target(db: &Connection, target: EventId, vm: VmId) -> StoreResult<Option<Cause>> {
    let Some(event) = rows::event(db, target)?.filter(|event| event.vm == vm) else {
        return Ok(Some(no_event(target)));
    };
    if event.stage.has_ended() {
        return Ok(Some(
            Cause::new(Reason::TooLate, format!("event {target} has {} already", event.stage))
                .advise("nothing is left to cancel")
                .with("event_id", target)
                .with("stage", event.stage),
        ));
    }
    Ok((event.kind == KindName::Cancel).then(|| {
        Cause::new(Reason::Invalid, "a cancel cannot be cancelled")
            .advise("wait until it ends, then ask for what you want")
            .with("event_id", target)
    }))
}

fn needed_image(kind: &Kind) -> Option<ImageDigest> {
    match kind {
        Kind::Create(create) => Some(create.source.digest),
        Kind::Restore(restore) => Some(restore.source.digest),
        _ => None,
    }
}

fn missing_image(db: &Connection, digest: ImageDigest) -> StoreResult<Option<Cause>> {
    let there = one(db, "SELECT 1 FROM images WHERE digest = ?1", &[&digest.0], |_| Ok(()))?;
    Ok(there.is_none().then(|| {
        Cause::new(Reason::ImageNotFound, format!("there is no image {digest}"))
            .advise("see `dewpoint image ls`; was it removed meanwhile?")
            .with("digest", digest)
    }))
}

fn count_pending(db: &Connection) -> StoreResult<i64> {
    let count = one(db, "SELECT count(*) AS c FROM events WHERE stage = 'pending'", &[], |row| {
        columns("events", row).get("c")
    })?;
    Ok(count.unwrap_or(0))
}

/// A VM that no host has: the coordinator ends its create and the event that asks for it, with its leases.
fn end_unplaced(
    db: &Connection,
    admission: &ChangeAdmission,
    vm: &VmRecord,
) -> StoreResult<Effect<Admission>> {
    let event = admission.body.event();
    let cause = match &event.kind {
        Kind::Cancel(_) => Cause::new(Reason::CancelledByCaller, "cancelled before it had a host"),
        _ => Cause::new(Reason::Superseded, "destroyed before it had a host"),
    };
    let at = event.accepted_at;
    if let Some(create) = vm.unfinished {
        end_pending(db, create, &Outcome::Cancelled(cause.with("by_event_id", event.id)), at)?;
    }
    assign::release_leases(db, vm.id)?;
    rows::change(db, "UPDATE vms SET gone = 1 WHERE vm_id = ?1", &[&vm.id.bytes()])?;
    let new = NewEvent {
        body: &admission.body,
        request: admission.request,
        vm_name: vm.name.clone(),
        generation: Generation(0),
        image: None,
        place: None,
        pending: None,
    };
    let mut record = new.insert(db, None)?;
    let done = Outcome::success();
    end_pending(db, record.id, &done, at)?;
    record.stage = Stage::Succeeded;
    record.outcome = Some(done);
    record.finished_at = Some(at);
    Ok(Effect::Keep(Admission::Ended(Box::new(record))))
}

/// Ends an event that was never assigned.
fn end_pending(db: &Connection, id: EventId, outcome: &Outcome, at: Millis) -> StoreResult<()> {
    let stage = match Stage::Pending.after(Entry::Ended(End::from(outcome))) {
        Ok(After::Moved(stage)) => stage,
        other => return Err(StoreError::Corrupt { table: "events", text: format!("{id}: {other:?}") }),
    };
    rows::change(
        db,
        "UPDATE events SET stage = ?2, ended = 1, outcome = ?3, finished_at = ?4, stage_at = ?4, pending = NULL \
         WHERE event_id = ?1 AND stage = 'pending'",
        &[&id.bytes(), &stage.as_str(), &json("events", outcome)?, &at.0],
    )?;
    Ok(())
}

/// Ends pending events whose deadline is past.
pub(super) fn expire_pending(db: &Connection, now: Millis) -> StoreResult<Effect<Recorded>> {
    let list = "SELECT event_id, vm_id FROM events WHERE stage = 'pending' AND not_after < ?1 LIMIT ?2";
    let overdue: Vec<(EventId, VmId)> = all(db, list, &[&now.0, &EXPIRED_MOST], |row| {
        let columns = columns("events", row);
        Ok((columns.id("event_id")?, columns.id("vm_id")?))
    })?;
    let mut recorded = Recorded::default();
    for (event, vm) in overdue {
        let cause = Cause::new(Reason::Expired, "no host fitted before its deadline")
            .advise("add capacity, or allow more time");
        end_pending(db, event, &Outcome::Expired(cause), now)?;
        recorded.released.extend(assign::release_leases(db, vm)?);
        rows::change(db, "UPDATE vms SET gone = 1 WHERE vm_id = ?1", &[&vm.bytes()])?;
        // Nothing but a create waits for a host.
        recorded.changed.push(Changed { event, vm, host: None, kind: Some(KindName::Create) });
    }
    Ok(Effect::Keep(recorded))
}

/// Adds the row of a VM; false when there is, or was, one of that id.
pub(super) fn insert_vm(
    db: &Connection,
    body: &Body,
    create: &Create,
    shape: &VmShape,
    place: Option<&Place>,
) -> StoreResult<bool> {
    let host = place.map(|place| place.host.bytes());
    let added = rows::change(
        db,
        "INSERT OR IGNORE INTO vms (vm_id, name, host_id, last_host, vcpus, memory, disk, shape, generation, \
         wanted_on, image, created_at) VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        &[
            &body.event().vm.bytes(),
            &create.spec.name.as_str(),
            &host,
            &shape.vcpus,
            &int(shape.memory_bytes),
            &int(shape.disk_bytes),
            &json("vms", shape)?,
            &i64::from(place.is_some()),
            &(create.power == InitialPower::On),
            &create.source.digest.0,
            &body.event().accepted_at.0,
        ],
    )?;
    Ok(added == 1)
}
