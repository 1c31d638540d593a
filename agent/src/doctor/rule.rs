//! The rules: a file for each, pure. A rule finds one kind of disagreement, says what it means, and infers nothing from
//! what could not be looked at.

mod access;
mod autostart;
mod base_missing;
mod bridge_missing;
mod control_busy;
mod coordinator_has_more;
mod coordinator_lacks;
mod disk_differs;
mod disk_missing;
mod disk_unused;
mod domain_foreign;
mod domain_missing;
mod domain_orphan;
mod event_parked;
mod event_waits;
mod folder_of_another;
mod folder_orphan;
mod folder_unmarked;
mod foreign_files;
mod generation_differs;
mod host_diverged;
mod host_unknown;
mod leftover_files;
mod managed_save;
mod mark_newer;
mod mark_unreadable;
mod not_seen;
mod paused;
mod points_elsewhere;
mod power_differs;
mod quarantined;
mod recycle_over;
mod recycle_unknown;
mod renamed;
mod reports_wait;
mod run_unknown;
mod seed_missing;
mod shield_missing;
mod shield_stale;
mod spec_unknown;
mod tap_missing;
mod tap_off_bridge;
mod tap_stale;
mod transient;
mod wanted_differs;

use std::collections::BTreeMap;

use dewpoint_proto::ids::VmId;

use super::world::World;
use super::{Finding, Severity};
use crate::hypervisor::{Inspected, Seen};

/// One kind of disagreement.
#[derive(Debug)]
pub struct Rule {
    /// Its name, for programs and in `docs/mending.md`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it means for the host and its VMs.
    pub means: &'static str,
    pub(super) find: fn(&World) -> Vec<Finding>,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code
    }
}

impl Eq for Rule {}

/// Every rule.
pub static RULES: [&Rule; 45] = [
    &access::RULE,
    &autostart::RULE,
    &base_missing::RULE,
    &bridge_missing::RULE,
    &control_busy::RULE,
    &coordinator_has_more::RULE,
    &coordinator_lacks::RULE,
    &disk_differs::RULE,
    &disk_missing::RULE,
    &disk_unused::RULE,
    &domain_foreign::RULE,
    &domain_missing::RULE,
    &domain_orphan::RULE,
    &event_parked::RULE,
    &event_waits::RULE,
    &folder_of_another::RULE,
    &folder_orphan::RULE,
    &folder_unmarked::RULE,
    &foreign_files::RULE,
    &generation_differs::RULE,
    &host_diverged::RULE,
    &host_unknown::RULE,
    &leftover_files::RULE,
    &managed_save::RULE,
    &mark_newer::RULE,
    &mark_unreadable::RULE,
    &not_seen::RULE,
    &paused::RULE,
    &points_elsewhere::RULE,
    &power_differs::RULE,
    &quarantined::RULE,
    &recycle_over::RULE,
    &recycle_unknown::RULE,
    &renamed::RULE,
    &reports_wait::RULE,
    &run_unknown::RULE,
    &seed_missing::RULE,
    &shield_missing::RULE,
    &shield_stale::RULE,
    &spec_unknown::RULE,
    &tap_missing::RULE,
    &tap_off_bridge::RULE,
    &tap_stale::RULE,
    &transient::RULE,
    &wanted_differs::RULE,
];

/// Whether the domain of a VM does not tell all of itself: nothing is inferred then about what it uses.
fn is_unclear(domains: &BTreeMap<VmId, Inspected>, vm: VmId) -> bool {
    domains.get(&vm).is_some_and(|seen| {
        let unknown = |mark| matches!(mark, &Seen::Unknown(_));
        matches!(seen.details, Seen::Unknown(_)) || unknown(&seen.domain.mark) || unknown(&seen.domain.live)
    })
}

/// Whether every domain of this agent tells which files it opens.
fn all_clear(world: &World) -> bool {
    world.libvirt.as_ref().is_ok_and(|domains| domains.values().all(|seen| !world.hides_files(seen)))
}

/// The names of the files of a VM's folder that any domain opens, whatever its mark says.
fn files_named(world: &World, vm: VmId) -> Vec<String> {
    let (Some(folder), Ok(domains)) = (world.path_in(vm, ""), &world.libvirt) else { return Vec::new() };
    let details = domains.values().filter_map(|seen| seen.details.there());
    let paths = details.flat_map(|details| [&details.disk, &details.seed]).flatten();
    paths.filter_map(|path| Some(path.strip_prefix(&folder).ok()?.to_string_lossy().into_owned())).collect()
}
