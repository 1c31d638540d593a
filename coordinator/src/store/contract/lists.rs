//! Lists.

use std::collections::BTreeSet;
use std::future::Future;

use dewpoint_proto::ids::Seq;
use dewpoint_proto::spec::ImageDigest;

use super::Factory;
use super::catalogue::lan;
use super::fixture::*;
use crate::store::*;

async fn whole<T, R>(list: impl Fn(Page) -> R) -> Vec<T>
where
    R: Future<Output = StoreResult<Paged<T>>>,
{
    let (mut all, mut page) = (Vec::new(), Some(Page::first(3)));
    while let Some(this) = page {
        let found = list(this.clone()).await.unwrap();
        assert!(found.items.len() <= 3);
        all.extend(found.items);
        page = found.next.map(|token| this.at(token));
    }
    all
}

pub(super) async fn pages_cover_all_once<F: Factory>(factory: &F) {
    let store = factory.fresh();
    with_image(&store).await;
    for n in 1..=7 {
        join(&store, n).await;
    }
    for n in 1..=7 {
        let mut spec = spec(n % 3);
        spec.labels.insert("tier".into(), if n % 2 == 0 { "web" } else { "db" }.into());
        assigned(&store, CreateAdmission { body: body(n, n, create_kind(spec)), ..create(n, &[n]) }).await;
    }
    let events = whole(|page| store.events(EventFilter::default(), page)).await;
    let order: Vec<_> = events.iter().map(|event| event.id).collect();
    assert_eq!(order, (1..=7).rev().map(event_id).collect::<Vec<_>>(), "newest first");
    let vms = whole(|page| store.vms(VmFilter::default(), page)).await;
    assert_eq!(vms.iter().map(|vm| vm.id).collect::<BTreeSet<_>>().len(), 7);
    assert!(vms.is_sorted_by_key(|vm| (vm.name.clone(), vm.id)));
    let web = VmFilter { labels: vec![("tier".into(), Some("web".into()))], ..VmFilter::default() };
    assert_eq!(whole(|page| store.vms(web.clone(), page)).await.len(), 3);
    let named = VmFilter { name: Some("vm-1".into()), ..VmFilter::default() };
    assert_eq!(whole(|page| store.vms(named.clone(), page)).await.len(), 3);
    assert_eq!(whole(|page| store.hosts(page)).await.len(), 7);
    for n in 1..=6 {
        store
            .add_image(ImageAddition { digest: ImageDigest([n; 32]), name: None, ..image() })
            .await
            .unwrap()
            .unwrap();
        let network = NetworkSpec { name: format!("lan-{n}").parse().unwrap(), ..lan() };
        store.add_network(network).await.unwrap().unwrap();
    }
    let images: Vec<_> =
        whole(|page| store.images(page)).await.iter().map(|image| image.digest.0[0]).collect();
    assert_eq!(images, [1, 2, 3, 4, 5, 6, DIGEST.0[0]], "by digest");
    let networks: Vec<_> =
        whole(|page| store.networks(page)).await.iter().map(|one| one.spec.name.to_string()).collect();
    assert_eq!(networks, (1..=6).map(|n| format!("lan-{n}")).collect::<Vec<_>>(), "by name");
    let on_two = EventFilter { host: Some(host_id(2)), unfinished_only: true, ..EventFilter::default() };
    assert_eq!(whole(|page| store.events(on_two.clone(), page)).await.len(), 1);
    let wrong = Page::parse(3, "no such token").unwrap();
    assert!(matches!(store.events(EventFilter::default(), wrong.clone()).await, Err(StoreError::Refused(_))));
    assert!(matches!(store.images(wrong.clone()).await, Err(StoreError::Refused(_))));
    assert!(matches!(store.hosts(wrong).await, Err(StoreError::Refused(_))));
}

pub(super) async fn the_queue_has_no_gaps<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    for n in 1..=5 {
        assigned(&store, create(n, &[1])).await;
        // What is refused takes no seq.
        let mut lost = create(100 + n, &[1]);
        lost.candidates[0].most.vms = 0;
        assert_eq!(store.admit_create(lost).await.unwrap(), Admission::ClaimLost);
    }
    let queue = store.deliverable(host_id(1), Seq(2), 2).await.unwrap();
    assert_eq!(queue.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [Seq(3), Seq(4)]);
    assert_eq!(queue[0].body, create(3, &[1]).body, "the bytes as accepted");
    assert_eq!(store.deliverable(host_id(1), Seq(5), 10).await.unwrap(), []);
}
