//! What the host says of all its VMs: the journal's rows, each with its domain as it is seen now.
//!
//! A VM of the journal that cannot be observed is told as unknown; a domain of ours that the journal does not know is told
//! too, as it is marked. Foreign domains are not ours to tell of.

use std::collections::BTreeMap;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{ReportSeq, VmId};
use dewpoint_proto::vm_state::{Power, VmState};

use super::apply::Effects;
use super::finish::state_of;
use crate::hypervisor::{Domain, Domains, Wanted};
use crate::journal::{Journal, VmRow};

/// Every VM that the host knows, each as of the newest report whose event it already shows.
///
/// # Errors
/// When the journal cannot be read.
pub async fn inventory(journal: &Journal, effects: &Effects) -> Result<Vec<VmState>, Cause> {
    // The report's number is read before the domains, so a state never claims an event that it does not show.
    let as_of = *journal.reports().borrow();
    let domains = effects.hypervisor.list().await;
    let rows = journal.vms().await?;
    Ok(told(&rows, domains.as_ref(), as_of))
}

/// The same, of what was read. Pure.
#[must_use]
fn told(rows: &[VmRow], domains: Result<&Domains, &Cause>, as_of: ReportSeq) -> Vec<VmState> {
    let mut states: BTreeMap<VmId, VmState> = rows.iter().map(|row| (row.vm, of_row(row, domains))).collect();
    for domain in domains.into_iter().flat_map(BTreeMap::values) {
        let ours = domain.mark.there().or(domain.live.there()).is_some_and(|mark| mark.vm == domain.vm);
        if ours {
            states.entry(domain.vm).or_insert_with(|| state_of(domain));
        }
    }
    states.into_values().map(|state| VmState { as_of, ..state }).collect()
}

fn of_row(row: &VmRow, domains: Result<&Domains, &Cause>) -> VmState {
    let name = row.name.as_ref().map(ToString::to_string).unwrap_or_default();
    match domains {
        Err(cause) => bare(row, name, Power::Unknown, cause.text.clone()),
        Ok(domains) => match domains.get(&row.vm) {
            None => bare(row, name, Power::Absent, String::new()),
            Some(domain) if is_foreign(domain) => {
                bare(row, name, Power::Absent, "a foreign domain has its UUID".to_owned())
            }
            Some(domain) => VmState { name, ..state_of(domain) },
        },
    }
}

/// What the journal alone says of a VM.
fn bare(row: &VmRow, name: String, power: Power, power_detail: String) -> VmState {
    VmState {
        vm: row.vm,
        name,
        generation: row.generation,
        power,
        power_detail,
        wanted_on: row.wanted == Wanted::On,
        run: None,
        disk: row.disk,
        as_of: ReportSeq(0),
        gone: false,
    }
}

fn is_foreign(domain: &Domain) -> bool {
    domain.mark == crate::hypervisor::Seen::Absent && domain.live.there().is_none()
}

#[cfg(test)]
mod tests {
    use dewpoint_proto::cause::Reason;
    use dewpoint_proto::ids::Generation;

    use super::*;
    use crate::hypervisor::{BackupJob, Control, Seen};
    use crate::journal::admission::Presence;

    fn row() -> VmRow {
        VmRow {
            vm: VmId::fresh(),
            name: Some("web".parse().unwrap()),
            generation: Generation(3),
            presence: Presence::There,
            wanted: Wanted::On,
            disk: None,
            seed: None,
            run: None,
            spec: None,
        }
    }

    fn foreign(vm: VmId) -> Domain {
        Domain {
            vm,
            name: "other".to_owned(),
            power: Power::Running,
            detail: String::new(),
            mark: Seen::Absent,
            live: Seen::Absent,
            backup: BackupJob::None,
            control: Control::Idle,
        }
    }

    #[test]
    fn a_vm_that_cannot_be_observed_is_unknown_and_not_off() {
        let down = Cause::new(Reason::HypervisorDown, "libvirt is not reachable");
        let states = told(&[row()], Err(&down), ReportSeq(4));
        assert_eq!((states[0].power, states[0].as_of, states[0].gone), (Power::Unknown, ReportSeq(4), false));
    }

    #[test]
    fn foreign_domains_are_not_told() {
        let row = row();
        let domains = [row.vm, VmId::fresh()].map(|vm| (vm, foreign(vm))).into_iter().collect();
        let states = told(std::slice::from_ref(&row), Ok(&domains), ReportSeq(0));
        assert_eq!(
            states.iter().map(|state| (state.vm, state.power)).collect::<Vec<_>>(),
            [(row.vm, Power::Absent)]
        );
    }
}
