//! The events that change a VM which is there: one function a verb, all through [`Submission`].

use dewpoint_proto::names::ImageName;
use dewpoint_proto::wire::fleet::{
    DestroyVmRequest, RebootVmRequest, RestoreVmRequest, SnapshotVmRequest, StopVmRequest, VmRequest,
};

use super::Plain;
use crate::args::values::{ImageArg, VmRef};
use crate::args::{EventOptions, Global, GuestBound};
use crate::failure::Failure;
use crate::fleet::{Fleet, request};
use crate::output::Output;
use crate::submit::Submission;

/// Ask the guest to go down.
#[derive(Debug, clap::Args)]
pub(crate) struct Stop {
    /// Name or id
    vm: VmRef,
    /// Power off when the guest has not gone down by the timeout
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    bound: GuestBound,
    #[command(flatten)]
    options: EventOptions,
}

/// Ask the guest to go down, then power it on again.
#[derive(Debug, clap::Args)]
pub(crate) struct Reboot {
    /// Name or id
    vm: VmRef,
    /// Power cycle without asking the guest
    #[arg(long)]
    hard: bool,
    #[command(flatten)]
    bound: GuestBound,
    #[command(flatten)]
    options: EventOptions,
}

pub(super) async fn start(plain: &Plain, global: &Global, output: &mut Output<'_>) -> Result<(), Failure> {
    let fleet = Fleet::connect(global).await?;
    let send = async |options| {
        let asked = VmRequest { options: Some(options), vm: plain.vm.to_string() };
        fleet.vms().start_vm(request(asked)).await
    };
    plain.submission().carry_out(&fleet, output, send).await
}

pub(super) async fn stop(stop: &Stop, global: &Global, output: &mut Output<'_>) -> Result<(), Failure> {
    let timeout_seconds = stop.bound.guest_seconds()?;
    let fleet = Fleet::connect(global).await?;
    let send = async |options| {
        let vm = stop.vm.to_string();
        let asked = StopVmRequest { options: Some(options), vm, force: stop.force, timeout_seconds };
        fleet.vms().stop_vm(request(asked)).await
    };
    Submission::new(&stop.options, stop.bound.wait()).carry_out(&fleet, output, send).await
}

pub(super) async fn reboot(reboot: &Reboot, global: &Global, output: &mut Output<'_>) -> Result<(), Failure> {
    let timeout_seconds = reboot.bound.guest_seconds()?;
    let fleet = Fleet::connect(global).await?;
    let send = async |options| {
        let vm = reboot.vm.to_string();
        let asked = RebootVmRequest { options: Some(options), vm, hard: reboot.hard, timeout_seconds };
        fleet.vms().reboot_vm(request(asked)).await
    };
    Submission::new(&reboot.options, reboot.bound.wait()).carry_out(&fleet, output, send).await
}

pub(super) async fn snapshot(
    name: Option<&ImageName>,
    plain: &Plain,
    global: &Global,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let fleet = Fleet::connect(global).await?;
    let image_name = name.map(|name| name.as_str().to_owned()).unwrap_or_default();
    let send = async |options| {
        let (vm, image_name) = (plain.vm.to_string(), image_name.clone());
        let asked = SnapshotVmRequest { options: Some(options), vm, image_name };
        fleet.vms().snapshot_vm(request(asked)).await
    };
    plain.submission().carry_out(&fleet, output, send).await
}

pub(super) async fn restore(
    image: &ImageArg,
    plain: &Plain,
    global: &Global,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let fleet = Fleet::connect(global).await?;
    let send = async |options| {
        let (vm, image) = (plain.vm.to_string(), image.to_string());
        fleet.vms().restore_vm(request(RestoreVmRequest { options: Some(options), vm, image })).await
    };
    plain.submission().carry_out(&fleet, output, send).await
}

pub(super) async fn destroy(
    now: bool,
    plain: &Plain,
    global: &Global,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let fleet = Fleet::connect(global).await?;
    let send = async |options| {
        let asked = DestroyVmRequest { options: Some(options), vm: plain.vm.to_string(), now };
        fleet.vms().destroy_vm(request(asked)).await
    };
    plain.submission().carry_out(&fleet, output, send).await
}
