//! `dewpoint audit`: what people did, and why.

use clap::Subcommand;
use dewpoint_proto::ids::EventId;
use dewpoint_proto::wire::fleet::{GetVmRequest, ListActsRequest};

use super::show_list;
use crate::args::values::{HostRef, VmRef};
use crate::args::{Global, Limit};
use crate::failure::Failure;
use crate::fleet::paging::{PAGE, Page, collect};
use crate::fleet::{Fleet, request};
use crate::output::Output;
use crate::view::act::{ActView, table};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List what people did that machines cannot undo or know: holds, cordons, forced events, ended recoveries
    #[command(visible_alias = "list")]
    Ls(List),
}

/// Which acts.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// On this host: its hostname or id
    #[arg(long, value_name = "HOST")]
    host: Option<HostRef>,
    /// About this event
    #[arg(long, value_name = "UUID")]
    event: Option<EventId>,
    /// About this VM: its name or id
    #[arg(long, value_name = "VM")]
    vm: Option<VmRef>,
    #[command(flatten)]
    limit: Limit,
}

/// Carries out one command on what people did.
pub(crate) async fn carry_out(
    command: AuditCommand,
    global: &Global,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let AuditCommand::Ls(which) = command;
    let fleet = Fleet::connect(global).await?;
    let host_id = fleet.host_id(which.host.as_ref()).await?;
    let vm_id = match &which.vm {
        None => String::new(),
        Some(vm) => fleet.ask(fleet.vms().get_vm(request(GetVmRequest { vm: vm.to_string() }))).await?.vm_id,
    };
    let event_id = which.event.map(|id| id.to_string()).unwrap_or_default();
    let acts = collect(which.limit.get(), async |page_token| {
        let asked = ListActsRequest {
            host_id: host_id.clone(),
            event_id: event_id.clone(),
            vm_id: vm_id.clone(),
            page_size: PAGE,
            page_token,
        };
        let page = fleet.ask(fleet.fleet().list_acts(request(asked))).await?;
        Ok(Page { entries: page.acts, next: page.next_page_token })
    })
    .await?;
    show_list::<_, ActView>(output, "acts", &acts, table)
}
