//! The API end to end, over gRPC, with an agent that succeeds at everything.

mod hostile;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::status::from_status;
use dewpoint_proto::wire::agent::to_agent;
use dewpoint_proto::wire::{event, fleet};
use tokio::task::JoinHandle;

use crate::testing::{Agent, BOUND, Coordinator, cause, create_request, reason, snapshot_bytes, wait_until};

/// A coordinator with one image and one obedient host.
async fn fleet_of_one() -> (Coordinator, Agent, JoinHandle<()>) {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let agent = Agent::new();
    let (link, _) = agent.connect(&coordinator).await;
    let obeying = tokio::spawn(agent.clone().obey(link));
    (coordinator, agent, obeying)
}

fn network() -> fleet::Network {
    fleet::Network {
        name: "lan".into(),
        subnet4: "192.0.2.0/29".into(),
        gateway4: "192.0.2.1".into(),
        nameservers: vec!["192.0.2.53".into()],
        ..Default::default()
    }
}

fn vm(vm: &str) -> fleet::VmRequest {
    fleet::VmRequest { vm: vm.into(), options: None }
}

#[tokio::test]
async fn a_vm_lives_from_create_to_destroy() {
    let (coordinator, agent, _obeying) = fleet_of_one().await;
    coordinator
        .networks()
        .create_network(fleet::CreateNetworkRequest { network: Some(network()) })
        .await
        .unwrap();
    let nic = fleet::NicRequest { network: "lan".into(), ..Default::default() };
    let request = fleet::CreateVmRequest {
        nics: vec![nic],
        labels: [("tier".to_owned(), "web".to_owned())].into(),
        ..create_request("web")
    };
    let created = coordinator.vms().create_vm(request).await.unwrap().into_inner();
    let done = coordinator.wait_for_stage(&created.event_id, "succeeded").await;
    assert_eq!((done.kind.as_str(), done.vm_name.as_str()), ("create", "web"));
    let explained = coordinator.event(&created.event_id).await.explanation.unwrap();
    assert_eq!((explained.considered, explained.chosen_host_id), (1, agent.host.to_string()));

    let found =
        coordinator.vms().get_vm(fleet::GetVmRequest { vm: "web".into() }).await.unwrap().into_inner();
    assert_eq!((found.vm_id.as_str(), found.vcpus, found.disk_bytes), (created.vm_id.as_str(), 1, 2 << 20));
    assert_eq!((found.wanted_on, found.gone, found.generation), (true, false, 1));
    assert_eq!(found.nics[0].addresses, ["192.0.2.2/29"]);
    let lan = fleet::GetNetworkRequest { name: "lan".into() };
    let lan_now = coordinator.networks().get_network(lan.clone()).await.unwrap().into_inner();
    assert_eq!((lan_now.addresses_used, lan_now.addresses_free), (1, 4));

    let mut vms = coordinator.vms();
    let named = || "web".to_owned();
    let steps = [
        vms.stop_vm(fleet::StopVmRequest { vm: named(), ..Default::default() }).await,
        waited(&coordinator, vms.start_vm(vm("web"))).await,
        waited(&coordinator, vms.reboot_vm(fleet::RebootVmRequest { vm: named(), ..Default::default() }))
            .await,
    ];
    assert!(steps.iter().all(Result::is_ok), "{steps:?}");
    waited(&coordinator, vms.destroy_vm(fleet::DestroyVmRequest { vm: named(), now: true, options: None }))
        .await
        .unwrap();
    let gone = wait_until("the VM is gone", async || {
        let request = fleet::GetVmRequest { vm: created.vm_id.clone() };
        let vm = vms.clone().get_vm(request).await.unwrap().into_inner();
        vm.gone.then_some(vm)
    })
    .await;
    assert!(gone.nics.len() == 1 && gone.nics[0].addresses.is_empty(), "what is free again is not the VM's");
    let lan_then = coordinator.networks().get_network(lan).await.unwrap().into_inner();
    assert_eq!(lan_then.addresses_used, 0, "its address is free again");
    let host = coordinator.wait_for_host(&agent, |_| true).await;
    assert_eq!((host.vms, host.claimed_memory_bytes), (0, 0));
    assert_eq!(reason(vms.get_vm(fleet::GetVmRequest { vm: "web".into() }).await), Reason::VmNotFound);
}

type Answer = Result<tonic::Response<fleet::EventRecord>, tonic::Status>;

/// Asks when the VM has no unfinished event any more, and waits for the end.
async fn waited(coordinator: &Coordinator, ask: impl Future<Output = Answer>) -> Answer {
    let unfinished = fleet::ListEventsRequest { unfinished_only: true, ..Default::default() };
    wait_until("nothing is unfinished", async || {
        let events = coordinator.events().list_events(unfinished.clone()).await.unwrap().into_inner().events;
        events.is_empty().then_some(())
    })
    .await;
    let answer = ask.await?;
    coordinator.wait_for_stage(&answer.get_ref().event_id, "succeeded").await;
    Ok(answer)
}

#[tokio::test]
async fn the_same_request_again_is_the_same_event_and_another_is_refused() {
    let (coordinator, _, _obeying) = fleet_of_one().await;
    let options = fleet::EventOptions { event_id: EventId::fresh().to_string(), ..Default::default() };
    let request = fleet::CreateVmRequest { options: Some(options), ..create_request("web") };
    let first = coordinator.vms().create_vm(request.clone()).await.unwrap().into_inner();
    let second = coordinator.vms().create_vm(request.clone()).await.unwrap().into_inner();
    assert_eq!((&first.event_id, &first.vm_id, first.seq), (&second.event_id, &second.vm_id, second.seq));
    let other = fleet::CreateVmRequest { vcpus: 2, ..request };
    assert_eq!(reason(coordinator.vms().create_vm(other).await), Reason::EventIdReused);
}

#[tokio::test]
async fn refusals_name_their_cause_and_what_to_do() {
    let coordinator = Coordinator::start().await;
    let mut vms = coordinator.vms();
    assert_eq!(reason(vms.create_vm(create_request("web")).await), Reason::ImageNotFound);
    coordinator.image("tiny").await;
    let full = cause(vms.create_vm(create_request("web")).await);
    assert!(full.reason == Reason::NoCapacity && !full.advice.is_empty(), "{full:?}");
    assert_eq!(reason(vms.create_vm(create_request("../x")).await), Reason::Invalid);
    let huge = fleet::CreateVmRequest { vcpus: 5000, ..create_request("web") };
    assert_eq!(reason(vms.create_vm(huge).await), Reason::TooLarge);
    let data = fleet::CreateVmRequest { user_data: vec![b'x'; 65 * 1024].into(), ..create_request("web") };
    assert_eq!(reason(vms.create_vm(data).await), Reason::TooLarge);
    let nowhere = fleet::CreateVmRequest {
        nics: vec![fleet::NicRequest { network: "none".into(), ..Default::default() }],
        ..create_request("web")
    };
    assert_eq!(reason(vms.create_vm(nowhere).await), Reason::NetworkNotFound);
    let list = fleet::ListVmsRequest { page_token: "nonsense".into(), ..Default::default() };
    assert_eq!(reason(vms.list_vms(list).await), Reason::Invalid);
    let event = fleet::GetEventRequest { event_id: EventId::fresh().to_string() };
    assert_eq!(reason(coordinator.events().get_event(event).await), Reason::EventNotFound);
    assert_eq!(reason(vms.start_vm(vm(&VmId::fresh().to_string())).await), Reason::VmNotFound);
    let host = fleet::GetHostRequest { host: "nobody".into() };
    assert_eq!(reason(coordinator.hosts().get_host(host).await), Reason::HostNotFound);
    let add = fleet::AddImageRequest { name: "x".into(), digest: "ab".repeat(32) };
    let missing = cause(coordinator.images().add_image(add).await);
    assert!(missing.reason == Reason::ImageNotFound && missing.advice.contains("PUT http://"), "{missing:?}");
}

#[tokio::test]
async fn one_unfinished_event_a_vm() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let agent = Agent::new();
    let (_link, _) = agent.connect(&coordinator).await;
    let created = coordinator.create("web").await;
    let busy = cause(coordinator.vms().start_vm(vm("web")).await);
    assert_eq!(busy.reason, Reason::VmBusy);
    assert!(busy.fields.values().any(|v| *v == created.event_id), "{busy:?}");
    let cancel = fleet::CancelEventRequest { event_id: created.event_id.clone(), options: None };
    let cancel = coordinator.events().cancel_event(cancel).await.unwrap().into_inner();
    assert_eq!((cancel.kind.as_str(), cancel.seq), ("cancel", 2));
}

#[tokio::test]
async fn a_pending_create_is_placed_when_a_host_comes_and_can_be_cancelled() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let waits = |name| fleet::CreateVmRequest { wait_for_capacity: true, ..create_request(name) };
    let first = coordinator.vms().create_vm(waits("first")).await.unwrap().into_inner();
    let second = coordinator.vms().create_vm(waits("second")).await.unwrap().into_inner();
    assert!(first.stage == "pending" && first.pending.is_some());
    let cancel = fleet::CancelEventRequest { event_id: second.event_id.clone(), options: None };
    coordinator.events().cancel_event(cancel).await.unwrap();
    assert_eq!(coordinator.event(&second.event_id).await.stage, "cancelled");
    let agent = Agent::new();
    let (link, _) = agent.connect(&coordinator).await;
    let _obeying = tokio::spawn(agent.obey(link));
    coordinator.wait_for_stage(&first.event_id, "succeeded").await;
}

#[tokio::test]
async fn a_watch_shows_what_is_there_and_then_every_change_with_progress() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    let created = coordinator.create("web").await;
    let request = fleet::WatchEventsRequest { vm: "web".into(), ..Default::default() };
    let mut watch = coordinator.events().watch_events(request).await.unwrap().into_inner();
    let mut next = async || tokio::time::timeout(BOUND, watch.message()).await.unwrap().unwrap().unwrap();
    let first = next().await;
    assert_eq!(first.event.unwrap().event_id, created.event_id);
    assert!(next().await.snapshot_complete);

    let deliver = link.deliver().await;
    link.accept(1).await;
    assert_eq!(next().await.event.unwrap().stage, "accepted");
    link.send(dewpoint_proto::wire::agent::from_agent::Message::Progress(event::Progress {
        event_id: created.event_id.clone(),
        step: "fetch".into(),
        done_bytes: 5,
        total_bytes: 10,
        ..Default::default()
    }))
    .await;
    let progress = loop {
        if let Some(progress) = next().await.event.and_then(|e| e.progress) {
            break progress;
        }
    };
    assert_eq!((progress.step.as_str(), progress.done_bytes), ("fetch", 5));
    let report = agent.succeeded(&deliver);
    link.report(report).await;
    loop {
        let item = next().await.event.unwrap();
        if item.stage == "succeeded" {
            assert!(item.body.is_some() && item.outcome.is_some());
            break;
        }
    }
}

#[tokio::test]
async fn vms_are_watched_too() {
    let (coordinator, _, _obeying) = fleet_of_one().await;
    let mut watch =
        coordinator.vms().watch_vms(fleet::WatchVmsRequest::default()).await.unwrap().into_inner();
    let first = tokio::time::timeout(BOUND, watch.message()).await.unwrap().unwrap().unwrap();
    assert!(first.snapshot_complete && first.vm.is_none());
    coordinator.create("web").await;
    let seen = tokio::time::timeout(BOUND, async {
        loop {
            let vm = watch.message().await.unwrap().unwrap().vm.unwrap();
            if vm.observed.as_ref().is_some_and(|o| o.power == i32::from(event::Power::Running)) {
                return vm;
            }
        }
    });
    assert_eq!(seen.await.unwrap().name, "web");
}

#[tokio::test]
async fn lists_come_in_pages_by_label_and_by_host() {
    let (coordinator, agent, _obeying) = fleet_of_one().await;
    for name in ["a", "b", "c", "d", "e"] {
        let labels = [("odd".to_owned(), (name == "a" || name == "c").to_string())].into();
        coordinator.vms().create_vm(fleet::CreateVmRequest { labels, ..create_request(name) }).await.unwrap();
    }
    let mut names = Vec::new();
    let mut request =
        fleet::ListVmsRequest { page_size: 2, host_id: agent.host.to_string(), ..Default::default() };
    loop {
        let page = coordinator.vms().list_vms(request.clone()).await.unwrap().into_inner();
        assert!(page.vms.len() <= 2);
        names.extend(page.vms.into_iter().map(|vm| vm.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let request = fleet::ListVmsRequest { label_selector: "odd=true".into(), ..Default::default() };
    let odd = coordinator.vms().list_vms(request).await.unwrap().into_inner().vms;
    assert_eq!(odd.iter().map(|vm| vm.name.as_str()).collect::<Vec<_>>(), ["a", "c"]);
}

#[tokio::test]
async fn a_cordoned_host_gets_nothing_new() {
    let (coordinator, agent, _obeying) = fleet_of_one().await;
    let host = agent.host.to_string();
    let request = fleet::CordonHostRequest { host: host.clone(), reason: "disk swap".into() };
    let cordoned = coordinator.hosts().cordon_host(request).await.unwrap().into_inner();
    assert!(cordoned.cordoned && cordoned.cordon_reason == "disk swap");
    assert_eq!(reason(coordinator.vms().create_vm(create_request("web")).await), Reason::NoCapacity);
    coordinator
        .hosts()
        .uncordon_host(fleet::UncordonHostRequest { host, reason: String::new() })
        .await
        .unwrap();
    coordinator.create("web").await;
}

#[tokio::test]
async fn an_image_goes_with_its_last_name_and_its_bytes_after_its_rows() {
    let coordinator = Coordinator::start().await;
    let digest = coordinator.image("tiny").await;
    let add = fleet::AddImageRequest { name: "small".into(), digest: digest.clone() };
    let added = coordinator.images().add_image(add).await.unwrap().into_inner();
    assert_eq!((added.names, added.format.as_str()), (vec!["small".into(), "tiny".into()], "raw"));
    let remove = |image: &str| fleet::RemoveImageRequest { image: image.into() };
    let removed = coordinator.images().remove_image(remove("tiny")).await.unwrap().into_inner();
    assert!(!removed.bytes_removed);
    let removed = coordinator.images().remove_image(remove("small")).await.unwrap().into_inner();
    assert!(removed.bytes_removed);
    let get = fleet::GetImageRequest { image: digest.clone() };
    assert_eq!(reason(coordinator.images().get_image(get).await), Reason::ImageNotFound);

    // Bytes that a crash left without rows go by digest.
    let left = coordinator.upload(&vec![1; 1 << 20]).await;
    assert!(coordinator.images().remove_image(remove(&left)).await.unwrap().into_inner().bytes_removed);
    assert_eq!(reason(coordinator.images().remove_image(remove(&left)).await), Reason::ImageNotFound);
}

#[tokio::test]
async fn a_snapshot_comes_into_the_catalogue_under_its_name() {
    let (coordinator, _, _obeying) = fleet_of_one().await;
    let created = coordinator.create("web").await;
    coordinator.wait_for_stage(&created.event_id, "succeeded").await;
    let request = fleet::SnapshotVmRequest { vm: "web".into(), image_name: "web-1".into(), options: None };
    let digest = coordinator.upload(&snapshot_bytes()).await;
    let snapshot = coordinator.vms().snapshot_vm(request).await.unwrap().into_inner();
    coordinator.wait_for_stage(&snapshot.event_id, "succeeded").await;
    let image = coordinator.images().get_image(fleet::GetImageRequest { image: "web-1".into() }).await;
    let image = image.unwrap().into_inner();
    assert_eq!(image.digest, digest);
    assert_eq!((image.made_by_event_id, image.made_from_vm_id), (snapshot.event_id, created.vm_id));
    let restore = fleet::RestoreVmRequest { vm: "web".into(), image: "web-1".into(), options: None };
    let restored = coordinator.vms().restore_vm(restore).await.unwrap().into_inner();
    coordinator.wait_for_stage(&restored.event_id, "succeeded").await;
}

#[tokio::test]
async fn networks_are_kept_while_they_are_used() {
    let (coordinator, _, _obeying) = fleet_of_one().await;
    let add = |network| fleet::CreateNetworkRequest { network: Some(network) };
    coordinator.networks().create_network(add(network())).await.unwrap();
    coordinator.networks().create_network(add(network())).await.unwrap();
    let other = fleet::Network { gateway4: "192.0.2.6".into(), ..network() };
    assert_eq!(reason(coordinator.networks().create_network(add(other)).await), Reason::NetworkExists);
    let wrong = fleet::Network { name: "x".into(), subnet4: "192.0.2.1/24".into(), ..Default::default() };
    assert_eq!(reason(coordinator.networks().create_network(add(wrong)).await), Reason::Invalid);
    let nic = fleet::NicRequest { network: "lan".into(), ..Default::default() };
    let request = fleet::CreateVmRequest { nics: vec![nic], ..create_request("web") };
    coordinator.vms().create_vm(request).await.unwrap();
    let remove = fleet::DeleteNetworkRequest { name: "lan".into() };
    assert_eq!(reason(coordinator.networks().delete_network(remove).await), Reason::NetworkInUse);
    let listed = coordinator.networks().list_networks(fleet::ListNetworksRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().networks.len(), 1);
}

/// Its bytes were here before its report, and a person removed them in between.
#[tokio::test]
async fn a_snapshot_without_a_file_comes_into_no_catalogue() {
    let (coordinator, _, _obeying) = fleet_of_one().await;
    let created = coordinator.create("web").await;
    coordinator.wait_for_stage(&created.event_id, "succeeded").await;
    let digest = coordinator.upload(&snapshot_bytes()).await;
    let remove = fleet::RemoveImageRequest { image: digest.clone() };
    assert!(coordinator.images().remove_image(remove).await.unwrap().into_inner().bytes_removed);
    let request = fleet::SnapshotVmRequest { vm: "web".into(), image_name: "web-1".into(), options: None };
    let snapshot = coordinator.vms().snapshot_vm(request).await.unwrap().into_inner();
    coordinator.wait_for_stage(&snapshot.event_id, "succeeded").await;
    for image in ["web-1", &digest] {
        let request = fleet::GetImageRequest { image: image.into() };
        wait_until("its row is gone again", async || {
            let asked = coordinator.images().get_image(request.clone()).await;
            asked.is_err_and(|status| from_status(&status).reason == Reason::ImageNotFound).then_some(())
        })
        .await;
    }
}

/// Of a network with one address: a create that no host fits gives it back.
#[tokio::test]
async fn a_create_that_is_refused_keeps_no_address() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let small = fleet::Network { subnet4: "192.0.2.0/30".into(), ..network() };
    coordinator
        .networks()
        .create_network(fleet::CreateNetworkRequest { network: Some(small) })
        .await
        .unwrap();
    let nic = fleet::NicRequest { network: "lan".into(), ..Default::default() };
    let request = fleet::CreateVmRequest { nics: vec![nic], ..create_request("web") };
    for _ in 0..3 {
        assert_eq!(reason(coordinator.vms().create_vm(request.clone()).await), Reason::NoCapacity);
    }
    let lan = fleet::GetNetworkRequest { name: "lan".into() };
    let lan = coordinator.networks().get_network(lan).await.unwrap().into_inner();
    assert_eq!((lan.addresses_used, lan.addresses_free), (0, 1));
    let agent = Agent::new();
    let (_link, _) = agent.connect(&coordinator).await;
    let created = coordinator.vms().create_vm(request).await.unwrap().into_inner();
    let vm = coordinator.vms().get_vm(fleet::GetVmRequest { vm: created.vm_id }).await.unwrap().into_inner();
    assert_eq!(vm.nics[0].addresses, ["192.0.2.2/30"]);
}

#[tokio::test]
async fn whoever_holds_or_cordons_is_kept_with_the_reason() {
    let coordinator = Coordinator::start().await;
    let agent = Agent::new();
    let (_link, _) = agent.connect(&coordinator).await;
    let host = agent.host.to_string();
    let cordon = fleet::CordonHostRequest { host: host.clone(), reason: "worn disk".into() };
    let mut named = tonic::Request::new(cordon);
    named.metadata_mut().insert(dewpoint_proto::status::WHO, "ann@ops1".parse().unwrap());
    coordinator.hosts().cordon_host(named).await.unwrap();
    let uncordon = fleet::UncordonHostRequest { host: host.clone(), reason: String::new() };
    coordinator.hosts().uncordon_host(uncordon).await.unwrap();
    let hold = fleet::SetHoldRequest { host: String::new(), hold: true, reason: "fire drill".into() };
    coordinator.hosts().set_hold(hold).await.unwrap();

    let mut fleet = fleet::fleet_client::FleetClient::new(coordinator.channel.clone());
    let mut list = async |request| fleet.list_acts(request).await.map(|it| it.into_inner());
    let all = list(fleet::ListActsRequest::default()).await.unwrap().acts;
    let told: Vec<_> =
        all.iter().map(|act| (act.act.as_str(), act.who.as_str(), act.reason.as_str())).collect();
    assert_eq!(
        told,
        [
            ("hold", "unnamed from 127.0.0.1", "fire drill"),
            ("uncordon", "unnamed from 127.0.0.1", ""),
            ("cordon", "ann@ops1 from 127.0.0.1", "worn disk"),
        ]
    );
    let of_host = list(fleet::ListActsRequest { host_id: host.clone(), ..Default::default() }).await.unwrap();
    assert_eq!((of_host.acts.len(), &of_host.acts[0].host_id), (2, &host));
    let wrong = fleet::ListActsRequest { host_id: "hv1".into(), ..Default::default() };
    assert_eq!(reason(list(wrong).await), Reason::Invalid);
}

#[tokio::test]
async fn destroys_beyond_the_fleets_limit_are_refused_until_it_is_raised() {
    let (coordinator, _, _agent) = fleet_of_one().await;
    let mut made = Vec::new();
    for name in ["one", "two"] {
        let created = coordinator.create(name).await;
        coordinator.wait_for_stage(&created.event_id, "succeeded").await;
        made.push(created.vm_id);
    }
    let mut fleet = fleet::fleet_client::FleetClient::new(coordinator.channel.clone());
    let mut set = async |limit, reason: &str| {
        let asked = fleet::SetDestroyLimitRequest { limit, as_configured: false, reason: reason.into() };
        fleet.set_destroy_limit(asked).await.map(|it| it.into_inner())
    };
    assert_eq!(reason(set(1, "").await), Reason::Invalid);
    let set_to = set(1, "careful week").await.unwrap();
    assert!(set_to.destroy_limit == 1 && set_to.destroy_limit_set);
    let destroy = async |vm: &String| {
        let asked = fleet::DestroyVmRequest { vm: vm.clone(), ..Default::default() };
        coordinator.vms().destroy_vm(asked).await
    };
    destroy(&made[0]).await.unwrap();
    let refused = cause(destroy(&made[1]).await);
    assert_eq!((refused.reason, refused.fields["limit"].as_str()), (Reason::DestroyLimit, "1"));
    set(0, "cleared out by hand").await.unwrap();
    destroy(&made[1]).await.unwrap();
}

#[tokio::test]
async fn a_recovery_is_told_with_every_host_and_ended_with_a_reason() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let fine = Agent::new();
    let (_link, _) = fine.connect(&coordinator).await;
    let ahead =
        Agent { last_seq: 7, last_seq_event: EventId::fresh().to_string(), last_report: 5, ..Agent::new() };
    let mut link = ahead.dial(&coordinator).await;
    assert!(matches!(link.next().await, to_agent::Message::Diverged(_)));
    for agent in [&fine, &ahead] {
        let told =
            coordinator.wait_for_host(agent, |host| host.recovering.is_some()).await.recovering.unwrap();
        assert!(told.advice.contains("dewpoint host end-recovery"), "{told:?}");
    }
    assert_eq!(reason(coordinator.vms().create_vm(create_request("web")).await), Reason::Diverged);

    let mut hosts = coordinator.hosts();
    let mut end = async |reason: &str| {
        hosts
            .end_recovery(fleet::EndRecoveryRequest { reason: reason.into() })
            .await
            .map(|it| it.into_inner())
    };
    assert_eq!(reason(end(" ").await), Reason::Invalid);
    assert_eq!(reason(end(&"x".repeat(1025)).await), Reason::TooLarge);
    let ended = end("compared with the backup of Monday").await.unwrap().ended.unwrap();
    assert!(ended.text.contains("knows events"), "{ended:?}");
    assert_eq!(end("once more").await.unwrap().ended, None);
    coordinator.create("web").await;
    drop(link);
    let (_link, _) = ahead.connect(&coordinator).await;
    let there = fleet::CreateVmRequest { host_id: ahead.host.to_string(), ..create_request("there") };
    let created = coordinator.vms().create_vm(there).await.unwrap().into_inner();
    assert_eq!(created.seq, 8, "its queue goes on from its own last event");
    assert!(coordinator.wait_for_host(&ahead, |_| true).await.recovering.is_none());
}
