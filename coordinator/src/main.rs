//! `dewpoint-coordinator`: reads the configuration, starts the log, runs the app, drains it on a signal.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use dewpoint_common::telemetry;
use dewpoint_coordinator::app::{App, Running};
use dewpoint_coordinator::config::{Config, DEFAULT_PATH, Plaintext};
use dewpoint_proto::cause::Cause;
use tokio::signal::unix::{SignalKind, signal};

/// The Dewpoint coordinator: takes requests, chooses the hypervisor, pushes the work to it.
#[derive(Parser)]
#[command(version)]
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
    },
    /// Say whether the configuration is right, and what it comes to.
    CheckConfig {
        #[command(flatten)]
        settings: Settings,
    },
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
    let (settings, ready_file, check) = match Cli::parse().command {
        Command::Run { settings, ready_file } => (settings, ready_file, false),
        Command::CheckConfig { settings } => (settings, None, true),
    };
    let config = match settings.read() {
        Ok(config) => config,
        Err(cause) => {
            eprintln!("dewpoint-coordinator: {cause}; {}", cause.advice);
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let done = if check { show(&config) } else { run(config, ready_file.as_deref()) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("dewpoint-coordinator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Settings {
    /// The file, then the flags over it.
    fn read(self) -> Result<Config, Cause> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None if Path::new(DEFAULT_PATH).exists() => Config::read(Path::new(DEFAULT_PATH))?,
            None => Config::default(),
        };
        config.data_dir = self.data_dir.unwrap_or(config.data_dir);
        config.listen = self.listen.unwrap_or(config.listen);
        config.images.listen = self.images_listen.unwrap_or(config.images.listen);
        if self.insecure {
            config.plaintext = Plaintext::Anywhere;
        }
        config.checked()
    }
}

fn show(config: &Config) -> anyhow::Result<()> {
    write!(std::io::stdout(), "{}", toml::to_string(config)?)?;
    Ok(())
}

fn run(config: Config, ready_file: Option<&Path>) -> anyhow::Result<()> {
    telemetry::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stops = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut running = App::start(config).await?;
        if let Some(path) = ready_file {
            say_ready(path, &running).with_context(|| format!("cannot write {}", path.display()))?;
        }
        tell_systemd(&[sd_notify::NotifyState::Ready]);
        let ended = tokio::select! {
            _ = stops.0.recv() => Ok(()),
            _ = stops.1.recv() => Ok(()),
            ended = running.failed() => ended,
        };
        tracing::info!("stopping");
        tell_systemd(&[sd_notify::NotifyState::Stopping]);
        running.shutdown().await;
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

/// Without systemd there is nobody to tell.
fn tell_systemd(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
