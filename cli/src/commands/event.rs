//! `dewpoint event`: what was asked of the fleet, and what came of it.

mod watch;

use clap::Subcommand;
use dewpoint_proto::ids::EventId;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::fleet::{
    CancelEventRequest, EventRecord, ForceEventRequest, GetEventRequest, ListEventsRequest, RetryEventRequest,
};

use super::show_list;
use crate::args::values::{HostRef, VmRef};
use crate::args::{EventOptions, Global, Limit, WaitBound};
use crate::failure::Failure;
use crate::fleet::paging::{PAGE, Page, collect};
use crate::fleet::{Fleet, request};
use crate::output::Output;
use crate::submit::Submission;
use crate::view::event::{EventView, show, table};

#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// List the events
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show all of one event, its placement explained
    Show {
        /// The event's id
        id: EventId,
    },
    /// Follow one event until it ends, and end with its outcome; without an id, follow all, until interrupted
    Watch(watch::Watching),
    /// End an unfinished event, undoing what it did
    Cancel {
        /// The event's id
        id: EventId,
        #[command(flatten)]
        options: EventOptions,
        #[command(flatten)]
        bound: WaitBound,
    },
    /// Ask again, under a new id, for what an ended event asked for
    ///
    /// A create that failed builds a new VM with the same addresses, once its first VM is proven gone. What succeeded,
    /// or was tried again with success, is not tried again.
    Retry {
        /// The event to try again
        id: EventId,
        /// Of a create: stay pending while no host fits, instead of being refused
        #[arg(long)]
        wait_for_capacity: bool,
        #[command(flatten)]
        options: EventOptions,
        #[command(flatten)]
        bound: WaitBound,
    },
    /// Answer for a host that stays silent: end an event by your word
    ///
    /// Your word is kept with your name and the reason. It ends the event and no more: the VM's claim and addresses
    /// stand until its host proves the VM gone, and what the host reports later is kept and shown beside your word.
    /// What its host has not taken yet would be carried out when it comes back: cancel that first.
    Force {
        /// The event's id
        id: EventId,
        /// What became of it
        #[arg(long = "as", value_name = "END", value_parser = ["failed", "succeeded", "unknown"])]
        end: String,
        /// How you know
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Which events.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Of this VM: its name or id
    #[arg(long, value_name = "VM")]
    vm: Option<VmRef>,
    /// On this host: its hostname or id
    #[arg(long, value_name = "HOST")]
    host: Option<HostRef>,
    /// Only those that have not ended
    #[arg(long)]
    unfinished: bool,
    #[command(flatten)]
    limit: Limit,
}

/// Carries out one command on events.
pub(crate) async fn carry_out(
    command: EventCommand,
    global: &Global,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let fleet = Fleet::connect(global).await?;
    match command {
        EventCommand::Ls(which) => list(&fleet, &which, output).await,
        EventCommand::Show { id } => show_one(&get(&fleet, id).await?, output),
        EventCommand::Watch(watching) => watch::carry_out(&fleet, watching, output).await,
        EventCommand::Cancel { id, options, bound } => {
            let submission = Submission::new(&options, bound.bound());
            let send = async |options| {
                let asked = CancelEventRequest { options: Some(options), event_id: id.to_string() };
                fleet.events().cancel_event(request(asked)).await
            };
            submission.carry_out(&fleet, output, send).await
        }
        EventCommand::Retry { id, wait_for_capacity, options, bound } => {
            let submission = Submission::new(&options, bound.bound());
            let send = async |options| {
                let event_id = id.to_string();
                let asked = RetryEventRequest { options: Some(options), event_id, wait_for_capacity };
                fleet.events().retry_event(request(asked)).await
            };
            submission.carry_out(&fleet, output, send).await
        }
        EventCommand::Force { id, end, reason } => {
            let asked = ForceEventRequest { event_id: id.to_string(), end, reason };
            show_one(&fleet.ask(fleet.events().force_event(request(asked))).await?, output)
        }
    }
}

async fn get(fleet: &Fleet, id: EventId) -> Result<EventRecord, Failure> {
    fleet.ask(fleet.events().get_event(request(GetEventRequest { event_id: id.to_string() }))).await
}

fn show_one(record: &EventRecord, output: &mut Output<'_>) -> Result<(), Failure> {
    output.show(&EventView::from(record), |paint| show(record, Millis::now(), paint))
}

async fn list(fleet: &Fleet, which: &List, output: &mut Output<'_>) -> Result<(), Failure> {
    let host_id = fleet.host_id(which.host.as_ref()).await?;
    let vm = which.vm.as_ref().map(ToString::to_string).unwrap_or_default();
    let events = collect(which.limit.get(), async |page_token| {
        let asked = ListEventsRequest {
            vm: vm.clone(),
            host_id: host_id.clone(),
            unfinished_only: which.unfinished,
            page_size: PAGE,
            page_token,
        };
        let page = fleet.ask(fleet.events().list_events(request(asked))).await?;
        Ok(Page { entries: page.events, next: page.next_page_token })
    })
    .await?;
    show_list::<_, EventView>(output, "events", &events, |events, paint| table(events, Millis::now(), paint))
}
