//! What a host says of one of its VMs.

mod life;

use serde::{Deserialize, Serialize};

pub use life::{Incident, IncidentKind, Life};

use crate::cause::Cause;
use crate::ids::{EventId, Generation, ReportSeq, RunId, VmId};
use crate::wire::event as wire;

/// A VM's power, as libvirt has it. Unknown is a value of its own: nothing is inferred from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// libvirt could not be asked.
    Unknown,
    /// No domain.
    Absent,
    /// Defined, not running.
    Off,
    /// Running.
    Running,
    /// Paused, by a person or by an I/O error.
    Paused,
    /// The guest crashed.
    Crashed,
    /// Going down.
    ShuttingDown,
}

impl Power {
    /// As shown in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Absent => "absent",
            Self::Off => "off",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Crashed => "crashed",
            Self::ShuttingDown => "shutting-down",
        }
    }
}

/// What a host says of one of its VMs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmState {
    /// Which VM.
    pub vm: VmId,
    /// Its name.
    pub name: String,
    /// The generation of the last event that changed it.
    pub generation: Generation,
    /// As observed.
    pub power: Power,
    /// libvirt's reason of that state, or why it is not known.
    pub power_detail: String,
    /// What events asked for.
    pub wanted_on: bool,
    /// The run in progress.
    pub run: Option<RunId>,
    /// The event that made the disk in use.
    pub disk: Option<EventId>,
    /// Reports up to this one are already in this state.
    pub as_of: ReportSeq,
    /// Gone from this host with its disks.
    pub gone: bool,
    /// What happened to it without an event, and what its host does about it.
    #[serde(default, skip_serializing_if = "Life::is_quiet")]
    pub life: Box<Life>,
}

impl From<VmState> for wire::VmState {
    fn from(state: VmState) -> Self {
        let power = match state.power {
            Power::Unknown => wire::Power::Unknown,
            Power::Absent => wire::Power::Absent,
            Power::Off => wire::Power::Off,
            Power::Running => wire::Power::Running,
            Power::Paused => wire::Power::Paused,
            Power::Crashed => wire::Power::Crashed,
            Power::ShuttingDown => wire::Power::ShuttingDown,
        };
        Self {
            vm_id: state.vm.to_string(),
            name: state.name,
            generation: state.generation.0,
            power: power.into(),
            power_detail: state.power_detail,
            wanted_on: state.wanted_on,
            run: state.run.map_or_else(String::new, |run| run.to_string()),
            disk: state.disk.map_or_else(String::new, |disk| disk.to_string()),
            as_of_report_seq: state.as_of.0,
            gone: state.gone,
            incident: state.life.incident.map(Into::into),
            keeping: state.life.keeping,
            restarts: state.life.restarts,
            restart_at_ms: state.life.restart_at.map_or(0, |at| at.0),
            attention: state.life.attention.map(Into::into),
        }
    }
}

impl TryFrom<wire::VmState> for VmState {
    type Error = Cause;

    fn try_from(mut state: wire::VmState) -> Result<Self, Cause> {
        let power = match state.power() {
            wire::Power::Unknown => Power::Unknown,
            wire::Power::Absent => Power::Absent,
            wire::Power::Off => Power::Off,
            wire::Power::Running => Power::Running,
            wire::Power::Paused => Power::Paused,
            wire::Power::Crashed => Power::Crashed,
            wire::Power::ShuttingDown => Power::ShuttingDown,
        };
        let life = Box::new(Life::from_wire(&mut state));
        Ok(Self {
            vm: state.vm_id.parse()?,
            name: state.name,
            generation: Generation(state.generation),
            power,
            power_detail: state.power_detail,
            wanted_on: state.wanted_on,
            run: if state.run.is_empty() { None } else { Some(state.run.parse()?) },
            disk: if state.disk.is_empty() { None } else { Some(state.disk.parse()?) },
            as_of: ReportSeq(state.as_of_report_seq),
            gone: state.gone,
            life,
        })
    }
}
