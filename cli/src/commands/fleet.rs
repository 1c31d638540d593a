//! `dewpoint fleet`: what holds for all hosts.

use std::str::FromStr;

use clap::Subcommand;
use dewpoint_proto::cause::{Cause, shortened};
use dewpoint_proto::wire::fleet::{FleetRecord, GetFleetRequest, SetDestroyLimitRequest};

use crate::args::Global;
use crate::failure::{Failure, invalid};
use crate::fleet::{Fleet, request};
use crate::output::Output;
use crate::view::fleet::{FleetView, show};

#[derive(Debug, Subcommand)]
pub(crate) enum FleetCommand {
    /// Show what holds for all hosts: hold, recovery, limits
    Show,
    /// Set how many VMs may be destroyed in a minute
    ///
    /// The next one is refused with DESTROY_LIMIT until a minute after the first has passed. It holds for destroys
    /// alone, survives restarts, and stands over the coordinator's configuration until `config` is given.
    DestroyLimit {
        /// A number, 0 for any number of VMs, or `config` for what the coordinator's configuration says
        limit: DestroyLimit,
        /// Why: kept, see `dewpoint audit ls`
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// VMs in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DestroyLimit {
    /// So many; 0: any number.
    Set(u32),
    /// As configured.
    Configured,
}

impl FromStr for DestroyLimit {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        match text {
            "config" => Ok(Self::Configured),
            number => number.parse().map(Self::Set).map_err(|_| {
                invalid(format!("`{}` is not a limit", shortened(text)))
                    .advise("give a whole number, 0 for any number, or `config`")
            }),
        }
    }
}

/// Carries out one command on the whole fleet.
pub(crate) async fn carry_out(
    command: FleetCommand,
    global: &Global,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let fleet = Fleet::connect(global).await?;
    match command {
        FleetCommand::Show => {
            let record = fleet.ask(fleet.fleet().get_fleet(request(GetFleetRequest {}))).await?;
            shown(&record, output)
        }
        FleetCommand::DestroyLimit { limit, reason } => {
            let (limit, as_configured) = match limit {
                DestroyLimit::Set(limit) => (limit, false),
                DestroyLimit::Configured => (0, true),
            };
            let asked = SetDestroyLimitRequest { limit, as_configured, reason };
            shown(&fleet.ask(fleet.fleet().set_destroy_limit(request(asked))).await?, output)
        }
    }
}

fn shown(record: &FleetRecord, output: &mut Output<'_>) -> Result<(), Failure> {
    output.show(&FleetView::from(record), |_| show(record))
}
