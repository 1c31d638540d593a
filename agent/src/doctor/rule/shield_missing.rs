//! A running VM without its anti-spoofing rules.

use dewpoint_proto::names::InterfaceName;

use super::super::world::{Settled, World};
use super::super::{Finding, Repair, Severity, Source};
use super::Rule;
use crate::network::{Allowed, Rules, Survey, rules_of, tap_prefix};

pub(super) static RULE: Rule = Rule {
    code: "shield-missing",
    severity: Severity::Severe,
    means: "The guest can send with other addresses than its own, or cannot send at all.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let Ok(shield) = &world.shield else { return Vec::new() };
    world.settled().filter_map(|vm| finding(world, &vm, shield)).collect()
}

fn finding(world: &World, vm: &Settled<'_>, shield: &Survey) -> Option<Finding> {
    let spec = vm.row.spec.as_ref().filter(|spec| !spec.nics.is_empty())?;
    vm.ours().filter(|domain| domain.is_on())?;
    let (wanted, prefix) = (rules_of(vm.vm, spec), tap_prefix(vm.vm));
    let mut found: Vec<Allowed> =
        shield.in_force.iter().filter(|one| one.tap.as_str().starts_with(&prefix)).cloned().collect();
    found.sort_by(|a, b| a.tap.cmp(&b.tap));
    if shield.rules == Rules::Whole && found == wanted {
        return None;
    }
    let said = match shield.rules {
        Rules::None => "the table has no rules".to_owned(),
        Rules::Broken => "the table's rules are not all ours".to_owned(),
        Rules::Whole => format!("in force for {}", told(found.iter().map(|one| &one.tap))),
    };
    let text = format!("the VM {} runs without its anti-spoofing rules", vm.name());
    let found = Finding::of_vm(&RULE, vm.vm, text)
        .saw(Source::Network, format!("table bridge {}: {said}", world.configured.table))
        .saw(Source::Journal, format!("wanted for {}", told(wanted.iter().map(|one| &one.tap))))
        .advise("let it be repaired; then find what flushed them (firewalld, `nft flush ruleset`)")
        .repaired_by(Repair::SetShield(vm.vm));
    Some(found)
}

fn told<'a>(taps: impl Iterator<Item = &'a InterfaceName>) -> String {
    let taps: Vec<_> = taps.map(InterfaceName::as_str).collect();
    if taps.is_empty() { "no tap of it".to_owned() } else { taps.join(", ") }
}
