//! What people did is kept with who said so and why, in the transition that it belongs to.

use dewpoint_proto::ids::Seq;

use super::Factory;
use super::fixture::*;
use crate::store::*;

pub(super) async fn what_people_do_is_kept_with_who_and_why<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    join(&store, 2).await;
    store.set_cordon(host_id(1), Switch::On, word("worn disk")).await.unwrap().unwrap();
    store.set_hold(HoldScope::Fleet, Switch::On, word("fire drill")).await.unwrap().unwrap();
    store.set_hold(HoldScope::Host(host_id(2)), Switch::On, word("")).await.unwrap().unwrap();
    store.set_cordon(host_id(9), Switch::On, word("nobody")).await.unwrap().unwrap_err();
    store.claim_host(Hello { last_seq: Seq(9), ..hello(3) }, NOW).await.unwrap();
    store.end_recovery(word("compared by hand")).await.unwrap();
    let entry = AuditEntry {
        act: Act::Retire,
        about: About { host: Some(host_id(2)), event: Some(event_id(1)), vm: Some(vm_id(1)) },
        detail: "1 VM was there".into(),
        word: word("scrapped"),
    };
    store.record_act(entry).await.unwrap();

    let all = store.audit(About::default(), Page::first(100)).await.unwrap().items;
    let acts: Vec<_> = all.iter().map(|act| (act.act.as_str(), act.word.reason.as_str())).collect();
    assert_eq!(
        acts,
        [
            ("retire", "scrapped"),
            ("end-recovery", "compared by hand"),
            ("hold", ""),
            ("hold", "fire drill"),
            ("cordon", "worn disk"),
        ],
        "newest first, and nothing of what was refused"
    );
    assert_eq!(all[0].word, word("scrapped"));
    assert_eq!((all[0].about.vm, all[0].hostname.as_deref()), (Some(vm_id(1)), Some("h2")));
    assert!(all[1].detail.contains("h3"), "what it recovered from: {}", all[1].detail);

    let first = store.audit(About::default(), Page::first(2)).await.unwrap();
    let rest = store.audit(About::default(), Page::first(2).at(first.next.unwrap())).await.unwrap();
    assert_eq!((&rest.items[0].act, rest.items.len()), (&all[2].act, 2), "pages go on");
    let of_two = store.audit(About::host(host_id(2)), Page::first(100)).await.unwrap().items;
    assert_eq!(of_two.iter().map(|act| act.act.as_str()).collect::<Vec<_>>(), ["retire", "hold"]);
    let of_event = About { event: Some(event_id(1)), ..About::default() };
    assert_eq!(store.audit(of_event, Page::first(100)).await.unwrap().items.len(), 1);
}
