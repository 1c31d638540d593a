//! From a step to its effect: one match, and nothing decided here.
//!
//! What a step needs beyond its name comes from the same question that the plan was asked, so that what a plan waits to
//! see and what its step does are one value.

use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{DiskDisposal, Kind};
use dewpoint_proto::ids::EventId;
use dewpoint_proto::names::InterfaceName;
use dewpoint_proto::spec::{ImageRef, VmSpec};

use super::history::Aim;
use super::plan::question::Vm;
use super::plan::{Next, Question, create, mark, snapshot};
use super::step::Step;
use crate::hypervisor::{Call, CallKind, Consistency, DomainNic, DomainSpec, Hypervisor, Mark};
use crate::network::{Shield, tap_name};
use crate::storage::{self, JobProgress, NewDisk, Retirement, Storage};

/// What effects go through.
#[derive(Clone)]
pub struct Effects {
    /// Domains.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Files.
    pub storage: Arc<dyn Storage>,
    /// Anti-spoofing rules.
    pub shield: Arc<dyn Shield>,
}

/// What a step made, beside what can be observed of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// By `adopt-snapshot`.
    pub image: Option<ImageRef>,
    /// By `begin-backup`.
    pub consistency: Option<Consistency>,
}

/// Applies a step.
///
/// # Errors
/// What the call or job said. It may have taken effect all the same: observe.
pub async fn apply(
    effects: &Effects,
    question: &Question<'_>,
    step: Step,
    progress: &JobProgress,
) -> Result<Made, Cause> {
    let Effects { hypervisor, storage, shield } = effects;
    let (vm, id) = (question.event.vm, question.id());
    match step {
        Step::FetchImage => {
            storage.fetch_image(source(question)?, question.server.known(), progress).await?;
        }
        Step::MakeDisk => storage.make_disk(&new_disk(question)?, progress).await?,
        Step::MakeSeed => storage.make_seed(vm, id, settled(question.spec())?).await?,
        Step::SetShield => shield.set(vm, &question.rules(settled(question.spec())?)).await?,
        Step::Define | Step::PointAtNew | Step::PointBack => {
            let spec = domain_spec(effects, question, mark_to_write(question)?).await?;
            call(effects, Call::Define(Box::new(spec))).await?;
        }
        Step::Mark => call(effects, Call::Mark(mark_to_write(question)?)).await?,
        Step::Start => call(effects, Call::Start(vm)).await?,
        Step::AskShutdown => call(effects, Call::AskShutdown(vm)).await?,
        Step::PowerOff => call(effects, Call::PowerOff(vm)).await?,
        Step::Thaw => {
            call(effects, Call::Thaw { vm, sent: snapshot::sent(question.history) }).await?;
        }
        Step::BeginBackup => {
            let target = storage.make_backup_target(vm, id, present(question)?.mark.disk).await?;
            let freeze = snapshot::freeze(question.history);
            let consistency = hypervisor.apply(Call::BeginBackup { vm, target, freeze }).await?;
            return Ok(Made { consistency, ..Made::default() });
        }
        Step::AbortBackup => call(effects, Call::AbortBackup(vm)).await?,
        Step::CopySnapshot => {
            storage.copy_snapshot(vm, id, present(question)?.mark.disk, progress).await?;
        }
        Step::SealSnapshot => storage.seal_snapshot(vm, id).await?,
        Step::AdoptSnapshot => {
            let image = Some(storage.adopt_snapshot(vm, id, progress).await?);
            return Ok(Made { image, ..Made::default() });
        }
        Step::Upload => upload(effects, question, progress).await?,
        Step::Undefine => call(effects, Call::Undefine(vm)).await?,
        Step::ClearShield => shield.clear(vm).await?,
        Step::RetireDisks => {
            // Before the disks, whose absence is the step's proof.
            if matches!(&question.event.kind, Kind::Destroy(destroy) if destroy.disks == DiskDisposal::DeleteNow)
            {
                storage.purge_recycled(vm).await?;
            }
            for (disk, disposal) in retired(question) {
                let how = Retirement { disposal, by: Some(id), spec: question.spec.cloned() };
                storage.retire_disk(vm, disk, &how).await?;
            }
        }
        Step::Discard => storage.discard(vm, id).await?,
        Step::RemoveFolder => storage.remove_folder(vm).await?,
    }
    Ok(Made::default())
}

/// A call that has nothing to tell but its success.
async fn call(effects: &Effects, call: Call) -> Result<(), Cause> {
    effects.hypervisor.apply(call).await.map(|_| ())
}

/// Whether a step is a job: long, with progress, and dropped when a cancel comes.
#[must_use]
pub fn is_job(step: Step) -> bool {
    matches!(
        step,
        Step::FetchImage | Step::MakeDisk | Step::CopySnapshot | Step::AdoptSnapshot | Step::Upload
    )
}

/// How long a step may take before it is given up; none: a job may take as long as it gets on.
#[must_use]
pub fn at_most(effects: &Effects, step: Step) -> Option<Duration> {
    let call = match step {
        Step::Define | Step::PointAtNew | Step::PointBack => CallKind::Define,
        Step::Mark => CallKind::Mark,
        Step::Start => CallKind::Start,
        Step::AskShutdown => CallKind::AskShutdown,
        Step::PowerOff => CallKind::PowerOff,
        Step::Thaw => CallKind::Thaw,
        Step::BeginBackup => CallKind::BeginBackup,
        Step::AbortBackup => CallKind::AbortBackup,
        Step::Undefine => CallKind::Undefine,
        Step::FetchImage | Step::MakeDisk | Step::CopySnapshot | Step::AdoptSnapshot | Step::Upload => {
            return None;
        }
        Step::MakeSeed
        | Step::SetShield
        | Step::SealSnapshot
        | Step::ClearShield
        | Step::RetireDisks
        | Step::Discard
        | Step::RemoveFolder => return Some(storage::SHORT),
    };
    Some(effects.hypervisor.deadline(call))
}

/// The disks that an event takes away, and where to.
fn retired(question: &Question<'_>) -> Vec<(EventId, DiskDisposal)> {
    match (&question.event.kind, question.history.aim()) {
        (Kind::Destroy(destroy), _) => {
            let files = question.observed.files.there();
            files
                .into_iter()
                .flat_map(|files| files.disks.keys())
                .map(|disk| (*disk, destroy.disks))
                .collect()
        }
        (Kind::Restore(_), Aim::Do) => {
            let old = question.history.before().and_then(|before| before.disk);
            old.filter(|disk| *disk != question.id())
                .map(|disk| (disk, DiskDisposal::Recycle))
                .into_iter()
                .collect()
        }
        // What an undone event made, nobody has ever used.
        (Kind::Create(_) | Kind::Restore(_), _) => vec![(question.id(), DiskDisposal::DeleteNow)],
        _ => Vec::new(),
    }
}

fn source<'a>(question: &Question<'a>) -> Result<&'a ImageRef, Cause> {
    match &question.event.kind {
        Kind::Create(create) => Ok(&create.source),
        Kind::Restore(restore) => Ok(&restore.source),
        kind => Err(misplaced(&format!("a {} has no source image", kind.name()))),
    }
}

fn new_disk(question: &Question<'_>) -> Result<NewDisk, Cause> {
    let spec = settled(question.spec())?;
    Ok(NewDisk {
        vm: question.event.vm,
        event: question.id(),
        image: source(question)?.digest,
        mode: spec.disk_mode,
        size_bytes: spec.disk_bytes,
        made_of: Some(Arc::new(spec.clone())),
    })
}

fn mark_to_write(question: &Question<'_>) -> Result<Mark, Cause> {
    match (&question.event.kind, question.history.aim()) {
        (Kind::Create(create), Aim::Do) => Ok(mark::of_new(question, create::wanted(create))),
        _ => Ok(mark::desired(question, &present(question)?)),
    }
}

async fn domain_spec(effects: &Effects, question: &Question<'_>, mark: Mark) -> Result<DomainSpec, Cause> {
    let bridge = &question.settings.default_bridge;
    domain_of(effects.storage.as_ref(), settled(question.spec())?, mark, bridge).await
}

/// The domain of a VM of that spec, as its mark says; interfaces that name no bridge go into the default one.
///
/// # Errors
/// `STORAGE_ERROR` when its disk, or what that rests on, is not there.
pub async fn domain_of(
    storage: &dyn Storage,
    spec: &VmSpec,
    mark: Mark,
    default_bridge: &InterfaceName,
) -> Result<DomainSpec, Cause> {
    let vm = mark.vm;
    let paths = storage.disk_paths(vm, mark.disk).await?;
    let nic = |(index, nic): (usize, &dewpoint_proto::spec::Nic)| DomainNic {
        tap: tap_name(vm, index),
        bridge: nic.bridge.clone().unwrap_or_else(|| default_bridge.clone()),
        mac: nic.mac,
    };
    Ok(DomainSpec {
        name: spec.name.to_string(),
        vcpus: spec.vcpus,
        memory_bytes: spec.memory_bytes,
        disk: paths.disk,
        backing: paths.backing,
        seed: storage.seed_path(vm, mark.seed),
        nics: spec.nics.iter().enumerate().map(nic).collect(),
        console_log: storage.console_path(vm),
        mark,
    })
}

async fn upload(effects: &Effects, question: &Question<'_>, progress: &JobProgress) -> Result<(), Cause> {
    match (question.history.image(), question.server.known()) {
        (Some(image), Some(server)) => effects.storage.upload(image, server, progress).await,
        _ => Err(misplaced("there is nothing to upload, or nowhere to put it")),
    }
}

fn present<'a>(question: &Question<'a>) -> Result<Vm<'a>, Cause> {
    settled(question.vm_if_there())?.ok_or_else(|| misplaced("the domain is not there"))
}

/// A plan names a step only after it looked at what the step needs.
fn settled<T>(looked_at: Result<T, Next>) -> Result<T, Cause> {
    looked_at.map_err(|next| misplaced(&format!("{next:?}")))
}

fn misplaced(text: &str) -> Cause {
    Cause::new(Reason::Internal, format!("a step was planned that cannot be applied: {text}"))
        .advise("this is a bug: report it with the event's journal")
}
