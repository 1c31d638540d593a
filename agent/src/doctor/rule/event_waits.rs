//! Unfinished events, and no daemon to go on with them.

use super::super::world::{Daemon, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "event-waits",
    severity: Severity::Warning,
    means: "The events are on disk and are gone on with as soon as the agent runs; until then nothing happens for these VMs.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let Ok(journal) = &world.journal else { return Vec::new() };
    if world.daemon == Daemon::Up {
        return Vec::new();
    }
    let finding = |(vm, event): (&_, &dewpoint_proto::ids::EventId)| {
        Finding::of_vm(&RULE, *vm, format!("the event {event} is unfinished, and the agent does not run"))
            .saw(Source::Journal, "accepted, not ended")
            .advise(format!(
                "start the agent: `systemctl start dewpoint-agent`; see `dewpoint-agent event show {event}`"
            ))
    };
    journal.busy.iter().map(finding).collect()
}
