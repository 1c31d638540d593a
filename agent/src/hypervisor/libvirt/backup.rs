//! Backups of a running domain's disk, and the freezing of its guest around their beginning.
//!
//! A freeze that failed may still be carried out later by a guest agent that was slow: after any failure the guest is
//! thawed until its agent says so.

use dewpoint_proto::cause::{Cause, Reason};
use virt::domain::Domain as Handle;
use virt::error::Error;
use virt_sys as sys;

use super::trouble::{Trouble, code, is_wrong_state};
use super::{Settings, ffi, observe};
use crate::hypervisor::{BackupJob, Consistency};

/// Tries of one call to thaw, each as long as the guest agent's timeout.
const THAWS: usize = 3;

/// Begins the backup that the XML says, with frozen file systems if the guest agent answers.
pub(super) fn begin(handle: &Handle, settings: &Settings, xml: &str) -> Result<Consistency, Trouble> {
    if let BackupJob::Wedged(why) = observe::backup(handle)? {
        return Err(Cause::new(Reason::HypervisorError, why).into());
    }
    forget_last(handle)?;
    let consistency = freeze(handle, settings)?;
    let begun = ffi::begin_backup(handle, xml);
    if consistency == Consistency::FileSystem
        && let Err(trouble) = thaw(handle, settings)
    {
        // A snapshot is not worth a guest that stands still without anyone looking after it.
        if begun.is_ok() {
            ffi::abort_job(handle)?;
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

/// Thaws until the guest agent says that nothing is frozen. It answers in order: once it has answered a thaw, no
/// earlier freeze is still to come.
pub(super) fn thaw(handle: &Handle, settings: &Settings) -> Result<(), Trouble> {
    ffi::set_agent_timeout(handle, settings.agent_seconds())?;
    let mut last = None;
    for _ in 0..THAWS {
        match ffi::thaw(handle) {
            Ok(()) => return Ok(()),
            // No agent: whoever froze the guest is gone with it, or was never there.
            Err(error) if code(&error) == sys::VIR_ERR_AGENT_UNRESPONSIVE => return Ok(()),
            Err(error) if is_no_channel(&error) => return Ok(()),
            Err(error) if is_slow_agent(&error) => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.map_or_else(|| Cause::new(Reason::Internal, "no thaw was tried").into(), Trouble::from))
}

/// The guest agent is away, slow or unwilling; libvirt and QEMU are well.
pub(super) fn is_agent_trouble(error: &Error) -> bool {
    is_slow_agent(error)
        || is_no_channel(error)
        || [sys::VIR_ERR_AGENT_UNRESPONSIVE, sys::VIR_ERR_AGENT_COMMAND_FAILED].contains(&code(error))
}

fn freeze(handle: &Handle, settings: &Settings) -> Result<Consistency, Trouble> {
    ffi::set_agent_timeout(handle, settings.agent_seconds())?;
    match ffi::freeze(handle) {
        Ok(()) => Ok(Consistency::FileSystem),
        Err(error) if code(&error) == sys::VIR_ERR_AGENT_UNRESPONSIVE || is_no_channel(&error) => {
            Ok(Consistency::Crash("no guest agent answers".to_owned()))
        }
        Err(error) if is_agent_trouble(&error) => {
            tracing::warn!(%error, "the guest did not freeze; its snapshot will be as after a power cut");
            thaw(handle, settings)?;
            Ok(Consistency::Crash(error.message().to_owned()))
        }
        Err(error) => {
            thaw(handle, settings)?;
            Err(error.into())
        }
    }
}

fn is_slow_agent(error: &Error) -> bool {
    [sys::VIR_ERR_AGENT_UNSYNCED, sys::VIR_ERR_AGENT_COMMAND_TIMEOUT].contains(&code(error))
}

/// The domain was defined without a channel for the agent (by an older version, or by hand).
fn is_no_channel(error: &Error) -> bool {
    code(error) == sys::VIR_ERR_ARGUMENT_UNSUPPORTED || code(error) == sys::VIR_ERR_NO_SUPPORT
}

/// The end of an earlier backup must not be taken for that of the one to come.
fn forget_last(handle: &Handle) -> Result<(), Trouble> {
    match ffi::job_stats(handle, sys::VIR_DOMAIN_JOB_STATS_COMPLETED) {
        Err(error) if !is_wrong_state(&error) => Err(error.into()),
        _ => Ok(()),
    }
}
