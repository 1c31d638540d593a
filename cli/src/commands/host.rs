//! `dewpoint host`: what the hypervisors are, and keeping work away from them.

use clap::Subcommand;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::fleet::{
    CordonHostRequest, EndRecoveryRequest, Host, ListHostsRequest, PlanReconcileRequest,
    ReconcileHostRequest, ReplaceHostRequest, RetireHostRequest, SetHoldRequest, UncordonHostRequest,
};
use serde_json::json;

use super::show_list;
use crate::args::values::HostRef;
use crate::args::{Global, Limit};
use crate::failure::Failure;
use crate::fleet::paging::{PAGE, Page, collect};
use crate::fleet::{Fleet, request};
use crate::output::Output;
use crate::view::CauseView;
use crate::view::host::{HostView, show, table};
use crate::view::reconcile::{Carried, PlanView, RetiredView, show_plan, show_retired};

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// List the hosts
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        limit: Limit,
    },
    /// Show all of one host
    Show {
        /// Hostname or id
        host: HostRef,
    },
    /// Place no new VMs on a host; the ones it has go on
    Cordon {
        /// Hostname or id
        host: HostRef,
        /// Why, in your words
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Place VMs on a host again
    Uncordon {
        /// Hostname or id
        host: HostRef,
        /// Why, in your words
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Deliver nothing to a host and let it begin no step; VMs run on
    Hold {
        #[command(flatten)]
        which: Which,
        /// Why, in your words
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// End a hold
    Release {
        #[command(flatten)]
        which: Which,
        /// Why, in your words
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Let the coordinator place VMs again though its hosts know events that it does not
    ///
    /// To be given after a look at what was lost: the coordinator's database was restored from a backup, or replaced.
    /// Its hosts then go on from their own last events, and what happened between stays unknown to it.
    EndRecovery {
        /// Why it may go on: kept, see `dewpoint audit ls`
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Show what reconciling a diverged host comes to; with --yes, do it
    ///
    /// A host diverges when its log is not the coordinator's: its journal was lost or restored, its disks were cloned or
    /// moved. Its VMs run on. The plan says what becomes of each event and VM; nothing is destroyed by it.
    Reconcile(Reconcile),
    /// Take a host that will not come back out of the fleet
    ///
    /// Refused while it has VMs, unless its disks are gone for good: then its VMs are gone, and their addresses free.
    Retire {
        /// Hostname or id
        host: HostRef,
        /// Its disks are gone for good; not only switched off
        #[arg(long)]
        disks_gone: bool,
        /// Why, in your words: kept, see `dewpoint audit ls`
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let a host without VMs take the place of one that is lost
    ///
    /// It takes the lost host's id at its next start; bring its VMs' folders there first, or restore them from
    /// snapshots. Then it is reconciled as any other.
    Replace {
        /// The lost one: hostname or id
        old: HostRef,
        /// The one that takes its place: hostname or id
        new: HostRef,
        /// Why, in your words: kept, see `dewpoint audit ls`
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Reconcile {
    /// Hostname or id
    host: HostRef,
    /// Carry the plan out as it was shown
    #[arg(long, requires = "reason")]
    yes: bool,
    /// Of the plan that was shown: another one is not carried out
    #[arg(long, value_name = "DIGEST")]
    plan: Option<String>,
    /// Why, in your words: kept, see `dewpoint audit ls`
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

/// One host, or all of them; never all of them by leaving something out.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// Hostname or id
    host: Option<HostRef>,
    /// Every host
    #[arg(long)]
    fleet: bool,
}

/// Carries out one command on hosts.
pub(crate) async fn carry_out(
    command: HostCommand,
    global: &Global,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let fleet = Fleet::connect(global).await?;
    match command {
        HostCommand::Ls { limit } => list(&fleet, limit.get(), output).await,
        HostCommand::Show { host } => show_one(&fleet.host(&host).await?, output),
        HostCommand::Cordon { host, reason } => {
            let asked = request(CordonHostRequest { host: host.to_string(), reason });
            show_one(&fleet.ask(fleet.hosts().cordon_host(asked)).await?, output)
        }
        HostCommand::Uncordon { host, reason } => {
            let asked = request(UncordonHostRequest { host: host.to_string(), reason });
            show_one(&fleet.ask(fleet.hosts().uncordon_host(asked)).await?, output)
        }
        HostCommand::Hold { which, reason } => set_hold(&fleet, &which, true, reason, output).await,
        HostCommand::Reconcile(asked) => reconcile(&fleet, asked, output).await,
        HostCommand::Retire { host, disks_gone, reason } => {
            let asked = request(RetireHostRequest { host: host.to_string(), disks_gone, reason });
            let retired = fleet.ask(fleet.hosts().retire_host(asked)).await?;
            output.show(&RetiredView::from(&retired), |_| show_retired(&retired))
        }
        HostCommand::Replace { old, new, reason } => {
            let (old_host, new_host) = (old.to_string(), new.to_string());
            let asked = request(ReplaceHostRequest { old_host, new_host, reason });
            let replaced = fleet.ask(fleet.hosts().replace_host(asked)).await?;
            show_one(&replaced.host.unwrap_or_default(), output)
        }
        HostCommand::EndRecovery { reason } => end_recovery(&fleet, reason, output).await,
        HostCommand::Release { which, reason } => set_hold(&fleet, &which, false, reason, output).await,
    }
}

async fn list(fleet: &Fleet, limit: usize, output: &mut Output<'_>) -> Result<(), Failure> {
    let hosts = collect(limit, async |page_token| {
        let asked = request(ListHostsRequest { page_size: PAGE, page_token });
        let page = fleet.ask(fleet.hosts().list_hosts(asked)).await?;
        Ok(Page { entries: page.hosts, next: page.next_page_token })
    })
    .await?;
    show_list::<_, HostView>(output, "hosts", &hosts, |hosts, paint| table(hosts, Millis::now(), paint))
}

fn show_one(host: &Host, output: &mut Output<'_>) -> Result<(), Failure> {
    output.show(&HostView::from(host), |paint| show(host, Millis::now(), paint))
}

async fn set_hold(
    fleet: &Fleet,
    which: &Which,
    hold: bool,
    reason: String,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let host = which.host.as_ref().map(ToString::to_string).unwrap_or_default();
    let asked = request(SetHoldRequest { host, hold, reason });
    let hosts = fleet.ask(fleet.hosts().set_hold(asked)).await?.hosts;
    let word = if hold { "held" } else { "released" };
    output.show(&json!({ "hosts": hosts, "hold": hold }), |_| {
        format!("{hosts} {} {word}\n", if hosts == 1 { "host" } else { "hosts" })
    })
}

/// Shows the plan; carries it out when that was asked for, bound to what was shown.
async fn reconcile(fleet: &Fleet, asked: Reconcile, output: &mut Output<'_>) -> Result<(), Failure> {
    let host = asked.host.to_string();
    let planning = request(PlanReconcileRequest { host: host.clone() });
    let plan = fleet.ask(fleet.hosts().plan_reconcile(planning)).await?;
    if !asked.yes {
        return output.show(&PlanView::new(&plan, false), |paint| show_plan(&plan, paint, Carried::Not));
    }
    let digest = asked.plan.unwrap_or_else(|| plan.digest.clone());
    let order = request(ReconcileHostRequest { host, digest, reason: asked.reason });
    let done = fleet.ask(fleet.hosts().reconcile_host(order)).await?;
    output.show(&PlanView::new(&done, true), |paint| show_plan(&done, paint, Carried::Out))
}

async fn end_recovery(fleet: &Fleet, reason: String, output: &mut Output<'_>) -> Result<(), Failure> {
    let asked = request(EndRecoveryRequest { reason });
    let ended = fleet.ask(fleet.hosts().end_recovery(asked)).await?.ended;
    output.show(&json!({ "ended": ended.as_ref().map(CauseView::from) }), |_| match &ended {
        Some(cause) => format!("recovery ended; it began because {}\n", cause.text),
        None => "the fleet is not recovering: nothing was changed\n".to_owned(),
    })
}
