//! What agents tell, from the wire. A field that does not parse refuses the message: nothing of it is used.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::Body;
use dewpoint_proto::ids::{EventId, Generation, ReportSeq, Seq};
use dewpoint_proto::names::InterfaceName;
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::VmState;
use dewpoint_proto::wire::agent;

use super::HostHeartbeat;
use super::request::optional;
use crate::store::{Hello, HostCapacity, HostFacts, HostReport, ImageBytes};

/// Most causes of degradation that are kept of one host.
const DEGRADED_MOST: usize = 16;
/// Most bridges of one host.
const BRIDGES_MOST: usize = 64;

impl TryFrom<agent::Hello> for Hello {
    type Error = Cause;

    fn try_from(hello: agent::Hello) -> Result<Self, Cause> {
        Ok(Self {
            protocol: hello.protocol,
            host: hello.host_id.parse()?,
            journal: hello.journal_id.parse()?,
            start_count: hello.start_count,
            last_seq: Seq(counter(hello.last_seq)?),
            last_seq_event: optional(&hello.last_seq_event_id)?,
            last_report: ReportSeq(counter(hello.last_report_seq)?),
            agent_version: printable(hello.agent_version, 64),
            hostname: printable(hello.hostname, 253),
            product_uuid: Some(printable(hello.product_uuid, 64)).filter(|told| !told.is_empty()),
            doubt: hello.doubt.map(Cause::from),
        })
    }
}

impl TryFrom<agent::Report> for HostReport {
    type Error = Cause;

    fn try_from(report: agent::Report) -> Result<Self, Cause> {
        let outcome = report.outcome.ok_or_else(|| {
            Cause::new(Reason::Invalid, "a report says no outcome").with("event_id", &report.event_id)
        })?;
        let event: EventId = report.event_id.parse()?;
        let body = if report.event.is_empty() { None } else { Some(Body::decode(report.event)?) };
        if body.as_ref().is_some_and(|body| body.event().id != event) {
            return Err(Cause::new(Reason::Invalid, "a report carries the body of another event"));
        }
        Ok(Self {
            report_seq: ReportSeq(counter(report.report_seq)?),
            event,
            seq: (report.seq > 0).then_some(Seq(counter(report.seq)?)),
            generation: Generation(counter(report.generation)?),
            outcome: outcome.try_into()?,
            vm: report.vm.map(VmState::try_from).transpose()?,
            body,
            begun_at: Millis::from_wire(report.begun_at_ms),
            finished_at: Millis(report.finished_at_ms),
            image_bytes: ImageBytes::Here,
        })
    }
}

impl TryFrom<agent::Capacity> for HostCapacity {
    type Error = Cause;

    fn try_from(capacity: agent::Capacity) -> Result<Self, Cause> {
        let mut bridges = capacity.bridges;
        bridges.truncate(BRIDGES_MOST);
        Ok(Self {
            cpus: capacity.cpus,
            memory_bytes: counter(capacity.memory_bytes)?,
            memory_available_bytes: counter(capacity.memory_available_bytes)?,
            disk_bytes: counter(capacity.disk_bytes)?,
            disk_free_bytes: counter(capacity.disk_free_bytes)?,
            cpu_arch: printable(capacity.cpu_arch, 32),
            // A bridge of a name that no event can give is no reason not to hear the host.
            bridges: bridges.into_iter().filter_map(|name| InterfaceName::try_from(name).ok()).collect(),
        })
    }
}

impl TryFrom<agent::Heartbeat> for HostHeartbeat {
    type Error = Cause;

    fn try_from(heartbeat: agent::Heartbeat) -> Result<Self, Cause> {
        let facts = HostFacts {
            capacity: heartbeat.capacity.map(HostCapacity::try_from).transpose()?,
            degraded: heartbeat.degraded.into_iter().take(DEGRADED_MOST).map(Cause::from).collect(),
        };
        let changed = heartbeat.changed.into_iter().map(VmState::try_from).collect::<Result<_, _>>()?;
        let running = heartbeat.running_event_ids.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
        Ok(Self { facts, changed, running, observe_only: heartbeat.observe_only })
    }
}

/// Databases count in 63 bits; what is beyond was not counted by any agent.
pub(super) fn counter(value: u64) -> Result<u64, Cause> {
    if i64::try_from(value).is_ok_and(|value| value < i64::MAX / 2) {
        return Ok(value);
    }
    Err(Cause::new(Reason::Invalid, format!("an agent counted to {value}"))
        .advise("look at that host's journal: it may be damaged"))
}

pub(super) fn printable(text: String, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}
