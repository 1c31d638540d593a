//! `dewpoint-coordinator`: reads the configuration, starts the log, runs the app, drains it on a signal. The commands
//! beside `run` are in `commands`.

mod commands;
mod shell;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use commands::{Done, Form};
use dewpoint_common::telemetry::{self, Format};
use dewpoint_common::{config, message, systemd};
use dewpoint_coordinator::app::{App, Running};
use dewpoint_coordinator::config::{Config, DEFAULT_PATH, Plaintext};
use dewpoint_coordinator::upkeep::check::Repair;
use dewpoint_proto::cause::Cause;
use tokio::signal::unix::{SignalKind, signal};

/// The Dewpoint coordinator: takes requests, chooses the hypervisor, pushes the work to it.
#[derive(Parser)]
#[command(name = "dewpoint-coordinator", version, max_term_width = 80)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the coordinator.
    Run {
        #[command(flatten)]
        settings: Settings,
        /// Written when everything listens: JSON with the addresses, `grpc` and `images`.
        #[arg(long, value_name = "PATH")]
        ready_file: Option<PathBuf>,
        /// Where the log goes: auto, journald, text or json; goes before the configuration.
        #[arg(long, value_name = "FORMAT", env = telemetry::FORMAT)]
        log_format: Option<Format>,
    },
    /// Say whether the configuration is right, and what it comes to.
    CheckConfig {
        #[command(flatten)]
        settings: Settings,
    },
    /// Copy the database to a new file, while the coordinator runs or not
    ///
    /// The copy is of one instant, verified, and whole or not there at all. Image files are not in it: it names their
    /// digests, and the folder `images` in the data folder is to be copied as well.
    Backup {
        /// A file that is not there yet
        #[arg(value_name = "PATH")]
        to: PathBuf,
        #[command(flatten)]
        asked: Asked,
    },
    /// Put a backup in the database's place, while the coordinator does not run
    ///
    /// The present database is kept beside it, with a receipt. On its start the coordinator places nothing until every
    /// host has matched, or a person ends the recovery.
    Restore {
        /// A file that `backup` made
        #[arg(value_name = "PATH")]
        from: PathBuf,
        /// Why, kept in the receipt and with the acts of people
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Look whether the database's rows agree with each other and with the image files
    ///
    /// Exit status: 0 everything agrees, or was set right; 1 it could not be checked; 3 something does not agree.
    Check {
        /// Set the sums of claims right; not while the coordinator runs
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        asked: Asked,
    },
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

/// What the commands beside `run` share.
#[derive(Args)]
struct Asked {
    #[command(flatten)]
    settings: Settings,
    /// For programs: one JSON document; errors as JSON on stderr
    #[arg(long)]
    json: bool,
}

/// The configuration file, and what is said over it.
#[derive(Args)]
struct Settings {
    /// The configuration file; /etc/dewpoint/coordinator.toml when it is there.
    #[arg(long, value_name = "FILE", env = "DEWPOINT_COORDINATOR_CONFIG")]
    config: Option<PathBuf>,
    /// The database and the image files.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// gRPC, for callers and agents; port 0: any free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// gRPC on a Unix socket as well; unix://PATH for callers and agents of this machine.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Image files over HTTP; port 0: any free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    images_listen: Option<SocketAddr>,
    /// Listen beyond loopback although nothing is encrypted.
    #[arg(long)]
    insecure: bool,
}

/// `EX_CONFIG`: systemd does not start again on it.
const BAD_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run { settings, ready_file, log_format } => with(settings, |config| {
            let _log = telemetry::start(&config.log, log_format);
            run(config, ready_file.as_deref())
                .map(|()| ExitCode::SUCCESS)
                .inspect_err(|error| tracing::error!("{error:#}"))
        }),
        Command::CheckConfig { settings } => {
            with(settings, |config| show(&config).map(|()| ExitCode::SUCCESS))
        }
        Command::Backup { to, asked } => asked.of(|config, form| commands::back_up(config, &to, form)),
        Command::Restore { from, reason, asked } => {
            asked.of(|config, form| commands::put_back(config, &from, reason, form))
        }
        Command::Check { repair, asked } => {
            let repair = if repair { Repair::Sums } else { Repair::No };
            asked.of(|config, _| commands::look(config, repair))
        }
        Command::Completion { shell } => shell::completion(shell, Cli::command()).map(|()| ExitCode::SUCCESS),
        Command::Man { folder } => shell::man(Cli::command(), &folder).map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("dewpoint-coordinator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs with the configuration, or says what is wrong with it.
fn with(
    settings: Settings,
    then: impl FnOnce(Config) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    match settings.read() {
        Ok(config) => then(config),
        Err(cause) => {
            eprintln!("dewpoint-coordinator: {cause}; {}", cause.advice);
            Ok(ExitCode::from(BAD_CONFIG))
        }
    }
}

impl Asked {
    fn of(
        mut self,
        carry_out: impl FnOnce(&Config, Form) -> Result<Done, Cause>,
    ) -> anyhow::Result<ExitCode> {
        // They listen nowhere: that `run` needs the flag for the file's addresses is nothing to them.
        self.settings.insecure = true;
        let form = if self.json { Form::Programs } else { Form::People };
        with(self.settings, |config| commands::finish(carry_out(&config, form), form))
    }
}

impl Settings {
    /// The file, then the flags over it.
    fn read(&self) -> Result<Config, Cause> {
        let shipped = Path::new(DEFAULT_PATH);
        let file = self.config.as_deref().or_else(|| shipped.exists().then_some(shipped));
        let mut config = file.map_or_else(|| Ok(Config::default()), Config::read)?;
        config.data_dir = self.data_dir.clone().unwrap_or(config.data_dir);
        config.listen = self.listen.unwrap_or(config.listen);
        config.socket = self.socket.clone().or(config.socket);
        config.images.listen = self.images_listen.unwrap_or(config.images.listen);
        if self.insecure {
            config.plaintext = Plaintext::Anywhere;
        }
        config.checked().map_err(|cause| match file {
            Some(file) => config::in_file(file, cause),
            None => cause,
        })
    }
}

fn show(config: &Config) -> anyhow::Result<()> {
    write!(std::io::stdout(), "{}", toml::to_string(config)?)?;
    Ok(())
}

fn run(config: Config, ready_file: Option<&Path>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stops = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut running = App::start(config).await?;
        if let Some(path) = ready_file {
            say_ready(path, &running).with_context(|| format!("cannot write {}", path.display()))?;
        }
        systemd::ready();
        let heart = running.heart();
        let beats = systemd::watch(&heart, systemd::between_beats(), systemd::tell);
        let ended = tokio::select! {
            () = beats => Ok(()),
            _ = stops.0.recv() => Ok(()),
            _ = stops.1.recv() => Ok(()),
            ended = running.failed() => ended,
        };
        systemd::stopping();
        running.shutdown().await;
        tracing::info!(message_id = message::STOPPED, "stopped");
        ended
    })
}

/// Written beside and renamed, so that a reader finds nothing or all of it.
fn say_ready(path: &Path, running: &Running) -> anyhow::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let addresses = serde_json::json!({
        "grpc": running.grpc_addr.to_string(),
        "images": running.images_addr.to_string(),
    });
    std::fs::write(&beside, format!("{addresses}\n"))?;
    std::fs::rename(&beside, path)?;
    Ok(())
}
