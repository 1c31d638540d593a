//! VMs.

mod life;

use std::collections::BTreeMap;

use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::event::{Nic, Placement, Power, Restart};
use dewpoint_proto::wire::fleet::Vm;
use serde::Serialize;

use self::life::LifeView;
pub(crate) use self::life::word;
use super::{filled, shared_names};
use crate::table::{Fit, Side, Table, fields};
use crate::text::{Paint, Tone, instant, or_dash, since, size};

/// A VM, as JSON.
#[derive(Serialize)]
pub(crate) struct VmView {
    vm_id: String,
    name: String,
    host_id: Option<String>,
    hostname: Option<String>,
    generation: u64,
    vcpus: u32,
    memory_bytes: u64,
    disk_bytes: u64,
    nics: Vec<NicView>,
    labels: BTreeMap<String, String>,
    placement: &'static str,
    restart: &'static str,
    wanted_on: bool,
    observed: Option<ObservedView>,
    observed_at: Option<String>,
    unfinished_event_id: Option<String>,
    image_digest: Option<String>,
    created_at: Option<String>,
    gone: bool,
}

/// A network interface, as JSON.
#[derive(Serialize)]
pub(crate) struct NicView {
    mac: String,
    network: Option<String>,
    bridge: Option<String>,
    addresses: Vec<String>,
    gateway4: Option<String>,
    gateway6: Option<String>,
    nameservers: Vec<String>,
}

#[derive(Serialize)]
struct ObservedView {
    power: &'static str,
    power_detail: Option<String>,
    generation: u64,
    wanted_on: bool,
    run: Option<String>,
    disk: Option<String>,
    #[serde(flatten)]
    life: LifeView,
}

impl From<&Nic> for NicView {
    fn from(nic: &Nic) -> Self {
        Self {
            mac: nic.mac.clone(),
            network: filled(&nic.network),
            bridge: filled(&nic.bridge),
            addresses: nic.addresses.clone(),
            gateway4: filled(&nic.gateway4),
            gateway6: filled(&nic.gateway6),
            nameservers: nic.nameservers.clone(),
        }
    }
}

impl From<&Vm> for VmView {
    fn from(vm: &Vm) -> Self {
        Self {
            vm_id: vm.vm_id.clone(),
            name: vm.name.clone(),
            host_id: filled(&vm.host_id),
            hostname: filled(&vm.hostname),
            generation: vm.generation,
            vcpus: vm.vcpus,
            memory_bytes: vm.memory_bytes,
            disk_bytes: vm.disk_bytes,
            nics: vm.nics.iter().map(NicView::from).collect(),
            labels: vm.labels.clone().into_iter().collect(),
            placement: placement(vm.placement()),
            restart: restart(vm.restart()),
            wanted_on: vm.wanted_on,
            observed: vm.observed.as_ref().map(|seen| ObservedView {
                power: power(seen.power()),
                power_detail: filled(&seen.power_detail),
                generation: seen.generation,
                wanted_on: seen.wanted_on,
                run: filled(&seen.run),
                disk: filled(&seen.disk),
                life: LifeView::from(seen),
            }),
            observed_at: instant(vm.observed_at_ms),
            unfinished_event_id: filled(&vm.unfinished_event_id),
            image_digest: filled(&vm.image_digest),
            created_at: instant(vm.created_at_ms),
            gone: vm.gone,
        }
    }
}

/// Whether it may be built elsewhere, in the design's words.
pub(crate) fn placement(placement: Placement) -> &'static str {
    match placement {
        Placement::Bound => "bound",
        Placement::Movable => "movable",
    }
}

/// Its restart policy, as it is given.
pub(crate) fn restart(policy: Restart) -> &'static str {
    dewpoint_proto::spec::Restart::from(policy).as_str()
}

fn power(power: Power) -> &'static str {
    match power {
        Power::Unknown => "unknown",
        Power::Absent => "absent",
        Power::Off => "off",
        Power::Running => "running",
        Power::Paused => "paused",
        Power::Crashed => "crashed",
        Power::ShuttingDown => "shutting-down",
    }
}

/// What its host said last, and whether an event is at work: `off,busy`.
pub(crate) fn state(vm: &Vm) -> String {
    let seen = match (&vm.observed, vm.gone) {
        (_, true) => "gone",
        (Some(seen), false) => power(seen.power()),
        (None, false) => "unseen",
    };
    if vm.unfinished_event_id.is_empty() { seen.to_owned() } else { format!("{seen},busy") }
}

fn host(vm: &Vm) -> String {
    if vm.hostname.is_empty() { or_dash(&vm.host_id).into_owned() } else { vm.hostname.clone() }
}

fn addresses(vm: &Vm) -> Vec<&str> {
    let all = vm.nics.iter().flat_map(|nic| &nic.addresses);
    all.map(|cidr| cidr.split('/').next().unwrap_or(cidr)).collect()
}

/// The VMs by name; below a name that several bear, the id that tells it apart.
pub(crate) fn table(vms: &[Vm], paint: Paint) -> String {
    let mut table = Table::keyed("NAME")
        .column("STATE", Side::Left, Fit::Whole)
        .column("HOST", Side::Left, Fit::Shrink(8))
        .column("VCPUS", Side::Right, Fit::Whole)
        .column("MEMORY", Side::Right, Fit::Whole)
        .column("ADDRESS", Side::Left, Fit::Shrink(15));
    let shared = shared_names(vms.iter().map(|vm| vm.name.as_str()));
    for vm in vms {
        table.row([
            vm.name.clone(),
            state(vm),
            host(vm),
            vm.vcpus.to_string(),
            size(vm.memory_bytes),
            or_dash(addresses(vm).first().copied().unwrap_or_default()).into_owned(),
        ]);
        if shared.contains(&vm.name) || vm.gone {
            table.note(&format!("id {}", vm.vm_id));
        }
    }
    table.render(paint)
}

/// All of one VM.
pub(crate) fn show(vm: &Vm, now: Millis, paint: Paint) -> String {
    let state = state(vm);
    let mut text = format!("{}\n", paint.tone(Tone::of(&state), &state));
    let seen = vm.observed.as_ref();
    let observed = match seen {
        Some(seen) => {
            let detail =
                if seen.power_detail.is_empty() { String::new() } else { format!(", {}", seen.power_detail) };
            format!("{}{detail} at {}", power(seen.power()), since(vm.observed_at_ms, now))
        }
        None => "not yet".to_owned(),
    };
    let labels: BTreeMap<_, _> = vm.labels.iter().collect();
    let labels: Vec<String> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    text.push_str(&fields([
        ("name", vm.name.clone()),
        ("id", vm.vm_id.clone()),
        ("host", host(vm)),
        ("wanted", if vm.wanted_on { "on" } else { "off" }.to_owned()),
        ("observed", observed),
        ("happened", life::happened(seen, now)),
        ("then", life::keeping(seen, now)),
        ("attention", life::attention(seen)),
        ("event", vm.unfinished_event_id.clone()),
        ("generation", vm.generation.to_string()),
        ("run", seen.map(|seen| seen.run.clone()).unwrap_or_default()),
        ("vCPUs", vm.vcpus.to_string()),
        ("memory", size(vm.memory_bytes)),
        ("disk", size(vm.disk_bytes)),
        ("image", vm.image_digest.clone()),
        ("placement", placement(vm.placement()).to_owned()),
        ("restart", restart(vm.restart()).to_owned()),
        ("labels", labels.join(", ")),
        ("created", instant(vm.created_at_ms).unwrap_or_default()),
    ]));
    for nic in &vm.nics {
        let network = or_dash(&nic.network).into_owned();
        text.push_str(&fields([
            ("NIC", network),
            ("  MAC", nic.mac.clone()),
            ("  IP", nic.addresses.join(", ")),
        ]));
    }
    text
}
