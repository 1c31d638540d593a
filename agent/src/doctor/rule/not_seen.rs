//! A source could not be looked at: what rests on it was not compared.

use dewpoint_proto::cause::Cause;

use super::super::world::{Coordinator, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "not-seen",
    severity: Severity::Warning,
    means: "A source could not be looked at. Nothing is inferred about it, and rules that need it found nothing.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let causes = [
        (Source::Journal, world.journal.as_ref().err()),
        (Source::Libvirt, world.libvirt.as_ref().err()),
        (Source::Disk, world.disk.as_ref().err()),
        (Source::Network, world.shield.as_ref().err().or(world.links.as_ref().err())),
        (
            Source::Coordinator,
            match &world.coordinator {
                Coordinator::Unreachable(cause) => Some(cause),
                _ => None,
            },
        ),
    ];
    causes.into_iter().filter_map(|(source, cause)| cause.map(|cause| finding(source, cause))).collect()
}

fn finding(source: Source, cause: &Cause) -> Finding {
    let advice = if cause.advice.is_empty() { "look at the agent's log" } else { &cause.advice };
    Finding::of_host(&RULE, source.to_string(), format!("{source} could not be looked at"))
        .saw(source, &cause.text)
        .advise(advice)
}
