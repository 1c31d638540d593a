use dewpoint_proto::ids::{ReportSeq, Term};
use dewpoint_proto::spec::{ImageDigest, VmSpec};
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::{Power, VmState};
use uuid::Uuid;

use super::*;
use crate::store::{Claims, Found, VmShape};

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn told(last_seq: u64) -> Hello {
    Hello {
        protocol: 2,
        host: HostId(id(1)),
        journal: JournalId(id(0x22)),
        start_count: 1,
        last_seq: Seq(last_seq),
        last_seq_event: None,
        last_report: ReportSeq(0),
        agent_version: String::new(),
        hostname: "h1".into(),
        product_uuid: None,
        doubt: None,
    }
}

fn host(last_seq: u64, told: &Hello) -> HostRecord {
    HostRecord {
        id: HostId(id(1)),
        hostname: "h1".into(),
        journal: JournalId(id(0x11)),
        start_count: 1,
        agent_version: String::new(),
        term: Term(1),
        last_seq: Seq(last_seq),
        accepted_seq: Seq(last_seq),
        last_report: ReportSeq(0),
        cordoned: None,
        held: None,
        diverged: None,
        awaited: false,
        recovering: false,
        product_uuid: None,
        told: Some(told.clone()),
        reconciling: None,
        retired: None,
        becomes: None,
        degraded: Vec::new(),
        capacity: None,
        claims: Claims::default(),
        last_heartbeat: None,
    }
}

fn spec() -> VmSpec {
    VmSpec {
        name: "web".parse().unwrap(),
        vcpus: 1,
        memory_bytes: 1 << 30,
        disk_bytes: 1 << 30,
        disk_mode: Default::default(),
        nics: Vec::new(),
        ssh_keys: Vec::new(),
        user_data: Vec::new(),
        labels: Default::default(),
        placement: Default::default(),
        restart: Default::default(),
    }
}

fn vm(n: u128, host: Option<u128>) -> VmRecord {
    VmRecord {
        id: VmId(id(n)),
        name: "web".parse().unwrap(),
        host: host.map(|host| HostId(id(host))),
        last_host: host.map(|host| HostId(id(host))),
        hostname: host.map(|host| format!("h{host}")),
        generation: Generation(3),
        shape: VmShape::from(&spec()),
        wanted_on: true,
        observed: None,
        observed_at: None,
        unfinished: None,
        image: ImageDigest([0; 32]),
        created_at: Millis(0),
        gone: host.is_none(),
    }
}

fn holding(n: u128, generation: u64, spec: Option<VmSpec>) -> Holding {
    let state = VmState {
        vm: VmId(id(n)),
        name: "web".into(),
        generation: Generation(generation),
        power: Power::Running,
        power_detail: String::new(),
        wanted_on: true,
        run: None,
        disk: None,
        as_of: ReportSeq(0),
        gone: false,
        life: Box::default(),
    };
    let found = Found { journal: spec.is_some(), libvirt: true, disk: true };
    Holding { state, spec, found, unseen: String::new(), image: None }
}

fn event(n: u128) -> EventRecord {
    EventRecord {
        id: EventId(id(n)),
        vm: VmId(id(0xb)),
        vm_name: "web".parse().unwrap(),
        kind: KindName::Start,
        stage: Stage::Accepted,
        host: Some(HostId(id(1))),
        hostname: None,
        seq: Some(Seq(2)),
        generation: Generation(2),
        body: None,
        outcome: None,
        unknown: None,
        contradicted_by: None,
        pending: None,
        explanation: None,
        accepted_at: Millis(0),
        not_after: None,
        begun_at: None,
        finished_at: None,
        retry_of: None,
        retried_by: None,
        stage_since: None,
        forced: None,
    }
}

fn entry(n: u128, ended: bool) -> JournalEntry {
    JournalEntry {
        seq: Some(Seq(2)),
        event: EventId(id(n)),
        vm: VmId(id(0xb)),
        generation: Generation(2),
        stage: if ended { "finished" } else { "running" }.into(),
        body: None,
        outcome: ended.then(dewpoint_proto::outcome::Outcome::success),
    }
}

struct Case {
    host: HostRecord,
    told: Hello,
    logs_match: bool,
    unfinished: Vec<EventRecord>,
    ours: Vec<VmRecord>,
    known: BTreeMap<VmId, VmRecord>,
    account: Account,
}

fn case(told: Hello) -> Case {
    Case {
        host: host(5, &told),
        told,
        logs_match: false,
        unfinished: Vec::new(),
        ours: Vec::new(),
        known: BTreeMap::new(),
        account: Account::default(),
    }
}

fn plan(case: &Case) -> Plan {
    let diverged = Cause::new(Reason::Diverged, "it has another journal");
    make(&Sides {
        host: &case.host,
        diverged: &diverged,
        told: &case.told,
        logs_match: case.logs_match,
        unfinished: &case.unfinished,
        ours: &case.ours,
        known: &case.known,
        account: &case.account,
    })
}

#[test]
fn a_lost_journal_makes_unknown_what_only_we_know_and_the_queue_goes_on_after_both() {
    let mut case = case(told(0));
    case.unfinished = vec![event(0xe1), event(0xe2)];
    let plan = plan(&case);
    assert_eq!(plan.unknown.iter().map(|event| event.event.0).collect::<Vec<_>>(), [id(0xe1), id(0xe2)]);
    assert!(plan.continued.is_empty());
    assert_eq!(plan.base, Seq(5));
    let ahead = Case { told: told(9), ..case };
    assert_eq!(super::tests::plan(&ahead).base, Seq(9));
}

#[test]
fn what_the_host_has_it_ends_unless_it_does_not_believe_its_journal() {
    let mut case = case(told(2));
    case.unfinished = vec![event(0xe1), event(0xe2)];
    case.account.entries = vec![entry(0xe1, true), entry(0xe2, false)];
    assert_eq!((plan(&case).continued.len(), plan(&case).unknown.len()), (2, 0));
    case.told.doubt = Some(Cause::new(Reason::JournalLost, "an older copy"));
    let doubted = plan(&case);
    assert_eq!(doubted.continued.iter().map(|event| event.event.0).collect::<Vec<_>>(), [id(0xe1)]);
    assert_eq!(doubted.unknown[0].host_stage.as_deref(), Some("running"));
}

#[test]
fn each_vm_has_one_standing() {
    let mut case = case(told(0));
    case.ours = vec![vm(0xb1, Some(1)), vm(0xb2, Some(1))];
    case.account.vms = vec![
        holding(0xb1, 7, None),
        holding(0xb3, 1, Some(spec())),
        holding(0xb4, 1, None),
        holding(0xb5, 1, Some(spec())),
        holding(0xb6, 1, Some(spec())),
    ];
    case.known = [vm(0xb5, None), vm(0xb6, Some(2))].into_iter().map(|vm| (vm.id, vm)).collect();
    let found: Vec<_> = plan(&case).vms.iter().map(|vm| (vm.vm.0.as_u128(), vm.standing)).collect();
    assert_eq!(
        found,
        [
            (0xb1, Standing::Both),
            (0xb2, Standing::CoordinatorOnly),
            (0xb3, Standing::Adopted),
            (0xb4, Standing::LeftAlone),
            (0xb5, Standing::LeftAlone),
            (0xb6, Standing::LeftAlone),
        ]
    );
    assert_eq!(plan(&case).vms[0].host_generation, Generation(7));
}

#[test]
fn the_digest_changes_with_what_is_decided_and_with_nothing_else() {
    let mut case = case(told(0));
    case.unfinished = vec![event(0xe1)];
    case.account.vms = vec![holding(0xb1, 7, Some(spec()))];
    let shown = plan(&case).digest();
    case.unfinished[0].stage = Stage::Running;
    case.account.vms[0].state.power = Power::Off;
    assert_eq!(plan(&case).digest(), shown, "an event that went on, and a VM that is off now");
    case.unfinished.push(event(0xe2));
    let more = plan(&case).digest();
    assert_ne!(more, shown, "another event");
    case.account.vms[0].state.generation = Generation(8);
    assert_ne!(plan(&case).digest(), more, "a newer VM");
}

/// A mainboard was replaced: the queue and all events go on.
#[test]
fn another_machine_with_the_same_log_changes_nothing_else() {
    let mut case = case(told(5));
    case.logs_match = true;
    case.unfinished = vec![event(0xe1)];
    case.host.product_uuid = Some("one".into());
    case.told.product_uuid = Some("two".into());
    let moved = plan(&case);
    assert_eq!(moved.machine, Some(("one".into(), "two".into())));
    assert!(moved.unknown.is_empty() && moved.vms.is_empty());
    case.logs_match = false;
    assert_eq!(plan(&case).machine, None, "with another log a new queue begins");
}
