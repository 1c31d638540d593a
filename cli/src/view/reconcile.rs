//! What reconciling or retiring a host comes to.

use dewpoint_proto::wire::fleet::{PlannedEvent, PlannedVm, ReconcilePlan, RetireHostResponse};
use serde::Serialize;

use super::{CauseView, cause_line, filled};
use crate::table::{Fit, Side, Table, fields};
use crate::text::Paint;

/// Whether a plan was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// It is only shown.
    Not,
    /// It was.
    Out,
}

/// A plan, as JSON.
#[derive(Serialize)]
pub(crate) struct PlanView {
    host_id: String,
    hostname: String,
    diverged: Option<CauseView>,
    digest: String,
    carried_out: bool,
    journal_id: String,
    base_seq: u64,
    old_machine: Option<String>,
    new_machine: Option<String>,
    unknown: Vec<EventView>,
    ended_by_host: Vec<EventView>,
    vms: Vec<VmView>,
}

#[derive(Serialize)]
struct EventView {
    event_id: String,
    kind: String,
    vm_id: String,
    vm_name: String,
    stage: String,
    host_stage: Option<String>,
}

#[derive(Serialize)]
struct VmView {
    vm_id: String,
    name: String,
    standing: String,
    generation: u64,
    host_generation: u64,
    text: String,
}

impl PlanView {
    pub(crate) fn new(plan: &ReconcilePlan, carried_out: bool) -> Self {
        Self {
            host_id: plan.host_id.clone(),
            hostname: plan.hostname.clone(),
            diverged: plan.diverged.as_ref().map(CauseView::from),
            digest: plan.digest.clone(),
            carried_out,
            journal_id: plan.old_journal_id.clone(),
            base_seq: plan.base_seq,
            old_machine: filled(&plan.old_machine),
            new_machine: filled(&plan.new_machine),
            unknown: plan.unknown.iter().map(EventView::from).collect(),
            ended_by_host: plan.reports.iter().map(EventView::from).collect(),
            vms: plan.vms.iter().map(VmView::from).collect(),
        }
    }
}

impl From<&PlannedEvent> for EventView {
    fn from(event: &PlannedEvent) -> Self {
        Self {
            event_id: event.event_id.clone(),
            kind: event.kind.clone(),
            vm_id: event.vm_id.clone(),
            vm_name: event.vm_name.clone(),
            stage: event.stage.clone(),
            host_stage: filled(&event.host_stage),
        }
    }
}

impl From<&PlannedVm> for VmView {
    fn from(vm: &PlannedVm) -> Self {
        Self {
            vm_id: vm.vm_id.clone(),
            name: vm.name.clone(),
            standing: vm.standing.clone(),
            generation: vm.generation,
            host_generation: vm.host_generation,
            text: vm.text.clone(),
        }
    }
}

/// What each side has, what becomes of it, and how to have it done.
pub(crate) fn show_plan(plan: &ReconcilePlan, paint: Paint, carried: Carried) -> String {
    let machine = match plan.new_machine.as_str() {
        "" => String::new(),
        new => format!("{} was accepted; now {new}", plan.old_machine),
    };
    let queue = match plan.new_machine.as_str() {
        "" => format!("begins anew after seq {}", plan.base_seq),
        _ => format!("goes on after seq {}", plan.base_seq),
    };
    let mut text = fields([
        ("host", plan.hostname.clone()),
        ("id", plan.host_id.clone()),
        ("diverged", plan.diverged.as_ref().map(cause_line).unwrap_or_default()),
        ("machine", machine),
        ("journal", plan.old_journal_id.clone()),
        ("queue", queue),
    ]);
    text.push_str(&events(
        "Unfinished, and not in the host's journal: these become unknown",
        &plan.unknown,
        paint,
    ));
    text.push_str(&events(
        "Unfinished, and in the host's journal: its reports end these",
        &plan.reports,
        paint,
    ));
    text.push_str(&vms(&plan.vms, paint));
    text.push_str(&match carried {
        Carried::Out => "\nDone: the host goes on as soon as its agent has heard of it.\n".to_owned(),
        Carried::Not => format!(
            "\nNothing was changed. To do this, and nothing else:\n  dewpoint host reconcile {} \\\n    \
             --plan {} \\\n    --yes --reason TEXT\n",
            plan.host_id, plan.digest
        ),
    });
    text
}

fn events(title: &str, events: &[PlannedEvent], paint: Paint) -> String {
    if events.is_empty() {
        return String::new();
    }
    let mut table = Table::keyed("EVENT")
        .column("KIND", Side::Left, Fit::Whole)
        .column("VM", Side::Left, Fit::Shrink(8))
        .column("HERE", Side::Left, Fit::Whole)
        .column("THERE", Side::Left, Fit::Whole);
    for event in events {
        table.row([
            event.event_id.clone(),
            event.kind.clone(),
            event.vm_name.clone(),
            event.stage.clone(),
            if event.host_stage.is_empty() { "-".to_owned() } else { event.host_stage.clone() },
        ]);
    }
    format!("\n{title}:\n{}", table.render(paint))
}

fn vms(vms: &[PlannedVm], paint: Paint) -> String {
    if vms.is_empty() {
        return String::new();
    }
    let mut table = Table::keyed("VM")
        .column("NAME", Side::Left, Fit::Shrink(8))
        .column("ON", Side::Left, Fit::Whole)
        .column("GENERATION", Side::Right, Fit::Whole);
    for vm in vms {
        let on = match vm.standing.as_str() {
            "both" => "both",
            "coordinator_only" => "here",
            _ => "there",
        };
        table.row([
            vm.vm_id.clone(),
            vm.name.clone(),
            on.to_owned(),
            vm.generation.max(vm.host_generation).to_string(),
        ]);
        table.note(&vm.text);
    }
    format!("\nVMs, by the coordinator (here) and on the host (there):\n{}", table.render(paint))
}

/// A retirement, as JSON.
#[derive(Serialize)]
pub(crate) struct RetiredView {
    host_id: String,
    hostname: String,
    gone_vm_ids: Vec<String>,
    unknown_event_ids: Vec<String>,
}

impl From<&RetireHostResponse> for RetiredView {
    fn from(retired: &RetireHostResponse) -> Self {
        let host = retired.host.clone().unwrap_or_default();
        Self {
            host_id: host.host_id,
            hostname: host.hostname,
            gone_vm_ids: retired.vm_ids.clone(),
            unknown_event_ids: retired.unknown_event_ids.clone(),
        }
    }
}

/// In a line, and one for each VM that is gone.
pub(crate) fn show_retired(retired: &RetireHostResponse) -> String {
    let name = retired.host.as_ref().map(|host| host.hostname.clone()).unwrap_or_default();
    let mut text = format!(
        "host {name} is retired; {} VMs are gone, {} events are unknown\n",
        retired.vm_ids.len(),
        retired.unknown_event_ids.len()
    );
    for vm in &retired.vm_ids {
        text.push_str(&format!("  gone: VM {vm}\n"));
    }
    text
}
