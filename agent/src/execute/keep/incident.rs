//! What happened to a VM, from libvirt's state and from what was heard of it since it was started. Pure.
//!
//! libvirt's state alone does not tell a guest that shut itself down from a QEMU that was ended by a signal, nor a panic
//! from a QEMU that died; its events do. They may be lost: then the state is what there is, and what it does not tell is
//! said to be unknown.

use dewpoint_proto::vm_state::{IncidentKind, Power};

/// Why a VM that no event powered off is off. `detail`: libvirt's `state/reason`; `heard`: its events, the oldest first.
#[must_use]
pub fn why_off(detail: &str, heard: &[String]) -> IncidentKind {
    let heard = since_start(heard);
    let has = |words: &[&str]| heard.iter().any(|word| words.contains(&word.as_str()));
    let reason = detail.rsplit('/').next().unwrap_or_default();
    if reason == "panicked" || has(&["crashed/panicked", "crashed/crashloaded", "stopped/crashed"]) {
        return IncidentKind::GuestPanicked;
    }
    match reason {
        "shutdown" if has(&["shutdown/host"]) => IncidentKind::QemuStopped,
        "shutdown" => IncidentKind::GuestPoweredOff,
        "destroyed" | "from-snapshot" => IncidentKind::DestroyedByHand,
        "crashed" | "failed" => IncidentKind::QemuCrashed,
        "migrated" => IncidentKind::MigratedAway,
        "saved" => IncidentKind::SavedByHand,
        // libvirt was restarted and has forgotten; perhaps we heard it before.
        _ => match heard.iter().rev().find_map(|word| word.strip_prefix("stopped/")) {
            Some("unknown") | None => IncidentKind::WentOff,
            Some(reason) => why_off(reason, heard),
        },
    }
}

/// Whether libvirt has told how the present run ended.
#[must_use]
pub fn tells_an_end(heard: &[String]) -> bool {
    since_start(heard).iter().any(|word| word.starts_with("stopped/") || word.starts_with("crashed/"))
}

/// What somebody did to a VM whose start was asked for and not answered, so that the start was carried out and its run is
/// over; none: nothing that is known. `before`: why it was to be started. The same again tells nothing, and pulling the
/// plug of a guest that panicked is our own doing.
#[must_use]
pub fn ended_by_hand(detail: &str, before: Option<IncidentKind>) -> Option<IncidentKind> {
    use IncidentKind as Kind;
    let what = why_off(detail, &[]);
    let by_hand = matches!(what, Kind::DestroyedByHand | Kind::SavedByHand | Kind::MigratedAway);
    (by_hand && before != Some(what) && before != Some(Kind::GuestPanicked)).then_some(what)
}

/// Why a VM's guest does not run though QEMU does; none: that passes by itself (a migration, a save, a snapshot), or the
/// guest sleeps.
#[must_use]
pub fn why_paused(detail: &str) -> Option<IncidentKind> {
    match detail {
        "paused/ioerror" => Some(IncidentKind::PausedOnIoError),
        "paused/user" | "paused/unknown" => Some(IncidentKind::PausedByHand),
        _ => None,
    }
}

/// What a VM did, or had done to it, and runs on.
#[must_use]
pub fn running_on(heard: &[String]) -> Option<IncidentKind> {
    let heard = since_start(heard);
    let has = |words: &[&str]| heard.iter().any(|word| words.contains(&word.as_str()));
    if has(&["reboot"]) {
        return Some(IncidentKind::GuestRebooted);
    }
    has(&["defined/updated", "defined/renamed", "defined/from-snapshot"])
        .then_some(IncidentKind::EditedByHand)
}

/// Whether a VM is off for a reason that only its policy `always` makes up for.
#[must_use]
pub fn was_meant(what: IncidentKind) -> bool {
    matches!(what, IncidentKind::GuestPoweredOff | IncidentKind::DestroyedByHand)
}

/// Whether QEMU is gone, or its guest is dead.
#[must_use]
pub fn is_down(what: IncidentKind) -> bool {
    use IncidentKind as Kind;
    match what {
        Kind::WentOff
        | Kind::GuestPoweredOff
        | Kind::GuestPanicked
        | Kind::QemuCrashed
        | Kind::QemuStopped
        | Kind::DestroyedByHand
        | Kind::SavedByHand
        | Kind::MigratedAway
        | Kind::HostWentDown
        | Kind::StartFailed => true,
        Kind::GuestRebooted
        | Kind::PausedOnIoError
        | Kind::PausedByHand
        | Kind::StartedByHand
        | Kind::EditedByHand => false,
    }
}

/// How a power is told apart from what is wanted.
#[must_use]
pub fn is_dead(power: Power) -> bool {
    matches!(power, Power::Off | Power::Crashed)
}

/// What was heard before a start belongs to an earlier run.
fn since_start(heard: &[String]) -> &[String] {
    let start = heard.iter().rposition(|word| word.starts_with("started/"));
    start.map_or(heard, |at| &heard[at + 1..])
}
