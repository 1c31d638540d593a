//! `snapshot`: a self-contained image of a VM's disk, without stopping the VM.
//!
//! On: a backup job of libvirt's writes into the event's file, with file systems frozen while it begins. Off: the disk is
//! copied. Then the file is sealed, hashed into the image cache, and put to the image server.
//!
//! **Proof.** The sealed file bears the event; its digest is journaled; the image server says that it has the image.
//!
//! **A crash between asking and seeing.** A backup whose begin was answered goes on without the agent: it is waited for, and
//! sealed when libvirt says that it completed. One whose begin was cut off cannot be told from an earlier job, so the guest
//! is thawed first, the job ended, the file discarded, and the backup begun again. A copy, a hash or an upload that was cut
//! off is repeated; uploads resume.
//!
//! **A guest agent that took a freeze and does not thaw** is asked again before anything else is done; then the backup
//! begins without a freeze. One that never thaws ends the event, so that a person can reboot the VM.
//!
//! **Undo** thaws, ends the backup, and discards the file. An image that is in the cache already stays there, unnamed.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::EventId;
use dewpoint_proto::outcome::Succeeded;
use dewpoint_proto::spec::ImageRef;

use super::question::{Question, Server, Vm, known};
use super::{Next, On, Plan, retry};
use crate::execute::history::{History, Try, TryEnd};
use crate::execute::step::Step;
use crate::hypervisor::{BackupJob, Consistency, Freeze, FreezeSent};
use crate::storage::{SnapshotFile, VmFiles};

/// Towards the image.
///
/// # Errors
/// A wait, or giving up.
pub fn make(question: &Question<'_>) -> Plan {
    let vm = question.vm()?;
    let nothing = VmFiles::default();
    let files = question.files()?.unwrap_or(&nothing);
    if vm.is_on() && needs_thaw(question.history) {
        return Ok(Next::step(Step::Thaw));
    }
    if let Some(image) = question.history.image() {
        return hand_over(question, files, image);
    }
    match files.snapshots.get(&question.id()) {
        Some(SnapshotFile::Sealed) => Ok(Next::step(Step::AdoptSnapshot)),
        _ if vm.is_on() => Ok(back_up(question, &vm, files)),
        part => Ok(copy(question, part.is_some())),
    }
}

/// Back to no file, no job, nothing frozen.
///
/// # Errors
/// A wait.
pub fn undo(question: &Question<'_>) -> Plan {
    let mut frozen = None;
    if let Some(vm) = question.vm_if_there()?.filter(Vm::is_on) {
        if needs_thaw(question.history) {
            frozen = never_thaws(question);
            if frozen.is_none() {
                return Ok(Next::step(Step::Thaw));
            }
        }
        let running = matches!(vm.domain.backup, BackupJob::Running { .. });
        if running && question.history.started(Step::BeginBackup) {
            return Ok(Next::step(Step::AbortBackup));
        }
    }
    let id = question.id();
    let left =
        question.files()?.is_some_and(|files| files.snapshots.contains_key(&id) || has_leftovers(files, id));
    Ok(match frozen {
        _ if left => Next::step(Step::Discard),
        Some(cause) => Next::Fail(cause),
        None => Next::done(),
    })
}

/// Whether the next backup of an event freezes the guest: not again, once its agent took a freeze and did not thaw.
#[must_use]
pub fn freeze(history: &History) -> Freeze {
    match not_thawed(history) {
        Some(cause) => Freeze::Not(cause.text.clone()),
        None => Freeze::IfItAnswers,
    }
}

/// What is known of the freeze that a thaw is for.
#[must_use]
pub fn sent(history: &History) -> FreezeSent {
    let begun = history.all().iter().rev().find(|tried| tried.step == Step::BeginBackup);
    match begun.map(|tried| &tried.end) {
        Some(TryEnd::Failed(_, cause)) if cause.reason == Reason::GuestFrozen => FreezeSent::Surely,
        _ => FreezeSent::Perhaps,
    }
}

/// Whether half-made files of an event are there, or a base that no disk rests on: what a discard removes.
#[must_use]
pub fn has_leftovers(files: &VmFiles, event: EventId) -> bool {
    let id = event.to_string();
    let is_base = |name: &str| name.strip_suffix(".base").is_some_and(|digest| digest.len() == 64);
    files.leftovers.iter().any(|name| name.starts_with(&id) || is_base(name))
}

/// The image is in the cache: put it to the server, then discard the event's file.
fn hand_over(question: &Question<'_>, files: &VmFiles, image: &ImageRef) -> Plan {
    let id = question.id();
    let file = files.snapshots.get(&id);
    match question.server {
        Server::Unknown => {
            return Ok(Next::wait(On::Server, "the coordinator to say where its image server is"));
        }
        Server::At(_) if known(&question.observed.uploaded, "what the image server has")?.is_none() => {
            return Ok(match (question.cached()?, file) {
                (true, _) => Next::step(Step::Upload),
                (false, Some(SnapshotFile::Sealed)) => Next::step(Step::AdoptSnapshot),
                (false, _) => question.give_up(evicted()),
            });
        }
        Server::At(_) | Server::None => {}
    }
    if file.is_some() || has_leftovers(files, id) {
        return Ok(Next::step(Step::Discard));
    }
    Ok(Next::Done(Succeeded { image: Some(image.clone()), note: stands(question.history) }))
}

/// How far the snapshot can be trusted, in the field's words.
fn stands(history: &History) -> String {
    match history.consistency().filter(|_| !history.started(Step::CopySnapshot)) {
        Some(Consistency::FileSystem) => {
            "file-system consistent: the guest froze its file systems".to_owned()
        }
        Some(Consistency::Crash(why)) => format!("crash consistent, as after a power cut: {why}"),
        None => "taken while the VM was off".to_owned(),
    }
}

/// Of a VM that is on.
fn back_up(question: &Question<'_>, vm: &Vm<'_>, files: &VmFiles) -> Next {
    let begun = begun(question.history);
    let part = files.snapshots.contains_key(&question.id()) || has_leftovers(files, question.id());
    match (&vm.domain.backup, begun) {
        (BackupJob::Wedged(why), _) => question.give_up(wedged(why)),
        (BackupJob::Running { .. }, Begun::Answered) => Next::wait(On::Backup, "the backup to end"),
        (BackupJob::Running { .. }, Begun::CutOff) => Next::step(Step::AbortBackup),
        (BackupJob::Running { .. }, Begun::No) => question.give_up(other_job()),
        (BackupJob::Completed, Begun::Answered) if part => Next::step(Step::SealSnapshot),
        (BackupJob::Failed(why), Begun::Answered) if spent(question) => question.give_up(job_failed(why)),
        // libvirt deletes the target of a job that failed, so there may be nothing to discard; the step also says
        // in the journal that this try of the backup is over.
        (_, Begun::Answered | Begun::CutOff) => Next::step(Step::Discard),
        (_, Begun::No) if part => Next::step(Step::Discard),
        (_, Begun::No) => Next::step(Step::BeginBackup),
    }
}

/// Of a VM that is off.
fn copy(question: &Question<'_>, part: bool) -> Next {
    let copied = question.history.tries(Step::CopySnapshot).next_back();
    match begun(question.history) {
        Begun::Answered | Begun::CutOff => Next::step(Step::Discard),
        Begun::No if part && copied.is_some_and(|tried| matches!(tried.end, TryEnd::Done(_))) => {
            Next::step(Step::SealSnapshot)
        }
        Begun::No => Next::step(Step::CopySnapshot),
    }
}

/// What the journal says of the latest backup.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// None since the last discard.
    No,
    /// The call did not return well: libvirt may have begun it, into a file that may be anything.
    CutOff,
    /// The call returned well: the job in libvirt is this one.
    Answered,
}

fn begun(history: &History) -> Begun {
    let over = |step: Step, end: &TryEnd| step == Step::Discard && matches!(end, TryEnd::Done(_));
    let since = history.all().iter().rev().take_while(|tried| !over(tried.step, &tried.end));
    match since.into_iter().find(|tried| tried.step == Step::BeginBackup).map(|tried| &tried.end) {
        None => Begun::No,
        Some(TryEnd::Done(_)) => Begun::Answered,
        Some(TryEnd::Open | TryEnd::Failed(..)) => Begun::CutOff,
    }
}

/// A begin freezes and thaws; one that did not return well may have left the guest frozen.
fn needs_thaw(history: &History) -> bool {
    let thawed = |step: Step, end: &TryEnd| step == Step::Thaw && matches!(end, TryEnd::Done(_));
    let mut since = history.all().iter().rev().take_while(|tried| !thawed(tried.step, &tried.end));
    since
        .find(|tried| tried.step == Step::BeginBackup)
        .is_some_and(|tried| !matches!(tried.end, TryEnd::Done(_)))
}

fn not_thawed(history: &History) -> Option<&Cause> {
    let begun = history.all().iter().filter(|tried| tried.step == Step::BeginBackup);
    begun.rev().find_map(|tried| match &tried.end {
        TryEnd::Failed(_, cause) if cause.reason == Reason::GuestFrozen => Some(cause),
        TryEnd::Failed(..) | TryEnd::Done(_) | TryEnd::Open => None,
    })
}

/// Why the guest is left as it may be: it was asked to thaw as often as is worth it while undoing, and the VM is to be
/// free for a person's reboot.
fn never_thaws(question: &Question<'_>) -> Option<Cause> {
    let failed = |tried: &&Try| match &tried.end {
        TryEnd::Failed(_, cause) => cause.reason == Reason::GuestFrozen,
        TryEnd::Done(_) | TryEnd::Open => false,
    };
    let mut tries = question.history.tries(Step::Thaw).rev().filter(failed);
    let last = tries.next()?;
    let more = u32::try_from(tries.count()).unwrap_or(u32::MAX);
    match &last.end {
        TryEnd::Failed(_, cause) if more.saturating_add(1) >= question.settings.thaws => Some(cause.clone()),
        _ => None,
    }
}

fn spent(question: &Question<'_>) -> bool {
    retry::counted(question, Step::BeginBackup) >= retry::limit(question, Step::BeginBackup)
}

fn job_failed(why: &str) -> Cause {
    Cause::new(Reason::HypervisorError, format!("the backup failed each time: {why}"))
        .advise("look at the host's free space and at the VM's disk errors")
}

fn wedged(why: &str) -> Cause {
    Cause::new(Reason::HypervisorError, format!("libvirt lost track of a backup of this VM: {why}"))
        .advise("stop the VM and start it again, or restart libvirtd; then take the snapshot again")
}

fn other_job() -> Cause {
    Cause::new(Reason::VmBusy, "a backup that Dewpoint did not begin is at work on the VM")
        .advise("wait until it has ended, then take the snapshot again")
}

fn evicted() -> Cause {
    Cause::new(
        Reason::ImageUnavailable,
        "the snapshot's image left the cache before it was put to the server",
    )
    .advise("take the snapshot again; give the image cache a larger budget")
}
