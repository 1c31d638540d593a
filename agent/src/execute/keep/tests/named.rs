//! Each way in which somebody else can change a domain is named, with what to do.

use super::*;
use crate::execute::keep::attention::all;
use crate::hypervisor::Domains;

fn named(host: &Host, others: Vec<Domain>) -> Option<dewpoint_proto::cause::Cause> {
    let own = host.domain.there().cloned();
    let domains: Domains = own.into_iter().chain(others).map(|domain| (domain.vm, domain)).collect();
    let cause = all(std::slice::from_ref(&host.row), &domains).remove(&VM);
    assert!(cause.as_ref().is_none_or(|cause| !cause.advice.is_empty()), "{cause:?}");
    cause
}

fn other(name: &str) -> Domain {
    let mut domain = Host::with(Restart::Never).there().clone();
    domain.vm = VmId(Uuid::from_u128(0xb2));
    domain.name = name.to_owned();
    domain.mark = Seen::Absent;
    domain.live = Seen::Absent;
    domain
}

fn says(cause: Option<dewpoint_proto::cause::Cause>, reason: Reason, text: &str) {
    let cause = cause.unwrap_or_else(|| panic!("nothing is named: {text}"));
    assert_eq!(cause.reason, reason);
    assert!(cause.text.contains(text), "{cause:?}");
}

#[test]
fn all_is_well() {
    assert_eq!(named(&Host::with(Restart::Never), vec![other("somebody's")]), None);
}

#[test]
fn undefined_while_off_or_while_on() {
    let mut host = Host::with(Restart::Never);
    host.there().mark = Seen::Absent;
    says(named(&host, vec![]), Reason::DomainChanged, "gone once it is off");
    host.domain = Seen::Absent;
    says(named(&host, vec![]), Reason::DomainGone, "disks are still there");
    says(
        named(&host, vec![other(&domain_name("web", VM))]),
        Reason::ForeignDomain,
        "another domain is called",
    );
    host.row.unfinished = true;
    assert_eq!(named(&host, vec![]), None, "an event is at work on it");
}

#[test]
fn renamed() {
    let mut host = Host::with(Restart::Never);
    host.there().name = "mine".to_owned();
    says(named(&host, vec![]), Reason::DomainChanged, "renamed its domain to `mine`");
}

#[test]
fn its_mark_removed_changed_or_copied() {
    let mut host = Host::with(Restart::Never);
    host.there().mark = Seen::Absent;
    host.there().live = Seen::Absent;
    says(named(&host, vec![]), Reason::ForeignDomain, "no mark of Dewpoint");
    let mut host = Host::with(Restart::Never);
    host.there().mark = Seen::Unknown("a mark without disk".to_owned());
    says(named(&host, vec![]), Reason::DomainChanged, "a mark without disk");
    let mut host = Host::with(Restart::Never);
    if let Seen::There(mark) = &mut host.there().mark {
        mark.disk = EventId(Uuid::from_u128(9));
    }
    says(named(&host, vec![]), Reason::DomainChanged, "names the disk");
    if let Seen::There(mark) = &mut host.there().mark {
        mark.generation = Generation(9);
    }
    says(named(&host, vec![]), Reason::StaleGeneration, "generation 9");
    let mut copy = other("a clone");
    copy.claims = Some(VM);
    says(named(&Host::with(Restart::Never), vec![copy]), Reason::DomainChanged, "`a clone` bears a copy");
}
