//! What `dewpoint-agent` takes on its command line. The man page and the completions are made from this.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use dewpoint_common::telemetry::{self, Format};
use dewpoint_common::units::Span;
use dewpoint_proto::ids::{EventId, HostId, VmId};

/// The Dewpoint agent: builds and looks after the VMs of this hypervisor.
///
/// `run` is the daemon. The other commands are for debugging on the spot; those that read work whether the daemon is
/// up or down. Exit status: 0 done, 1 failed, 2 usage, 3 the daemon or libvirt is not reachable, 4 refused, 65 the
/// journal cannot be used as it is, 78 bad configuration.
#[derive(Debug, Parser)]
#[command(name = "dewpoint-agent", version, max_term_width = 80, subcommand_required = true)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, env = "DEWPOINT_AGENT_CONFIG", default_value = crate::config::DEFAULT_PATH)]
    pub config: PathBuf,
    /// Print JSON instead of tables and sentences.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon.
    Run(RunArgs),
    /// How this host is: daemon, coordinator, journal, what is unfinished.
    Status,
    /// The VMs of this host.
    Vms,
    /// The newest events of this host.
    Events(EventsArgs),
    /// One event.
    #[command(subcommand)]
    Event(EventCommand),
    /// A VM's whole story: what was asked, each step and libvirt call, each state seen, and what is waited for now.
    Why(WhyArgs),
    /// Carry out an event from a TOML or JSON file, without a coordinator.
    #[command(after_long_help = super::event_file::manual::MANUAL)]
    Submit(SubmitArgs),
    /// Compare coordinator, journal, libvirt, disk and network, and say what to do where they disagree.
    ///
    /// Works with the daemon up or down, and changes nothing without --repair. What a repair would be is said with each
    /// finding; none destroys anything, and what only a person can decide is not repaired. Exit status: 0 nothing found
    /// but notes, 1 warnings or worse, after --repair as it is then; others as for every command.
    Doctor(DoctorArgs),
    /// Disks that were replaced or deleted, and wait before they go for good.
    #[command(subcommand)]
    Recycle(RecycleCommand),
    /// What bears our mark, and the journal does not explain: domains, folders, and what is in the quarantine.
    #[command(subcommand)]
    Orphans(OrphansCommand),
    /// Check the configuration and print it with every default.
    CheckConfig,
    /// Look whether the journal can be used, or begin a new one.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Print this host's id; or, with the agent stopped, say that it is to be believed on this machine.
    HostId(HostIdArgs),
    /// Say whether the agent can be upgraded now.
    ///
    /// Exit status: 0 safe, 1 something should be mended first, 4 the agent to be installed would refuse the journal.
    UpgradeCheck(UpgradeArgs),
    /// Print the completion script of a shell.
    #[command(hide = true)]
    Completion {
        /// bash, zsh or fish.
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder.
    #[command(hide = true)]
    Man {
        /// An existing folder.
        folder: PathBuf,
    },
}

/// How the daemon is run.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Speak to a coordinator beyond this machine without encryption.
    #[arg(long)]
    pub insecure: bool,
    /// Written, whole, once the daemon is ready; for supervisors without systemd.
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
    /// Where the log goes: auto, journald, text or json; goes before the configuration.
    #[arg(long, value_name = "FORMAT", env = telemetry::FORMAT)]
    pub log_format: Option<Format>,
}

/// What is said of this host's id.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct HostIdArgs {
    /// The mainboard was replaced, or the disks moved into this machine for good: they are not a copy.
    #[arg(long)]
    pub accept_machine: bool,
    /// The host-id file was lost, and the VMs' folders bear the mark of this host.
    #[arg(long, value_name = "ID")]
    pub take: Option<HostId>,
}

/// What is to be installed; left out: another build of this version.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    /// The package: it says which journals its agent reads.
    #[arg(long, value_name = "FILE.deb")]
    pub package: Option<PathBuf>,
    /// The newest journal schema that its agent reads.
    #[arg(long, value_name = "N", conflicts_with = "package")]
    pub schema: Option<u32>,
}

/// Which events are listed.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Of this VM alone.
    #[arg(long)]
    pub vm: Option<VmId>,
    /// Unfinished ones alone.
    #[arg(long)]
    pub unfinished: bool,
    /// How many, at most 1000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// What to do with one event.
#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// All that the journal has of it: each step, how long it took, how it ended.
    Show {
        /// The event's id.
        id: EventId,
    },
}

/// What to do with the journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Check every page and index, and name events that this version cannot go on with. Changes nothing.
    Check,
    /// Set a journal aside that cannot be used, and begin a new one. Deletes nothing; touches no VM.
    ///
    /// The agent must be stopped. What can still be read of the VMs is taken over, and those that bear this host's
    /// marks are found when the agent starts. The coordinator finds the host diverged, and a person reconciles it.
    New(NewArgs),
}

/// How a new journal is begun.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Why, for the receipt.
    #[arg(long)]
    pub reason: String,
    /// Also when the old one is sound: its unfinished events are lost to this host.
    #[arg(long)]
    pub although_sound: bool,
}

/// Whose story, and how much of it.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The VM's id or name.
    pub vm: String,
    /// How far back, as in 2h or 7d; without it, the last five events and what came after.
    #[arg(long, value_name = "SPAN")]
    pub since: Option<Span>,
    /// All that there is.
    #[arg(long, conflicts_with = "since")]
    pub all: bool,
}

/// What is submitted.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// The event: TOML, or JSON when it ends in `.json`.
    pub file: PathBuf,
    /// Return once it is journaled.
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait for its end.
    #[arg(long, default_value = "10m")]
    pub timeout: Span,
}

/// What the doctor does.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Look instead whether this machine is ready to run VMs: KVM, libvirt, bridge, disk, clock and so on.
    #[arg(long, conflicts_with_all = ["repair", "yes", "vm", "insecure"])]
    pub host: bool,
    /// Repair what can be repaired, asking before each.
    #[arg(long)]
    pub repair: bool,
    /// Do not ask.
    #[arg(long, requires = "repair")]
    pub yes: bool,
    /// Of this VM alone.
    #[arg(long)]
    pub vm: Option<VmId>,
    /// Ask a coordinator beyond this machine without encryption.
    #[arg(long)]
    pub insecure: bool,
}

/// What to do with the recycle folder. A disk's id there is that of the event that had made it.
#[derive(Debug, Subcommand)]
pub enum RecycleCommand {
    /// What is there, the oldest first: of which VM, since when, until when, how large.
    Ls,
    /// All that is known of one disk.
    Show {
        /// The disk's id.
        disk: EventId,
    },
    /// Write a copy of a disk, and the event that builds its VM again from it.
    ///
    /// Nothing that is in use is touched: the recycled disk stays where it is, and the copy is a qcow2 that stands alone.
    /// Beside it, in PATH.toml, is an event for `dewpoint-agent submit`: a create under the VM's old id when the VM was
    /// destroyed, a restore when it is still there. So a VM that was destroyed by mistake is back with two commands.
    Restore(RestoreArgs),
    /// Delete disks for good, with a receipt for each in recycle/receipts.log. Asks first.
    Purge(PurgeArgs),
}

/// What is restored, and where to.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The disk's id.
    pub disk: EventId,
    /// Where the copy goes; nothing may be there.
    #[arg(long, value_name = "PATH")]
    pub to: PathBuf,
}

/// What is purged.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// The disks' ids.
    #[arg(required_unless_present = "older_than", conflicts_with = "older_than")]
    pub disks: Vec<EventId>,
    /// All that are there for longer than this, such as 12h or 2days.
    #[arg(long, value_name = "SPAN")]
    pub older_than: Option<Span>,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

/// What to do with orphans. They are never removed by themselves, and what bears no mark of ours is never touched.
#[derive(Debug, Subcommand)]
pub enum OrphansCommand {
    /// What is there: domains and folders of VMs that the journal does not have, and what is in the quarantine.
    Ls,
    /// Take a VM into the journal, as its domain's mark says: generation, run, disk, whether it is wanted on.
    ///
    /// What it is made of is read from its folder; where an older agent made that, from its domain and its seed, which do
    /// not tell labels, networks' names, placement and restart policy. It runs on undisturbed, takes events from then on,
    /// and is reported to the coordinator. Also for a VM that a new journal took over without what it is made of.
    Adopt {
        /// The VM's id.
        vm: VmId,
    },
    /// Remove a VM that the journal does not have, or something from the quarantine. Asks first.
    ///
    /// A running VM is powered off. Disks go to the recycle folder, with a receipt in mended.log: `recycle restore` has
    /// them back for as long as they are kept there.
    Remove {
        /// A VM's id, or a name in the quarantine.
        what: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

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
        Cli::command().debug_assert();
        let mut commands = Vec::new();
        shown(&Cli::command(), &[], &mut commands);
        assert!(commands.len() > 15, "{commands:?}");
        let mut script = Vec::new();
        clap_complete::generate(
            clap_complete::Shell::Bash,
            &mut Cli::command(),
            "dewpoint-agent",
            &mut script,
        );
        let script = String::from_utf8(script).unwrap();
        let folder = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(Cli::command(), folder.path()).unwrap();
        for words in commands {
            let page = folder.path().join(format!("dewpoint-agent-{}.1", words.join("-")));
            assert!(page.exists(), "{}", page.display());
            let completed = format!(
                "dewpoint__subcmd__agent__subcmd__{}",
                words.join("__subcmd__").replace('-', "__subcmd__")
            );
            assert!(script.contains(&completed), "{completed}");
        }
        let submit = std::fs::read_to_string(folder.path().join("dewpoint-agent-submit.1")).unwrap();
        assert!(submit.contains("gateway4"), "with the keys of an event file: {submit}");
    }
}
