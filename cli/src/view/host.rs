//! Hosts.

use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::event::Cause;
use dewpoint_proto::wire::fleet::Host;
use serde::Serialize;

use super::{CauseView, cause_line, filled, shared_names};
use crate::table::{Fit, Side, Table, fields};
use crate::text::{Paint, Tone, age, instant, since, size};

/// A host, as JSON.
#[derive(Serialize)]
pub(crate) struct HostView {
    host_id: String,
    hostname: String,
    liveness: String,
    cordoned: bool,
    cordon_reason: Option<String>,
    held: bool,
    hold_reason: Option<String>,
    observe_only: bool,
    cpus: u32,
    memory_bytes: u64,
    memory_available_bytes: u64,
    disk_bytes: u64,
    disk_free_bytes: u64,
    claimed_vcpus: u32,
    claimed_memory_bytes: u64,
    claimed_disk_bytes: u64,
    vms: u32,
    agent_version: Option<String>,
    last_heartbeat_at: Option<String>,
    term: u64,
    last_seq: u64,
    degraded: Vec<CauseView>,
    diverged: Option<CauseView>,
    recovering: Option<CauseView>,
}

impl From<&Host> for HostView {
    fn from(host: &Host) -> Self {
        Self {
            host_id: host.host_id.clone(),
            hostname: host.hostname.clone(),
            liveness: host.liveness.clone(),
            cordoned: host.cordoned,
            cordon_reason: filled(&host.cordon_reason),
            held: host.held,
            hold_reason: filled(&host.hold_reason),
            observe_only: host.observe_only,
            cpus: host.cpus,
            memory_bytes: host.memory_bytes,
            memory_available_bytes: host.memory_available_bytes,
            disk_bytes: host.disk_bytes,
            disk_free_bytes: host.disk_free_bytes,
            claimed_vcpus: host.claimed_vcpus,
            claimed_memory_bytes: host.claimed_memory_bytes,
            claimed_disk_bytes: host.claimed_disk_bytes,
            vms: host.vms,
            agent_version: filled(&host.agent_version),
            last_heartbeat_at: instant(host.last_heartbeat_ms),
            term: host.term,
            last_seq: host.last_seq,
            degraded: host.degraded.iter().map(CauseView::from).collect(),
            diverged: host.diverged.as_ref().map(CauseView::from),
            recovering: host.recovering.as_ref().map(CauseView::from),
        }
    }
}

/// Of a host whose agent touches nothing.
const OBSERVES: &str = "observe-only: it reports, and takes nothing until its agent.toml says otherwise";

/// `alive,cordoned,held,observe-only`.
fn state(host: &Host) -> String {
    let mut state = host.liveness.clone();
    for (is, word) in
        [(host.cordoned, ",cordoned"), (host.held, ",held"), (host.observe_only, ",observe-only")]
    {
        if is {
            state.push_str(word);
        }
    }
    state
}

/// The hosts, what of them is claimed, and below each what ails it.
pub(crate) fn table(hosts: &[Host], now: Millis, paint: Paint) -> String {
    let mut table = Table::keyed("HOST")
        .column("STATE", Side::Left, Fit::Whole)
        .column("VMS", Side::Right, Fit::Whole)
        .column("VCPUS", Side::Right, Fit::Whole)
        .column("MEMORY", Side::Right, Fit::Whole)
        .column("DISK", Side::Right, Fit::Shrink(8))
        .column("SEEN", Side::Right, Fit::Whole);
    let shared = shared_names(hosts.iter().map(|host| host.hostname.as_str()));
    for host in hosts {
        let named = !host.hostname.is_empty();
        table.row([
            if named { host.hostname.clone() } else { host.host_id.clone() },
            state(host),
            host.vms.to_string(),
            format!("{}/{}", host.claimed_vcpus, host.cpus),
            format!("{}/{}", compact(host.claimed_memory_bytes), compact(host.memory_bytes)),
            format!("{}/{}", compact(host.claimed_disk_bytes), compact(host.disk_bytes)),
            age(host.last_heartbeat_ms, now),
        ]);
        if named && shared.contains(&host.hostname) {
            table.note(&format!("id {}", host.host_id));
        }
        for cause in host.diverged.iter().chain(&host.degraded) {
            table.note(&cause_line(cause));
        }
    }
    let mut text = table.render(paint);
    // Of the whole fleet, so told once.
    if let Some(cause) = hosts.iter().find_map(|host| host.recovering.as_ref()) {
        text.push_str(&recovering(cause));
    }
    text
}

/// Nothing is placed anywhere, and what a person does about it.
fn recovering(cause: &Cause) -> String {
    format!("\nThe fleet is recovering, nothing is placed: {}\n  next: {}\n", cause_line(cause), cause.advice)
}

/// `12.5G`: a size where a column is narrow.
fn compact(bytes: u64) -> String {
    let text = size(bytes).replace(' ', "");
    text.strip_suffix("iB").map(str::to_owned).unwrap_or(text)
}

/// All of one host.
pub(crate) fn show(host: &Host, now: Millis, paint: Paint) -> String {
    let state = state(host);
    let seen = match since(host.last_heartbeat_ms, now) {
        never if never.is_empty() => "never".to_owned(),
        seen => seen,
    };
    let of = |claimed: String, all: String| format!("{claimed} claimed of {all}");
    let mut text = format!("{}\n", paint.tone(Tone::of(&state), &state));
    text.push_str(&fields([
        ("host", host.hostname.clone()),
        ("id", host.host_id.clone()),
        ("cordoned", host.cordon_reason.clone()),
        ("held", host.hold_reason.clone()),
        ("mode", if host.observe_only { OBSERVES.to_owned() } else { String::new() }),
        ("heartbeat", seen),
        ("agent", host.agent_version.clone()),
        ("VMs", host.vms.to_string()),
        ("vCPUs", of(host.claimed_vcpus.to_string(), format!("{} CPUs", host.cpus))),
        (
            "memory",
            format!(
                "{}, {} available now",
                of(size(host.claimed_memory_bytes), size(host.memory_bytes)),
                size(host.memory_available_bytes)
            ),
        ),
        (
            "disk",
            format!(
                "{}, {} free now",
                of(size(host.claimed_disk_bytes), size(host.disk_bytes)),
                size(host.disk_free_bytes)
            ),
        ),
        ("queue", format!("last seq {}, term {}", host.last_seq, host.term)),
    ]));
    for (label, cause) in host
        .diverged
        .iter()
        .map(|cause| ("diverged", cause))
        .chain(host.degraded.iter().map(|cause| ("degraded", cause)))
    {
        text.push_str(&fields([(label, cause_line(cause)), ("  next", cause.advice.clone())]));
    }
    if let Some(cause) = &host.recovering {
        text.push_str(&recovering(cause));
    }
    text
}
