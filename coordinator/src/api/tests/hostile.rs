//! Names, words and numbers full of tricks, in every request that keeps one: refused by name, and nothing is kept.

use super::*;

/// What a name of anything must not be.
fn tricks() -> Vec<String> {
    let short =
        ["", "../../etc/passwd", "a'b", "<x/>", "a\nb", "$(reboot)", "a\0b", "a\u{202e}b", "a b", "/", "."];
    short.into_iter().map(str::to_owned).chain(["x".repeat(100_000)]).collect()
}

#[track_caller]
fn is_refused<T: std::fmt::Debug>(
    what: &str,
    trick: &str,
    answer: Result<tonic::Response<T>, tonic::Status>,
) {
    let shown: String = trick.chars().take(20).collect();
    let cause = from_status(&answer.expect_err(&format!("{what} of {shown:?}")));
    assert!(matches!(cause.reason, Reason::Invalid | Reason::TooLarge), "{what} of {shown:?}: {cause:?}");
    assert!(!cause.advice.is_empty(), "{what} of {shown:?} says what to do: {cause:?}");
    assert!(!cause.text.contains(['\n', '\0', '\u{202e}']) && cause.text.len() < 1000, "{what}: {cause:?}");
}

#[tokio::test]
async fn no_name_with_tricks_is_kept_of_anything() {
    let (coordinator, _agent, obeying) = fleet_of_one().await;
    coordinator.vms().create_vm(create_request("web")).await.unwrap();
    let tiny = fleet::GetImageRequest { image: "tiny".into() };
    let digest = coordinator.images().get_image(tiny).await.unwrap().into_inner().digest;
    for trick in tricks() {
        let name = || trick.clone();
        let image = fleet::AddImageRequest { name: name(), digest: digest.clone() };
        // Without a name an image is known by its digest alone.
        if !trick.is_empty() {
            is_refused("an image's name", &trick, coordinator.images().add_image(image).await);
            let snapshot = fleet::SnapshotVmRequest { vm: "web".into(), image_name: name(), options: None };
            is_refused("a snapshot's name", &trick, coordinator.vms().snapshot_vm(snapshot).await);
            let bridge = fleet::Network { bridge: name(), ..network() };
            let bridge = fleet::CreateNetworkRequest { network: Some(bridge) };
            is_refused("a bridge", &trick, coordinator.networks().create_network(bridge).await);
            let vm_id = fleet::CreateVmRequest { vm_id: name(), ..create_request("other") };
            is_refused("a VM's id", &trick, coordinator.vms().create_vm(vm_id).await);
            let options = Some(fleet::EventOptions { event_id: name(), ..Default::default() });
            let event_id = fleet::CreateVmRequest { options, ..create_request("other") };
            is_refused("an event's id", &trick, coordinator.vms().create_vm(event_id).await);
        }
        let lan = fleet::Network { name: name(), ..network() };
        let lan = fleet::CreateNetworkRequest { network: Some(lan) };
        is_refused("a network's name", &trick, coordinator.networks().create_network(lan).await);
        is_refused("a VM's name", &trick, coordinator.vms().create_vm(create_request(&trick)).await);
        let added = fleet::AddImageRequest { name: "fine".into(), digest: name() };
        is_refused("a digest", &trick, coordinator.images().add_image(added).await);
    }
    let images = coordinator
        .images()
        .list_images(fleet::ListImagesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .images;
    assert_eq!(images.iter().map(|image| image.names.as_slice()).collect::<Vec<_>>(), [["tiny"]]);
    let networks = coordinator
        .networks()
        .list_networks(fleet::ListNetworksRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(networks.networks.is_empty());
    let vms = coordinator.vms().list_vms(fleet::ListVmsRequest::default()).await.unwrap().into_inner().vms;
    assert_eq!(vms.len(), 1);
    obeying.abort();
}

#[tokio::test]
async fn words_that_are_too_long_are_refused_wherever_one_is_kept() {
    let (coordinator, agent, obeying) = fleet_of_one().await;
    let (long, host) = ("x".repeat(100_000), agent.host.to_string());
    let note = Some(fleet::EventOptions { note: long.clone(), ..Default::default() });
    let create = fleet::CreateVmRequest { options: note, ..create_request("web") };
    is_refused("a note", &long, coordinator.vms().create_vm(create).await);
    let cordon = fleet::CordonHostRequest { host: host.clone(), reason: long.clone() };
    is_refused("a cordon's reason", &long, coordinator.hosts().cordon_host(cordon).await);
    let hold = fleet::SetHoldRequest { host: host.clone(), hold: true, reason: long.clone() };
    is_refused("a hold's reason", &long, coordinator.hosts().set_hold(hold).await);
    let labels = [("a".to_owned(), long.clone())].into();
    let labelled = fleet::CreateVmRequest { labels, ..create_request("web") };
    is_refused("a label", &long, coordinator.vms().create_vm(labelled).await);
    let keyed =
        fleet::CreateVmRequest { ssh_keys: vec![format!("ssh-ed25519 {long}")], ..create_request("web") };
    is_refused("a key", &long, coordinator.vms().create_vm(keyed).await);
    let host = coordinator.wait_for_host(&agent, |_| true).await;
    assert!(!host.cordoned && !host.held && host.vms == 0, "{host:?}");
    obeying.abort();
}
