//! Which VM each slot holds, and what is known of it by whoever asks. Ids follow from seed, slot and life, so that two
//! callers that create in one slot mean the same VM, and one of them is refused.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dewpoint_proto::spec::Restart;
use uuid::{Builder, Uuid};

use super::dice::Dice;
use super::plan::SLOTS;

/// Snapshots that are kept to restore from; older ones are removed.
const SNAPSHOTS: usize = 6;

/// All slots, and the snapshots made of their VMs.
#[derive(Debug)]
pub struct Slots {
    seed: u64,
    stream: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: Vec<Slot>,
    snapshots: Vec<String>,
    addresses: HashMap<String, Ipv4Addr>,
}

#[derive(Clone, Debug)]
struct Slot {
    life: u64,
    vm: Uuid,
    last_event: Option<String>,
}

impl Slots {
    /// Every slot with its first VM, which is not there yet. `lab` keeps runs of one seed apart that go on side by side.
    #[must_use]
    pub fn of(seed: u64, lab: u8) -> Self {
        let stream = seed.rotate_left(8) ^ u64::from(lab);
        let slots = (0..SLOTS).map(|slot| Slot { life: 0, vm: vm_id(stream, slot, 0), last_event: None });
        Self { seed, stream, inner: Mutex::new(Inner { slots: slots.collect(), ..Inner::default() }) }
    }

    /// The VM of a slot.
    #[must_use]
    pub fn vm(&self, slot: u8) -> String {
        self.inner().slots[usize::from(slot)].vm.to_string()
    }

    /// The VM of a slot, and the restart policy that it is to be made with, which follows from the seed as well.
    #[must_use]
    pub fn to_make(&self, slot: u8) -> (String, Restart) {
        let held = self.inner().slots[usize::from(slot)].clone();
        (held.vm.to_string(), restart(self.seed, slot, held.life))
    }

    /// The VM of a slot is known to be gone for good: the next one takes its place, unless somebody was quicker.
    pub fn next_life(&self, slot: u8, gone: &str) {
        let mut inner = self.inner();
        let held = &mut inner.slots[usize::from(slot)];
        if held.vm.to_string() == gone {
            held.life += 1;
            held.vm = vm_id(self.stream, slot, held.life);
        }
    }

    /// The event that was asked for last in a slot.
    #[must_use]
    pub fn last_event(&self, slot: u8) -> Option<String> {
        self.inner().slots[usize::from(slot)].last_event.clone()
    }

    /// An event was asked for.
    pub fn asked(&self, slot: u8, event: &str) {
        self.inner().slots[usize::from(slot)].last_event = Some(event.to_owned());
    }

    /// A snapshot succeeded; the name of one too many, to be removed.
    pub fn add_snapshot(&self, name: String) -> Option<String> {
        let mut inner = self.inner();
        inner.snapshots.push(name);
        (inner.snapshots.len() > SNAPSHOTS).then(|| inner.snapshots.remove(0))
    }

    /// A snapshot, by a number modulo how many there are.
    #[must_use]
    pub fn snapshot(&self, nth: u8) -> Option<String> {
        let inner = self.inner();
        let most = inner.snapshots.len().max(1);
        inner.snapshots.get(usize::from(nth) % most).cloned()
    }

    /// Where a VM's guest is, once known.
    #[must_use]
    pub fn address(&self, vm: &str) -> Option<Ipv4Addr> {
        self.inner().addresses.get(vm).copied()
    }

    /// See above.
    pub fn has_address(&self, vm: &str, address: Ipv4Addr) {
        self.inner().addresses.insert(vm.to_owned(), address);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The policy of a slot's nth VM.
pub(super) fn restart(seed: u64, slot: u8, life: u64) -> Restart {
    // A stream by which the seed that CI runs has each of them where it matters: on VMs that crash on and on.
    match Dice::of(seed, 888 + u64::from(slot) + life * 256).between(0, 100) {
        0..20 => Restart::Never,
        20..60 => Restart::OnCrash,
        _ => Restart::Always,
    }
}

fn vm_id(stream: u64, slot: u8, life: u64) -> Uuid {
    let mut dice = Dice::of(stream, 1000 + u64::from(slot) + life * 256);
    let bytes = (u128::from(dice.next()) << 64) | u128::from(dice.next());
    Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vms_policy_follows_from_the_seed_and_every_policy_is_some_vms() {
        let policies = |lab| (0..SLOTS).map(|slot| Slots::of(3, lab).to_make(slot).1).collect::<Vec<_>>();
        assert_eq!(policies(1), policies(2), "whatever the lab");
        for policy in Restart::ALL {
            assert!(policies(1).contains(&policy), "{policy} by the seed that CI runs");
        }
    }

    #[test]
    fn a_slot_moves_on_once_and_snapshots_are_bounded() {
        let slots = Slots::of(7, 1);
        let first = slots.vm(3);
        slots.next_life(3, &first);
        let second = slots.vm(3);
        slots.next_life(3, &first);
        assert_eq!(slots.vm(3), second, "whoever comes second with the same news changes nothing");
        assert_ne!(first, second);
        assert_eq!(slots.snapshot(9), None);
        let dropped: Vec<_> = (0..8).filter_map(|n| slots.add_snapshot(format!("s{n}"))).collect();
        assert_eq!(dropped, ["s0", "s1"]);
        assert_eq!(slots.snapshot(200).as_deref(), Some("s4"), "200 modulo 6");
    }
}
