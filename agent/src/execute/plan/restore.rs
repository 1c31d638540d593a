//! `restore`: a new disk for a VM, from an image or a snapshot.
//!
//! The new disk is made beside the old one while the VM still runs. Then the VM is powered off, pointed at the new disk,
//! powered on if it was on or is wanted on, and only then the old disk goes to the recycle folder. The seed stays, so the
//! guest keeps its instance id.
//!
//! **Proof.** The persistent mark's disk is the event; the live domain, if the VM is to be on, bears the event's run; the old
//! disk is gone.
//!
//! **A crash between asking and seeing.** Each part is told by its stamp: the disk's name, the mark's disk, the live run. A
//! power-off is repeated only while the domain is seen on with another disk than the event's.
//!
//! **Undo**, until the old disk begins to be taken away: the VM is pointed back, on or off as before, and the new disk
//! removed. From then on the event is carried through.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::Restore;
use dewpoint_proto::ids::EventId;

use super::mark::restored_on;
use super::power::{WENT_OFF, turn_on};
use super::question::{Question, Vm};
use super::snapshot::has_leftovers;
use super::{Next, Plan};
use crate::execute::step::Step;

/// Towards the new disk.
///
/// # Errors
/// A wait, or giving up.
pub fn make(question: &Question<'_>, restore: &Restore) -> Plan {
    let vm = question.vm()?;
    let files = question.files()?;
    let has = |disk: EventId| files.is_some_and(|files| files.disks.contains_key(&disk));
    if restore.source.virtual_size_bytes > question.spec()?.disk_bytes {
        return Err(question.give_up(too_big(restore, question.spec()?.disk_bytes)));
    }
    if !has(question.id()) {
        let made = question.cached()?;
        return Ok(Next::step(if made { Step::MakeDisk } else { Step::FetchImage }));
    }
    if vm.is_on() && !runs_on(&vm, question.id()) {
        return Ok(Next::step(Step::PowerOff));
    }
    if vm.mark.disk != question.id() {
        return Ok(Next::step(Step::PointAtNew));
    }
    let went_off = !vm.is_on() && question.history.done(Step::Start);
    if restored_on(question, &vm) && !vm.is_on() && !went_off {
        return turn_on(question, &vm);
    }
    if question.before(Some(&vm)).disk.is_some_and(has) {
        return Ok(Next::step(Step::RetireDisks));
    }
    Ok(if went_off { Next::noted(WENT_OFF) } else { Next::done() })
}

/// Back to the old disk.
///
/// # Errors
/// A wait, or giving up.
pub fn undo(question: &Question<'_>) -> Plan {
    if let Some(vm) = question.vm_if_there()? {
        if vm.is_on() && runs_on(&vm, question.id()) {
            return Ok(Next::step(Step::PowerOff));
        }
        if vm.mark.disk == question.id() {
            return Ok(Next::step(Step::PointBack));
        }
        let was_on = question.before(Some(&vm)).run.is_some();
        if was_on && !vm.is_on() && !question.history.done(Step::Start) {
            return turn_on(question, &vm);
        }
    }
    let Some(files) = question.files()? else { return Ok(Next::done()) };
    if files.disks.contains_key(&question.id()) {
        return Ok(Next::step(Step::RetireDisks));
    }
    Ok(if has_leftovers(files, question.id()) { Next::step(Step::Discard) } else { Next::done() })
}

fn runs_on(vm: &Vm<'_>, disk: EventId) -> bool {
    vm.live.is_some_and(|live| live.disk == disk)
}

fn too_big(restore: &Restore, disk_bytes: u64) -> Cause {
    let image = restore.source.virtual_size_bytes;
    Cause::new(Reason::Invalid, format!("the image's disk has {image} bytes, the VM's {disk_bytes}"))
        .advise("restore an image that fits, or create a VM with a larger disk")
}
