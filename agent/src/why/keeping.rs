//! How a VM is kept on: its restart policy, how often that has started it, and when it does so next.

use dewpoint_proto::spec::Restart;
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::Incident;
use serde::Serialize;

use crate::execute::keep::Bounds;
use crate::execute::keep::next::next_start;
use crate::journal::VmRow;
use crate::journal::admission::Presence;
use crate::local::print;

/// How a VM that is there is kept on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Keeping {
    /// Its restart policy; none: the journal does not know what it is made of.
    pub policy: Option<Restart>,
    /// Starts by policy since it last ran well.
    pub restarts: u32,
    /// After so many it is left off.
    pub limit: u32,
    /// What last happened that no event asked for.
    pub incident: Option<Incident>,
    /// What the daemon waits for, or why it leaves the VM as it is; empty: it is as wanted, or nobody says.
    pub standing: String,
    /// When it is started again at the earliest; none: no start is to come.
    pub restart_at_ms: Option<Millis>,
}

/// What the daemon says of how it keeps a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Says {
    /// What it waits for, or why it leaves the VM as it is; empty: it is as wanted.
    pub standing: String,
    /// When it starts the VM at the earliest.
    pub restart_at: Option<Millis>,
}

impl Keeping {
    /// From the journal's row, and from what the daemon says; none: it says nothing, and the journal alone is gone by.
    #[must_use]
    pub fn of(row: &VmRow, bounds: &Bounds, says: Option<Says>) -> Option<Self> {
        let restart_at_ms = says.as_ref().map_or_else(|| next_start(row, bounds), |says| says.restart_at);
        (row.presence == Presence::There).then(|| Self {
            policy: row.spec.as_ref().map(|spec| spec.restart),
            restarts: row.kept.restarts,
            limit: bounds.limit,
            incident: row.kept.incident.clone(),
            standing: says.unwrap_or_default().standing,
            restart_at_ms,
        })
    }

    /// For people: names, and what is said beside each.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let policy = self.policy.map_or("not known", Restart::as_str);
        let count = match self.restarts {
            0 => "not started by it since it last ran well".to_owned(),
            _ => format!("started {} of {} times since it last ran well", self.restarts, self.limit),
        };
        let mut rows = vec![("restart", format!("{policy}; {count}"))];
        if let Some(last) = &self.incident {
            rows.push(("happened", format!("{}, {}", last.kind.words(), print::when(last.at))));
        }
        if !self.standing.is_empty() {
            rows.push(("keeper", self.standing.clone()));
        }
        if let Some(at) = self.restart_at_ms {
            rows.push(("next start", format!("{}, at the earliest", print::when(at))));
        }
        rows
    }
}
