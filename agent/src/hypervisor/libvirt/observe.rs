//! What libvirt says of a domain, in our words. Never infers: only "no domain" means absent, any other error unknown.

use dewpoint_proto::ids::{HostId, VmId};
use dewpoint_proto::vm_state::Power;
use virt::connect::Connect;
use virt::domain::Domain as Handle;
use virt::error::Error;
use virt_sys as sys;

use super::mark::Strange;
use super::trouble::{code, is_no_domain, is_wrong_state};
use super::{ffi, mark};
use crate::hypervisor::{BackupJob, Control, Domain, Domains, Mark, Seen};

/// One domain, which may change while being observed: then it is observed again, this often at most.
const ATTEMPTS: usize = 4;

/// Milliseconds; a question to QEMU takes 5.
const A_MOMENT: u64 = 50;

/// One domain by its UUID, as this host sees it.
pub(super) fn one(connect: &Connect, here: Option<HostId>, vm: VmId) -> Result<Seen<Domain>, Error> {
    match connect.lookup_domain_by_uuid(vm.0) {
        Ok(handle) => whole(&handle, here),
        Err(error) if is_no_domain(&error) => Ok(Seen::Absent),
        Err(error) => Err(error),
    }
}

/// Every domain. One that cannot be observed is there with unknown power.
pub(super) fn all(connect: &Connect, here: Option<HostId>) -> Result<Domains, Error> {
    let mut domains = Domains::new();
    for handle in connect.list_all_domains(0)? {
        let vm = VmId(handle.uuid()?);
        let seen = match whole(&handle, here) {
            // One domain that cannot be asked hides no other; a broken connection hides all.
            Err(error) if connect.is_alive().unwrap_or(false) => Seen::Unknown(error.message().to_owned()),
            other => other?,
        };
        match seen {
            Seen::There(domain) => drop(domains.insert(vm, domain)),
            Seen::Absent => {}
            Seen::Unknown(why) => drop(domains.insert(vm, unknown(vm, handle.name()?, why))),
        }
    }
    Ok(domains)
}

/// The mark that makes a domain ours: the persistent one, or the one that it runs with.
pub(super) fn any_mark(handle: &Handle, here: Option<HostId>, vm: VmId) -> Result<Seen<Mark>, Error> {
    match config_mark(handle, here, vm)? {
        Found { mark: Seen::Absent, .. } => match mark_of(handle, here, vm, sys::VIR_DOMAIN_AFFECT_LIVE) {
            Err(error) if is_wrong_state(&error) => Ok(Seen::Absent),
            other => other.map(|found| found.mark),
        },
        found => Ok(found.mark),
    }
}

/// Power and libvirt's reason for it.
pub(super) fn power(handle: &Handle) -> Result<(Power, String), Error> {
    let (state, reason) = ffi::state(handle)?;
    Ok(power_of(state.cast_unsigned(), reason.cast_unsigned()))
}

/// The backup job of a domain; `None` as well when another kind of job runs.
pub(super) fn backup(handle: &Handle) -> Result<BackupJob, Error> {
    let current = match ffi::job_stats(handle, 0) {
        Ok(stats) => stats,
        // The domain is off: its last job may have ended with it.
        Err(error) if is_wrong_state(&error) => return last_backup(handle),
        Err(error) if error.message().contains("backup job data missing") => {
            return Ok(BackupJob::Wedged(
                "libvirt lost track of a backup and refuses others: stop the VM, then undefine and define it, or \
                 restart libvirt's daemon"
                    .to_owned(),
            ));
        }
        Err(error) => return Err(error),
    };
    match current.kind {
        sys::VIR_DOMAIN_JOB_NONE => last_backup(handle),
        _ if current.operation == sys::VIR_DOMAIN_JOB_OPERATION_BACKUP => {
            Ok(BackupJob::Running { done: current.done, total: current.total })
        }
        _ => Ok(BackupJob::None),
    }
}

/// The backup that ended last in this run of libvirt's daemon.
fn last_backup(handle: &Handle) -> Result<BackupJob, Error> {
    let keep = sys::VIR_DOMAIN_JOB_STATS_COMPLETED | sys::VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED;
    let last = match ffi::job_stats(handle, keep) {
        Ok(last) => last,
        Err(error) if is_wrong_state(&error) => return Ok(BackupJob::None),
        Err(error) => return Err(error),
    };
    if last.operation != sys::VIR_DOMAIN_JOB_OPERATION_BACKUP {
        return Ok(BackupJob::None);
    }
    Ok(match last.kind {
        sys::VIR_DOMAIN_JOB_COMPLETED => BackupJob::Completed,
        sys::VIR_DOMAIN_JOB_FAILED => {
            BackupJob::Failed(last.error.unwrap_or_else(|| "libvirt gave no reason".to_owned()))
        }
        sys::VIR_DOMAIN_JOB_CANCELLED => BackupJob::Failed("cancelled".to_owned()),
        _ => BackupJob::None,
    })
}

fn whole(handle: &Handle, here: Option<HostId>) -> Result<Seen<Domain>, Error> {
    let mut changed = None;
    for _ in 0..ATTEMPTS {
        match once(handle, here) {
            Ok(domain) => return Ok(Seen::There(domain)),
            Err(error) if is_no_domain(&error) => return Ok(Seen::Absent),
            Err(error) if is_wrong_state(&error) => changed = Some(error),
            Err(error) => return Err(error),
        }
    }
    Ok(Seen::Unknown(format!(
        "it changed while being observed: {}",
        changed.as_ref().map_or("", |error| error.message())
    )))
}

/// Fails as "wrong state" when the domain went off or on between two questions.
fn once(handle: &Handle, here: Option<HostId>) -> Result<Domain, Error> {
    let vm = VmId(handle.uuid()?);
    let (power, detail) = power(handle)?;
    let Found { mark, claims } = config_mark(handle, here, vm)?;
    let mut domain = Domain {
        vm,
        name: handle.name()?,
        power,
        detail,
        mark,
        live: Seen::Absent,
        backup: BackupJob::None,
        control: Control::Idle,
        claims,
    };
    if domain.is_on() {
        let live = mark_of(handle, here, vm, sys::VIR_DOMAIN_AFFECT_LIVE)?;
        domain.live = live.mark;
        domain.claims = domain.claims.or(live.claims);
        domain.control = control(handle)?;
    }
    let ours = domain.mark != Seen::Absent || domain.live != Seen::Absent;
    // Asking for a job takes the domain's lock: not from one that is busy, and not from what is not ours.
    if ours && domain.control == Control::Idle {
        domain.backup = backup(handle)?;
    }
    Ok(domain)
}

fn unknown(vm: VmId, name: String, why: String) -> Domain {
    Domain {
        vm,
        name,
        power: Power::Unknown,
        detail: why.clone(),
        mark: Seen::Unknown(why.clone()),
        live: Seen::Unknown(why.clone()),
        backup: BackupJob::None,
        control: Control::Busy(why),
        claims: None,
    }
}

/// A mark, and the VM whose it is when it is another's.
struct Found {
    mark: Seen<Mark>,
    claims: Option<VmId>,
}

impl Found {
    fn nothing() -> Self {
        Self { mark: Seen::Absent, claims: None }
    }
}

/// The mark in the persistent configuration; a transient domain has none.
fn config_mark(handle: &Handle, here: Option<HostId>, vm: VmId) -> Result<Found, Error> {
    match mark_of(handle, here, vm, sys::VIR_DOMAIN_AFFECT_CONFIG) {
        Err(error) if is_wrong_state(&error) && !handle.is_persistent()? => Ok(Found::nothing()),
        other => other,
    }
}

fn mark_of(handle: &Handle, here: Option<HostId>, vm: VmId, copy: u32) -> Result<Found, Error> {
    let element = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
    match handle.metadata(element, Some(mark::NAMESPACE), copy) {
        Ok(xml) => Ok(match mark::from_xml(vm, here, &xml) {
            Ok(mark) => Found { mark: Seen::There(mark), claims: None },
            // Nobody's here, as if it bore none: whoever made it looks after it.
            Err(Strange::OfHost(_)) => Found::nothing(),
            Err(strange) => Found {
                mark: Seen::Unknown(strange.words()),
                claims: if let Strange::Of(other) = strange { Some(other) } else { None },
            },
        }),
        Err(error) if code(&error) == sys::VIR_ERR_NO_DOMAIN_METADATA => Ok(Found::nothing()),
        Err(error) => Err(error),
    }
}

/// Idle only when libvirt says so. Asking does not wait for the channel; a moment's question by somebody else (metrics
/// ask too) is over when asked again.
pub(super) fn control(handle: &Handle) -> Result<Control, Error> {
    let Some(mut info) = control_info(handle)? else { return Ok(Control::Idle) };
    for _ in 1..ATTEMPTS {
        if info.state == sys::VIR_DOMAIN_CONTROL_OK || info.millis > A_MOMENT {
            break;
        }
        info = control_info(handle)?.unwrap_or(info);
    }
    Ok(match info.state {
        sys::VIR_DOMAIN_CONTROL_OK => Control::Idle,
        sys::VIR_DOMAIN_CONTROL_JOB => {
            Control::Busy(format!("a job holds it, for {} now", seconds(info.millis)))
        }
        sys::VIR_DOMAIN_CONTROL_OCCUPIED => {
            Control::Busy(format!("QEMU's monitor has not answered for {}", seconds(info.millis)))
        }
        other => Control::Busy(format!("its control channel is broken (libvirt's control state {other})")),
    })
}

/// For people.
fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

/// None: this driver has no control channels.
fn control_info(handle: &Handle) -> Result<Option<ffi::ControlInfo>, Error> {
    match ffi::control(handle) {
        Ok(info) => Ok(Some(info)),
        Err(error) if super::trouble::is_unsupported(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn power_of(state: u32, reason: u32) -> (Power, String) {
    let (power, name, reasons): (Power, &str, &[&str]) = match state {
        sys::VIR_DOMAIN_RUNNING => (Power::Running, "running", RUNNING),
        sys::VIR_DOMAIN_BLOCKED => (Power::Running, "blocked", &[]),
        sys::VIR_DOMAIN_PAUSED => (Power::Paused, "paused", PAUSED),
        sys::VIR_DOMAIN_SHUTDOWN => (Power::ShuttingDown, "shutdown", SHUTDOWN),
        sys::VIR_DOMAIN_SHUTOFF => (Power::Off, "shutoff", SHUTOFF),
        sys::VIR_DOMAIN_CRASHED => (Power::Crashed, "crashed", CRASHED),
        sys::VIR_DOMAIN_PMSUSPENDED => (Power::Paused, "pmsuspended", &[]),
        _ => (Power::Unknown, "nostate", &[]),
    };
    let reason = usize::try_from(reason)
        .ok()
        .and_then(|index| reasons.get(index))
        .map_or_else(|| reason.to_string(), |known| (*known).to_owned());
    (power, format!("{name}/{reason}"))
}

// In the order of libvirt's enumerations.
const RUNNING: &[&str] = &[
    "unknown",
    "booted",
    "migrated",
    "restored",
    "from-snapshot",
    "unpaused",
    "migration-canceled",
    "save-canceled",
    "wakeup",
    "crashed",
    "postcopy",
    "postcopy-failed",
];
const PAUSED: &[&str] = &[
    "unknown",
    "user",
    "migration",
    "save",
    "dump",
    "ioerror",
    "watchdog",
    "from-snapshot",
    "shutting-down",
    "snapshot",
    "crashed",
    "starting-up",
    "postcopy",
    "postcopy-failed",
    "api-error",
];
const SHUTDOWN: &[&str] = &["unknown", "user"];
const SHUTOFF: &[&str] = &[
    "unknown",
    "shutdown",
    "destroyed",
    "crashed",
    "migrated",
    "saved",
    "failed",
    "from-snapshot",
    "daemon",
];
const CRASHED: &[&str] = &["unknown", "panicked"];
