//! `dewpoint vm`: virtual machines, and the events that change them.

mod change;
mod create;
mod watch;

use clap::Subcommand;
use dewpoint_proto::names::ImageName;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::fleet::{GetVmRequest, ListVmsRequest};

use super::show_list;
use crate::args::values::{HostRef, ImageArg, Label, VmRef};
use crate::args::{EventOptions, Global, Limit, WaitBound};
use crate::failure::Failure;
use crate::fleet::paging::{PAGE, Page, collect};
use crate::fleet::{Fleet, request};
use crate::output::Output;
use crate::submit::Submission;
use crate::view::vm::{VmView, show, table};

#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// Build a VM from an image
    Create(Box<create::Create>),
    /// List the VMs
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show all of one VM
    Show {
        /// Name or id
        vm: VmRef,
    },
    /// Power a VM on
    Start(Plain),
    /// Ask the guest to go down
    Stop(change::Stop),
    /// Ask the guest to go down, then power it on again
    Reboot(change::Reboot),
    /// Make an image of a VM's disk, running or not
    Snapshot {
        /// The image's name in the catalogue [default: none, it is known by its digest]
        #[arg(long, value_name = "IMAGE")]
        name: Option<ImageName>,
        #[command(flatten)]
        plain: Plain,
    },
    /// Give a VM a new disk from an image or snapshot; what is on the old one goes
    Restore {
        /// Name or digest
        #[arg(long)]
        image: ImageArg,
        #[command(flatten)]
        plain: Plain,
    },
    /// Remove a VM with its disks, which stay in the recycle folder for a while
    Destroy {
        /// Delete the disks at once: they cannot be had back
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        plain: Plain,
    },
    /// Follow what the hosts say of VMs, until interrupted
    Watch(watch::Watching),
}

/// A VM, and what every event may say.
#[derive(Debug, clap::Args)]
pub(crate) struct Plain {
    /// Name or id
    vm: VmRef,
    #[command(flatten)]
    options: EventOptions,
    #[command(flatten)]
    bound: WaitBound,
}

/// Which VMs.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// On this host: its hostname or id
    #[arg(long, value_name = "HOST")]
    host: Option<HostRef>,
    /// With this label; repeat for more, all of which must be there
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    /// Also those that are gone
    #[arg(long)]
    gone: bool,
    #[command(flatten)]
    limit: Limit,
}

impl Plain {
    fn submission(&self) -> Submission {
        Submission::new(&self.options, self.bound.bound())
    }
}

/// Carries out one command on VMs.
pub(crate) async fn carry_out(
    command: VmCommand,
    global: &Global,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    match command {
        VmCommand::Create(create) => create::carry_out(*create, global, output).await,
        VmCommand::Ls(which) => list(&Fleet::connect(global).await?, &which, output).await,
        VmCommand::Show { vm } => show_one(&Fleet::connect(global).await?, &vm, output).await,
        VmCommand::Watch(watching) => {
            watch::carry_out(&Fleet::connect(global).await?, watching, output).await
        }
        VmCommand::Start(plain) => change::start(&plain, global, output).await,
        VmCommand::Stop(stop) => change::stop(&stop, global, output).await,
        VmCommand::Reboot(reboot) => change::reboot(&reboot, global, output).await,
        VmCommand::Snapshot { name, plain } => change::snapshot(name.as_ref(), &plain, global, output).await,
        VmCommand::Restore { image, plain } => change::restore(&image, &plain, global, output).await,
        VmCommand::Destroy { now, plain } => change::destroy(now, &plain, global, output).await,
    }
}

async fn list(fleet: &Fleet, which: &List, output: &mut Output<'_>) -> Result<(), Failure> {
    let host_id = fleet.host_id(which.host.as_ref()).await?;
    let labels: Vec<String> =
        which.labels.iter().map(|label| format!("{}={}", label.key, label.value)).collect();
    let vms = collect(which.limit.get(), async |page_token| {
        let asked = ListVmsRequest {
            host_id: host_id.clone(),
            label_selector: labels.join(","),
            include_gone: which.gone,
            page_size: PAGE,
            page_token,
        };
        let page = fleet.ask(fleet.vms().list_vms(request(asked))).await?;
        Ok(Page { entries: page.vms, next: page.next_page_token })
    })
    .await?;
    show_list::<_, VmView>(output, "vms", &vms, table)
}

async fn show_one(fleet: &Fleet, vm: &VmRef, output: &mut Output<'_>) -> Result<(), Failure> {
    let vm = fleet.ask(fleet.vms().get_vm(request(GetVmRequest { vm: vm.to_string() }))).await?;
    output.show(&VmView::from(&vm), |paint| show(&vm, Millis::now(), paint))
}
