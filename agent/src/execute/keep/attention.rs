//! What somebody changed behind the agent's back, from the journal's rows and what libvirt has. Pure.
//!
//! Named, with what to do; never mended here: whoever did it may have meant it, and undoing it could destroy.

use std::collections::BTreeMap;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::VmId;

use crate::execute::observed::foreign;
use crate::hypervisor::{Domain, Domains, Mark, Seen, domain_name};
use crate::journal::VmRow;
use crate::journal::admission::Presence;

/// Every VM of which something was changed, with the first thing that is to be looked at.
#[must_use]
pub fn all(rows: &[VmRow], domains: &Domains) -> BTreeMap<VmId, Cause> {
    let settled = rows.iter().filter(|row| row.presence == Presence::There && !row.unfinished);
    settled.filter_map(|row| Some((row.vm, of(row, domains)?))).collect()
}

fn of(row: &VmRow, domains: &Domains) -> Option<Cause> {
    let name = row.name.as_ref().map(|name| domain_name(name.as_str(), row.vm));
    let Some(domain) = domains.get(&row.vm) else {
        let taken = domains.values().find(|other| Some(&other.name) == name.as_ref());
        return Some(taken.map_or_else(|| gone(row), |other| name_taken(row, other)));
    };
    changed(row, domain).or_else(|| twice(row, domain, domains)).or_else(|| {
        let name = name.filter(|name| *name != domain.name)?;
        Some(renamed(domain, &name))
    })
}

/// The domain of a VM that is to be there is not.
#[must_use]
pub fn gone(row: &VmRow) -> Cause {
    Cause::new(Reason::DomainGone, "its domain is gone: somebody undefined it; its disks are still there")
        .advise(
            "`dewpoint-agent doctor --repair` defines it again, if it runs nowhere else; or destroy the VM",
        )
        .with("vm_id", row.vm)
}

fn name_taken(row: &VmRow, other: &Domain) -> Cause {
    Cause::new(
        Reason::ForeignDomain,
        format!("its domain is gone, and another domain is called `{}`", other.name),
    )
    .advise("rename that domain; then define this VM's again from a copy of its XML, or destroy the VM")
    .with("vm_id", row.vm)
    .with("uuid", other.vm)
}

fn changed(row: &VmRow, domain: &Domain) -> Option<Cause> {
    match (&domain.mark, &domain.live) {
        (Seen::Unknown(why), _) => Some(
            about(domain, Reason::DomainChanged, format!("its mark is not what it was: {why}"))
                .advise("nothing of it is touched; put its mark back with `virsh edit`, or rename it away"),
        ),
        (Seen::Absent, Seen::There(_)) => Some(
            about(
                domain,
                Reason::DomainChanged,
                "somebody undefined it while it runs: it is gone once it is off",
            )
            .advise("define it again from `virsh dumpxml` while it runs"),
        ),
        (Seen::Absent, _) => Some(foreign(domain)),
        (Seen::There(mark), _) => mark_changed(row, domain, mark),
    }
}

fn mark_changed(row: &VmRow, domain: &Domain, mark: &Mark) -> Option<Cause> {
    if mark.generation > row.generation {
        let text = format!(
            "its mark bears generation {}, newer than the journal's {}",
            mark.generation, row.generation
        );
        return Some(about(domain, Reason::StaleGeneration, text).advise(
            "the journal is older than the domain: was the data folder restored? Nothing of it is touched",
        ));
    }
    if row.disk.is_some_and(|disk| disk != mark.disk) {
        let text = format!("its mark names the disk {}, not the one that the journal knows", mark.disk);
        return Some(
            about(domain, Reason::DomainChanged, text)
                .advise("look at its disks with `virsh domblklist`; a restore points it at a new one"),
        );
    }
    None
}

/// Another domain bears the mark of this VM: a copy, made with `virt-clone` or by hand.
fn twice(row: &VmRow, domain: &Domain, domains: &Domains) -> Option<Cause> {
    let copy = domains.values().find(|other| other.claims == Some(row.vm))?;
    Some(
        about(domain, Reason::DomainChanged, format!("the domain `{}` bears a copy of its mark", copy.name))
            .advise("that one is not Dewpoint's: remove the mark from it with `virsh edit`; see that the two share no disk")
            .with("copy", copy.vm),
    )
}

fn renamed(domain: &Domain, name: &str) -> Cause {
    about(domain, Reason::DomainChanged, format!("somebody renamed its domain to `{}`", domain.name)).advise(
        format!("`virsh domrename {} {name}` while it is off; a restore fails until then", domain.name),
    )
}

fn about(domain: &Domain, reason: Reason, text: impl Into<String>) -> Cause {
    Cause::new(reason, text).with("domain", &domain.name)
}
