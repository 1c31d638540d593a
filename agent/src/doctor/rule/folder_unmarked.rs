//! Something in `vms/` without a mark that we can read.

use super::super::world::World;
use super::super::{Finding, Severity, Source};
use super::Rule;
use crate::storage::survey::FolderOwner;

pub(super) static RULE: Rule = Rule {
    code: "folder-unmarked",
    severity: Severity::Note,
    means: "It is none of ours, and is never touched. A VM of that id cannot be built here.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let folders = world.disk.iter().flat_map(|disk| &disk.folders);
    let unmarked = folders.filter_map(|folder| match &folder.owner {
        FolderOwner::Unmarked(why) => Some((folder, why)),
        _ => None,
    });
    let finding = |(folder, why): (&crate::storage::survey::FolderSeen, &String)| {
        Finding::of_host(&RULE, folder.name.clone(), format!("vms/{} bears no mark of ours", folder.name))
            .saw(Source::Disk, why)
            .advise("ask whose it is, and move it elsewhere")
    };
    unmarked.map(finding).collect()
}
