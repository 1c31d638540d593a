use std::time::Duration;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::event::{Destroy, DiskDisposal, InitialPower};
use dewpoint_proto::ids::{Generation, JournalId, ReportSeq, Seq, Term};
use dewpoint_proto::limits::GIB;
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::vm_state::Power;
use futures::StreamExt;
use futures::stream::BoxStream;
use uuid::Uuid;

use super::request::{
    CancelEvent, Change, ChangeVm, CreateVm, HostSelector, NicRequest, Options, VmSelector, WhenFull,
};
use super::stage::Stage;
use super::*;
use crate::store::failing::FailingStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{
    EventFilter, Hello, HostCapacity, HostClaim, HostReport, ImageAddition, ImageBytes, ImageSelector,
    NetworkSpec, Pool4, Switch, VmFilter, Word,
};

mod retry;

/// A coordinator's events on a store of its own, stopped when dropped.
struct World {
    events: Events,
    store: Arc<FailingStore<SqliteStore>>,
    _folder: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("dewpoint-events-").tempdir().unwrap();
        let store = Arc::new(FailingStore::whole(SqliteStore::open(&folder.path().join("c.db")).unwrap()));
        let stop = CancellationToken::new();
        let events =
            Events::start(Arc::clone(&store) as _, EventsConfig::default(), stop.clone()).await.unwrap();
        let image = ImageAddition {
            digest: ImageDigest([7; 32]),
            name: Some("debian".parse().unwrap()),
            size_bytes: 1000,
            virtual_size_bytes: 2 * GIB,
            format: "qcow2".into(),
            at: Millis(1),
        };
        events.add_image(image).await.unwrap();
        Self { events, store, _folder: folder, _stop: stop.drop_guard() }
    }

    /// A host that tells its capacity; its term.
    async fn join(&self, n: u128) -> Term {
        let hello = Hello {
            protocol: 2,
            host: host(n),
            journal: JournalId(Uuid::from_u128(n)),
            start_count: 1,
            last_seq: Seq(0),
            last_seq_event: None,
            last_report: ReportSeq(0),
            agent_version: "0.1.0".into(),
            hostname: format!("h{n}"),
            product_uuid: None,
            doubt: None,
        };
        let HostClaim::Matched { term, .. } = self.events.claim_host(hello).await.unwrap() else {
            panic!("a fresh host matches");
        };
        let capacity = HostCapacity {
            cpus: 4,
            memory_bytes: 8 * GIB,
            memory_available_bytes: 8 * GIB,
            disk_bytes: 100 * GIB,
            disk_free_bytes: 100 * GIB,
            cpu_arch: "x86_64".into(),
            bridges: Vec::new(),
        };
        let facts = HostFacts { capacity: Some(capacity), degraded: Vec::new() };
        let heartbeat = HostHeartbeat { facts, ..HostHeartbeat::default() };
        self.events.heartbeat(host(n), term, heartbeat).await.unwrap();
        term
    }
}

fn word(reason: &str) -> Word {
    Word { who: "ann".into(), reason: reason.into(), at: Millis(1) }
}

fn host(n: u128) -> HostId {
    HostId(Uuid::from_u128(n))
}

fn create(name: &str) -> CreateVm {
    CreateVm {
        options: Options::default(),
        vm: None,
        name: name.parse().unwrap(),
        vcpus: 1,
        memory_bytes: GIB,
        disk_bytes: None,
        disk_mode: Default::default(),
        image: ImageSelector::Name("debian".parse().unwrap()),
        nics: Vec::new(),
        ssh_keys: Vec::new(),
        user_data: Vec::new(),
        labels: Default::default(),
        placement: Default::default(),
        restart: Default::default(),
        power: InitialPower::On,
        only_host: None,
        when_full: WhenFull::Refuse,
    }
}

fn with_id(event: EventId, create: CreateVm) -> CreateVm {
    CreateVm { options: Options { event: Some(event), ..Options::default() }, ..create }
}

fn report(number: u64, event: &EventRecord, gone: bool) -> HostReport {
    let vm = VmState {
        vm: event.vm,
        name: event.vm_name.to_string(),
        generation: event.generation,
        power: if gone { Power::Absent } else { Power::Running },
        power_detail: String::new(),
        wanted_on: !gone,
        run: None,
        disk: None,
        as_of: ReportSeq(number),
        gone,
        life: Default::default(),
    };
    HostReport {
        report_seq: ReportSeq(number),
        event: event.id,
        seq: event.seq,
        generation: event.generation,
        outcome: Outcome::success(),
        vm: Some(vm),
        body: None,
        begun_at: Some(Millis(5)),
        finished_at: Millis(6),
        image_bytes: ImageBytes::Here,
    }
}

/// The next item, within a bound.
async fn next<T>(stream: &mut BoxStream<'static, Result<Watched<T>, Cause>>) -> Watched<T> {
    let item = tokio::time::timeout(Duration::from_secs(20), stream.next());
    item.await.expect("a change comes").expect("the watch goes on").unwrap()
}

/// Waits until the event has this stage.
async fn until(world: &World, event: EventId, stage: Stage) -> EventRecord {
    let filter = EventFilter { event: Some(event), ..EventFilter::default() };
    let mut watch = world.events.watch_events(filter);
    loop {
        if let Watched::Item(EventStatus { record, .. }) = next(&mut watch).await
            && record.stage == stage
        {
            return record;
        }
    }
}

#[tokio::test]
async fn an_image_that_creates_used_before_is_missed_once_it_is_removed() {
    let world = World::new().await;
    world.join(1).await;
    let image = ImageSelector::Digest(ImageDigest([7; 32]));
    let by_digest = || CreateVm { image: image.clone(), when_full: WhenFull::Wait, ..create("web") };
    let nowhere = CreateVm { vcpus: 400, ..by_digest() };
    let waits = world.events.create(nowhere).await.unwrap();
    let cancel = CancelEvent { options: Options::default(), target: waits.id };
    world.events.cancel(cancel).await.unwrap();
    world.events.remove_image(image.clone()).await.unwrap();
    let refused = world.events.create(by_digest()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::ImageNotFound);
}

#[tokio::test]
async fn a_repeated_create_names_the_same_vm_and_another_is_refused() {
    let world = World::new().await;
    world.join(1).await;
    let event = EventId::fresh();
    let first = world.events.create(with_id(event, create("web"))).await.unwrap();
    let again = world.events.create(with_id(event, create("web"))).await.unwrap();
    assert_eq!((first.vm, first.seq), (again.vm, again.seq));
    let other = world.events.create(with_id(event, create("db"))).await.unwrap_err();
    assert_eq!(other.reason, Reason::EventIdReused);
    let vm = world.events.vm(VmSelector::Name("web".parse().unwrap())).await.unwrap();
    assert_eq!((vm.id, vm.shape.disk_bytes), (first.vm, 2 * GIB), "the image's virtual size");
    let explained = world.events.event(event).await.unwrap().record.explanation.unwrap();
    assert_eq!((explained.considered, explained.hosts[0].host), (1, host(1)));
}

#[tokio::test]
async fn concurrent_creates_never_oversell_and_all_have_an_answer() {
    let world = World::new().await;
    for n in 1..=3 {
        world.join(n).await;
    }
    // 7 GiB a host beyond the reserve: six with QEMU's own.
    let creates = (0..30).map(|n| {
        let events = world.events.clone();
        async move { events.create(create(&format!("vm-{n}"))).await }
    });
    let answers = futures::future::join_all(creates).await;
    let placed = answers.iter().filter(|answer| answer.is_ok()).count();
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(refused.reason, Reason::NoCapacity, "{refused}");
    }
    assert_eq!(placed, 18);
    assert_eq!(world.store.recount_claims().await.unwrap(), []);
}

#[tokio::test]
async fn what_waits_is_placed_when_a_vm_goes() {
    let world = World::new().await;
    let term = world.join(1).await;
    let big = |name: &str| CreateVm { memory_bytes: 6 * GIB, when_full: WhenFull::Wait, ..create(name) };
    let first = world.events.create(big("first")).await.unwrap();
    let second = world.events.create(big("second")).await.unwrap();
    assert_eq!((first.stage, second.stage), (Stage::Assigned, Stage::Pending));
    assert_eq!(second.pending.unwrap().reason, Reason::NoCapacity);
    world.events.report(host(1), term, report(1, &first, false)).await.unwrap();
    let change = Change::Destroy(Destroy { disks: DiskDisposal::DeleteNow });
    let destroy = ChangeVm { options: Options::default(), vm: VmSelector::Id(first.vm), change };
    let destroy = world.events.change(destroy).await.unwrap();
    world.events.report(host(1), term, report(2, &destroy, true)).await.unwrap();
    let placed = until(&world, second.id, Stage::Assigned).await;
    assert_eq!((placed.seq, placed.generation), (Some(Seq(3)), Generation(1)));
}

#[tokio::test]
async fn what_waits_is_placed_when_a_host_comes_or_expires() {
    let world = World::new().await;
    let wait = |name: &str| CreateVm { when_full: WhenFull::Wait, ..create(name) };
    let none = world.events.create(create("now")).await.unwrap_err();
    assert_eq!(none.reason, Reason::NoCapacity);
    let placed = world.events.create(wait("placed")).await.unwrap();
    let mut soon = CreateVm { vcpus: 400, ..wait("soon") };
    soon.options.not_after = Some(Millis::now().plus(Duration::from_millis(500)));
    let expires = world.events.create(soon).await.unwrap();
    assert_eq!((placed.stage, expires.stage), (Stage::Pending, Stage::Pending));
    world.join(1).await;
    until(&world, placed.id, Stage::Assigned).await;
    let expired = until(&world, expires.id, Stage::Expired).await;
    assert_eq!(expired.outcome.unwrap().cause().unwrap().reason, Reason::Expired);
    assert!(world.events.vm(VmSelector::Id(expires.vm)).await.unwrap().gone);
}

/// Promise 1: a caller is answered only after the write.
#[tokio::test]
async fn a_broken_store_answers_nobody_and_holds_nothing() {
    let world = World::new().await;
    let term = world.join(1).await;
    let network = NetworkSpec {
        name: "lan".parse().unwrap(),
        bridge: None,
        ipv4: Some(Pool4 {
            subnet: "192.0.2.0/24".parse().unwrap(),
            gateway: None,
            first: "192.0.2.5".parse().unwrap(),
            last: "192.0.2.5".parse().unwrap(),
        }),
        ipv6: None,
        nameservers: Vec::new(),
    };
    world.events.add_network(network).await.unwrap();
    let nic = NicRequest { network: "lan".parse().unwrap(), address4: None, address6: None };
    let with_nic = |name: &str| CreateVm { nics: vec![nic.clone()], ..create(name) };
    world.store.set_broken(true);
    assert_eq!(world.events.create(with_nic("web")).await.unwrap_err().reason, Reason::JournalError);
    let queue = world.events.deliverable(host(1), Seq(0), 10).await.unwrap();
    assert_eq!(queue, [], "nothing is delivered that was not written");
    world.store.set_broken(false);
    let made = world.events.create(with_nic("web")).await.unwrap();
    assert_eq!(made.stage, Stage::Assigned, "the only address was given back");
    world.store.set_broken(true);
    assert!(world.events.report(host(1), term, report(1, &made, false)).await.is_err(), "not acknowledged");
    world.store.set_broken(false);
    assert_eq!(world.events.report(host(1), term, report(1, &made, false)).await.unwrap(), ReportSeq(1));
    let full = world.events.create(with_nic("db")).await.unwrap_err();
    assert_eq!(full.reason, Reason::NoAddress);
}

#[tokio::test]
async fn a_watch_begins_with_a_snapshot_and_misses_nothing() {
    let world = World::new().await;
    let term = world.join(1).await;
    let before = world.events.create(create("before")).await.unwrap();
    let mut events = world.events.watch_events(EventFilter::default());
    let mut vms = world.events.watch_vms(VmFilter { name: Some("after".into()), ..VmFilter::default() });
    assert!(matches!(next(&mut events).await, Watched::Item(status) if status.record.id == before.id));
    assert_eq!(next(&mut events).await, Watched::SnapshotComplete);
    assert_eq!(next(&mut vms).await, Watched::SnapshotComplete);
    let after = world.events.create(create("after")).await.unwrap();
    assert!(matches!(next(&mut events).await, Watched::Item(status) if status.record.id == after.id));
    assert!(matches!(next(&mut vms).await, Watched::Item(vm) if vm.unfinished == Some(after.id)));
    let progress = Progress { event_id: after.id.to_string(), step: "fetch".into(), ..Progress::default() };
    world.events.accepted(host(1), term, Seq(2)).await.unwrap();
    world.events.progress(host(1), progress);
    let begun = loop {
        match next(&mut events).await {
            Watched::Item(status) if status.progress.is_some() => break status,
            _ => {}
        }
    };
    // The host's next heartbeat says so too, seconds later.
    assert_eq!(begun.record.stage, Stage::Running);
    assert_eq!(begun.progress.map(|progress| progress.step), Some("fetch".to_owned()));
    world.events.report(host(1), term, report(1, &after, false)).await.unwrap();
    let ended = loop {
        match next(&mut events).await {
            Watched::Item(status) if status.record.stage.has_ended() => break status,
            _ => {}
        }
    };
    assert_eq!((ended.record.stage, ended.progress), (Stage::Succeeded, None));
}

#[tokio::test]
async fn a_host_is_woken_by_its_queue_and_by_hold() {
    let world = World::new().await;
    world.join(1).await;
    let mut queue = world.events.queue_of(host(1));
    queue.mark_unchanged();
    world.events.create(create("web")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), queue.changed()).await.unwrap().unwrap();
    assert_eq!(world.events.deliverable(host(1), Seq(0), 10).await.unwrap().len(), 1);
    world.events.hold(crate::store::HoldScope::Fleet, Switch::On, word("fire")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), queue.changed()).await.unwrap().unwrap();
    assert_eq!(world.events.held(host(1)).as_deref(), Some("fire"));
    assert_eq!(world.events.deliverable(host(1), Seq(0), 10).await.unwrap(), []);
    assert_eq!(world.events.create(create("db")).await.unwrap_err().reason, Reason::NoCapacity);
    world.events.hold(crate::store::HoldScope::Fleet, Switch::Off, word("")).await.unwrap();
    world.events.create(create("db")).await.unwrap();
}

#[tokio::test]
async fn a_cancel_of_what_waits_is_done_at_once() {
    let world = World::new().await;
    let waits = CreateVm { when_full: WhenFull::Wait, ..create("web") };
    let waits = world.events.create(waits).await.unwrap();
    let cancel = CancelEvent { options: Options::default(), target: waits.id };
    assert_eq!(world.events.cancel(cancel).await.unwrap().stage, Stage::Succeeded);
    assert_eq!(until(&world, waits.id, Stage::Cancelled).await.host, None);
    let missing = CancelEvent { options: Options::default(), target: EventId::fresh() };
    assert_eq!(world.events.cancel(missing).await.unwrap_err().reason, Reason::EventNotFound);
}

#[tokio::test]
async fn another_term_loses() {
    let world = World::new().await;
    let old = world.join(1).await;
    let new = world.join(1).await;
    let lost = world.events.heartbeat(host(1), old, HostHeartbeat::default()).await.unwrap_err();
    assert_eq!(lost.reason, Reason::TermLost);
    world.events.heartbeat(host(1), new, HostHeartbeat::default()).await.unwrap();
    let status = world.events.host(HostSelector::Name("h1".into())).await.unwrap();
    assert_eq!((status.liveness, status.record.capacity.unwrap().cpus), (Liveness::Alive, 4));
}
