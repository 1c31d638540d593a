//! What happens to a VM without an event, and what its host does about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::ids::RunId;
use crate::time::Millis;
use crate::wire::event as wire;

/// libvirt's words, and our own for people, are cut to this.
const TEXT_CHARS: usize = 512;

/// What happens to a VM without an event, and what its host does about it. Shown; no event is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Life {
    /// What last happened that no event asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
    /// What its host does about its being off, or why it does nothing; empty: it is as wanted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub keeping: String,
    /// How often its restart policy started it since it last ran well.
    pub restarts: u32,
    /// When it is started again at the earliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_at: Option<Millis>,
    /// What somebody changed behind the agent's back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention: Option<Cause>,
}

impl Life {
    /// Nothing to tell.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        *self == Self::default()
    }

    /// Total: what a newer version says is kept as far as it is understood.
    pub(super) fn from_wire(state: &mut wire::VmState) -> Self {
        Self {
            incident: state.incident.take().map(Into::into),
            keeping: cut(std::mem::take(&mut state.keeping)),
            restarts: state.restarts,
            restart_at: Millis::from_wire(state.restart_at_ms),
            attention: state.attention.take().map(Into::into),
        }
    }
}

/// Something that happened to a VM without an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// What.
    pub kind: IncidentKind,
    /// When it was seen, by the host's clock.
    pub at: Millis,
    /// What libvirt said of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The run that it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

impl From<Incident> for wire::Incident {
    fn from(incident: Incident) -> Self {
        Self {
            kind: wire::IncidentKind::from(incident.kind).into(),
            at_ms: incident.at.0,
            detail: cut(incident.detail),
            run: incident.run.map_or_else(String::new, |run| run.to_string()),
        }
    }
}

impl From<wire::Incident> for Incident {
    fn from(incident: wire::Incident) -> Self {
        Self {
            kind: incident.kind().into(),
            at: Millis(incident.at_ms),
            run: incident.run.parse().ok(),
            detail: cut(incident.detail),
        }
    }
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS) {
        text.truncate(end);
    }
    text
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $words:literal;)*) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum IncidentKind {
            $($(#[$doc])* $variant,)*
        }

        impl IncidentKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its stable name, for programs.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// For people: what happened to "it".
            #[must_use]
            pub fn words(self) -> &'static str {
                match self {
                    $(Self::$variant => $words,)*
                }
            }
        }

        impl From<wire::IncidentKind> for IncidentKind {
            fn from(kind: wire::IncidentKind) -> Self {
                match kind {
                    $(wire::IncidentKind::$variant => Self::$variant,)*
                }
            }
        }

        impl From<IncidentKind> for wire::IncidentKind {
            fn from(kind: IncidentKind) -> Self {
                match kind {
                    $(IncidentKind::$variant => Self::$variant,)*
                }
            }
        }
    };
}

kinds! {
    /// It is off, and why is not known.
    WentOff = "went-off", "it went off, and why is not known";
    /// The guest shut itself down.
    GuestPoweredOff = "guest-powered-off", "the guest powered itself off";
    /// The guest rebooted, or was reset: the same run.
    GuestRebooted = "guest-rebooted", "the guest rebooted";
    /// The guest's kernel panicked.
    GuestPanicked = "guest-panicked", "the guest panicked";
    /// QEMU died.
    QemuCrashed = "qemu-crashed", "QEMU died";
    /// QEMU was told to end, by a signal from its host.
    QemuStopped = "qemu-stopped", "QEMU was ended by a signal";
    /// Somebody pulled the plug with libvirt.
    DestroyedByHand = "destroyed-by-hand", "somebody destroyed its domain with libvirt";
    /// Somebody saved it with libvirt.
    SavedByHand = "saved-by-hand", "somebody saved it with libvirt";
    /// Somebody migrated it away with libvirt.
    MigratedAway = "migrated-away", "somebody migrated it away with libvirt";
    /// Its disk failed or is full, and libvirt paused it.
    PausedOnIoError = "paused-on-io-error", "it was paused on an I/O error";
    /// Somebody paused it with libvirt.
    PausedByHand = "paused-by-hand", "somebody paused it with libvirt";
    /// Somebody started it with libvirt.
    StartedByHand = "started-by-hand", "somebody started it with libvirt";
    /// Somebody wrote its configuration anew with libvirt.
    EditedByHand = "edited-by-hand", "somebody changed its configuration with libvirt";
    /// Its host went down under it.
    HostWentDown = "host-went-down", "its host went down under it";
    /// It was to be started again, and could not be.
    StartFailed = "start-failed", "it could not be started again";
}

impl fmt::Display for IncidentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Generation, ReportSeq, VmId};
    use crate::vm_state::{Power, VmState};

    fn state(life: Life) -> VmState {
        VmState {
            vm: VmId::fresh(),
            name: "web".into(),
            generation: Generation(3),
            power: Power::Off,
            power_detail: "shutoff/crashed".into(),
            wanted_on: true,
            run: None,
            disk: None,
            as_of: ReportSeq(4),
            gone: false,
            life: Box::new(life),
        }
    }

    #[test]
    fn what_happened_comes_back_whole() {
        for &kind in IncidentKind::ALL {
            let incident = Incident { kind, at: Millis(5), detail: "x/y".into(), run: Some(RunId::fresh()) };
            let told = state(Life {
                incident: Some(incident),
                keeping: "started again".into(),
                restarts: 2,
                restart_at: Some(Millis(9)),
                attention: Some(Cause::new(crate::cause::Reason::ForeignDomain, "renamed")),
            });
            assert_eq!(VmState::try_from(wire::VmState::from(told.clone())).unwrap(), told);
            let stored = serde_json::to_string(&told).unwrap();
            assert_eq!(serde_json::from_str::<VmState>(&stored).unwrap(), told);
        }
    }

    #[test]
    fn a_state_of_an_older_version_has_a_quiet_life() {
        let stored = serde_json::to_string(&state(Life::default())).unwrap();
        assert!(!stored.contains("life"), "an older version reads what says nothing new: {stored}");
        assert_eq!(serde_json::from_str::<VmState>(&stored).unwrap().life, Box::default());
    }

    #[test]
    fn a_kind_that_a_newer_version_says_is_kept_as_something_that_happened() {
        let newer = wire::Incident { kind: 99, at_ms: 7, detail: "a".repeat(10_000), run: "?".into() };
        let incident = Incident::from(newer);
        assert_eq!((incident.kind, incident.at, incident.run), (IncidentKind::WentOff, Millis(7), None));
        assert_eq!(incident.detail.chars().count(), TEXT_CHARS);
    }
}
