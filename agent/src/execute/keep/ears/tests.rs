use std::collections::BTreeSet;
use std::time::Duration;

use dewpoint_proto::ids::{Generation, VmId};

use super::{ECHO, Ears};
use crate::hypervisor::ConfigDigest;
use crate::journal::kept::ConfigSeen;

const LATER: Duration = Duration::from_secs(60);

fn hear(ears: &Ears, vm: VmId, word: &str) -> bool {
    ears.hear(vm, word.to_owned(), false, LATER)
}

fn seen(sha256: &str) -> ConfigSeen {
    let digest = ConfigDigest { written_by: "libvirt".to_owned(), sha256: sha256.to_owned() };
    ConfigSeen { generation: Generation(1), digest }
}

#[test]
fn a_configuration_that_was_written_while_it_was_looked_at_is_looked_at_again() {
    let (ears, vm) = (Ears::default(), VmId::fresh());
    let begun = ears.looks_at_config(vm);
    hear(&ears, vm, "defined/updated");
    ears.saw_config(vm, seen("before"), begun);
    assert_eq!(ears.config_of(vm), None);
    let begun = ears.looks_at_config(vm);
    ears.saw_config(vm, seen("after"), begun);
    assert_eq!(ears.config_of(vm), Some(seen("after")));
    hear(&ears, vm, "defined/updated");
    assert_eq!(ears.config_of(vm), None, "it was written since");
}

#[test]
fn what_an_event_of_ours_writes_is_no_news_and_what_was_seen_before_it_is_forgotten() {
    let (ears, vm) = (Ears::default(), VmId::fresh());
    let begun = ears.looks_at_config(vm);
    ears.after_event(vm, LATER - ECHO / 2);
    hear(&ears, vm, "defined/updated");
    ears.saw_config(vm, seen("before"), begun);
    assert_eq!((ears.heard(vm), ears.config_of(vm)), (Vec::new(), None));
}

#[test]
fn until_all_domains_were_listed_all_are_heard_and_none_is_judged() {
    let (ears, ours, foreign) = (Ears::default(), VmId::fresh(), VmId::fresh());
    assert!(!hear(&ears, ours, "stopped/failed") && !hear(&ears, foreign, "stopped/failed"));
    assert!(!ears.may_judge());
    ears.stock_taken(BTreeSet::from([ours]), |_| false);
    assert!(ears.may_judge());
    assert_eq!((ears.heard(ours), ears.heard(foreign)), (vec!["stopped/failed".to_owned()], Vec::new()));
    assert!(hear(&ears, ours, "started/booted"));
    assert!(!hear(&ears, foreign, "started/booted") && ears.heard(foreign).is_empty());
}

#[test]
fn what_is_noted_goes_but_how_the_present_run_ended() {
    let (ears, vm) = (Ears::default(), VmId::fresh());
    for word in ["stopped/failed", "started/booted", "reboot", "crashed/panicked"] {
        hear(&ears, vm, word);
    }
    ears.noted(vm, 3);
    assert_eq!(ears.heard(vm), ["started/booted", "crashed/panicked"]);
    ears.were_deaf();
    assert_eq!(ears.heard(vm), Vec::<String>::new());
}
