//! Something waits in the quarantine.

use super::super::world::World;
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "quarantined",
    severity: Severity::Note,
    means: "It was moved there because nothing explained it. It stays until a person decides.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let kept = world.disk.iter().flat_map(|disk| &disk.quarantine);
    let finding = |name: &String| {
        Finding::of_host(&RULE, name.clone(), format!("quarantine/{name} waits for a person"))
            .saw(Source::Disk, format!("quarantine/{name}"))
            .advise("see `dewpoint-agent orphans ls`; `orphans remove` moves it to recycle")
    };
    kept.map(finding).collect()
}
