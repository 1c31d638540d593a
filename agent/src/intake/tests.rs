//! Each rule by example, and all of them against a model that plays many events on a few VMs.

use std::collections::BTreeMap;

use dewpoint_proto::ids::{Seq, Term, VmId};
use proptest::prelude::*;

use super::*;
use crate::journal::admission::KnownVm;
use crate::journal::fixture::{body, cancel, create, destroy, id, image, reboot, spec, vm};

fn delivered(generation: u64) -> Origin {
    Origin::Delivered { seq: Seq(1), term: Term(1), generation: Generation(generation) }
}

fn there(generation: u64) -> Option<KnownVm> {
    Some(KnownVm { generation: Generation(generation), presence: Presence::There })
}

fn unfinished(n: u128, kind: KindName) -> Vec<KnownEvent> {
    vec![KnownEvent { id: id(n), kind: Some(kind) }]
}

fn verdict(known: &Known, origin: Origin, kind: Kind) -> Verdict {
    judge(known, &Offer { origin: &origin, body: &body(id(9), vm(1), kind) })
}

fn reason(verdict: Verdict) -> Reason {
    match verdict {
        Verdict::Refuse(cause) => {
            assert!(!cause.advice.is_empty(), "{cause}");
            cause.reason
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn the_same_id_is_seen_with_the_same_bytes_and_refused_with_others() {
    let same = body(id(9), vm(1), create());
    let known = Known { same_id: Some(same.digest()), vm: there(7), ..Known::default() };
    assert_eq!(verdict(&known, delivered(1), create()), Verdict::Seen, "whatever its generation");
    assert_eq!(reason(verdict(&known, delivered(8), reboot())), Reason::EventIdReused);
}

#[test]
fn a_generation_must_be_above_every_other() {
    let known = Known { vm: there(7), ..Known::default() };
    assert_eq!(reason(verdict(&known, delivered(7), reboot())), Reason::StaleGeneration);
    assert_eq!(reason(verdict(&known, delivered(0), reboot())), Reason::StaleGeneration);
    assert_eq!(reason(verdict(&known, delivered(u64::MAX), reboot())), Reason::Invalid);
    assert_eq!(verdict(&known, delivered(12), reboot()), Verdict::Accept { supersedes: None });
    assert_eq!(verdict(&known, Origin::Local, reboot()), Verdict::Accept { supersedes: None });
}

#[test]
fn a_refusal_names_what_keeps_the_vm_busy() {
    let known = Known { vm: there(7), unfinished: unfinished(3, KindName::Snapshot), ..Known::default() };
    let Verdict::Refuse(cause) = verdict(&known, delivered(8), reboot()) else { panic!() };
    assert_eq!(cause.reason, Reason::VmBusy);
    assert_eq!(
        (cause.fields["event_id"].as_str(), cause.fields["kind"].as_str()),
        (&*id(3).to_string(), "snapshot")
    );
}

#[test]
fn a_cancel_needs_an_unfinished_target() {
    let mut known = Known { vm: there(7), ..Known::default() };
    assert_eq!(reason(verdict(&known, delivered(8), cancel(id(3)))), Reason::EventNotFound);
    known.target = Target::Finished;
    assert_eq!(reason(verdict(&known, delivered(8), cancel(id(3)))), Reason::TooLate);
    known.target = Target::Unfinished;
    known.unfinished = unfinished(3, KindName::Snapshot);
    assert_eq!(verdict(&known, delivered(8), cancel(id(3))), Verdict::Accept { supersedes: Some(id(3)) });
    known.unfinished = unfinished(3, KindName::Cancel);
    assert_eq!(reason(verdict(&known, delivered(8), cancel(id(3)))), Reason::VmBusy);
}

#[test]
fn a_parked_event_cannot_be_ended_by_another() {
    let parked = vec![KnownEvent { id: id(3), kind: None }];
    let known = Known { vm: there(7), unfinished: parked, target: Target::Unfinished, ..Known::default() };
    assert_eq!(reason(verdict(&known, delivered(8), destroy())), Reason::VmBusy);
    assert_eq!(reason(verdict(&known, delivered(8), cancel(id(3)))), Reason::VmBusy);
}

#[test]
fn only_an_event_submitted_here_names_a_file_of_this_host() {
    let source = dewpoint_proto::spec::ImageRef { local_path: Some("/etc/shadow".into()), ..image() };
    let power = dewpoint_proto::event::InitialPower::On;
    let kind = Kind::Create(Box::new(dewpoint_proto::event::Create { spec: spec(), source, power }));
    assert_eq!(reason(verdict(&Known::default(), delivered(1), kind.clone())), Reason::Invalid);
    assert_eq!(verdict(&Known::default(), Origin::Local, kind), Verdict::Accept { supersedes: None });
}

/// What the model knows of one VM.
#[derive(Clone, Debug, Default)]
struct Model {
    highest: u64,
    presence: Option<Presence>,
    unfinished: Vec<KnownEvent>,
}

impl Model {
    fn known(&self, kind: &Kind, ended: &BTreeMap<EventId, VmId>, of: VmId) -> Known {
        let target = match kind {
            Kind::Cancel(cancel) if self.unfinished.iter().any(|event| event.id == cancel.target) => {
                Target::Unfinished
            }
            Kind::Cancel(cancel) if ended.get(&cancel.target) == Some(&of) => Target::Finished,
            _ => Target::Missing,
        };
        let vm = self.presence.map(|presence| KnownVm { generation: Generation(self.highest), presence });
        Known { same_id: None, vm, unfinished: self.unfinished.clone(), target }
    }
}

#[derive(Clone, Debug)]
enum Move {
    /// An event of a VM; its generation is this far above the highest.
    Offer { vm: u128, kind: u8, above: i64, target: u128 },
    /// The VM's oldest unfinished event ends.
    End { vm: u128 },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let offer = (1..4_u128, 0..4_u8, -2..4_i64, 0..60_u128)
        .prop_map(|(vm, kind, above, target)| Move::Offer { vm, kind, above, target });
    let end = (1..4_u128).prop_map(|vm| Move::End { vm });
    prop::collection::vec(prop_oneof![3 => offer, 2 => end], 1..60)
}

proptest! {
    /// Whatever comes in whatever order: generations only rise, at most two events of a VM are unfinished, the second
    /// ends the first, and nothing but a create comes to a VM that is not there.
    #[test]
    fn the_promises_hold_for_every_history(moves in moves()) {
        let mut vms: BTreeMap<VmId, Model> = BTreeMap::new();
        let mut ended = BTreeMap::new();
        for (n, step) in moves.into_iter().enumerate() {
            match step {
                Move::End { vm: of } => {
                    let model = vms.entry(vm(of)).or_default();
                    if model.unfinished.is_empty() { continue; }
                    let over = model.unfinished.remove(0);
                    ended.insert(over.id, vm(of));
                    match over.kind {
                        Some(KindName::Create) => model.presence = Some(Presence::There),
                        Some(KindName::Destroy) => model.presence = Some(Presence::Gone),
                        _ => {}
                    }
                }
                Move::Offer { vm: of, kind, above, target } => {
                    let model = vms.entry(vm(of)).or_default();
                    let kind = [create(), reboot(), destroy(), cancel(id(target))][kind as usize].clone();
                    let generation = model.highest.saturating_add_signed(above);
                    let event = body(id(n as u128), vm(of), kind.clone());
                    let known = model.known(&kind, &ended, vm(of));
                    let verdict = judge(&known, &Offer { origin: &delivered(generation), body: &event });
                    let Verdict::Accept { supersedes } = verdict else { continue };
                    prop_assert!(generation > model.highest);
                    prop_assert_eq!(supersedes, model.unfinished.last().map(|event| event.id));
                    prop_assert!(supersedes.is_none() || kind.supersedes());
                    let is_create = kind.name() == KindName::Create;
                    let is_there = model.presence.is_some_and(|presence| presence != Presence::Gone);
                    prop_assert_eq!(is_create, !is_there);
                    if is_create {
                        model.presence = Some(Presence::Building);
                    }
                    model.highest = generation;
                    model.unfinished.push(KnownEvent { id: id(n as u128), kind: Some(kind.name()) });
                    prop_assert!(model.unfinished.len() <= 2);
                }
            }
        }
    }
}
