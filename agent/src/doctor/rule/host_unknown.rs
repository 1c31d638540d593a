//! The coordinator answers, and does not know this host.

use super::super::world::{Coordinator, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "host-unknown",
    severity: Severity::Warning,
    means: "Nothing is placed here, and what this host reports goes to nobody.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let (Coordinator::Stranger, Some(host)) = (&world.coordinator, world.host) else { return Vec::new() };
    vec![
        Finding::of_host(&RULE, "", "the coordinator does not know this host")
            .saw(Source::Disk, format!("host-id is {host}"))
            .saw(Source::Coordinator, "no such host")
            .advise(
                "start the agent, which makes itself known; if it was known before, the coordinator's database was \
                 replaced: see `dewpoint host ls`",
            ),
    ]
}
