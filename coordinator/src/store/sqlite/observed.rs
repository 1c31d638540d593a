//! What hosts tell of VMs, and what follows from a report: claims go by proof alone.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Body, InitialPower, Kind};
use dewpoint_proto::ids::{Generation, VmId};
use dewpoint_proto::names::ImageName;
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::ImageRef;
use dewpoint_proto::vm_state::VmState;
use rusqlite::Connection;

use super::admit::insert_vm;
use super::assign::{self, Place};
use super::codec::{IdBytes, int, json};
use super::new_event::NewEvent;
use super::rows::{self, change};
use super::writer::Effect;
use crate::events::stage::{End, Stage};
use crate::store::{
    Changed, Claims, HostReport, ImageBytes, Lease, Observed, Recorded, RequestDigest, StoreResult, Under,
    VmShape,
};

/// Takes VM states; those older than what is known are passed over.
pub(super) fn observe(db: &Connection, under: Under, states: &[VmState]) -> StoreResult<Effect<Observed>> {
    super::report::check_term(db, under)?;
    let mut observed = Observed::default();
    for state in states {
        if take_state(db, under, state)? {
            observed.changed.push(state.vm);
        } else if !known_here(db, under, state.vm)? && !state.gone {
            observed.foreign.push(state.vm);
        }
    }
    Ok(Effect::Keep(observed))
}

fn known_here(db: &Connection, under: Under, vm: VmId) -> StoreResult<bool> {
    let row = "SELECT 1 FROM vms WHERE vm_id = ?1 AND last_host = ?2";
    Ok(rows::one(db, row, &[&vm.bytes(), &under.host.bytes()], |_| Ok(()))?.is_some())
}

/// Writes a state unless it is older than, or the same as, what is known, or the VM is not this host's.
fn take_state(db: &Connection, under: Under, state: &VmState) -> StoreResult<bool> {
    let text = json("vms", state)?;
    let changed = change(
        db,
        "UPDATE vms SET observed = ?3, as_of = ?4, observed_at = ?5, wanted_on = ?6, \
         generation = max(generation, ?7) WHERE vm_id = ?1 AND last_host = ?2 AND as_of <= ?4 \
         AND observed IS NOT ?3",
        &[
            &state.vm.bytes(),
            &under.host.bytes(),
            &text,
            &int(state.as_of.0),
            &under.at.0,
            &state.wanted_on,
            &int(state.generation.0),
        ],
    )?;
    Ok(changed == 1)
}

/// What a report means for the VM, its claim and the catalogue.
pub(super) fn after_report(
    db: &Connection,
    under: Under,
    told: &HostReport,
    recorded: &mut Recorded,
) -> StoreResult<()> {
    let Some(event) = rows::event(db, told.event)? else { return Ok(()) };
    let row = "UPDATE vms SET generation = max(generation, ?2) WHERE vm_id = ?1";
    change(db, row, &[&event.vm.bytes(), &int(told.generation.0)])?;
    if let Outcome::Succeeded(done) = &told.outcome {
        match event.body.as_ref().map(|body| &body.event().kind) {
            Some(Kind::Restore(restore)) => {
                let row = "UPDATE vms SET image = ?2 WHERE vm_id = ?1";
                change(db, row, &[&event.vm.bytes(), &restore.source.digest.0])?;
            }
            Some(Kind::Snapshot(snapshot)) => {
                if let Some(image) = done.image.as_ref().filter(|_| told.image_bytes == ImageBytes::Here) {
                    let made = Snapshotted { image, name: snapshot.image_name.as_ref(), told, vm: event.vm };
                    made.into_catalogue(db, recorded)?;
                }
            }
            _ => {}
        }
    }
    let Some(state) = told.vm.as_ref().filter(|state| state.vm == event.vm) else { return Ok(()) };
    take_state(db, under, state)?;
    if state.gone { release(db, under, event.vm, recorded) } else { Ok(()) }
}

/// The host proved that the VM is gone from it: its claim and its leases are free again.
fn release(db: &Connection, under: Under, vm: VmId, recorded: &mut Recorded) -> StoreResult<()> {
    let Some(row) = rows::vm(db, vm)?.filter(|row| row.host == Some(under.host)) else { return Ok(()) };
    change(db, "UPDATE vms SET host_id = NULL, gone = 1 WHERE vm_id = ?1", &[&vm.bytes()])?;
    assign::release_claim(db, under.host, &row.shape)?;
    recorded.released.extend(assign::release_leases(db, vm)?);
    recorded.freed = Claims::from(&row.shape);
    Ok(())
}

struct Snapshotted<'a> {
    image: &'a ImageRef,
    name: Option<&'a ImageName>,
    told: &'a HostReport,
    vm: VmId,
}

impl Snapshotted<'_> {
    fn into_catalogue(self, db: &Connection, recorded: &mut Recorded) -> StoreResult<()> {
        change(
            db,
            "INSERT OR IGNORE INTO images (digest, size, virtual_size, format, added_at, made_by, made_from) \
             VALUES (?1, ?2, ?3, 'qcow2', ?4, ?5, ?6)",
            &[
                &self.image.digest.0,
                &int(self.image.size_bytes),
                &int(self.image.virtual_size_bytes),
                &self.told.finished_at.0,
                &self.told.event.bytes(),
                &self.vm.bytes(),
            ],
        )?;
        let Some(name) = self.name else { return Ok(()) };
        if let Some(taken) = super::catalogue::point_name(db, name, self.image.digest)? {
            recorded.contradiction = Some(taken.with("event_id", self.told.event));
        }
        Ok(())
    }
}

/// An event that was submitted on the host: it gets its row now, ended, and a VM that it made claims what it takes.
/// False: nothing is known of it, and it brought no body.
pub(super) fn local_event(
    db: &Connection,
    under: Under,
    told: &HostReport,
    recorded: &mut Recorded,
) -> StoreResult<bool> {
    let Some(body) = told.body.as_ref().filter(|_| told.seq.is_none()) else {
        recorded.contradiction = Some(
            Cause::new(
                Reason::EventNotFound,
                format!("host {} reports an unknown event {}", under.host, told.event),
            )
            .advise("was the coordinator's database restored from a backup?")
            .with("event_id", told.event)
            .with("host_id", under.host),
        );
        return Ok(false);
    };
    let event = body.event();
    if let Kind::Create(create) = &event.kind {
        local_vm(db, under, told, create, recorded)?;
    }
    let Some(vm) = rows::vm(db, event.vm)?.filter(|vm| vm.last_host == Some(under.host)) else {
        recorded.contradiction = Some(
            Cause::new(
                Reason::VmNotFound,
                format!("host {} changed VM {}, which is not its own", under.host, event.vm),
            )
            .advise("look for the VM on both hosts")
            .with("vm_id", event.vm)
            .with("host_id", under.host),
        );
        return Ok(false);
    };
    NewEvent {
        body,
        // No caller's request: only its own body can repeat it.
        request: RequestDigest(body.digest().0),
        vm_name: vm.name,
        generation: told.generation,
        image: None,
        place: None,
        pending: None,
    }
    .insert(db, None)?;
    let stage: Stage = End::from(&told.outcome).stage();
    change(
        db,
        "UPDATE events SET stage = ?2, ended = 1, host_id = ?3, outcome = ?4, begun_at = ?5, finished_at = ?6, \
         stage_at = ?7 WHERE event_id = ?1",
        &[
            &event.id.bytes(),
            &stage.as_str(),
            &under.host.bytes(),
            &json("events", &told.outcome)?,
            &told.begun_at.map(|at| at.0),
            &told.finished_at.0,
            &under.at.0,
        ],
    )?;
    recorded.changed.push(Changed {
        event: event.id,
        vm: event.vm,
        host: Some(under.host),
        kind: Some(event.kind.name()),
    });
    Ok(true)
}

/// A VM that was destroyed on its host is built there again under its id, from a recycled disk: its row lives again.
fn back_again(db: &Connection, under: Under, body: &Body, shape: &VmShape) -> StoreResult<bool> {
    let Kind::Create(create) = &body.event().kind else { return Ok(false) };
    let lives = change(
        db,
        "UPDATE vms SET gone = 0, host_id = ?2, name = ?3, vcpus = ?4, memory = ?5, disk = ?6, shape = ?7, \
         wanted_on = ?8, image = ?9 WHERE vm_id = ?1 AND gone = 1 AND last_host = ?2",
        &[
            &body.event().vm.bytes(),
            &under.host.bytes(),
            &create.spec.name.as_str(),
            &shape.vcpus,
            &int(shape.memory_bytes),
            &int(shape.disk_bytes),
            &json("vms", shape)?,
            &(create.power == InitialPower::On),
            &create.source.digest.0,
        ],
    )?;
    Ok(lives == 1)
}

fn local_vm(
    db: &Connection,
    under: Under,
    told: &HostReport,
    create: &dewpoint_proto::event::Create,
    recorded: &mut Recorded,
) -> StoreResult<()> {
    let Some(body) = &told.body else { return Ok(()) };
    let shape = VmShape::from(&create.spec);
    let host = assign::host_of(db, under.host)?;
    let place = Place { host: under.host, hostname: host.hostname, seq: host.last_seq };
    if !insert_vm(db, body, create, &shape, Some(&place))? && !back_again(db, under, body, &shape)? {
        return Ok(());
    }
    assign::claim_anyway(db, under.host, &shape)?;
    recorded.gained = Claims::from(&shape);
    let row = "UPDATE vms SET generation = max(generation, ?2) WHERE vm_id = ?1";
    change(db, row, &[&body.event().vm.bytes(), &int(told.generation.max(Generation(1)).0)])?;
    let leases: Vec<Lease> = create
        .spec
        .nics
        .iter()
        .filter_map(|nic| {
            let addresses = nic.addresses.iter().map(|cidr| cidr.address).collect();
            Some(Lease { network: nic.network.clone()?, mac: nic.mac, addresses })
        })
        .collect();
    if let Some(taken) = assign::take_leases(db, body.event().vm, &leases)? {
        recorded.contradiction = Some(
            Cause::new(
                Reason::NoAddress,
                format!("a VM made on {} has an address of another VM", under.host),
            )
            .advise("give one of the two another address")
            .with("network", &taken.network)
            .with("mac", taken.mac),
        );
    }
    Ok(())
}
