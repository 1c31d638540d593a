//! The commands, one file for each that has more than a few lines.

mod doctor;
mod events;
mod host_id;
mod journal;
mod orphans;
mod readiness;
mod recycle;
mod status;
mod submit;
mod upgrade_check;
mod vms;
mod why;

use std::path::Path;
use std::sync::Arc;

use clap::CommandFactory;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::HostId;

pub use journal::expects;

use super::cli::{Cli, Command, EventCommand};
use super::print::{self, Form};
use crate::clock::SystemClock;
use crate::config::{Config, Manner};
use crate::identity::DataLock;
use crate::journal::Reader;
use crate::storage::Files;
use crate::{agent, identity};

/// Carries out a command, all but `run`.
///
/// # Errors
/// A cause; its reason decides the exit status.
pub async fn carry_out(cli: Cli) -> Result<Ended, Cause> {
    let form = if cli.json { Form::Json } else { Form::Text };
    if let Command::Doctor(args) = cli.command {
        if args.host {
            return readiness::tell(&Config::read(&cli.config)?, form).await.map(|()| Ended::Well);
        }
        return doctor::examine(&Config::read(&cli.config)?, &args, form).await;
    }
    let carried_out = match cli.command {
        // These need no configuration.
        Command::Completion { shell } => completion(shell),
        Command::Man { folder } => man(&folder),
        Command::CheckConfig => check_config(&cli.config, form),
        command => with_config(command, &Config::read(&cli.config)?, form).await,
    };
    carried_out.map(|()| Ended::Well)
}

/// How a command ended that did what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All is well.
    Well,
    /// It looked, and found what a person should see to.
    WithFindings,
}

async fn with_config(command: Command, config: &Config, form: Form) -> Result<(), Cause> {
    match command {
        Command::Status => status::show(config, form).await,
        Command::Vms => vms::list(config, form).await,
        Command::Events(args) => events::list(&reader(config)?, &args, form),
        Command::Event(EventCommand::Show { id }) => events::show(&reader(config)?, id, form),
        Command::Submit(args) => submit::submit(config, &args, form).await,
        Command::Why(args) => why::tell(config, &args, form).await,
        Command::Orphans(command) => orphans::carry_out(config, command, form).await,
        Command::Recycle(command) => recycle::carry_out(config, command, form).await,
        Command::Journal(command) => journal::carry_out(command, config, form),
        Command::HostId(args) => host_id::carry_out(config, &args, form),
        Command::UpgradeCheck(args) => upgrade_check::show(config, &args, form).await,
        Command::Run(_)
        | Command::Doctor(_)
        | Command::Completion { .. }
        | Command::Man { .. }
        | Command::CheckConfig => Err(Cause::new(Reason::Internal, "this command is carried out elsewhere")),
    }
}

/// `EX_DATAERR` of sysexits.h: the journal cannot be used as it is. The unit does not restart on it.
pub const UNUSABLE_JOURNAL: u8 = 65;

/// The exit status that a cause becomes.
#[must_use]
pub fn exit_status(cause: &Cause) -> u8 {
    if matches!(cause.reason, Reason::JournalDamaged | Reason::JournalNewer) {
        return UNUSABLE_JOURNAL;
    }
    match cause.reason.code() {
        tonic::Code::Unavailable => 3,
        tonic::Code::InvalidArgument
        | tonic::Code::NotFound
        | tonic::Code::AlreadyExists
        | tonic::Code::FailedPrecondition
        | tonic::Code::ResourceExhausted
        | tonic::Code::Unimplemented => 4,
        _ => 1,
    }
}

/// The exit status of `upgrade-check`: its journal is not unusable, it is another agent that would not read it. The preinst
/// of each package looks for this number.
#[must_use]
pub fn upgrade_status(cause: &Cause) -> u8 {
    if cause.reason == Reason::JournalNewer { 4 } else { exit_status(cause) }
}

/// The data folder for looking, or for changing it with no daemon there.
fn files(config: &Config) -> Result<Files, Cause> {
    let identity = identity::read(&config.data_dir)?.ok_or_else(|| no_host_id(config))?;
    Ok(files_of(config, identity.host_id))
}

fn files_of(config: &Config, host: HostId) -> Files {
    Files::over(agent::storage_settings(config, host), Arc::new(SystemClock))
}

/// Takes the data folder for a command that changes it, with no daemon there.
fn held(config: &Config) -> Result<DataLock, Cause> {
    match config.manner() {
        Manner::Acts => identity::lock(&config.data_dir),
        Manner::Observes => Err(agent::only_observes()),
    }
}

fn no_host_id(config: &Config) -> Cause {
    Cause::new(Reason::HostNotFound, format!("{} has no host-id yet", config.data_dir.display()))
        .advise("it is made when the agent first starts")
}

/// The daemon took a request, and did not answer in time.
fn too_slow(most: std::time::Duration) -> Cause {
    Cause::new(Reason::Unreachable, format!("the daemon did not answer within {} s", most.as_secs()))
        .advise("what was asked may have been done, and may yet be: look again; see `dewpoint-agent status`")
}

fn reader(config: &Config) -> Result<Reader, Cause> {
    let journal = config.data_dir.join("agent.db");
    if journal.try_exists().is_ok_and(|there| !there) {
        return Err(Cause::new(
            Reason::JournalError,
            format!("there is no journal at {}", journal.display()),
        )
        .advise("it is made when the agent first starts; name its configuration with --config if it did"));
    }
    Reader::open(&journal).map_err(Cause::from)
}

fn check_config(path: &Path, form: Form) -> Result<(), Cause> {
    let config = Config::read(path)?;
    match form {
        Form::Json => print::json(&config)?,
        Form::Text => {
            let text =
                toml::to_string(&config).map_err(|error| Cause::new(Reason::Internal, error.to_string()))?;
            print::out(format_args!("# {}: good. With every default:\n{text}", path.display()));
        }
    }
    Ok(())
}

fn completion(shell: clap_complete::Shell) -> Result<(), Cause> {
    let mut command = Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "dewpoint-agent", &mut script);
    print::out(String::from_utf8_lossy(&script));
    Ok(())
}

fn man(folder: &Path) -> Result<(), Cause> {
    clap_mangen::generate_to(Cli::command(), folder).map_err(|error| {
        Cause::new(Reason::StorageError, format!("{}: {error}", folder.display()))
            .advise("name an existing folder")
    })
}
