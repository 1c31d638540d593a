//! A folder that bears another host's mark.

use super::super::world::World;
use super::super::{Finding, Severity, Source};
use super::Rule;
use crate::storage::survey::FolderOwner;

pub(super) static RULE: Rule = Rule {
    code: "folder-of-another",
    severity: Severity::Warning,
    means: "The disk, or the folder, came from another host. Nothing is done with it here.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let folders = world.disk.iter().flat_map(|disk| &disk.folders);
    let others = folders.filter_map(|folder| match folder.owner {
        FolderOwner::Host(host) => Some((folder, host)),
        _ => None,
    });
    let finding = |(folder, host): (&crate::storage::survey::FolderSeen, _)| {
        Finding::of_host(&RULE, folder.name.clone(), format!("the folder vms/{} is another host's", folder.name))
            .saw(Source::Disk, format!("marked by the host {host}"))
            .advise(
                "if that host still lives, give it back; if this machine took its place, see `dewpoint host replace`",
            )
    };
    others.map(finding).collect()
}
