//! A host on which all sides agree: one VM that runs, with a disk on a base, a seed, a NIC and its rules.

use std::collections::{BTreeMap, BTreeSet};

use dewpoint_proto::ids::{EventId, Generation, HostId, JournalId, ReportSeq, RunId, VmId};
use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::{DiskMode, ImageDigest, Nic, Placement, VmSpec};
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::Power;

use crate::doctor::compare;
use crate::doctor::world::{
    Configured, Coordinator, CoordinatorSeen, Daemon, JournalSeen, Links, Scope, VmTold, World,
};
use crate::hypervisor::{
    BackupJob, Control, Details, Domain, Inspected, InspectedNic, Mark, Seen, Wanted, domain_name,
};
use crate::journal::VmRow;
use crate::journal::admission::Presence;
use crate::journal::rows::{Session, Tail};
use crate::network::{Rules, Survey, rules_of, tap_name};
use crate::storage::survey::{DiskSurvey, EntrySeen, FolderOwner, FolderSeen, What};

pub(super) const IMAGE: ImageDigest = ImageDigest([7; 32]);
pub(super) const NOW: Millis = Millis(1_795_000_000_000);

/// The world, and what is in it.
#[derive(Clone, Debug)]
pub(super) struct Sound {
    pub(super) world: World,
    pub(super) vm: VmId,
    pub(super) tap: String,
}

pub(super) fn spec() -> VmSpec {
    VmSpec {
        name: "web".parse().unwrap(),
        vcpus: 1,
        memory_bytes: 128 * MIB,
        disk_bytes: 8 * MIB,
        disk_mode: DiskMode::Overlay,
        nics: vec![Nic {
            mac: "52:54:00:12:34:56".parse().unwrap(),
            network: None,
            bridge: None,
            addresses: vec!["192.0.2.5/24".parse().unwrap()],
            gateway4: None,
            gateway6: None,
            nameservers: Vec::new(),
        }],
        ssh_keys: vec![],
        user_data: vec![],
        labels: BTreeMap::new(),
        placement: Placement::Bound,
        restart: dewpoint_proto::spec::Restart::default(),
    }
}

pub(super) fn mark(vm: VmId, disk: EventId) -> Mark {
    Mark {
        vm,
        generation: Generation(3),
        event: disk,
        run: Some(RunId::from(disk)),
        wanted: Wanted::On,
        disk,
        seed: disk,
    }
}

pub(super) fn sound() -> Sound {
    let (vm, disk) = (VmId::fresh(), EventId::fresh());
    let tap = tap_name(vm, 0).to_string();
    let world = World {
        scope: Scope::Host,
        now: NOW,
        host: Some(HostId::fresh()),
        daemon: Daemon::Up,
        journal: Ok(journal(vm, disk)),
        libvirt: Ok(
            [(vm, Inspected { domain: domain(vm, disk), details: Seen::There(details(vm, disk)) })].into()
        ),
        disk: Ok(on_disk(vm, disk)),
        shield: Ok(Survey {
            rules: Rules::Whole,
            in_force: rules_of(vm, &spec()),
            taps: BTreeSet::from([tap.clone()]),
        }),
        links: Ok(Links {
            taps: [(tap.clone(), Some("br0".to_owned()))].into(),
            bridges: BTreeSet::from(["br0".to_owned()]),
        }),
        coordinator: Coordinator::Seen(CoordinatorSeen {
            vms: [(vm, VmTold { name: "web".into(), generation: Generation(3), unfinished: None })].into(),
            diverged: None,
        }),
        configured: Configured {
            bridge: "br0".parse().unwrap(),
            table: "dewpoint".into(),
            recycle_budget: 1000,
        },
    };
    Sound { world, vm, tap }
}

fn journal(vm: VmId, disk: EventId) -> JournalSeen {
    let row = VmRow {
        vm,
        name: Some("web".parse().unwrap()),
        generation: Generation(3),
        presence: Presence::There,
        wanted: Wanted::On,
        disk: Some(disk),
        seed: Some(disk),
        run: Some(RunId::from(disk)),
        spec: Some(spec()),
        kept: crate::journal::kept::Kept::default(),
        unfinished: false,
    };
    JournalSeen {
        vms: [(vm, row)].into(),
        gone: BTreeSet::new(),
        busy: BTreeMap::new(),
        parked: Vec::new(),
        tail: Tail {
            epoch: dewpoint_proto::ids::Epoch { journal: JournalId::fresh(), start_count: 1 },
            last: None,
            last_report: ReportSeq(4),
            acknowledged: ReportSeq(4),
            session: Session::default(),
        },
        waits_since: None,
    }
}

fn domain(vm: VmId, disk: EventId) -> Domain {
    Domain {
        vm,
        name: domain_name("web", vm),
        power: Power::Running,
        detail: "running/booted".into(),
        mark: Seen::There(mark(vm, disk)),
        live: Seen::There(mark(vm, disk)),
        backup: BackupJob::None,
        control: Control::Idle,
        claims: None,
    }
}

fn details(vm: VmId, disk: EventId) -> Details {
    let folder = std::path::Path::new("/data/vms").join(vm.to_string());
    Details {
        persistent: true,
        autostart: false,
        managed_save: false,
        disk: Some(folder.join(format!("{disk}.qcow2"))),
        seed: Some(folder.join(format!("{disk}.seed"))),
        nics: vec![InspectedNic {
            tap: Some(tap_name(vm, 0).to_string()),
            bridge: Some("br0".into()),
            mac: Some("52:54:00:12:34:56".into()),
        }],
        vcpus: 1,
        memory_bytes: 128 * MIB,
        config: None,
    }
}

fn on_disk(vm: VmId, disk: EventId) -> DiskSurvey {
    let entries = vec![
        entry("vm.json", What::Ours),
        entry(&format!("{IMAGE}.base"), What::Base(IMAGE)),
        entry(&format!("{disk}.qcow2"), What::Disk(disk, Ok(Some(IMAGE)))),
        entry(&format!("{disk}.seed"), What::Seed(disk)),
    ];
    DiskSurvey {
        root: "/data".into(),
        folders: vec![folder(&vm.to_string(), Some(vm), FolderOwner::Us, entries)],
        images: vec![IMAGE],
        ..DiskSurvey::default()
    }
}

pub(super) fn folder(
    name: &str,
    vm: Option<VmId>,
    owner: FolderOwner,
    entries: Vec<EntrySeen>,
) -> FolderSeen {
    FolderSeen { name: name.to_owned(), vm, owner, entries, access: None }
}

pub(super) fn entry(name: &str, what: What) -> EntrySeen {
    EntrySeen { name: name.to_owned(), what, access: None }
}

impl Sound {
    pub(super) fn codes(&self) -> Vec<&'static str> {
        let mut codes: Vec<_> = compare(&self.world).iter().map(|found| found.rule.code).collect();
        codes.dedup();
        codes
    }

    pub(super) fn journal(&mut self) -> &mut JournalSeen {
        self.world.journal.as_mut().unwrap()
    }

    pub(super) fn row(&mut self) -> &mut VmRow {
        let vm = self.vm;
        self.journal().vms.get_mut(&vm).unwrap()
    }

    pub(super) fn inspected(&mut self) -> &mut Inspected {
        self.world.libvirt.as_mut().unwrap().get_mut(&self.vm).unwrap()
    }

    pub(super) fn domain(&mut self) -> &mut Domain {
        &mut self.inspected().domain
    }

    pub(super) fn mark(&mut self) -> &mut Mark {
        match &mut self.domain().mark {
            Seen::There(mark) => mark,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn details(&mut self) -> &mut Details {
        match &mut self.inspected().details {
            Seen::There(details) => details,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn disk(&mut self) -> &mut DiskSurvey {
        self.world.disk.as_mut().unwrap()
    }

    pub(super) fn files(&mut self) -> &mut Vec<EntrySeen> {
        &mut self.disk().folders[0].entries
    }

    pub(super) fn shield(&mut self) -> &mut Survey {
        self.world.shield.as_mut().unwrap()
    }

    pub(super) fn links(&mut self) -> &mut Links {
        self.world.links.as_mut().unwrap()
    }

    pub(super) fn told(&mut self) -> &mut CoordinatorSeen {
        match &mut self.world.coordinator {
            Coordinator::Seen(told) => told,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn off(&mut self) {
        let domain = self.domain();
        domain.power = Power::Off;
        domain.detail = "shutoff/shutdown".into();
        domain.live = Seen::Absent;
        self.mark().wanted = Wanted::Off;
        self.row().wanted = Wanted::Off;
        let tap = self.tap.clone();
        self.links().taps.remove(&tap);
    }
}
