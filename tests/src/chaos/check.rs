//! The promises, checked against what is there at the end and what was seen on the way. Pure: a [`World`] in, what is
//! wrong with it out. Each has a test that shows that it can fail.

mod disks;
mod events;
mod host;
mod policy;
mod runs;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::policy::{given_up, restarts};

use super::history::What;
use super::world::World;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Its number in ARCHITECTURE.md, with the check's name.
    pub promise: &'static str,
    /// What is wrong.
    pub detail: String,
}

impl Violation {
    fn new(promise: &'static str, detail: impl Into<String>) -> Self {
        Self { promise, detail: detail.into() }
    }
}

/// A check.
type Check = fn(&World) -> Vec<Violation>;

const CHECKS: &[Check] = &[
    noted,
    something_was_tried,
    events::acknowledged_events_have_ended,
    events::both_sides_agree,
    events::one_report_each,
    events::the_queue_has_no_gaps,
    events::generations_rise,
    events::refused_means_refused,
    events::the_accounting_is_right,
    runs::no_vm_twice,
    runs::a_run_is_one_power_on,
    runs::processes_end_for_a_reason,
    runs::runs_begin_for_a_reason,
    policy::restarts_are_as_the_policy_says,
    policy::what_is_off_is_left_off_by_its_policy,
    host::nothing_is_left_over,
    host::every_vm_is_whole,
    host::what_somebody_did_is_told_and_left,
    host::addresses_are_one_vms,
    disks::the_disk_is_the_last_one_asked_for,
    disks::power_is_as_wanted,
    disks::guests_have_what_they_wrote,
];

/// Everything that is wrong.
#[must_use]
pub fn all(world: &World) -> Vec<Violation> {
    CHECKS.iter().flat_map(|check| check(world)).collect()
}

/// What was found wrong on the way.
fn noted(world: &World) -> Vec<Violation> {
    let noted = world.history.iter().filter_map(|line| match &line.what {
        What::Violated { promise, detail } => {
            Some(Violation::new("noted", format!("promise {promise}: {detail}")))
        }
        What::NotSettled { detail } => Some(Violation::new("3, settles", detail.clone())),
        What::DiedByItself { daemon, status, excuse: None } => {
            Some(Violation::new("a daemon lives", format!("{daemon} ended by itself: {status}")))
        }
        _ => None,
    });
    let mut found: Vec<_> = noted.collect();
    found.extend(world.fleet.trouble.iter().map(|why| Violation::new("1, the logs match", why.clone())));
    found
}

/// A run in which nothing was built has shown nothing.
fn something_was_tried(world: &World) -> Vec<Violation> {
    let built = world.fleet.events.iter().any(|event| event.kind == "create" && event.stage == "succeeded");
    let ran =
        world.history.iter().any(|line| matches!(&line.what, What::Seen { run, .. } if run.qemu.is_some()));
    if built && ran {
        return Vec::new();
    }
    vec![Violation::new("something was tried", format!("a VM was built: {built}; a VM ran: {ran}"))]
}
