//! Images and networks.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::{ImageDigest, MacAddr};

use super::Factory;
use super::fixture::*;
use crate::store::*;

pub(super) fn lan() -> NetworkSpec {
    NetworkSpec {
        name: "lan".parse().unwrap(),
        bridge: Some("br0".parse().unwrap()),
        ipv4: Some(Pool4 {
            subnet: "192.0.2.0/24".parse().unwrap(),
            gateway: Some("192.0.2.1".parse().unwrap()),
            first: "192.0.2.2".parse().unwrap(),
            last: "192.0.2.254".parse().unwrap(),
        }),
        ipv6: None,
        nameservers: vec!["192.0.2.1".parse().unwrap()],
    }
}

pub(super) async fn an_image_in_use_stays<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    let by_digest = || ImageSelector::Digest(DIGEST);
    let used = store.remove_image(by_digest()).await.unwrap().unwrap_err();
    assert_eq!(
        (used.reason, used.fields["event_id"].as_str()),
        (Reason::ImageInUse, made.id.to_string().as_str())
    );
    let by_name = || ImageSelector::Name("debian".parse().unwrap());
    assert_eq!(store.remove_image(by_name()).await.unwrap().unwrap_err().reason, Reason::ImageInUse);
    assert!(store.image(by_name()).await.unwrap().is_some(), "a refusal leaves the name");
    store.record_report(under, report(1, &made, Outcome::success())).await.unwrap();
    assert_eq!(store.remove_image(by_name()).await.unwrap(), Ok(ImageRemoved::Image(DIGEST)));
    assert_eq!(store.image(by_digest()).await.unwrap(), None);
    assert_eq!(refused(store.admit_create(create(2, &[1])).await.unwrap()).reason, Reason::ImageNotFound);
}

pub(super) async fn a_name_points_at_one_image<F: Factory>(factory: &F) {
    let store = factory.fresh();
    with_image(&store).await;
    let add = |digest: u8, name: &str| ImageAddition {
        digest: ImageDigest([digest; 32]),
        name: Some(name.parse().unwrap()),
        size_bytes: 1,
        virtual_size_bytes: 1,
        format: "raw".into(),
        at: NOW,
    };
    let taken = store.add_image(add(8, "debian")).await.unwrap().unwrap_err();
    assert_eq!(taken.reason, Reason::ImageNameTaken);
    assert_eq!(store.image(ImageSelector::Digest(ImageDigest([8; 32]))).await.unwrap(), None);
    let both = store.add_image(add(7, "stable")).await.unwrap().unwrap();
    assert_eq!(both.names.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["debian", "stable"]);
    assert_eq!(both.format, "qcow2", "what is there stays as it is");
    let one = ImageSelector::Name("debian".parse().unwrap());
    assert_eq!(store.remove_image(one.clone()).await.unwrap(), Ok(ImageRemoved::Name));
    assert_eq!(store.remove_image(one).await.unwrap().unwrap_err().reason, Reason::ImageNotFound);
}

pub(super) async fn a_network_in_use_stays<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    store.add_network(lan()).await.unwrap().unwrap();
    store.add_network(lan()).await.unwrap().unwrap();
    let other = NetworkSpec { bridge: None, ..lan() };
    assert_eq!(store.add_network(other).await.unwrap().unwrap_err().reason, Reason::NetworkExists);
    let lease = Lease {
        network: lan().name,
        mac: MacAddr([0x52, 0x54, 0, 0, 0, 1]),
        addresses: vec!["192.0.2.9".parse().unwrap()],
    };
    let made = assigned(&store, CreateAdmission { leases: vec![lease.clone()], ..create(1, &[1]) }).await;
    assert_eq!(store.network(&lan().name).await.unwrap().unwrap().addresses_used, 1);
    assert_eq!(store.remove_network(lan().name).await.unwrap().unwrap_err().reason, Reason::NetworkInUse);
    store.record_report(under, report_gone(1, &made, Outcome::success())).await.unwrap();
    store.remove_network(lan().name).await.unwrap().unwrap();
    let gone = store.admit_create(CreateAdmission { leases: vec![lease], ..create(2, &[1]) }).await.unwrap();
    assert_eq!(refused(gone).reason, Reason::NetworkNotFound);
}
