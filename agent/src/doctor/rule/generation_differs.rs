//! Coordinator and journal have different generations of a VM.

use super::super::world::{Coordinator, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "generation-differs",
    severity: Severity::Warning,
    means: "One of the two has not heard of the newest change of the VM.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let (Coordinator::Seen(told), Ok(journal)) = (&world.coordinator, &world.journal) else {
        return Vec::new();
    };
    if journal.tail.last_report > journal.tail.acknowledged {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (vm, row) in journal.vms.iter().filter(|(vm, _)| !world.is_busy(**vm)) {
        let Some(said) = told.vms.get(vm).filter(|said| said.unfinished.is_none()) else { continue };
        if said.generation == row.generation {
            continue;
        }
        let text = format!("the VM {} is of another generation at the coordinator", said.name);
        findings.push(
            Finding::of_vm(&RULE, *vm, text)
                .saw(Source::Journal, format!("generation {}", row.generation))
                .saw(Source::Coordinator, format!("generation {}", said.generation))
                .advise(
                    "the next event takes the higher one; if the coordinator's is lower, its database may be an old \
                     copy: see `dewpoint host ls` for recovering hosts",
                ),
        );
    }
    findings
}
