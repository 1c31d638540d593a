//! What is done, and when: all of it follows from the seed. Pure.
//!
//! Acts name slots, not VMs: which VM a slot holds by then, and whether the act fits, is seen when it is due. An act that
//! does not fit is asked for all the same, and refused: refusals are part of what is tried.

use std::time::Duration;

use dewpoint_proto::spec::Restart;
use serde::Serialize;

use super::dice::Dice;
use super::slots;

/// VMs at once.
pub const SLOTS: u8 = 6;
/// Callers that ask independently of each other.
pub const CALLERS: u8 = 3;
/// How often in a row the agent is told to start a VM again by its policy: few, so that it is met.
pub const RESTART_LIMIT: u32 = 3;
/// Before the end, faults have ended, so that what was begun can end as well.
const CALM: Duration = Duration::from_secs(20);
/// A VM that is to crash until it is given up is left alone by whoever asks: for so long before, that what was asked for has
/// ended, and while it crashes.
const LEFT_ALONE: Duration = Duration::from_secs(20);
/// Until then VMs are made.
const FIRST_ASKS: Duration = Duration::from_secs(8);
/// A policy gives up after some while only: waits of 1, 2 and 4 seconds, three starts, and what each run is let live.
const LOOP_LASTS: (Duration, Duration) = (Duration::from_secs(45), Duration::from_secs(75));
/// When the first one does: its slot's first VM is there by then.
const FIRST_LOOP: Duration = Duration::from_secs(20);

/// All acts of a run, in the order of their time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What it follows from.
    pub seed: u64,
    /// When callers stop asking.
    pub length: Duration,
    /// What each caller asks for.
    pub asks: Vec<Vec<Timed<Asks>>>,
    /// What is submitted on the host, beside the coordinator.
    pub local: Vec<Timed<Asks>>,
    /// What happens to the host.
    pub faults: Vec<Timed<Fault>>,
    /// Slots whose guests are told to write a marker.
    pub markers: Vec<Timed<u8>>,
}

/// Something at a time since the begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timed<T> {
    /// When.
    pub at: Duration,
    /// What.
    pub what: T,
}

/// What a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the words of the requests")]
pub enum Asks {
    Create {
        slot: u8,
        image: Image,
        full_copy: bool,
        left_off: bool,
    },
    Start {
        slot: u8,
    },
    Stop {
        slot: u8,
        force: bool,
        timeout_seconds: u32,
    },
    Reboot {
        slot: u8,
        hard: bool,
        timeout_seconds: u32,
    },
    Snapshot {
        slot: u8,
    },
    Restore {
        slot: u8,
        image: Image,
    },
    Destroy {
        slot: u8,
        now: bool,
    },
    /// Of the event that was asked for last in a slot, whoever asked.
    Cancel {
        slot: u8,
    },
    /// The same request once more, under the same id: the caller's last, or one before it.
    Again {
        back: u8,
    },
    /// Another request under an id that was used.
    Reuse {
        back: u8,
    },
}

/// Where a disk comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Image {
    /// The tiny image.
    Tiny,
    /// One of the snapshots that there are by then, by a number to be taken modulo how many.
    Snapshot(u8),
}

/// What happens to the host, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// Until it is let go.
    pub lasts: Duration,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the words say it")]
pub enum FaultKind {
    /// A daemon ends, and is started again when the fault ends.
    Ends {
        daemon: Daemon,
        how: Death,
    },
    /// libvirtd answers nothing.
    LibvirtStalls,
    Wire {
        how: WireFault,
    },
    QemuStops {
        slot: u8,
    },
    QemuIsKilled {
        slot: u8,
    },
    /// Its QEMU is killed whenever there is one, until the fault ends: its restart policy meets its limit.
    CrashesOnAndOn {
        slot: u8,
    },
    Guest {
        slot: u8,
        does: GuestAct,
    },
    /// `virsh destroy`, by somebody who does not know better.
    DestroyedBehindOurBack {
        slot: u8,
    },
    /// `virsh suspend`, and `resume` when the fault ends.
    PausedBehindOurBack {
        slot: u8,
    },
    /// `virsh undefine`, on or off; nobody puts it back.
    UndefinedBehindOurBack {
        slot: u8,
    },
    /// `virsh edit`: a title.
    EditedBehindOurBack {
        slot: u8,
    },
    DiskFull,
}

/// A daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Daemon {
    Agent,
    Coordinator,
    Libvirt,
}

/// How a daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Death {
    Sigkill,
    Sigterm,
}

/// What happens to the wire, see [`crate::proxy::State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the words say it")]
pub enum WireFault {
    Cut,
    HalfOpen,
    Stalled,
}

/// What a guest does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the words say it")]
pub enum GuestAct {
    PowersOff,
    Panics,
    Reboots,
}

impl Asks {
    /// The slot whose VM it is about; none: what was asked for before, once more.
    fn slot(self) -> Option<u8> {
        match self {
            Self::Create { slot, .. }
            | Self::Start { slot }
            | Self::Stop { slot, .. }
            | Self::Reboot { slot, .. }
            | Self::Snapshot { slot }
            | Self::Restore { slot, .. }
            | Self::Destroy { slot, .. }
            | Self::Cancel { slot } => Some(slot),
            Self::Again { .. } | Self::Reuse { .. } => None,
        }
    }
}

impl FaultKind {
    /// The slot whose VM it is about; none: the whole host.
    #[must_use]
    pub fn slot(self) -> Option<u8> {
        match self {
            Self::QemuStops { slot }
            | Self::QemuIsKilled { slot }
            | Self::CrashesOnAndOn { slot }
            | Self::Guest { slot, .. }
            | Self::DestroyedBehindOurBack { slot }
            | Self::PausedBehindOurBack { slot }
            | Self::UndefinedBehindOurBack { slot }
            | Self::EditedBehindOurBack { slot } => Some(slot),
            Self::Ends { .. } | Self::LibvirtStalls | Self::Wire { .. } | Self::DiskFull => None,
        }
    }

    /// What cannot have two faults at once.
    fn victim(self) -> Victim {
        match self {
            Self::Ends { daemon: Daemon::Agent, .. } => Victim::Agent,
            Self::Ends { daemon: Daemon::Coordinator, .. } => Victim::Coordinator,
            Self::Ends { daemon: Daemon::Libvirt, .. } | Self::LibvirtStalls => Victim::Libvirt,
            Self::Wire { .. } => Victim::Wire,
            Self::DiskFull => Victim::Disk,
            Self::QemuStops { slot }
            | Self::QemuIsKilled { slot }
            | Self::CrashesOnAndOn { slot }
            | Self::Guest { slot, .. }
            | Self::DestroyedBehindOurBack { slot }
            | Self::PausedBehindOurBack { slot }
            | Self::UndefinedBehindOurBack { slot }
            | Self::EditedBehindOurBack { slot } => Victim::Slot(slot),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Agent,
    Coordinator,
    Libvirt,
    Wire,
    Disk,
    Slot(u8),
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64, length: Duration) -> Self {
        // A stream of its own for each, so that more of one kind changes nothing of the others.
        let faults = faults(Dice::of(seed, 100), seed, length.saturating_sub(CALM));
        let asks = (0..CALLERS).map(|caller| asks(Dice::of(seed, u64::from(caller)), caller, length));
        let asks = asks.map(|asks| away_from_loops(asks, &faults)).collect();
        let markers = markers(Dice::of(seed, 101), length);
        let local = away_from_loops(local(Dice::of(seed, 102), length), &faults);
        Self { seed, length, asks, local, faults, markers }
    }
}

fn asks(mut dice: Dice, caller: u8, length: Duration) -> Vec<Timed<Asks>> {
    let mut asks = Vec::new();
    // The first things asked for are VMs, two of each caller.
    for nth in 0..SLOTS / CALLERS {
        let slot = caller * (SLOTS / CALLERS) + nth;
        let what = Asks::Create { slot, image: Image::Tiny, full_copy: false, left_off: false };
        asks.push(Timed { at: Duration::from_millis(dice.between(0, 3000)), what });
    }
    asks.sort_by_key(|ask| ask.at);
    let mut at = FIRST_ASKS;
    loop {
        at += Duration::from_millis(dice.between(1000, 11_000));
        if at >= length {
            return asks;
        }
        asks.push(Timed { at, what: ask(&mut dice) });
    }
}

fn ask(dice: &mut Dice) -> Asks {
    let slot = dice.slot();
    match dice.between(0, 100) {
        0..25 => {
            Asks::Create { slot, image: image(dice), full_copy: dice.chance(10), left_off: dice.chance(10) }
        }
        30..39 => Asks::Start { slot },
        39..49 => Asks::Stop { slot, force: dice.chance(60), timeout_seconds: dice.small(2, 20) },
        49..61 => Asks::Reboot { slot, hard: dice.chance(60), timeout_seconds: dice.small(2, 20) },
        61..69 => Asks::Snapshot { slot },
        69..78 => Asks::Restore { slot, image: image(dice) },
        78..86 => Asks::Destroy { slot, now: dice.chance(50) },
        86..93 => Asks::Cancel { slot },
        93..98 => Asks::Again { back: dice.byte(0, 4) },
        _ => Asks::Reuse { back: dice.byte(0, 4) },
    }
}

/// Without what would interrupt a VM that is to crash until it is given up. The creates that come first stay.
fn away_from_loops(mut asks: Vec<Timed<Asks>>, faults: &[Timed<Fault>]) -> Vec<Timed<Asks>> {
    let loops = faults.iter().filter(|fault| matches!(fault.what.kind, FaultKind::CrashesOnAndOn { .. }));
    for Timed { at, what: fault } in loops {
        let span = at.saturating_sub(LEFT_ALONE).max(FIRST_ASKS)..at.saturating_add(fault.lasts);
        asks.retain(|ask| ask.what.slot() != fault.kind.slot() || !span.contains(&ask.at));
    }
    asks
}

/// What a person on the host does while the coordinator has plans of its own. It makes no VMs: those have no leases.
fn local(mut dice: Dice, length: Duration) -> Vec<Timed<Asks>> {
    let mut asks = Vec::new();
    let mut at = Duration::from_secs(20);
    loop {
        at += Duration::from_millis(dice.between(5000, 25_000));
        if at >= length {
            return asks;
        }
        let slot = dice.slot();
        let what = match dice.between(0, 100) {
            0..40 => Asks::Start { slot },
            40..60 => Asks::Stop { slot, force: true, timeout_seconds: dice.small(2, 10) },
            60..90 => Asks::Reboot { slot, hard: dice.chance(70), timeout_seconds: dice.small(5, 20) },
            _ => Asks::Destroy { slot, now: dice.chance(50) },
        };
        asks.push(Timed { at, what });
    }
}

fn image(dice: &mut Dice) -> Image {
    let nth = dice.byte(0, 200);
    if dice.chance(50) { Image::Snapshot(nth) } else { Image::Tiny }
}

fn faults(mut dice: Dice, seed: u64, length: Duration) -> Vec<Timed<Fault>> {
    let mut faults: Vec<Timed<Fault>> = first_loop(seed).into_iter().collect();
    let mut at = Duration::from_secs(12);
    loop {
        at += Duration::from_millis(dice.between(3000, 14_000));
        let fault = fault(&mut dice);
        if at + fault.lasts >= length {
            faults.sort_by_key(|fault| fault.at);
            return faults;
        }
        let busy = |earlier: &Timed<Fault>| {
            earlier.what.kind.victim() == fault.kind.victim()
                && earlier.at + earlier.what.lasts >= at
                && earlier.at <= at + fault.lasts
        };
        if !faults.iter().any(busy) {
            faults.push(Timed { at, what: fault });
        }
    }
}

/// One at least is met in every run: of a VM whose policy does start it again.
fn first_loop(seed: u64) -> Option<Timed<Fault>> {
    let slot = (0..SLOTS).find(|slot| slots::restart(seed, *slot, 0) != Restart::Never)?;
    let fault = Fault { kind: FaultKind::CrashesOnAndOn { slot }, lasts: LOOP_LASTS.1 };
    Some(Timed { at: FIRST_LOOP, what: fault })
}

fn fault(dice: &mut Dice) -> Fault {
    let slot = dice.slot();
    let how = if dice.chance(75) { Death::Sigkill } else { Death::Sigterm };
    let ends = |daemon| FaultKind::Ends { daemon, how };
    let (kind, longest) = match dice.between(0, 100) {
        0..18 => (ends(Daemon::Agent), 8),
        18..30 => (ends(Daemon::Coordinator), 15),
        30..40 => (ends(Daemon::Libvirt), 15),
        40..44 => (FaultKind::LibvirtStalls, 25),
        44..57 => (FaultKind::Wire { how: wire(dice) }, 30),
        57..62 => (FaultKind::QemuStops { slot }, 20),
        62..67 => (FaultKind::QemuIsKilled { slot }, 0),
        67..73 => (FaultKind::CrashesOnAndOn { slot }, LOOP_LASTS.1.as_secs()),
        73..82 => (FaultKind::Guest { slot, does: guest(dice) }, 0),
        82..86 => (FaultKind::DestroyedBehindOurBack { slot }, 0),
        86..89 => (FaultKind::PausedBehindOurBack { slot }, 12),
        89..92 => (FaultKind::UndefinedBehindOurBack { slot }, 0),
        92..96 => (FaultKind::EditedBehindOurBack { slot }, 0),
        _ => (FaultKind::DiskFull, 15),
    };
    let is_loop = matches!(kind, FaultKind::CrashesOnAndOn { .. });
    let shortest = if is_loop { LOOP_LASTS.0.as_secs() } else { 0 };
    Fault { kind, lasts: Duration::from_millis(dice.between(shortest * 1000, longest * 1000 + 1)) }
}

fn wire(dice: &mut Dice) -> WireFault {
    [WireFault::Cut, WireFault::HalfOpen, WireFault::Stalled][usize::from(dice.byte(0, 3))]
}

fn guest(dice: &mut Dice) -> GuestAct {
    [GuestAct::PowersOff, GuestAct::Panics, GuestAct::Reboots][usize::from(dice.byte(0, 3))]
}

fn markers(mut dice: Dice, length: Duration) -> Vec<Timed<u8>> {
    let mut markers = Vec::new();
    let mut at = Duration::from_secs(15);
    loop {
        at += Duration::from_millis(dice.between(500, 5000));
        if at >= length {
            return markers;
        }
        markers.push(Timed { at, what: dice.slot() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Duration = Duration::from_secs(300);

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_gives_another() {
        assert_eq!(Plan::of(7, FIVE), Plan::of(7, FIVE));
        assert_ne!(Plan::of(7, FIVE).faults, Plan::of(8, FIVE).faults);
    }

    #[test]
    fn faults_end_before_the_run_does_and_nothing_has_two_at_once() {
        for seed in 0..200 {
            let plan = Plan::of(seed, FIVE);
            for (at, fault) in plan.faults.iter().enumerate() {
                assert!(fault.at + fault.what.lasts < FIVE, "seed {seed}: {fault:?}");
                for other in &plan.faults[..at] {
                    let apart = other.at + other.what.lasts < fault.at;
                    assert!(
                        apart || other.what.kind.victim() != fault.what.kind.victim(),
                        "seed {seed}: {fault:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn in_every_run_a_vm_that_is_started_again_crashes_until_it_is_given_up_and_is_left_alone() {
        for seed in 0..200 {
            let plan = Plan::of(seed, FIVE);
            let loops = plan.faults.iter().filter_map(|fault| match fault.what.kind {
                FaultKind::CrashesOnAndOn { slot } => Some((slot, fault)),
                _ => None,
            });
            let loops: Vec<_> = loops.collect();
            let met = loops.iter().any(|(slot, _)| slots::restart(seed, *slot, 0) != Restart::Never);
            assert!(met, "seed {seed}");
            for (slot, fault) in loops {
                let during = fault.at..fault.at + fault.what.lasts;
                let mut asks = plan.asks.iter().flatten().chain(&plan.local);
                assert!(!asks.any(|ask| ask.what.slot() == Some(slot) && during.contains(&ask.at)));
            }
        }
    }

    #[test]
    fn in_ten_minutes_every_kind_of_thing_happens_to_some_seed() {
        let plans: Vec<_> = (0..20).map(|seed| Plan::of(seed, FIVE * 2)).collect();
        let faults: Vec<_> =
            plans.iter().flat_map(|plan| &plan.faults).map(|fault| fault.what.kind).collect();
        for daemon in [Daemon::Agent, Daemon::Coordinator, Daemon::Libvirt] {
            assert!(
                faults.iter().any(|kind| matches!(kind, FaultKind::Ends { daemon: d, .. } if *d == daemon))
            );
        }
        assert!(faults.contains(&FaultKind::DiskFull) && faults.contains(&FaultKind::LibvirtStalls));
        let has = |wanted: fn(&FaultKind) -> bool| faults.iter().any(wanted);
        assert!(has(|kind| matches!(kind, FaultKind::CrashesOnAndOn { .. })));
        assert!(has(|kind| matches!(kind, FaultKind::UndefinedBehindOurBack { .. })));
        assert!(has(|kind| matches!(kind, FaultKind::EditedBehindOurBack { .. })));
        let local: Vec<_> = plans.iter().flat_map(|plan| &plan.local).map(|ask| ask.what).collect();
        assert!(local.iter().any(|ask| matches!(ask, Asks::Destroy { .. })));
        let asks: Vec<_> =
            plans.iter().flat_map(|plan| plan.asks.iter().flatten()).map(|ask| ask.what).collect();
        assert!(asks.iter().any(|ask| matches!(ask, Asks::Reuse { .. })));
        assert!(asks.iter().any(|ask| matches!(ask, Asks::Restore { image: Image::Snapshot(_), .. })));
    }
}
