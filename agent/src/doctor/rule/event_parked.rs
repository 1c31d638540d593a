//! An unfinished event that this version of the agent cannot go on with.

use super::super::world::World;
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "event-parked",
    severity: Severity::Severe,
    means: "The event blocks its VM: no other event is accepted for it but a newer agent's.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let parked = world.journal.iter().flat_map(|journal| &journal.parked);
    let finding = |event: &crate::journal::rows::Parked| {
        Finding::of_vm(
            &RULE,
            event.vm,
            format!("the {} event {} cannot be gone on with", event.kind, event.event),
        )
        .about(event.event.to_string())
        .saw(Source::Journal, &event.cause.text)
        .advise(&event.cause.advice)
    };
    parked.map(finding).collect()
}
