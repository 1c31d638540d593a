//! What is opened as the configuration says: by the daemon, and by commands that look, or that hold the data folder instead
//! of a daemon.

use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::HostId;

use crate::clock::SystemClock;
use crate::config::{Config, Manner};
use crate::execute::apply::Effects;
use crate::execute::keep;
use crate::hypervisor::libvirt::{self, Libvirt};
use crate::identity;
use crate::intake;
use crate::journal::moment::BootId;
use crate::journal::{self, Journal};
use crate::local::commands::expects;
use crate::network::nft::{Nft, NftSettings};
use crate::storage::{self, Files};

/// How long an event's bytes, which hold user-data, are kept after its end.
const KEEP_BODIES: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a finished event may be asked for again.
const KEEP_EVENTS: Duration = Duration::from_secs(30 * 24 * 3600);

/// libvirt as configured; also for commands that only look.
///
/// # Errors
/// `INVALID` for what the configuration says of CPUs, or when the host's id is damaged; `INTERNAL` when there can be no
/// thread.
pub fn libvirt(config: &Config) -> Result<Libvirt, Cause> {
    let hypervisor = &config.hypervisor;
    Libvirt::new(libvirt::Settings {
        uri: hypervisor.uri.clone(),
        virt_type: hypervisor.virt_type,
        machine: hypervisor.machine.clone(),
        cpu: hypervisor.cpu_mode.parse()?,
        host: identity::read(&config.data_dir)?.map(|identity| identity.host_id),
        ..libvirt::Settings::default()
    })
}

/// The journal as configured, for whoever holds the data folder.
///
/// # Errors
/// `JOURNAL_ERROR`; `INTERNAL` when the kernel does not tell its boot id.
pub fn open_journal(config: &Config) -> Result<Journal, Cause> {
    let boot = BootId::read().map_err(|error| {
        Cause::new(Reason::Internal, format!("the kernel does not tell its boot id: {error}"))
            .advise("mount /proc; the agent tells boots apart by it")
    })?;
    let settings = journal::Settings {
        clock: Arc::new(SystemClock),
        boot,
        judge: match config.manner() {
            Manner::Acts => intake::judge,
            Manner::Observes => intake::judge_observing,
        },
        expects: expects(&config.data_dir),
        keep_bodies: KEEP_BODIES,
        keep_events: KEEP_EVENTS,
    };
    Journal::open(&config.data_dir.join("agent.db"), settings).map_err(Cause::from)
}

/// The data folder, made where it is missing, unless the agent only observes.
///
/// # Errors
/// As [`Files::open`].
pub(super) fn open_files(config: &Config, host: HostId) -> Result<Files, Cause> {
    let settings = storage_settings(config, host);
    match config.manner() {
        Manner::Acts => Files::open(settings, Arc::new(SystemClock)),
        Manner::Observes => Ok(Files::observing(settings, Arc::new(SystemClock))),
    }
}

/// The data folder as configured; also for commands that only look.
#[must_use]
pub fn storage_settings(config: &Config, host: HostId) -> storage::Settings {
    storage::Settings {
        group: config.storage.group.clone(),
        recycle_for: config.storage.recycle_time.0,
        recycle_bytes: config.storage.recycle_budget.0,
        image_bytes: config.storage.image_budget.0,
        reserve_bytes: config.storage.reserve.0,
        ..storage::Settings::new(config.data_dir.clone(), host)
    }
}

/// Domains, files and rules as configured; also for commands.
///
/// # Errors
/// As [`libvirt()`].
pub fn effects(config: &Config, files: &Files) -> Result<Effects, Cause> {
    Ok(Effects {
        hypervisor: Arc::new(libvirt(config)?),
        storage: Arc::new(files.clone()),
        shield: Arc::new(Nft::new(NftSettings {
            table: config.network.nft_table.clone(),
            ..NftSettings::default()
        })),
    })
}

/// The keeper's bounds as configured; also for commands that only tell.
#[must_use]
pub fn keep_bounds(config: &Config) -> keep::Bounds {
    let execute = &config.execute;
    keep::Bounds {
        limit: u32::from(execute.restart_limit),
        backoff_first: execute.restart_backoff.0,
        steady: execute.restart_steady.0,
        starts: usize::from(execute.starts),
        ..keep::Bounds::default()
    }
}
