//! A running VM whose run no event caused.

use super::super::world::{Settled, World};
use super::super::{Finding, Severity, Source};
use super::Rule;
use crate::hypervisor::Seen;

pub(super) static RULE: Rule = Rule {
    code: "run-unknown",
    severity: Severity::Note,
    means: "Somebody started the VM past Dewpoint; it runs with the configuration of then.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let unknown = |vm: Settled<'_>| {
        let domain = vm.ours().filter(|domain| domain.is_on())?;
        if let Seen::Unknown(_) = domain.live {
            return None;
        }
        let live = domain.live.there().and_then(|live| live.run);
        let told = |run: Option<dewpoint_proto::ids::RunId>| {
            run.map_or_else(|| "none".to_owned(), |run| run.to_string())
        };
        let finding = || {
            Finding::of_vm(
                &RULE,
                vm.vm,
                format!("the VM {} runs, and no event of ours started this run", vm.name()),
            )
            .saw(Source::Journal, format!("latest run {}", told(vm.row.run)))
            .saw(Source::Libvirt, format!("run {}", told(live)))
            .advise("nothing need be done; a reboot through Dewpoint makes the run known again")
        };
        (live != vm.row.run).then(finding)
    };
    world.settled().filter_map(unknown).collect()
}
