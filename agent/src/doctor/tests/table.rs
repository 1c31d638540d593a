//! The table: a way to spoil a sound world for each rule, and what must be found then, and nothing beside.

use std::collections::BTreeSet;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, Generation, HostId, ReportSeq, VmId};
use dewpoint_proto::vm_state::Power;

use super::sound::{NOW, Sound, entry, folder, mark, sound};
use crate::doctor::world::{Coordinator, Daemon, VmTold};
use crate::doctor::{RULES, Repair, Severity, compare};
use crate::hypervisor::{Control, Seen, Wanted};
use crate::journal::rows::Parked;
use crate::network::{Rules, tap_name};
use crate::storage::survey::{FolderOwner, What, WrongAccess};

type Spoil = fn(&mut Sound);

fn cause() -> Cause {
    Cause::new(Reason::Unreachable, "it does not answer").advise("see whether it runs")
}

/// A rule, and a world in which it alone finds something.
const TABLE: &[(&str, Spoil)] = &[
    ("access", |it| {
        let wrong = WrongAccess { found: "0:0 0600".into(), wanted: "0:64055 0660".into() };
        it.files()[2].access = Some(wrong);
    }),
    ("autostart", |it| it.details().autostart = true),
    ("base-missing", |it| drop(it.files().remove(1))),
    ("bridge-missing", |it| {
        it.row().spec.as_mut().unwrap().nics[0].bridge = Some("br7".parse().unwrap());
    }),
    ("control-busy", |it| it.domain().control = Control::Busy("a job holds it".into())),
    ("coordinator-has-more", |it| {
        let vm = VmTold { name: "ghost".into(), generation: Generation(1), unfinished: None };
        it.told().vms.insert(VmId::fresh(), vm);
    }),
    ("coordinator-lacks", |it| it.told().vms.clear()),
    ("disk-differs", |it| {
        let (vm, other) = (it.vm, EventId::fresh());
        it.mark().disk = other;
        it.details().disk = Some(format!("/data/vms/{vm}/{other}.qcow2").into());
    }),
    ("disk-missing", |it| {
        it.files().remove(2);
        it.files().remove(1);
    }),
    ("disk-unused", |it| {
        let other = EventId::fresh();
        it.files().push(entry(&format!("{other}.qcow2"), What::Disk(other, Ok(None))));
    }),
    ("domain-foreign", |it| {
        it.domain().mark = Seen::Absent;
        it.domain().live = Seen::Absent;
    }),
    ("domain-missing", |it| {
        it.off();
        let vm = it.vm;
        it.world.libvirt.as_mut().unwrap().remove(&vm);
    }),
    ("domain-orphan", |it| {
        let (mut seen, vm, disk) = (it.inspected().clone(), VmId::fresh(), EventId::fresh());
        seen.domain.vm = vm;
        seen.domain.mark = Seen::There(mark(vm, disk));
        let Seen::There(details) = &mut seen.details else { panic!() };
        details.disk = Some(format!("/data/vms/{vm}/{disk}.qcow2").into());
        it.world.libvirt.as_mut().unwrap().insert(vm, seen);
    }),
    ("event-parked", |it| {
        let vm = VmId::fresh();
        let parked = Parked { event: EventId::fresh(), vm, kind: "migrate".into(), cause: cause() };
        it.journal().parked.push(parked);
    }),
    ("event-waits", |it| {
        it.world.daemon = Daemon::Down;
        let vm = it.vm;
        it.journal().busy.insert(vm, EventId::fresh());
    }),
    ("folder-of-another", |it| {
        let (vm, host) = (VmId::fresh(), HostId::fresh());
        let theirs = folder(&vm.to_string(), Some(vm), FolderOwner::Host(host), Vec::new());
        it.disk().folders.push(theirs);
    }),
    ("folder-orphan", |it| {
        let (vm, disk) = (VmId::fresh(), EventId::fresh());
        let files = vec![entry(&format!("{disk}.qcow2"), What::Disk(disk, Ok(None)))];
        it.disk().folders.push(folder(&vm.to_string(), Some(vm), FolderOwner::Us, files));
    }),
    ("folder-unmarked", |it| {
        let theirs = folder("backup", None, FolderOwner::Unmarked("is not named as a VM".into()), Vec::new());
        it.disk().folders.push(theirs);
    }),
    ("foreign-files", |it| it.files().push(entry("notes.txt", What::Foreign))),
    ("generation-differs", |it| {
        let vm = it.vm;
        it.told().vms.get_mut(&vm).unwrap().generation = Generation(2);
    }),
    ("host-diverged", |it| it.told().diverged = Some(cause())),
    ("host-unknown", |it| it.world.coordinator = Coordinator::Stranger),
    ("leftover-files", |it| {
        let event = EventId::fresh();
        it.files().push(entry(&format!("{event}.qcow2.part"), What::Part(Some(event))));
        it.files().push(entry(&format!("{event}.seed"), What::Seed(event)));
    }),
    ("managed-save", |it| {
        it.off();
        it.details().managed_save = true;
    }),
    ("mark-newer", |it| it.mark().generation = Generation(9)),
    ("mark-unreadable", |it| it.domain().live = Seen::Unknown("bears the mark of VM x".into())),
    ("not-seen", |it| it.world.libvirt = Err(cause())),
    ("paused", |it| {
        it.domain().power = Power::Paused;
        it.domain().detail = "paused/ioerror".into();
    }),
    ("points-elsewhere", |it| it.details().disk = Some("/srv/other.qcow2".into())),
    ("power-differs", |it| {
        it.off();
        it.mark().wanted = Wanted::On;
        it.row().wanted = Wanted::On;
    }),
    ("quarantined", |it| it.disk().quarantine.push("20261121T093012.123Z-x".into())),
    ("recycle-over", |it| it.disk().recycle.bytes = 1001),
    ("recycle-unknown", |it| it.disk().recycle.unknown.push("my-backup".into())),
    ("renamed", |it| it.domain().name = "production".into()),
    ("reports-wait", |it| {
        it.journal().tail.last_report = ReportSeq(9);
        it.journal().waits_since = Some(dewpoint_proto::time::Millis(NOW.0 - 3_600_000));
    }),
    ("run-unknown", |it| it.row().run = None),
    ("seed-missing", |it| drop(it.files().remove(3))),
    ("shield-missing", |it| {
        it.shield().rules = Rules::None;
        it.shield().in_force.clear();
        it.shield().taps.clear();
    }),
    ("shield-stale", |it| {
        it.shield().taps.insert(tap_name(VmId::fresh(), 0).to_string());
    }),
    ("spec-unknown", |it| it.row().spec = None),
    ("tap-missing", |it| it.links().taps.clear()),
    ("tap-off-bridge", |it| {
        let tap = it.tap.clone();
        it.links().taps.insert(tap, None);
    }),
    ("tap-stale", |it| {
        it.off();
        let tap = it.tap.clone();
        it.links().taps.insert(tap, None);
    }),
    ("transient", |it| {
        it.domain().mark = Seen::Absent;
        it.details().persistent = false;
    }),
    ("wanted-differs", |it| it.mark().wanted = Wanted::Off),
];

#[test]
fn where_all_sides_agree_nothing_is_found() {
    let mut it = sound();
    assert_eq!(it.codes(), [""; 0]);
    it.off();
    assert_eq!(it.codes(), [""; 0], "nor when it is off");
}

#[test]
fn each_rule_finds_its_own_disagreement_and_no_other_rule_does() {
    let found = TABLE.iter().map(|(code, spoil)| {
        let mut it = sound();
        spoil(&mut it);
        (*code, it.codes())
    });
    let wrong: Vec<_> = found.filter(|(code, codes)| codes != &[*code]).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_finding_says_what_was_seen_and_what_to_do() {
    for (code, spoil) in TABLE {
        let mut it = sound();
        spoil(&mut it);
        for found in compare(&it.world) {
            assert!(!found.evidence.is_empty(), "{code} says what was seen");
            assert!(!found.advice.is_empty(), "{code} says what to do");
            assert!(!found.text.ends_with('.') && !found.text.is_empty(), "{code}: {}", found.text);
        }
    }
}

#[test]
fn every_rule_is_in_the_table_and_in_the_manual() {
    let spoiled: BTreeSet<_> = TABLE.iter().map(|(code, _)| *code).collect();
    let rules: BTreeSet<_> = RULES.iter().map(|rule| rule.code).collect();
    assert_eq!(spoiled, rules);
    let manual = include_str!("../../../../docs/mending.md");
    for rule in RULES {
        let row = manual.lines().find(|line| line.starts_with(&format!("| `{}` |", rule.code)));
        let row = row.unwrap_or_else(|| panic!("docs/mending.md has no row for {}", rule.code));
        assert!(row.contains(rule.severity.as_str()), "{row}");
    }
}

#[test]
fn what_could_not_be_looked_at_is_said_and_nothing_is_inferred_from_it() {
    let blind: [Spoil; 5] = [
        |it| it.world.journal = Err(cause()),
        |it| it.world.libvirt = Err(cause()),
        |it| it.world.disk = Err(cause()),
        |it| it.world.shield = Err(cause()),
        |it| it.world.coordinator = Coordinator::Unreachable(cause()),
    ];
    for spoil in blind {
        let mut it = sound();
        spoil(&mut it);
        assert_eq!(it.codes(), ["not-seen"]);
    }
}

#[test]
fn a_vm_that_an_event_is_at_work_on_is_left_to_it() {
    let of_a_vm =
        ["autostart", "base-missing", "disk-missing", "leftover-files", "seed-missing", "shield-missing"];
    for (code, spoil) in TABLE.iter().filter(|(code, _)| of_a_vm.contains(code)) {
        let mut it = sound();
        spoil(&mut it);
        let vm = it.vm;
        it.journal().busy.insert(vm, EventId::fresh());
        assert_eq!(it.codes(), [""; 0], "{code}");
    }
}

#[test]
fn the_worst_comes_first() {
    let mut it = sound();
    it.disk().quarantine.push("x".into());
    it.details().autostart = true;
    it.links().taps.clear();
    assert_eq!(it.codes(), ["tap-missing", "autostart", "quarantined"]);
    assert!(Severity::Severe < Severity::Warning && Severity::Warning < Severity::Note);
}

#[test]
fn nothing_is_offered_for_repair_that_a_domain_may_be_using() {
    // A domain that is stuck and does not tell its files may have any of them open.
    for code in ["disk-unused", "leftover-files", "folder-orphan"] {
        let (_, spoil) = TABLE.iter().find(|(name, _)| *name == code).unwrap();
        let mut it = sound();
        spoil(&mut it);
        let mut stuck = it.inspected().clone();
        let other = VmId::fresh();
        stuck.domain.vm = other;
        stuck.domain.mark = Seen::Absent;
        stuck.domain.live = Seen::Absent;
        stuck.details = Seen::Unknown("QEMU's monitor has not answered".into());
        let row = it.row().clone();
        it.journal().vms.insert(other, crate::journal::VmRow { vm: other, ..row });
        it.world.libvirt.as_mut().unwrap().insert(other, stuck);
        let offered = compare(&it.world).into_iter().filter(|found| found.repair.is_some()).count();
        assert_eq!(offered, 0, "{code}");
    }
    // Another domain that opens the disk makes it used, whatever its own mark says.
    let mut it = sound();
    let (vm, event) = (it.vm, EventId::fresh());
    it.files().push(entry(&format!("{event}.qcow2"), What::Disk(event, Ok(None))));
    let mut user = it.inspected().clone();
    user.domain.vm = VmId::fresh();
    user.domain.mark = Seen::Absent;
    user.domain.live = Seen::Absent;
    let Seen::There(details) = &mut user.details else { panic!() };
    details.disk = Some(format!("/data/vms/{vm}/{event}.qcow2").into());
    it.world.libvirt.as_mut().unwrap().insert(user.domain.vm, user);
    assert_eq!(it.codes(), [""; 0]);
}

#[test]
fn a_domain_is_defined_again_only_where_nothing_speaks_against_it() {
    let (_, undefined) = TABLE.iter().find(|(code, _)| *code == "domain-missing").unwrap();
    let offered = |spoil: Spoil| {
        let mut it = sound();
        let seen = it.inspected().clone();
        undefined(&mut it);
        let vm = it.vm;
        it.world.libvirt.as_mut().unwrap().insert(VmId::fresh(), seen);
        let stranger = it.world.libvirt.as_mut().unwrap().values_mut().next().unwrap();
        stranger.domain.vm = VmId::fresh();
        stranger.domain.name = "another".into();
        stranger.domain.mark = Seen::Absent;
        stranger.domain.live = Seen::Absent;
        let Seen::There(details) = &mut stranger.details else { panic!() };
        (details.disk, details.seed) = (Some("/srv/disk".into()), None);
        spoil(&mut it);
        let found = compare(&it.world);
        let found = found.into_iter().find(|found| found.rule.code == "domain-missing").unwrap();
        assert_eq!(found.vm, Some(vm));
        found.repair.is_some()
    };
    assert!(offered(|_| {}));
    let against: [Spoil; 8] = [
        |it| it.row().spec = None,
        |it| drop(it.files().remove(3)),
        |it| drop(it.files().remove(2)),
        |it| drop(it.files().remove(1)),
        |it| it.told().vms.clear(),
        |it| {
            let name = crate::hypervisor::domain_name("web", it.vm);
            it.world.libvirt.as_mut().unwrap().values_mut().for_each(|seen| seen.domain.name = name.clone());
        },
        |it| {
            let (vm, disk) = (it.vm, it.row().disk.unwrap());
            let path = format!("/data/vms/{vm}/{disk}.qcow2");
            for seen in it.world.libvirt.as_mut().unwrap().values_mut() {
                let Seen::There(details) = &mut seen.details else { panic!() };
                details.disk = Some(path.clone().into());
            }
        },
        |it| {
            let incident = dewpoint_proto::vm_state::Incident {
                kind: dewpoint_proto::vm_state::IncidentKind::MigratedAway,
                at: NOW,
                detail: String::new(),
                run: None,
            };
            it.row().kept.incident = Some(incident);
        },
    ];
    for (at, spoil) in against.into_iter().enumerate() {
        assert!(!offered(spoil), "{at}");
    }
}

#[test]
fn what_another_agent_on_the_machine_has_is_none_of_ours() {
    // Its domains bear a mark as well; their files are in its own data folder, and its taps are named as ours are.
    let mut it = sound();
    let (mut theirs, vm, disk) = (it.inspected().clone(), VmId::fresh(), EventId::fresh());
    theirs.domain.vm = vm;
    theirs.domain.mark = Seen::There(mark(vm, disk));
    theirs.domain.live = Seen::Unknown("busy".into());
    let Seen::There(details) = &mut theirs.details else { panic!() };
    details.disk = Some(format!("/other/vms/{vm}/{disk}.qcow2").into());
    details.seed = Some(format!("/other/vms/{vm}/{disk}.seed").into());
    it.world.libvirt.as_mut().unwrap().insert(vm, theirs);
    it.links().taps.insert(tap_name(vm, 0).to_string(), Some("br9".into()));
    assert_eq!(it.codes(), [""; 0]);
}

#[test]
fn no_repair_destroys() {
    // Whoever adds a repair that removes something comes by here: taps and rules alone, which are made anew at a start.
    for (code, spoil) in TABLE {
        let mut it = sound();
        spoil(&mut it);
        for repair in compare(&it.world).into_iter().filter_map(|found| found.repair) {
            match repair {
                Repair::Define(_)
                | Repair::MarkWanted(_)
                | Repair::AutostartOff(_)
                | Repair::LinkBase(..)
                | Repair::MakeSeed(..)
                | Repair::Access(_)
                | Repair::QuarantineFiles(..)
                | Repair::QuarantineFolder(_)
                | Repair::SetShield(_)
                | Repair::BridgeTap(..) => {}
                Repair::ClearTaps(_) => assert_eq!(*code, "shield-stale"),
                Repair::RemoveTap(_) => assert_eq!(*code, "tap-stale"),
            }
        }
    }
}
