//! A VM's whole story, oldest first: what was asked of it, each step, each call to libvirt, each state that was seen, and
//! at the end what is unfinished and what it waits for.
//!
//! Pure: rows in, a [`Story`] out, and text or JSON of it. The journal tells what must be true; the notes, which may be
//! lost, what happened between.

mod events;
mod keeping;
mod notes;
mod text;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{EventId, Generation, Seq, VmId};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::time::Millis;
pub use keeping::{Keeping, Says};
use serde::Serialize;

use crate::journal::{EntryRow, EventRow, VmRow};
use crate::notes::{CallEnd, CallRow, Lost, StartRow, StateRow};

/// A VM's story.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    /// Which VM.
    pub vm_id: VmId,
    /// What the journal keeps of it; none: it never heard of it.
    pub vm: Option<Kept>,
    /// Events before those told here.
    pub earlier_events: usize,
    /// What happened, the oldest first.
    pub items: Vec<Item>,
    /// There was more in that time than is told: older calls, states or events are left off.
    pub is_cut: bool,
    /// Why calls and states are missing; none: they are not.
    pub without_notes: Option<Cause>,
    /// Records that were dropped at some time, as there was no room.
    pub lost: Option<Lost>,
    /// How it is.
    pub now: Now,
}

/// What the journal keeps of a VM.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// Its name.
    pub name: Option<String>,
    /// `building`, `there` or `gone`.
    pub presence: String,
    /// `on` or `off`: what events asked for.
    pub wanted: String,
    /// The highest generation ever accepted.
    pub generation: Generation,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// By the host's wall clock.
    pub at_ms: Millis,
    /// What it was.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum What {
    /// An event was accepted, or refused at once.
    Accepted {
        /// Which event.
        event_id: EventId,
        /// Its kind.
        kind: String,
        /// Its place in the coordinator's queue; none: submitted here.
        seq: Option<Seq>,
        /// The generation that it gives.
        generation: Generation,
        /// Not begun by then: expires.
        not_after_ms: Option<Millis>,
    },
    /// A step was begun.
    Step {
        /// Of which event.
        event_id: EventId,
        /// Its name.
        step: String,
        /// Which try it is.
        attempt: u32,
        /// Until it returned, or was overtaken.
        took_ms: Option<u64>,
        /// What came of it.
        end: StepEnd,
    },
    /// From here on the event is undone.
    Undo {
        /// Which event.
        event_id: EventId,
        /// Its kind.
        kind: String,
        /// Why.
        cause: Cause,
    },
    /// The event ended.
    Ended {
        /// Which event.
        event_id: EventId,
        /// Its kind.
        kind: String,
        /// How.
        outcome: Outcome,
        /// Since its first step, or its acceptance.
        took_ms: u64,
        /// Whether the coordinator has the report.
        report_acknowledged: bool,
    },
    /// An entry of a newer version.
    Entry {
        /// Of which event.
        event_id: EventId,
        /// As stored.
        entry: String,
    },
    /// A call to libvirt.
    Call {
        /// Its name.
        call: String,
        /// Whether it was for all domains, and failed.
        of_all: bool,
        /// How many of them, one after the other.
        times: u32,
        /// The longest of them, in microseconds.
        took_us: u64,
        /// What came of it.
        #[serde(flatten)]
        end: CallEnd,
    },
    /// A change of the VM's state was seen.
    State {
        /// What it was before; none: not known.
        was: Option<String>,
        /// What it is.
        now: String,
        /// libvirt's words.
        detail: String,
        /// The run in progress.
        run: Option<String>,
    },
    /// libvirt told of the VM.
    Told {
        /// In its words.
        words: String,
    },
    /// The agent was started.
    AgentStarted {
        /// Its version.
        version: String,
    },
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "end")]
pub enum StepEnd {
    /// It returned well.
    Returned,
    /// It returned an error; it may have taken effect all the same.
    Failed {
        /// What it said.
        cause: Cause,
    },
    /// It was cut off: the agent ended, or something that goes first came.
    CutOff,
    /// It is at work, or was when the agent ended.
    Open,
}

/// How the VM is.
#[derive(Clone, Debug, Serialize)]
pub struct Now {
    /// When this was asked.
    pub at_ms: Millis,
    /// What libvirt says of the domain.
    pub observed: Observed,
    /// Whether the daemon answers; none: it does.
    pub daemon_down: Option<Cause>,
    /// Whether an operator holds the host: no step is begun; none: the daemon does not say.
    pub held: Option<bool>,
    /// How it is kept on; none: it is not there.
    pub keeping: Option<Keeping>,
    /// What is unfinished, in the order of acceptance.
    pub unfinished: Vec<Unfinished>,
}

/// What libvirt says of the domain now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "seen")]
pub enum Observed {
    /// It is there.
    There {
        /// Its power.
        power: String,
        /// libvirt's words.
        detail: String,
        /// Why no call may be made; none: calls may.
        busy: Option<String>,
    },
    /// There is none.
    Absent,
    /// A domain with its UUID is not ours.
    Foreign {
        /// Its name.
        name: String,
    },
    /// It could not be asked.
    Unknown {
        /// Why.
        why: String,
    },
}

/// An event that has not ended.
#[derive(Clone, Debug, Serialize)]
pub struct Unfinished {
    /// Which event.
    pub event_id: EventId,
    /// Its kind.
    pub kind: String,
    /// `accepted`, `running` or `undoing`.
    pub stage: String,
    /// The last step that was begun; none: none was.
    pub step: Option<String>,
    /// When that was.
    pub step_began_ms: Option<Millis>,
    /// What is waited for; empty: nothing, it is on its way to the next step.
    pub waiting_for: String,
    /// By when that is given up or tried again; none: it has no end of its own, and is looked at again every few seconds.
    pub until_ms: Option<Millis>,
    /// Of a job, bytes: how much of how much.
    pub bytes: (u64, u64),
    /// Not begun by then: expires.
    pub not_after_ms: Option<Millis>,
}

/// What the daemon says of an event that it works on.
#[derive(Clone, Debug, Default)]
pub struct Doing {
    /// What is waited for; empty: nothing.
    pub waiting_for: String,
    /// By when that is given up or tried again.
    pub until: Option<Millis>,
    /// Of a job, bytes: how much of how much.
    pub bytes: (u64, u64),
}

/// What the notes have of a VM.
#[derive(Clone, Debug, Default)]
pub struct Noted {
    /// Calls to libvirt.
    pub calls: Vec<CallRow>,
    /// States that were seen.
    pub states: Vec<StateRow>,
    /// Starts of the agent.
    pub starts: Vec<StartRow>,
}

impl Kept {
    /// From the journal's row.
    #[must_use]
    pub fn of(row: &VmRow) -> Self {
        Self {
            name: row.name.as_ref().map(ToString::to_string),
            presence: row.presence.as_str().to_owned(),
            wanted: if row.wanted == crate::hypervisor::Wanted::On { "on" } else { "off" }.to_owned(),
            generation: row.generation,
        }
    }
}

/// Everything that happened, the oldest first.
#[must_use]
pub fn items(events: &[(EventRow, Vec<EntryRow>)], noted: Noted) -> Vec<Item> {
    let over = |at: Millis| {
        move |(row, _): &&(EventRow, Vec<EntryRow>)| row.finished_at.is_some_and(|end| end <= at)
    };
    // An event that ended in the millisecond in which the next was accepted is told before it.
    let of_events = events.iter().enumerate().flat_map(|(nth, (row, entries))| {
        let turn = events[..nth].iter().filter(over(row.accepted_at)).count();
        events::of(row, entries).into_iter().map(move |item| (turn, item))
    });
    let of_notes = notes::of(noted).map(|item| {
        let over =
            events.iter().filter(|(row, _)| row.finished_at.is_some_and(|end| end < item.at_ms)).count();
        (over, item)
    });
    let mut items: Vec<(usize, Item)> = of_events.chain(of_notes).collect();
    // Stable: of one millisecond, event and kind, what was written first comes first.
    items.sort_by_key(|(turn, item)| (item.at_ms, *turn, item.what.rank()));
    items.into_iter().map(|(_, item)| item).collect()
}

impl What {
    /// In which order things of one millisecond happened, as far as their kinds tell.
    fn rank(&self) -> u8 {
        match self {
            Self::AgentStarted { .. } => 0,
            Self::Accepted { .. } => 1,
            Self::Step { .. } | Self::Undo { .. } | Self::Entry { .. } => 2,
            Self::Call { .. } => 3,
            Self::State { .. } | Self::Told { .. } => 4,
            Self::Ended { .. } => 5,
        }
    }
}

/// Who says what an unfinished event waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// It is up, and says what its lanes are at.
    Up,
    /// It is not: nothing goes on.
    Down,
}

/// The events that have not ended, with what the daemon says of them.
#[must_use]
pub fn unfinished(
    events: &[(EventRow, Vec<EntryRow>)],
    daemon: Daemon,
    doing: impl Fn(EventId) -> Option<Doing>,
) -> Vec<Unfinished> {
    let mut all: Vec<Unfinished> = Vec::new();
    for (row, entries) in events.iter().filter(|(row, _)| row.finished_at.is_none()) {
        let first = all.iter().find(|open| open.kind != "cancel");
        let open = match (daemon, doing(row.id)) {
            (Daemon::Down, _) => {
                Doing { waiting_for: "the agent to be started".to_owned(), ..Doing::default() }
            }
            (Daemon::Up, Some(doing)) => doing,
            (Daemon::Up, None) => {
                Doing { waiting_for: first.map(behind).unwrap_or_default(), ..Doing::default() }
            }
        };
        all.push(events::unfinished(row, entries, open));
    }
    all
}

/// One event at a time works on a VM.
fn behind(first: &Unfinished) -> String {
    format!("the {} {} to end", first.kind, first.event_id)
}

impl Story {
    /// Whether nothing on this host tells of such a VM, nor could: not the journal, not the notes, not libvirt.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        let of_it =
            |item: &Item| !matches!(item.what, What::AgentStarted { .. } | What::Call { of_all: true, .. });
        // A look that found nothing is no sign of it either.
        let is_sign = |item: &Item| of_it(item) && !matches!(item.what, What::Call { .. });
        self.vm.is_none() && self.now.observed == Observed::Absent && !self.items.iter().any(is_sign)
    }

    /// For people, at 80 columns.
    #[must_use]
    pub fn text(&self) -> String {
        text::of(self)
    }
}

#[cfg(test)]
mod tests;
