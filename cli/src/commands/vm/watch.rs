//! `dewpoint vm watch`: what the hosts say of VMs, a line a change.

use std::ops::ControlFlow;

use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::fleet::{Vm, WatchVmsRequest, WatchVmsResponse};
use serde_json::json;
use tonic::Request;

use crate::args::values::{HostRef, Span, VmRef};
use crate::commands::tail::{Said, tail};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::fleet::watch::{PATIENCE, Watch};
use crate::output::{Format, Output};
use crate::text::{Tone, or_dash, time_of_day, visible};
use crate::view::vm::{VmView, state, word};

/// Which VMs to follow, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Watching {
    /// This VM alone: its name or id
    vm: Option<VmRef>,
    /// On this host: its hostname or id
    #[arg(long, value_name = "HOST", conflicts_with = "vm")]
    host: Option<HostRef>,
    /// Stop after so long
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
}

/// Follows until the time is over or the command is interrupted.
pub(super) async fn carry_out(
    fleet: &Fleet,
    watching: Watching,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let asked = WatchVmsRequest {
        vm: watching.vm.as_ref().map(ToString::to_string).unwrap_or_default(),
        host_id: fleet.host_id(watching.host.as_ref()).await?,
    };
    let bound = watching.timeout.map(|span| span.0);
    let watch = Watch::new(fleet, bound.unwrap_or(PATIENCE), async || {
        fleet.vms().watch_vms(Request::new(asked.clone())).await
    });
    let mut said = Said::default();
    tail(watch, bound, output, |message, output| {
        tell(&message, &mut said, output)?;
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    Ok(())
}

fn tell(message: &WatchVmsResponse, said: &mut Said, output: &mut Output<'_>) -> Result<(), Failure> {
    let vm = message.vm.as_ref().filter(|vm| said.is_news(&vm.vm_id, &standing(vm)));
    match output.format {
        Format::Json if vm.is_some() || message.snapshot_complete => output.json_line(&json!({
            "vm": vm.map(VmView::from),
            "snapshot_complete": message.snapshot_complete,
        })),
        Format::Json => Ok(()),
        Format::Text => match vm {
            Some(vm) => {
                let standing = visible(&standing(vm)).into_owned();
                let standing = output.paint.tone(Tone::of(&state(vm)), &standing);
                let (time, name) = (time_of_day(Millis::now()), or_dash(&vm.name));
                output.text(&format!("{time}  {name}: {standing}\n"))
            }
            None => Ok(()),
        },
    }
}

/// `running on hv1, generation 3`.
fn standing(vm: &Vm) -> String {
    let host = if vm.hostname.is_empty() { &vm.host_id } else { &vm.hostname };
    let wanted = if vm.wanted_on { "on" } else { "off" };
    let happened = word(vm.observed.as_ref());
    format!("{}{happened} on {}, wanted {wanted}, generation {}", state(vm), or_dash(host), vm.generation)
}
