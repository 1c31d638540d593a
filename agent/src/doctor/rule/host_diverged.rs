//! The two logs of the host do not match.

use super::super::world::{Coordinator, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "host-diverged",
    severity: Severity::Severe,
    means: "Nothing is delivered to this host until a person reconciles it; its VMs run on.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let Coordinator::Seen(told) = &world.coordinator else { return Vec::new() };
    let (Some(cause), Ok(journal)) = (&told.diverged, &world.journal) else { return Vec::new() };
    let last = journal.tail.last.map_or_else(|| "none".to_owned(), |(seq, _)| seq.to_string());
    vec![
        Finding::of_host(&RULE, "", "the coordinator's log and this journal do not match")
            .saw(Source::Coordinator, &cause.text)
            .saw(Source::Journal, format!("journal {}, last seq {last}", journal.tail.epoch.journal))
            .advise("see the plan of `dewpoint host reconcile HOST`, and carry it out if it is right"),
    ]
}
