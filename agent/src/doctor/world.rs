//! What was seen, as values: the journal, libvirt, the disk, the network, the coordinator. Rules decide on nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{EventId, Generation, HostId, VmId};
use dewpoint_proto::names::InterfaceName;
use dewpoint_proto::time::Millis;

use crate::hypervisor::{Details, Domain, Inspected, Seen};
use crate::journal::VmRow;
use crate::journal::rows::{Parked, Tail};
use crate::network::Survey;
use crate::storage::survey::{DiskSurvey, FolderOwner, FolderSeen};

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole host.
    Host,
    /// What belongs to one VM.
    Vm(VmId),
}

/// One look at a host. A source that could not be looked at says why.
#[derive(Clone, Debug)]
pub struct World {
    /// What was looked at.
    pub scope: Scope,
    /// When.
    pub now: Millis,
    /// This host; none: the agent has never started.
    pub host: Option<HostId>,
    /// Whether the agent's daemon answers.
    pub daemon: Daemon,
    /// `agent.db`.
    pub journal: Result<JournalSeen, Cause>,
    /// Every domain.
    pub libvirt: Result<BTreeMap<VmId, Inspected>, Cause>,
    /// The data folder.
    pub disk: Result<DiskSurvey, Cause>,
    /// Our nftables table.
    pub shield: Result<Survey, Cause>,
    /// Interfaces of the host.
    pub links: Result<Links, Cause>,
    /// What the coordinator has of this host.
    pub coordinator: Coordinator,
    /// What is configured.
    pub configured: Configured,
}

/// Whether the agent's daemon answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// It does.
    Up,
    /// It does not.
    Down,
}

/// The journal.
#[derive(Clone, Debug)]
pub struct JournalSeen {
    /// VMs that are there or being built.
    pub vms: BTreeMap<VmId, VmRow>,
    /// VMs that were here.
    pub gone: BTreeSet<VmId>,
    /// VMs with an unfinished event.
    pub busy: BTreeMap<VmId, EventId>,
    /// Events that this version cannot go on with.
    pub parked: Vec<Parked>,
    /// Where it ends.
    pub tail: Tail,
    /// When the oldest report that waits for an acknowledgement was written.
    pub waits_since: Option<Millis>,
}

/// Interfaces of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Interfaces that are named as our taps are, with the bridge that each is in.
    pub taps: BTreeMap<String, Option<String>>,
    /// Bridges.
    pub bridges: BTreeSet<String>,
}

/// What the coordinator has of this host.
#[derive(Clone, Debug)]
pub enum Coordinator {
    /// None is configured, or it does not matter to what is looked at.
    NotAsked,
    /// It could not be asked.
    Unreachable(Cause),
    /// It does not know this host.
    Stranger,
    /// As it told.
    Seen(CoordinatorSeen),
}

/// As the coordinator told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoordinatorSeen {
    /// Its VMs on this host.
    pub vms: BTreeMap<VmId, VmTold>,
    /// Why the two logs do not match, if they do not.
    pub diverged: Option<Cause>,
}

/// A VM, as the coordinator has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmTold {
    /// Its name.
    pub name: String,
    /// The newest generation that it gave out or heard of.
    pub generation: Generation,
    /// Its unfinished event.
    pub unfinished: Option<String>,
}

/// What is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// The bridge of interfaces that name none.
    pub bridge: InterfaceName,
    /// The nftables table.
    pub table: String,
    /// How much the recycle folder may hold.
    pub recycle_budget: u64,
}

/// A VM of the journal that nothing is being done with, beside its domain.
pub(super) struct Settled<'a> {
    pub(super) vm: VmId,
    pub(super) row: &'a VmRow,
    pub(super) inspected: Option<&'a Inspected>,
}

impl Settled<'_> {
    /// Its domain, when it bears our mark.
    pub(super) fn ours(&self) -> Option<&Domain> {
        self.inspected.map(|seen| &seen.domain).filter(|domain| bears_mark(domain))
    }

    /// What libvirt has of it beside.
    pub(super) fn details(&self) -> Option<&Details> {
        self.ours()?;
        self.inspected.and_then(|seen| seen.details.there())
    }

    /// Its name, for people.
    pub(super) fn name(&self) -> String {
        self.row.name.as_ref().map_or_else(|| self.vm.to_string(), ToString::to_string)
    }
}

impl World {
    /// VMs of the journal that are there, with no unfinished event, beside their domains. None, when either the journal
    /// or libvirt could not be looked at: nothing is inferred then.
    pub(super) fn settled(&self) -> impl Iterator<Item = Settled<'_>> {
        let both = self.journal.as_ref().ok().zip(self.libvirt.as_ref().ok());
        both.into_iter().flat_map(|(journal, domains)| {
            let there = journal.vms.iter().filter(|(vm, _)| !journal.busy.contains_key(vm));
            there.map(|(vm, row)| Settled { vm: *vm, row, inspected: domains.get(vm) })
        })
    }

    /// The VM's folder, when the disk could be looked at.
    pub(super) fn folder(&self, vm: VmId) -> Option<&FolderSeen> {
        self.disk.as_ref().ok()?.folders.iter().find(|folder| folder.vm == Some(vm))
    }

    /// Folders that bear our mark, with their VM.
    pub(super) fn our_folders(&self) -> impl Iterator<Item = (VmId, &FolderSeen)> {
        let folders = self.disk.iter().flat_map(|disk| &disk.folders);
        folders
            .filter(|folder| folder.owner == FolderOwner::Us)
            .filter_map(|folder| folder.vm.map(|vm| (vm, folder)))
    }

    /// Whether something is being done with a VM: what is seen of it then is no disagreement.
    pub(super) fn is_busy(&self, vm: VmId) -> bool {
        self.journal.as_ref().is_ok_and(|journal| journal.busy.contains_key(&vm))
    }

    /// The journal's row of a VM.
    pub(super) fn row(&self, vm: VmId) -> Option<&VmRow> {
        self.journal.as_ref().ok()?.vms.get(&vm)
    }

    /// The path of a file in a VM's folder.
    pub(super) fn path_in(&self, vm: VmId, name: &str) -> Option<PathBuf> {
        Some(self.disk.as_ref().ok()?.root.join("vms").join(vm.to_string()).join(name))
    }

    /// Whether a domain is of this agent: the journal has it, a folder of it bears our mark, or its files are in our data
    /// folder. A mark alone proves nothing: it names no host, and other agents' VMs bear one as well.
    pub(super) fn is_of_us(&self, seen: &Inspected) -> bool {
        let vm = seen.domain.vm;
        let folder = self.folder(vm).is_some_and(|folder| folder.owner == FolderOwner::Us);
        let (known, root) = (self.row(vm).is_some(), self.disk.as_ref().map(|disk| disk.root.join("vms")));
        let files = seen.details.there().into_iter().flat_map(|details| [&details.disk, &details.seed]);
        known || folder || root.is_ok_and(|root| files.flatten().any(|path| path.starts_with(&root)))
    }

    /// Whether a domain of this agent does not tell now which files it opens.
    pub(super) fn hides_files(&self, seen: &Inspected) -> bool {
        matches!(seen.details, Seen::Unknown(_)) && self.is_of_us(seen)
    }

    /// Whether any domain could be using a VM's folder: one of its UUID, or one whose files are there. Also when libvirt
    /// could not be asked, or did not tell all of it.
    pub(super) fn may_be_used(&self, vm: VmId) -> bool {
        // Of one VM alone, other domains were not looked at.
        let (Scope::Host, Ok(domains)) = (self.scope, &self.libvirt) else { return true };
        let Some(folder) = self.path_in(vm, "") else { return true };
        domains.values().any(|seen| {
            let named = |details: &Details| {
                let files = [&details.disk, &details.seed];
                files.into_iter().flatten().any(|path| path.starts_with(&folder))
            };
            match &seen.details {
                Seen::There(details) => seen.domain.vm == vm || named(details),
                Seen::Absent => seen.domain.vm == vm,
                Seen::Unknown(_) => seen.domain.vm == vm || self.hides_files(seen),
            }
        })
    }
}

/// Whether a domain bears our mark, in its configuration or in its run.
pub(super) fn bears_mark(domain: &Domain) -> bool {
    matches!(domain.mark, Seen::There(_)) || matches!(domain.live, Seen::There(_))
}
