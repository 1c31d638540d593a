//! What bears our mark and nothing explains: domains and folders of VMs that the journal does not have.
//!
//! Listed from a look at the host; adopted into the journal as their mark says, or removed with their disks going to
//! recycle. Both look again first, and touch nothing that bears no mark of ours. Whoever calls holds the data folder, and
//! lets no lane work on the VM meanwhile.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::DiskDisposal;
use dewpoint_proto::ids::VmId;
use dewpoint_proto::spec::VmSpec;
use dewpoint_proto::time::Millis;

use super::look::Eyes;
use super::repair::{Hands, Receipt};
use super::world::{Scope, World, bears_mark};
use crate::hypervisor::{Call, Inspected, Mark, Seen};
use crate::journal::Journal;
use crate::journal::orphan::Adopted;
use crate::storage::survey::What;
use crate::storage::{Described, Retirement, Storage, Told};

/// A VM that the journal does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Which.
    pub vm: VmId,
    /// Its domain's name; none: there is no domain.
    pub domain: Option<String>,
    /// Its power and libvirt's reason; empty: there is no domain.
    pub power: String,
    /// Its domain's mark.
    pub mark: Option<Mark>,
    /// Disks in its folder.
    pub disks: usize,
    /// Why it cannot be adopted; none: it can.
    pub hindrance: Option<String>,
}

/// What a person names to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Orphaned {
    /// A VM that the journal does not have.
    Vm(VmId),
    /// Something in the quarantine, by its name there.
    Quarantined(String),
}

impl Orphaned {
    /// A VM's id, else a name in the quarantine.
    #[must_use]
    pub fn of(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Quarantined(text.to_owned()), Self::Vm)
    }

    /// The VM, if it is one.
    #[must_use]
    pub fn vm(&self) -> Option<VmId> {
        match self {
            Self::Vm(vm) => Some(*vm),
            Self::Quarantined(_) => None,
        }
    }
}

/// Removes what a person named.
///
/// # Errors
/// As [`remove`] and [`crate::storage::Files::empty_quarantined`].
pub async fn remove_named(what: &Orphaned, eyes: &Eyes, hands: &Hands) -> Result<String, Cause> {
    match what {
        Orphaned::Vm(vm) => Ok(remove(*vm, eyes, hands).await?.done),
        Orphaned::Quarantined(name) => {
            let done = hands.files.empty_quarantined(name).await?.join("; ");
            let receipt = Receipt {
                at: Millis::now(),
                code: "orphans-remove".to_owned(),
                vm: None,
                found: format!("quarantine/{name}"),
                done: done.clone(),
            };
            hands.files.note_receipt(&receipt).await?;
            Ok(done)
        }
    }
}

/// Every orphan of the host; none, when the journal or libvirt could not be looked at.
#[must_use]
pub fn orphans(world: &World) -> Vec<Orphan> {
    let (Ok(journal), Ok(domains)) = (&world.journal, &world.libvirt) else { return Vec::new() };
    let marked = domains.values().filter(|seen| bears_mark(&seen.domain) && world.is_of_us(seen));
    let marked = marked.map(|seen| seen.domain.vm);
    let folders = world.our_folders().map(|(vm, _)| vm);
    let mut vms: Vec<VmId> =
        marked.chain(folders).filter(|vm| !journal.vms.contains_key(vm) && !world.is_busy(*vm)).collect();
    vms.sort_unstable();
    vms.dedup();
    vms.into_iter().map(|vm| orphan(world, vm, domains.get(&vm))).collect()
}

fn orphan(world: &World, vm: VmId, seen: Option<&Inspected>) -> Orphan {
    let domain = seen.map(|seen| &seen.domain);
    let mark = domain.and_then(|domain| domain.mark.there()).cloned();
    let entries = world.folder(vm).map(|folder| folder.entries.as_slice()).unwrap_or_default();
    let has = |wanted: &dyn Fn(&What) -> bool| entries.iter().any(|entry| wanted(&entry.what));
    let hindrance = match &mark {
        None => Some("no domain bears a mark of it in its configuration".to_owned()),
        Some(mark) if !has(&|what| matches!(what, What::Disk(event, _) if *event == mark.disk)) => {
            Some(format!("its disk {} is not in its folder", mark.disk))
        }
        Some(mark) if !has(&|what| *what == What::Seed(mark.seed)) => {
            Some(format!("its seed {} is not in its folder", mark.seed))
        }
        Some(_) => None,
    };
    Orphan {
        vm,
        domain: domain.map(|domain| domain.name.clone()),
        power: domain.map(|domain| domain.detail.clone()).unwrap_or_default(),
        mark,
        disks: entries.iter().filter(|entry| matches!(entry.what, What::Disk(..))).count(),
        hindrance,
    }
}

/// Takes an orphan into the journal as its mark says: generation, run, disk, what is wanted. What it is made of is read from
/// its folder, and from its domain where that does not tell; of a VM that the journal has without that, it alone is taken.
///
/// # Errors
/// `VM_EXISTS` when the journal has it; `VM_NOT_FOUND` when it is no orphan; and why it cannot be read.
pub async fn adopt(vm: VmId, eyes: &Eyes, hands: &Hands, journal: &Journal) -> Result<Receipt, Cause> {
    let world = eyes.look(Scope::Vm(vm)).await;
    let orphan = adoptable(&world, vm)?;
    let (None, Some(mark)) = (&orphan.hindrance, orphan.mark) else {
        let why = orphan.hindrance.unwrap_or_default();
        return Err(Cause::new(Reason::VmNotFound, format!("the VM {vm} cannot be adopted: {why}"))
            .advise("look in `recycle ls` and the quarantine for what is missing, or `orphans remove` it"));
    };
    let spec = spec(&world, &mark, hands).await?;
    let (name, generation) = (spec.name.clone(), mark.generation);
    if !journal.take_in(Adopted { mark, spec }).await.map_err(Cause::from)? {
        return Err(known(vm));
    }
    let done = format!("adopted {name} with generation {generation}");
    receipt(hands, "orphans-adopt", vm, orphan.power, done).await
}

/// As its folder has it from the event that made the VM. Where that is not told: name, keys, user-data and addresses from the
/// seed; size, memory and bridges from the domain; the disk's own size.
async fn spec(world: &World, mark: &Mark, hands: &Hands) -> Result<VmSpec, Cause> {
    let Described { mut spec, told } = hands.files.describe(mark.vm, mark.disk, mark.seed).await?;
    if told == Told::Whole {
        return Ok(spec);
    }
    let seen = world.libvirt.as_ref().map_err(Clone::clone)?.get(&mark.vm);
    let Some(Seen::There(details)) = seen.map(|seen| &seen.details) else {
        return Err(Cause::new(Reason::HypervisorError, "libvirt does not tell of the domain now")
            .advise("wait until nothing is at work on it, then try again"));
    };
    details.size(&mut spec);
    spec.checked()
}

/// Removes an orphan: off, undefined, its rules cleared, its disks in recycle with receipts, its folder gone.
///
/// # Errors
/// `VM_EXISTS` when the journal has it; `VM_NOT_FOUND` when it is no orphan; and what a step said: it may be done in part,
/// and can be tried again.
pub async fn remove(vm: VmId, eyes: &Eyes, hands: &Hands) -> Result<Receipt, Cause> {
    let world = eyes.look(Scope::Vm(vm)).await;
    let orphan = the_orphan(&world, vm)?;
    // While it is all still there: what its disk is built from again.
    let spec = match &orphan.mark {
        Some(mark) => spec(&world, mark, hands).await.ok(),
        None => None,
    };
    let mut done = Vec::new();
    if let Some(name) = &orphan.domain {
        undefine(vm, hands).await?;
        done.push(format!("undefined {name}"));
    }
    hands.shield.clear(vm).await?;
    if let Seen::There(files) = hands.files.observe(vm).await {
        let how = Retirement { disposal: DiskDisposal::Recycle, by: None, spec };
        for disk in files.disks.keys() {
            hands.files.retire_disk(vm, *disk, &how).await?;
            done.push(format!("moved the disk {disk} to recycle"));
        }
        hands.files.remove_folder(vm).await?;
        done.push("removed its folder".to_owned());
    }
    receipt(hands, "orphans-remove", vm, orphan.power, done.join("; ")).await
}

async fn undefine(vm: VmId, hands: &Hands) -> Result<(), Cause> {
    let hypervisor = &hands.hypervisor;
    let unclear = |why: String| {
        Cause::new(Reason::HypervisorError, format!("the domain cannot be seen: {why}"))
            .advise("look again with `dewpoint-agent orphans ls`")
    };
    // Off, seen to be off, gone, seen to be gone: an answer alone proves nothing.
    for _ in 0..3 {
        match hypervisor.observe(vm).await {
            Seen::Absent => return Ok(()),
            Seen::Unknown(why) => return Err(unclear(why)),
            Seen::There(domain) => {
                let call = if domain.is_on() { Call::PowerOff(vm) } else { Call::Undefine(vm) };
                hypervisor.apply(call).await?;
            }
        }
    }
    match hypervisor.observe(vm).await {
        Seen::Absent => Ok(()),
        _ => Err(unclear("it is still there".to_owned())),
    }
}

/// An orphan, or a VM that a new journal took over without what it is made of.
fn adoptable(world: &World, vm: VmId) -> Result<Orphan, Cause> {
    let half_known = world.row(vm).is_some_and(|row| row.spec.is_none()) && !world.is_busy(vm);
    if !half_known {
        return the_orphan(world, vm);
    }
    let domains = world.libvirt.as_ref().map_err(Clone::clone)?;
    Ok(orphan(world, vm, domains.get(&vm)))
}

/// The one of this id, when the journal proves not to have it.
fn the_orphan(world: &World, vm: VmId) -> Result<Orphan, Cause> {
    let journal = world.journal.as_ref().map_err(Clone::clone)?;
    world.libvirt.as_ref().map_err(Clone::clone)?;
    if journal.vms.contains_key(&vm) {
        return Err(known(vm));
    }
    orphans(world).into_iter().find(|orphan| orphan.vm == vm).ok_or_else(|| {
        Cause::new(Reason::VmNotFound, format!("nothing of a VM {vm} bears our mark here"))
            .advise("see `dewpoint-agent orphans ls`; what bears no mark is never touched")
    })
}

fn known(vm: VmId) -> Cause {
    Cause::new(Reason::VmExists, format!("the journal has the VM {vm}: it is no orphan"))
        .advise("change or destroy it by events, as any other")
}

async fn receipt(hands: &Hands, code: &str, vm: VmId, found: String, done: String) -> Result<Receipt, Cause> {
    tracing::warn!(vm_id = %vm, code, "{done}");
    let receipt = Receipt { at: Millis::now(), code: code.to_owned(), vm: Some(vm), found, done };
    hands.files.note_receipt(&receipt).await?;
    Ok(receipt)
}
