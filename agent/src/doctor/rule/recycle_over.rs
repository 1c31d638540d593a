//! The recycle folder is past its time or its budget.

use super::super::world::World;
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "recycle-over",
    severity: Severity::Note,
    means: "The agent sweeps it every ten minutes: it does not run, or its sweep fails.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let Ok(disk) = &world.disk else { return Vec::new() };
    let (recycle, budget) = (&disk.recycle, world.configured.recycle_budget);
    if recycle.late == 0 && recycle.bytes <= budget {
        return Vec::new();
    }
    vec![
        Finding::of_host(&RULE, "", "the recycle folder holds more than it should")
            .saw(
                Source::Disk,
                format!("{} disks, {} bytes, {} past their time", recycle.disks, recycle.bytes, recycle.late),
            )
            .saw(Source::Configuration, format!("storage.recycle_budget is {budget} bytes"))
            .advise("start the agent; or see `dewpoint-agent recycle ls` and `recycle purge`"),
    ]
}
