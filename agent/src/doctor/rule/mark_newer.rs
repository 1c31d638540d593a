//! A domain that bears a newer generation than the journal knows.

use super::super::world::{Settled, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "mark-newer",
    severity: Severity::Severe,
    means: "The journal is older than the world: it was restored from a copy, or the domain comes from another host.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let newer = |vm: Settled<'_>| {
        let mark = vm.ours()?.mark.there()?;
        let finding = || {
            Finding::of_vm(
                &RULE,
                vm.vm,
                format!("the domain of the VM {} is newer than the journal", vm.name()),
            )
            .saw(Source::Journal, format!("generation {}", vm.row.generation))
            .saw(Source::Libvirt, format!("generation {}, by the event {}", mark.generation, mark.event))
            .advise(
                "was agent.db restored from a copy? The coordinator finds it by matching the logs: \
                     `dewpoint host reconcile`",
            )
        };
        (mark.generation > vm.row.generation).then(finding)
    };
    world.settled().filter_map(newer).collect()
}
