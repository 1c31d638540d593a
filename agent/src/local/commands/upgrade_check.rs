//! `upgrade-check`: gathers what bears on an upgrade, and tells it. Changes nothing.

use std::path::Path;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason, shortened};
use dewpoint_proto::vm_state::Power;
use serde_json::json;

use crate::agent;
use crate::config::Config;
use crate::hypervisor::{Hypervisor, Seen};
use crate::journal::entry::Entry;
use crate::journal::{EntryRow, EventFilter, OpenError, Page, Reader, SCHEMA};
use crate::local::cli::UpgradeArgs;
use crate::local::print::{self, Form};
use crate::local::upgrade::{Advice, Facts, Journal, Unfinished, judge};

/// More than a host can have.
const MOST: u32 = 1000;
/// In the package's preinst: which journals its agent reads.
const KNOWS: &str = "knows=";
const DPKG: Duration = Duration::from_secs(10);
const LIBVIRT: Duration = Duration::from_secs(20);

pub(super) async fn show(config: &Config, args: &UpgradeArgs, form: Form) -> Result<(), Cause> {
    let facts = Facts {
        journal: journal(&config.data_dir.join("agent.db"))?,
        target_schema: target(args).await?,
        running: running(config).await,
        free_bytes: free(&config.data_dir),
    };
    let (advice, points) = judge(&facts);
    match form {
        Form::Json => print::json(&json!({ "advice": advice, "points": points }))?,
        Form::Text => {
            for point in &points {
                let mark = if point.advice == Advice::Safe { " " } else { "!" };
                print::out(format_args!("{mark} {}", point.text));
            }
        }
    }
    match advice {
        Advice::Safe => {
            if form == Form::Text {
                print::out("safe to upgrade now");
            }
            Ok(())
        }
        Advice::Wait => {
            Err(Cause::new(Reason::NotReady, "not a good time to upgrade: see the lines with `!`")
                .advise("mend those, then ask again; an upgrade now would touch no VM either"))
        }
        Advice::Refused => {
            Err(Cause::new(Reason::JournalNewer, "this host's journal is newer than what that agent reads")
                .advise("install the agent that wrote the journal, or a newer one; VMs run on"))
        }
    }
}

fn journal(path: &Path) -> Result<Journal, Cause> {
    if !path.exists() {
        return Ok(Journal::Absent);
    }
    match Reader::open(path) {
        Ok(reader) => read(&reader, path),
        Err(OpenError::NewerSchema { found, .. }) => Ok(Journal::Newer(found)),
        Err(error) => Ok(Journal::Unreadable(error.into())),
    }
}

fn read(reader: &Reader, path: &Path) -> Result<Journal, Cause> {
    let filter = EventFilter { vm: None, unfinished: true };
    let rows = reader.events(&filter, Page { before: None, limit: MOST }).map_err(Cause::from)?;
    let mut unfinished = Vec::new();
    for row in rows {
        let entries =
            reader.event(row.id).map_err(Cause::from)?.map(|(_, entries)| entries).unwrap_or_default();
        let step = last_step(&entries);
        unfinished.push(Unfinished { event: row.id, kind: row.kind, vm: row.vm, stage: row.stage, step });
    }
    let schema = reader.schema().map_err(Cause::from)?;
    let bytes = std::fs::metadata(path).map_or(0, |found| found.len());
    Ok(Journal::Read { schema, bytes, unfinished })
}

fn last_step(entries: &[EntryRow]) -> Option<String> {
    entries.iter().rev().find_map(|row| match row.entry() {
        Ok(Entry::StepStarted { step, .. }) => Some(step.as_str().to_owned()),
        _ => None,
    })
}

/// What the agent to be installed reads: as told, as its package says, or else as this agent does.
async fn target(args: &UpgradeArgs) -> Result<u32, Cause> {
    let Some(package) = &args.package else { return Ok(args.schema.unwrap_or(SCHEMA)) };
    let wrong = |what: String| {
        Cause::new(Reason::Invalid, format!("{}: {what}", package.display()))
            .advise("name a package of dewpoint-agent, or give --schema")
    };
    let mut dpkg = tokio::process::Command::new("dpkg-deb");
    dpkg.arg("--info").arg(package).arg("preinst").kill_on_drop(true);
    let ended = tokio::time::timeout(DPKG, dpkg.output()).await;
    let output = ended
        .map_err(|_| wrong(format!("dpkg-deb did not end within {} s", DPKG.as_secs())))?
        .map_err(|error| wrong(format!("dpkg-deb cannot be run: {error}")))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    let schema = said.lines().find_map(|line| line.strip_prefix(KNOWS)?.parse().ok());
    schema.ok_or_else(|| {
        wrong(format!("it does not say which journals it reads {}", shortened(complained.trim())))
    })
}

async fn running(config: &Config) -> Result<usize, Cause> {
    let listed = async { agent::libvirt(config)?.list().await };
    let domains = tokio::time::timeout(LIBVIRT, listed).await.unwrap_or_else(|_| {
        Err(Cause::new(Reason::CallOverran, format!("libvirt did not answer within {} s", LIBVIRT.as_secs()))
            .advise("see `systemctl status libvirtd`"))
    })?;
    let ours = domains.values().filter(|domain| matches!(domain.mark, Seen::There(_)));
    Ok(ours.filter(|domain| domain.power == Power::Running).count())
}

fn free(folder: &Path) -> u64 {
    nix::sys::statvfs::statvfs(folder).map_or(0, |stat| stat.blocks_available() * stat.fragment_size())
}
