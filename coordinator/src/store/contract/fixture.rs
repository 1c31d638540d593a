//! Ids, bodies and hosts that the cases share. All deterministic.

use dewpoint_proto::event::{Body, Create, Destroy, DiskDisposal, Event, InitialPower, Kind};
use dewpoint_proto::ids::{EventId, Generation, HostId, JournalId, ReportSeq, Seq, VmId};
use dewpoint_proto::limits::GIB;
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::{ImageDigest, ImageRef, VmSpec};
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::{Power, VmState};
use uuid::Uuid;

use crate::scheduler::Explanation;
use crate::store::*;

pub(super) const NOW: Millis = Millis(1_000_000);
pub(super) const DIGEST: ImageDigest = ImageDigest([7; 32]);

pub(crate) fn host_id(n: u128) -> HostId {
    HostId(Uuid::from_u128(0xa000 + n))
}

pub(super) fn vm_id(n: u128) -> VmId {
    VmId(Uuid::from_u128(0xb000 + n))
}

pub(super) fn event_id(n: u128) -> EventId {
    EventId(Uuid::from_u128(0xc000 + n))
}

pub(crate) fn word(reason: &str) -> Word {
    Word { who: "ann".into(), reason: reason.into(), at: NOW }
}

pub(crate) fn hello(n: u128) -> Hello {
    Hello {
        protocol: 2,
        host: host_id(n),
        journal: JournalId(Uuid::from_u128(0xd000 + n)),
        start_count: 1,
        last_seq: Seq(0),
        last_seq_event: None,
        last_report: ReportSeq(0),
        agent_version: "0.1.0".into(),
        hostname: format!("h{n}"),
        product_uuid: Some(format!("machine-{n}")),
        doubt: None,
    }
}

/// A host that is there and may be claimed.
pub(crate) async fn join(store: &impl Store, n: u128) -> Under {
    let HostClaim::Matched { term, .. } = store.claim_host(hello(n), NOW).await.unwrap() else {
        panic!("a fresh host matches");
    };
    Under { host: host_id(n), term, at: NOW }
}

pub(super) async fn with_image(store: &impl Store) {
    store.add_image(image()).await.unwrap().unwrap();
}

pub(super) fn image() -> ImageAddition {
    ImageAddition {
        digest: DIGEST,
        name: Some("debian".parse().unwrap()),
        size_bytes: 1000,
        virtual_size_bytes: 2 * GIB,
        format: "qcow2".into(),
        at: NOW,
    }
}

/// One host and an image.
pub(crate) async fn small_world(store: &impl Store) -> Under {
    with_image(store).await;
    join(store, 1).await
}

pub(super) fn candidate(n: u128) -> Candidate {
    let most = Claims { vcpus: 8, memory_bytes: 8 * GIB, disk_bytes: 100 * GIB, vms: 135 };
    Candidate { host: host_id(n), most, memory_overhead_bytes: 0 }
}

pub(super) fn spec(n: u128) -> VmSpec {
    VmSpec {
        name: format!("vm-{n}").parse().unwrap(),
        vcpus: 1,
        memory_bytes: GIB,
        disk_bytes: 4 * GIB,
        disk_mode: Default::default(),
        nics: Vec::new(),
        ssh_keys: Vec::new(),
        user_data: Vec::new(),
        labels: Default::default(),
        placement: Default::default(),
        restart: Default::default(),
    }
}

pub(super) fn image_ref() -> ImageRef {
    ImageRef { digest: DIGEST, size_bytes: 1000, virtual_size_bytes: 2 * GIB, local_path: None }
}

pub(super) fn body(event: u128, vm: u128, kind: Kind) -> Body {
    Body::encode(Event {
        id: event_id(event),
        vm: vm_id(vm),
        accepted_at: NOW,
        not_after: None,
        retry_of: None,
        note: String::new(),
        kind,
    })
    .unwrap()
}

pub(super) fn create_kind(spec: VmSpec) -> Kind {
    Kind::Create(Box::new(Create { spec, source: image_ref(), power: InitialPower::On }))
}

pub(super) fn destroy_kind() -> Kind {
    Kind::Destroy(Destroy { disks: DiskDisposal::Recycle })
}

/// A create of VM `n` by event `n`, for hosts in this order.
pub(crate) fn create(n: u128, hosts: &[u128]) -> CreateAdmission {
    CreateAdmission {
        body: body(n, n, create_kind(spec(n))),
        request: RequestDigest([n.to_le_bytes()[0]; 32]),
        leases: Vec::new(),
        candidates: hosts.iter().map(|&host| candidate(host)).collect(),
        explanation: Explanation::default(),
        unplaced: Unplaced::Refuse,
    }
}

pub(super) fn waiting() -> Unplaced {
    let why = dewpoint_proto::cause::Cause::new(dewpoint_proto::cause::Reason::NoCapacity, "full");
    Unplaced::Wait { why, only_host: None }
}

pub(super) fn change(event: u128, vm: u128, kind: Kind) -> ChangeAdmission {
    ChangeAdmission {
        body: body(event, vm, kind),
        request: RequestDigest([event.to_le_bytes()[0]; 32]),
        destroys_a_minute: 0,
    }
}

pub(super) async fn assigned(store: &impl Store, admission: CreateAdmission) -> EventRecord {
    match store.admit_create(admission).await.unwrap() {
        Admission::Assigned(record) => *record,
        other => panic!("not assigned: {other:?}"),
    }
}

pub(super) async fn changed(store: &impl Store, admission: ChangeAdmission) -> EventRecord {
    match store.admit_change(admission).await.unwrap() {
        Admission::Assigned(record) => *record,
        other => panic!("not assigned: {other:?}"),
    }
}

/// The reason of a refusal.
pub(super) fn refused(admission: Admission) -> dewpoint_proto::cause::Cause {
    match admission {
        Admission::Refused(cause) => cause,
        other => panic!("not refused: {other:?}"),
    }
}

pub(super) fn state(vm: u128, as_of: u64, power: Power) -> VmState {
    VmState {
        vm: vm_id(vm),
        name: format!("vm-{vm}"),
        generation: Generation(1),
        power,
        power_detail: String::new(),
        wanted_on: power == Power::Running,
        run: None,
        disk: None,
        as_of: ReportSeq(as_of),
        gone: false,
        life: Box::default(),
    }
}

/// The host's report of an event of its queue, which left the VM there.
pub(super) fn report(number: u64, event: &EventRecord, outcome: Outcome) -> HostReport {
    let vm = VmState { vm: event.vm, ..state(0, number, Power::Running) };
    HostReport {
        report_seq: ReportSeq(number),
        event: event.id,
        seq: event.seq,
        generation: event.generation,
        outcome,
        vm: Some(vm),
        body: None,
        begun_at: Some(NOW),
        finished_at: NOW,
        image_bytes: ImageBytes::Here,
    }
}

/// The same, and the VM is gone.
pub(super) fn report_gone(number: u64, event: &EventRecord, outcome: Outcome) -> HostReport {
    let mut told = report(number, event, outcome);
    if let Some(vm) = &mut told.vm {
        vm.gone = true;
        vm.power = Power::Absent;
    }
    told
}

pub(super) async fn claims_of(store: &impl Store, n: u128) -> Claims {
    store.host(host_id(n)).await.unwrap().unwrap().claims
}
