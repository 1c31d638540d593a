//! Something in the recycle folder without a receipt of ours.

use super::super::world::World;
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "recycle-unknown",
    severity: Severity::Note,
    means: "It is none of ours, is never purged, and counts against no budget.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let unknown = world.disk.iter().flat_map(|disk| &disk.recycle.unknown);
    let finding = |name: &String| {
        Finding::of_host(&RULE, name.clone(), format!("recycle/{name} bears no receipt of ours"))
            .saw(Source::Disk, "no receipt, or another host's")
            .advise("ask whose it is, and move it elsewhere")
    };
    unknown.map(finding).collect()
}
