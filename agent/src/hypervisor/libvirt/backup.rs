//! Backups of a running domain's disk, with the guest's file systems frozen while they begin.

use dewpoint_proto::cause::{Cause, Reason};
use virt::domain::Domain as Handle;
use virt::error::Error;
use virt_sys as sys;

use super::trouble::{Trouble, is_wrong_state};
use super::{Settings, ffi, guest, observe};
use crate::hypervisor::{BackupJob, Consistency, Freeze, FreezeSent};

/// Begins the backup that the XML says.
pub(super) fn begin(
    handle: &Handle,
    settings: &Settings,
    xml: &str,
    freeze: &Freeze,
) -> Result<Consistency, Trouble> {
    if let BackupJob::Wedged(why) = observe::backup(handle)? {
        return Err(Cause::new(Reason::HypervisorError, why).into());
    }
    forget_last(handle)?;
    let consistency = match freeze {
        Freeze::IfItAnswers => guest::freeze(handle, settings)?,
        Freeze::Not(why) => Consistency::Crash(why.clone()),
    };
    let begun = ffi::begin_backup(handle, xml);
    if consistency == Consistency::FileSystem
        && let Err(trouble) = guest::thaw(handle, settings, FreezeSent::Surely)
    {
        // A snapshot is not worth a guest that stands still without anyone looking after it. A job that cannot be ended
        // here is ended by the plan: first the guest.
        if begun.is_ok()
            && let Err(error) = ffi::abort_job(handle)
        {
            tracing::warn!(%error, "the backup of a guest that does not thaw was not ended yet");
        }
        return Err(trouble);
    }
    begun?;
    Ok(consistency)
}

/// Ends a running backup; other jobs are not ours to end.
pub(super) fn abort(handle: &Handle) -> Result<(), Trouble> {
    match observe::backup(handle)? {
        BackupJob::Running { .. } => match ffi::abort_job(handle) {
            // It ended by itself in between.
            Err(error) if is_wrong_state(&error) => Ok(()),
            other => Ok(other?),
        },
        BackupJob::Wedged(why) => Err(Cause::new(Reason::HypervisorError, why).into()),
        BackupJob::None | BackupJob::Completed | BackupJob::Failed(_) => Ok(()),
    }
}

/// The end of an earlier backup must not be taken for that of the one to come.
fn forget_last(handle: &Handle) -> Result<(), Error> {
    match ffi::job_stats(handle, sys::VIR_DOMAIN_JOB_STATS_COMPLETED) {
        Err(error) if !is_wrong_state(&error) => Err(error),
        _ => Ok(()),
    }
}
