//! What comes next for a create.

use dewpoint_proto::spec::{MacAddr, Nic};

use super::*;
use crate::execute::plan::question::rules_of;

#[test]
fn a_create_does_all_that_is_independent_at_once() {
    let mut case = Case::new(create());
    case.seen = Observed { domain: Seen::Absent, files: Seen::Absent, ..case.seen };
    assert_eq!(case.steps(), [Step::MakeDisk, Step::MakeSeed]);
    case.seen.image = Seen::Absent;
    assert_eq!(case.steps(), [Step::FetchImage]);
}

/// A create of a VM with a NIC, at a time when its rules were not looked at.
fn shielded_create(power: InitialPower) -> Case {
    let mut case = Case::new(create());
    let Kind::Create(create) = &mut case.kind else { unreachable!() };
    create.power = power;
    case.spec.nics.push(Nic {
        mac: MacAddr([0x52, 0x54, 0, 0, 0, 1]),
        network: None,
        bridge: None,
        addresses: Vec::new(),
        gateway4: None,
        gateway6: None,
        nameservers: Vec::new(),
    });
    let unasked = Seen::Unknown("not looked at".to_owned());
    case.seen = Observed { domain: Seen::Absent, files: Seen::Absent, shield: unasked, ..case.seen };
    case
}

#[test]
fn a_create_sets_its_rules_unseen_and_again_only_when_that_failed() {
    let case = || shielded_create(InitialPower::On);
    assert!(!case().looks_at_rules());
    assert_eq!(case().steps(), [Step::MakeDisk, Step::MakeSeed, Step::SetShield]);
    let made = |mut case: Case| {
        let files = VmFiles { disks: [(NEW, None)].into(), seeds: [NEW].into(), ..VmFiles::default() };
        case.seen.files = Seen::There(files);
        case
    };
    assert_eq!(made(case().after(did(Step::SetShield))).steps(), [Step::Define]);
    assert_eq!(made(case().after([began(Step::SetShield)])).steps(), [Step::SetShield], "it was cut off");
    let mut failed = made(case().after(failed(Step::SetShield, Reason::NetworkError)));
    assert!(failed.waits_for().contains("tried again"));
    failed.now += Duration::from_secs(31);
    assert_eq!(failed.steps(), [Step::SetShield]);
    let undoing = case().after([began(Step::SetShield), undone()]);
    assert!(undoing.looks_at_rules(), "an undo sees that nothing is left");
}

#[test]
fn a_create_is_not_done_and_starts_nothing_before_its_rules_are_seen_to_be_in_force() {
    for (power, next) in [(InitialPower::On, Next::step(Step::Start)), (InitialPower::Off, Next::done())] {
        let defined = || {
            let mut case = shielded_create(power).after(did(Step::SetShield));
            case.seen.domain = Seen::There(domain(Power::Off));
            case.domain(|domain| domain.mark = Seen::There(mark(NEW)))
        };
        let mut case = defined().after(did(Step::Define));
        assert!(case.looks_at_rules());
        case.seen.shield = Seen::Unknown("nft failed".to_owned());
        assert!(case.waits_for().contains("nft failed"));
        // Somebody flushed them, or the host has booted since.
        case.seen.shield = Seen::Absent;
        assert!(case.waits_for().contains("no effect that can be seen"));
        case.now += Duration::from_secs(1);
        assert_eq!(case.steps(), [Step::SetShield]);
        case.seen.shield = Seen::There(rules_of(VM, &case.spec));
        assert_eq!(case.next(), next);
        // The journal was lost: nothing is started on a look that nobody took.
        assert_eq!(defined().steps(), [Step::Define]);
    }
}

#[test]
fn a_create_beside_a_vm_of_another_event_touches_nothing() {
    assert_eq!(Case::new(create()).gives_up(), Reason::VmExists);
    let mut files_alone = Case::new(create());
    files_alone.seen.domain = Seen::Absent;
    assert_eq!(files_alone.gives_up(), Reason::VmExists);
    // It appeared while the create was at work: the undo takes back the create's own disk alone.
    let undoing = Case::new(create())
        .after(did(Step::MakeDisk))
        .after([undone()])
        .files(|files| files.disks.extend([(NEW, None)]));
    assert_eq!(undoing.steps(), [Step::RetireDisks]);
}
