//! What is cut, repeated and cancelled: every kind of event, in each of the ways that it can go.

use std::collections::BTreeMap;

use dewpoint_agent::execute::plan::Server;
use dewpoint_agent::hypervisor::fake::script::Fault;
use dewpoint_agent::hypervisor::fake::world::{Guest, Thawing};
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{
    Destroy, DiskDisposal, InitialPower, Kind, Reboot, RebootManner, Restore, Snapshot, Stop, Stubborn,
};
use dewpoint_proto::ids::VmId;

use crate::rig::{Rig, create, image};

/// How the VM is before the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    None,
    On,
    Off,
}

/// One event, and what it meets.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) before: Before,
    pub(crate) kind: Kind,
    /// Done to the host before the event comes.
    pub(crate) prepare: fn(&mut Rig, VmId),
    /// How the event ends: `succeeded`, or the failure's reason.
    pub(crate) ends: &'static str,
}

impl Scenario {
    /// A host with the VM as it is before the event.
    pub(crate) fn set_up(&self) -> (Rig, VmId) {
        let mut rig = Rig::new();
        let vm = VmId::fresh();
        let power = match self.before {
            Before::None => None,
            Before::On => Some(InitialPower::On),
            Before::Off => Some(InitialPower::Off),
        };
        if let Some(power) = power {
            let made = rig.send(vm, create(power));
            assert_eq!(rig.ended(made).name(), "succeeded");
        }
        (self.prepare)(&mut rig, vm);
        (rig, vm)
    }
}

/// A scenario where all goes well.
fn well(name: &'static str, before: Before, kind: Kind) -> Scenario {
    Scenario { name, before, kind, prepare: |_, _| {}, ends: "succeeded" }
}

fn guest(rig: &Rig, vm: VmId, guest: Guest) {
    rig.world.change(|state| state.guests.insert(vm, guest));
}

fn stop(stubborn: Stubborn) -> Kind {
    Kind::Stop(Stop { stubborn, timeout_seconds: None })
}

fn reboot(manner: RebootManner) -> Kind {
    Kind::Reboot(Reboot { manner, timeout_seconds: None })
}

fn snapshot() -> Kind {
    Kind::Snapshot(Snapshot { image_name: None })
}

fn restore() -> Kind {
    Kind::Restore(Restore { source: image(2) })
}

fn destroy(disks: DiskDisposal) -> Kind {
    Kind::Destroy(Destroy { disks })
}

/// All of them.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = goes_well();
    all.extend(cannot_be_built());
    all.extend(goes_wrong());
    all
}

fn goes_well() -> Vec<Scenario> {
    let slow = |rig: &mut Rig, vm| guest(rig, vm, Guest::TakesLooks(2));
    vec![
        well("create on", Before::None, create(InitialPower::On)),
        well("create off", Before::None, create(InitialPower::Off)),
        well("start", Before::Off, Kind::Start),
        well("start of a running VM", Before::On, Kind::Start),
        well("stop", Before::On, stop(Stubborn::Leave)),
        well("stop of a stopped VM", Before::Off, stop(Stubborn::Leave)),
        Scenario { prepare: slow, ..well("stop of a slow guest", Before::On, stop(Stubborn::Leave)) },
        Scenario {
            prepare: |rig, vm| guest(rig, vm, Guest::Ignores),
            ..well("forced stop", Before::On, stop(Stubborn::Force))
        },
        well("soft reboot", Before::On, reboot(RebootManner::Soft)),
        well("hard reboot", Before::On, reboot(RebootManner::Hard)),
        well("snapshot of a running VM", Before::On, snapshot()),
        well("snapshot of a stopped VM", Before::Off, snapshot()),
        Scenario {
            // libvirt still says of the earlier backup that it completed.
            prepare: |rig, vm| {
                let earlier = rig.send(vm, snapshot());
                assert_eq!(rig.ended(earlier).name(), "succeeded");
                rig.world.change(|state| [&mut state.images, &mut state.server].map(BTreeMap::clear));
            },
            ..well("second snapshot of a run", Before::On, snapshot())
        },
        Scenario {
            prepare: |rig, _| rig.server_is(Server::None),
            ..well("snapshot without an image server", Before::On, snapshot())
        },
        Scenario {
            prepare: |rig, vm| rig.world.change(|state| _ = state.thawing.insert(vm, Thawing::After(2))),
            ..well("snapshot of a guest that is slow to thaw", Before::On, snapshot())
        },
        well("restore of a running VM", Before::On, restore()),
        well("restore of a stopped VM", Before::Off, restore()),
        well("destroy", Before::On, destroy(DiskDisposal::Recycle)),
        well("destroy now", Before::Off, destroy(DiskDisposal::DeleteNow)),
    ]
}

/// A scenario where the event cannot be done.
fn wrong(
    name: &'static str,
    before: Before,
    kind: Kind,
    prepare: fn(&mut Rig, VmId),
    ends: &'static str,
) -> Scenario {
    Scenario { name, before, kind, prepare, ends }
}

fn cannot_be_built() -> Vec<Scenario> {
    vec![
        wrong(
            "create of an image that no server has",
            Before::None,
            create(InitialPower::On),
            |rig, _| rig.world.change(|state| state.server.clear()),
            "IMAGE_UNAVAILABLE",
        ),
        wrong(
            "create on a full disk",
            Before::None,
            create(InitialPower::On),
            |rig, _| {
                let full = Cause::new(Reason::DiskFull, "no room");
                rig.world.script().always("make-disk", Fault::Before(full));
            },
            "DISK_FULL",
        ),
        wrong(
            "create that cannot start",
            Before::None,
            create(InitialPower::On),
            |rig, _| rig.world.script().always("start", Fault::fails()),
            "HYPERVISOR_ERROR",
        ),
    ]
}

fn goes_wrong() -> Vec<Scenario> {
    vec![
        wrong(
            "start that cannot",
            Before::Off,
            Kind::Start,
            |rig, _| rig.world.script().always("start", Fault::fails()),
            "HYPERVISOR_ERROR",
        ),
        wrong(
            "stop of a guest that stays",
            Before::On,
            stop(Stubborn::Leave),
            |rig, vm| guest(rig, vm, Guest::Ignores),
            "GUEST_IGNORED_REQUEST",
        ),
        wrong(
            "soft reboot of a guest that stays",
            Before::On,
            reboot(RebootManner::Soft),
            |rig, vm| guest(rig, vm, Guest::Ignores),
            "GUEST_IGNORED_REQUEST",
        ),
        wrong("reboot of a stopped VM", Before::Off, reboot(RebootManner::Soft), |_, _| {}, "VM_NOT_RUNNING"),
        wrong(
            "snapshot that cannot be sealed",
            Before::On,
            snapshot(),
            |rig, _| {
                let refused = Cause::new(Reason::ImageRefused, "it is not whole");
                rig.world.script().always("seal-snapshot", Fault::Before(refused));
            },
            "IMAGE_REFUSED",
        ),
        wrong(
            "restore that cannot be pointed at",
            Before::On,
            restore(),
            |rig, _| rig.world.script().always("define", Fault::fails()),
            "HYPERVISOR_ERROR",
        ),
    ]
}
