//! `dewpoint-agent`: the only place that decides an exit status.

use std::process::ExitCode;

use clap::Parser;
use dewpoint_agent::agent;
use dewpoint_agent::config::Config;
use dewpoint_agent::local::cli::{Cli, Command, RunArgs};
use dewpoint_agent::local::commands::{Ended, UNUSABLE_JOURNAL, carry_out, exit_status, upgrade_status};
use dewpoint_agent::local::print::{self, Form};
use dewpoint_common::telemetry;
use dewpoint_proto::cause::Cause;

/// `EX_CONFIG` of sysexits.h: the unit does not restart on it.
const BAD_CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let form = if cli.json { Form::Json } else { Form::Text };
    let status_of = statuses(&cli.command);
    let ended = match cli.command {
        Command::Run(args) => match Config::read(&cli.config) {
            Ok(config) => daemon(config, args).map(|()| Ended::Well),
            Err(cause) => Err((cause, BAD_CONFIGURATION)),
        },
        _ => command(cli).map_err(|cause| {
            let status = status_of(&cause);
            (cause, status)
        }),
    };
    match ended {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::WithFindings) => ExitCode::from(1),
        Err((cause, status)) => {
            print::error(&cause, form);
            ExitCode::from(status)
        }
    }
}

/// Two commands are asked by scripts for their status alone.
fn statuses(command: &Command) -> fn(&Cause) -> u8 {
    match command {
        Command::CheckConfig => |_| BAD_CONFIGURATION,
        Command::UpgradeCheck(_) => upgrade_status,
        _ => exit_status,
    }
}

/// Two workers are plenty: what takes time runs on threads of its own.
fn daemon(config: Config, args: RunArgs) -> Result<(), (Cause, u8)> {
    let _log = telemetry::start(&config.log, args.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(no_runtime)?.block_on(agent::run(config, args)).map_err(|cause| {
        // What no restart mends is told apart, so that systemd leaves it to a person.
        let status = exit_status(&cause);
        (cause, if status == UNUSABLE_JOURNAL { status } else { 1 })
    })
}

fn command(cli: Cli) -> Result<Ended, Cause> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| no_runtime(error).0)?.block_on(carry_out(cli))
}

fn no_runtime(error: std::io::Error) -> (Cause, u8) {
    (Cause::new(dewpoint_proto::cause::Reason::Internal, format!("no runtime could be made: {error}")), 1)
}
