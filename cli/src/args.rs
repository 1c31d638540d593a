//! The command line: what is asked, with every value parsed into the shared vocabulary.
//!
//! Two kinds of mistake: a command line that cannot be understood is `usage`; one that can, with a value that does not
//! fit, is refused as `INVALID`, just as the coordinator would refuse it.

pub(crate) mod values;

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ErrorKind};
use clap::{Args, Parser, Subcommand};
use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::EventId;

use crate::commands::{audit, event, fleet, host, image, network, vm};
use crate::failure::{Failure, invalid};
use crate::fleet::target::Plaintext;
use crate::output::Output;
use values::{NotAfter, Span};

/// Dewpoint's command for operators: hosts, VMs, images, networks and events of a fleet.
#[derive(Debug, Parser)]
#[command(name = "dewpoint", version, max_term_width = 80, infer_subcommands = false, after_help = EXITS)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) noun: Noun,
}

const EXITS: &str = "Exit status: 0 done; 1 failed; 2 usage; 3 coordinator not reachable; 4 refused.";

#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Hypervisors: list, cordon, hold
    #[command(subcommand)]
    Host(host::HostCommand),
    /// Virtual machines: create, start, stop, reboot, snapshot, restore, destroy
    #[command(subcommand)]
    Vm(vm::VmCommand),
    /// Disk images: upload, list, remove
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Networks: pools of static addresses
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Events: list, follow, cancel, retry, force
    #[command(subcommand)]
    Event(event::EventCommand),
    /// What holds for all hosts: show, limit on destroys
    #[command(subcommand)]
    Fleet(fleet::FleetCommand),
    /// What people did: list who held, cordoned or forced what, and why
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Print the completions of a shell
    Completion {
        /// For this shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages of every command into a folder
    #[command(hide = true)]
    Man {
        /// An existing folder
        dir: PathBuf,
    },
}

/// What holds for every command.
#[derive(Args, Debug, Default)]
pub(crate) struct Global {
    /// The coordinator: http://HOST:PORT or unix:///PATH [default: the config's, else http://127.0.0.1:7400]
    #[arg(long, global = true, value_name = "URL", env = "DEWPOINT_COORDINATOR", hide_env_values = true)]
    #[arg(help_heading = "Global options")]
    pub(crate) coordinator: Option<String>,
    /// Read this file instead of /etc/dewpoint/dewpoint.toml
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) config: Option<PathBuf>,
    /// For programs: one JSON document, or JSON lines from a watch; errors as JSON on stderr
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Accept plaintext beyond loopback and Unix sockets
    #[arg(long, global = true, env = "DEWPOINT_INSECURE", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Global options")]
    pub(crate) insecure: bool,
}

impl Global {
    /// Whether plaintext may leave this machine.
    pub(crate) fn plaintext(&self) -> Plaintext {
        if self.insecure { Plaintext::Anywhere } else { Plaintext::LocalOnly }
    }
}

/// What every command that makes an event may say.
#[derive(Args, Debug)]
#[command(next_help_heading = "Event options")]
pub(crate) struct EventOptions {
    /// The event's id: given again with the same request, it answers with the same event [default: a fresh one]
    #[arg(long, value_name = "UUID")]
    pub(crate) event_id: Option<EventId>,
    /// Expire unless begun by then: a duration from now, or an instant such as 2026-11-21T10:00:00Z
    ///
    /// To repeat a request with the same --event-id, give an instant: a duration makes another request of it.
    #[arg(long, value_name = "WHEN")]
    pub(crate) not_after: Option<NotAfter>,
    /// Why, in your words; shown with the event
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// The event that this one tries again
    #[arg(long, value_name = "UUID")]
    pub(crate) retry_of: Option<EventId>,
    /// Stay until the event ends, and end with its outcome
    #[arg(long)]
    pub(crate) wait: bool,
}

/// How long `--wait` waits.
#[derive(Args, Debug)]
pub(crate) struct WaitBound {
    /// How long --wait waits; the event goes on without it [default: 1h]
    #[arg(long, value_name = "DURATION", alias = "wait-timeout", help_heading = "Event options")]
    #[arg(requires = "wait")]
    timeout: Option<Span>,
}

/// How long the guest is given, and how long `--wait` waits.
#[derive(Args, Debug)]
pub(crate) struct GuestBound {
    /// How long the guest is given to go down [default: the host's]
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
    /// How long --wait waits; the event goes on without it [default: 1h]
    #[arg(long, value_name = "DURATION", requires = "wait", help_heading = "Event options")]
    wait_timeout: Option<Span>,
}

impl WaitBound {
    pub(crate) fn bound(&self) -> Option<Duration> {
        self.timeout.map(|span| span.0)
    }
}

impl GuestBound {
    /// What the guest is given, as the wire has it: 0 for the host's default.
    pub(crate) fn guest_seconds(&self) -> Result<u32, Cause> {
        self.timeout.map_or(Ok(0), Span::guest_seconds)
    }

    pub(crate) fn wait(&self) -> Option<Duration> {
        self.wait_timeout.map(|span| span.0)
    }
}

/// How much of a list is shown.
#[derive(Args, Debug)]
pub(crate) struct Limit {
    /// At most this many
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl Limit {
    pub(crate) fn get(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }
}

/// The parsed command line; none when it only asked for help or the version, which have been printed.
///
/// # Errors
/// `Usage`, or `INVALID` for a value that does not fit.
pub(crate) fn parse(args: Vec<OsString>, output: &mut Output<'_>) -> Result<Option<Cli>, Failure> {
    let error = match Cli::try_parse_from(args) {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output.text(&error.render().to_string())?;
            Ok(None)
        }
        ErrorKind::ValueValidation => Err(unfit(&error).into()),
        _ => Err(Failure::Usage(error.render().to_string())),
    }
}

/// Our own cause where a value of ours was parsed; clap's first line for its own types.
fn unfit(error: &clap::Error) -> Cause {
    let own = error.source().and_then(|source| source.downcast_ref::<Cause>()).cloned();
    let cause = own.unwrap_or_else(|| {
        let text = error.render().to_string();
        let line = text.lines().next().unwrap_or_default();
        invalid(line.strip_prefix("error: ").unwrap_or(line))
    });
    match error.get(ContextKind::InvalidArg) {
        Some(argument) => cause.with("argument", argument),
        None => cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Every command that is shown to people, as words.
    fn shown(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            let words: Vec<_> = words.iter().cloned().chain([below.get_name().to_owned()]).collect();
            assert!(below.get_about().is_some(), "{words:?} says what it does");
            shown(below, &words, found);
            found.push(words);
        }
    }

    #[test]
    fn every_command_has_a_man_page_and_completions() {
        let mut commands = Vec::new();
        shown(&Cli::command(), &[], &mut commands);
        assert!(commands.len() > 30, "{commands:?}");
        let mut script = Vec::new();
        clap_complete::generate(clap_complete::Shell::Bash, &mut Cli::command(), "dewpoint", &mut script);
        let script = String::from_utf8(script).unwrap();
        let folder = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(Cli::command(), folder.path()).unwrap();
        for words in commands {
            let page = folder.path().join(format!("dewpoint-{}.1", words.join("-")));
            assert!(page.exists(), "{}", page.display());
            let completed =
                format!("dewpoint__subcmd__{}", words.join("__subcmd__").replace('-', "__subcmd__"));
            assert!(script.contains(&completed), "{completed}");
        }
    }
}
