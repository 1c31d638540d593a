//! Gathers the [`World`]: the coordinator's API and database, the agent's journal, libvirt, files, links, rules, guests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::wire::event::event::Kind;
use dewpoint_proto::wire::fleet::{EventRecord, ListEventsRequest, ListVmsRequest};
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use virt::domain::DomainState;
use virt::enumutil::Enum;

use super::callers::{Shared, guest};
use super::machine::Machine;
use super::world::{
    Domain, Fleet, FleetEvent, FleetVm, Guest, Host, Journal, JournalEvent, JournalVm, World,
};
use crate::caller::{answer, has_ended};
use crate::guest::Facts;
use crate::host::{DomainSeen, Libvirt, files};
use crate::shell;

/// What six guests that boot at once may need on a machine that is busy with other things as well.
const BOOTS: Duration = Duration::from_secs(420);
/// A page of the API's lists.
const PAGE: u32 = 500;

/// All of it.
///
/// # Panics
/// When a side cannot be read at all.
pub async fn world(machine: &Machine, shared: &Shared) -> World {
    let fleet = fleet(machine, shared).await;
    let journal = journal(&machine.agent.data().join("agent.db"))
        .unwrap_or_else(|error| panic!("the journal: {error}"));
    let mut host = host(machine);
    host.guests = guests(&host, shared).await;
    World { history: shared.history.lines(), fleet, journal, host }
}

async fn fleet(machine: &Machine, shared: &Shared) -> Fleet {
    let mut events = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListEventsRequest { page_size: PAGE, page_token, ..ListEventsRequest::default() };
        let page = answer(shared.caller.events().list_events(request).await);
        let page = page.unwrap_or_else(|cause| panic!("the coordinator's events: {cause:?}"));
        events.extend(page.events.into_iter().map(event));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let hosts = shared.caller.all_hosts().await.unwrap_or_else(|cause| panic!("{cause:?}"));
    let trouble = hosts.iter().find_map(|host| host.diverged.clone().or_else(|| host.recovering.clone()));
    let path = machine.coordinator.data().join("coordinator.db");
    let (claimed, macs, addresses, declared) =
        accounts(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let vms = vms(shared, &declared).await;
    Fleet { events, vms, claimed, macs, addresses, trouble: trouble.map(|cause| cause.text) }
}

fn event(record: EventRecord) -> FleetEvent {
    let ended = has_ended(&record);
    let outcome = record.outcome.and_then(|outcome| Outcome::try_from(outcome).ok());
    let reason = outcome.as_ref().and_then(Outcome::cause).map(|cause| cause.reason.to_string());
    let made = match &outcome {
        Some(Outcome::Succeeded(done)) => done.image.as_ref().map(|image| image.digest.to_string()),
        _ => None,
    };
    let kind = record.body.and_then(|body| body.kind);
    let left_off = matches!(&kind, Some(Kind::Create(create)) if !create.start);
    let source = match kind {
        Some(Kind::Create(create)) => create.source,
        Some(Kind::Restore(restore)) => restore.source,
        _ => None,
    };
    FleetEvent {
        id: record.event_id,
        vm: record.vm_id,
        kind: record.kind,
        stage: record.stage,
        ended,
        seq: record.seq,
        generation: record.generation,
        reason: reason.unwrap_or_default(),
        image: source.map(|image| image.digest).unwrap_or_default(),
        made: made.unwrap_or_default(),
        left_off,
        contradicted: record.contradicted_by.is_some(),
        accepted_ms: record.accepted_at_ms,
        finished_ms: record.finished_at_ms,
    }
}

async fn vms(shared: &Shared, declared: &BTreeMap<String, Declared>) -> Vec<FleetVm> {
    let request = ListVmsRequest { include_gone: true, page_size: 1000, ..ListVmsRequest::default() };
    let listed = answer(shared.caller.vms().list_vms(request).await);
    let listed = listed.unwrap_or_else(|cause| panic!("the coordinator's VMs: {cause:?}"));
    let vms = listed.vms.into_iter().map(|vm| {
        let row = declared.get(&vm.vm_id).copied().unwrap_or_default();
        let restart = vm.restart().into();
        let told = vm.observed.unwrap_or_default();
        FleetVm {
            id: vm.vm_id,
            gone: vm.gone,
            on_host: row.on_host,
            generation: vm.generation,
            wanted_on: vm.wanted_on,
            vcpus: row.sizes[0],
            memory: row.sizes[1],
            disk: row.sizes[2],
            restart,
            restarts: told.restarts,
            keeping: told.keeping,
            attention: told.attention.map(|cause| cause.reason).unwrap_or_default(),
        }
    });
    vms.collect()
}

/// What a VM's row declares.
#[derive(Clone, Copy, Default)]
struct Declared {
    on_host: bool,
    sizes: [i64; 3],
}

/// Sums, MACs, addresses, and what each VM declares.
type Accounts = ([i64; 4], Vec<(String, String)>, Vec<(String, String)>, BTreeMap<String, Declared>);

fn accounts(path: &Path) -> rusqlite::Result<Accounts> {
    let db = open(path)?;
    let claimed = "SELECT claimed_vcpus, claimed_memory, claimed_disk, claimed_vms FROM hosts";
    let claimed =
        db.query_row(claimed, [], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?;
    let mac = |row: &Row<'_>| {
        let bytes: Vec<u8> = row.get(0)?;
        let octets: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((octets.join(":"), uuid(row, 1)?))
    };
    let macs = rows(&db, "SELECT mac, vm_id FROM nics", mac)?;
    let addresses =
        rows(&db, "SELECT address, vm_id FROM addresses", |row| Ok((row.get(0)?, uuid(row, 1)?)))?;
    let declared = rows(&db, "SELECT vm_id, host_id IS NOT NULL, vcpus, memory, disk FROM vms", |row| {
        let sizes = [row.get(2)?, row.get(3)?, row.get(4)?];
        Ok((uuid(row, 0)?, Declared { on_host: row.get(1)?, sizes }))
    })?;
    Ok((claimed, macs, addresses, declared.into_iter().collect()))
}

fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    let bytes: Vec<u8> = row.get(column)?;
    Ok(uuid::Uuid::from_slice(&bytes).map(|id| id.to_string()).unwrap_or_default())
}

fn journal(path: &Path) -> rusqlite::Result<Journal> {
    let db = open(path)?;
    let events = "SELECT event_id, vm_id, kind, origin = 'delivered', coalesce(seq, 0), generation, stage, \
        coalesce(outcome, '') FROM events ORDER BY n";
    let events = rows(&db, events, |row| {
        let (outcome, reason) = ended(&row.get::<_, String>(7)?);
        Ok(JournalEvent {
            id: row.get(0)?,
            vm: row.get(1)?,
            kind: row.get(2)?,
            delivered: row.get(3)?,
            seq: row.get::<_, i64>(4)?.cast_unsigned(),
            generation: row.get::<_, i64>(5)?.cast_unsigned(),
            stage: row.get(6)?,
            outcome,
            reason,
        })
    })?;
    let queue = rows(&db, "SELECT seq, event_id FROM queue ORDER BY seq", |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
    })?;
    let reports = rows(&db, "SELECT event_id, outcome, acked FROM reports", |row| {
        Ok((row.get(0)?, ended(&row.get::<_, String>(1)?).0, row.get(2)?))
    })?;
    let vms = "SELECT vm_id, presence, wanted, generation, coalesce(disk, ''), coalesce(seed, '') FROM vms";
    let vms = rows(&db, vms, |row| {
        Ok(JournalVm {
            id: row.get(0)?,
            presence: row.get(1)?,
            wanted: row.get(2)?,
            generation: row.get::<_, i64>(3)?.cast_unsigned(),
            disk: row.get(4)?,
            seed: row.get(5)?,
        })
    })?;
    Ok(Journal { events, queue, reports, vms })
}

/// How an event ended, and the reason of its cause, from a stored outcome.
fn ended(json: &str) -> (String, String) {
    let Ok(outcome) = serde_json::from_str::<Outcome>(json) else { return (json.to_owned(), String::new()) };
    let reason = outcome.cause().map(|cause| cause.reason.to_string()).unwrap_or_default();
    (outcome.name().to_owned(), reason)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(10))?;
    db.execute_batch("PRAGMA query_only = ON")?;
    Ok(db)
}

fn rows<T>(
    db: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare(sql)?.query_map([], |row| read(row))?.collect()
}

fn host(machine: &Machine) -> Host {
    let libvirt = Libvirt::connect_to(machine.lab.hypervisor());
    let domains = libvirt.domains_with_files_in(machine.lab.dir());
    let vms = machine.agent.data().join("vms");
    let mut folders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in std::fs::read_dir(&vms).into_iter().flatten().flatten() {
        let names = files(&entry.path()).iter().map(|file| file.to_string_lossy().into_owned()).collect();
        folders.insert(entry.file_name().to_string_lossy().into_owned(), names);
    }
    let ports = Path::new("/sys/class/net").join(machine.lab.bridge()).join("brif");
    let ports = std::fs::read_dir(ports).into_iter().flatten().flatten();
    Host {
        domains: domains.iter().map(|seen| domain(&libvirt, seen)).collect(),
        folders,
        taps: ports.map(|port| port.file_name().to_string_lossy().into_owned()).collect(),
        shielded: shielded(&machine.lab.table()),
        guests: BTreeMap::new(),
    }
}

fn domain(libvirt: &Libvirt, seen: &DomainSeen) -> Domain {
    let found = libvirt.connection().lookup_domain_by_uuid_string(&seen.uuid);
    let state = found.as_ref().ok().map(virt::domain::Domain::state);
    let mark = |name: &str| seen.mark(name).unwrap_or_default();
    let live = |name: &str| if seen.active { seen.live(name).unwrap_or_default() } else { String::new() };
    let interfaces =
        seen.persistent.split("<interface ").skip(1).filter_map(|part| part.split("</interface>").next());
    let value = |interface: &str, before: &str| {
        interface.split(before).nth(1).and_then(|rest| rest.split('\'').next()).map(str::to_owned)
    };
    let (taps, macs) = interfaces
        .map(|part| (value(part, "<target dev='"), value(part, "<mac address='")))
        .unzip::<_, _, Vec<_>, Vec<_>>();
    Domain {
        vm: seen.uuid.clone(),
        active: seen.active,
        persistent: found.as_ref().is_ok_and(|domain| domain.is_persistent().unwrap_or(false)),
        title: seen
            .persistent
            .split("<title>")
            .nth(1)
            .and_then(|rest| rest.split('<').next())
            .map(str::to_owned)
            .unwrap_or_default(),
        paused: matches!(state, Some(Ok((Enum::Known(DomainState::Paused), _)))),
        generation: mark("generation").parse().unwrap_or_default(),
        event: mark("event"),
        wanted: mark("wanted"),
        disk: mark("disk"),
        seed: mark("seed"),
        live_run: live("run"),
        live_disk: live("disk"),
        taps: taps.into_iter().flatten().collect(),
        macs: macs.into_iter().flatten().collect(),
        why: format!("{state:?}"),
        job: found.as_ref().ok().filter(|_| seen.active).map(job).unwrap_or_default(),
    }
}

/// Backups are jobs of libvirt's; one that is left wedges its domain.
fn job(domain: &virt::domain::Domain) -> String {
    match domain.job_info() {
        // Bounded and unbounded; the others are none, and those that are over.
        Ok(job) if matches!(job.r#type, 1 | 2) => format!("a job of type {}", job.r#type),
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

/// The elements of the set of taps, as nftables lists them.
fn shielded(table: &str) -> Vec<String> {
    let listed = shell::output("nft", ["-j", "list", "set", "bridge", table, "taps"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
    let mut found = BTreeSet::new();
    for object in listed["nftables"].as_array().into_iter().flatten() {
        for element in object["set"]["elem"].as_array().into_iter().flatten() {
            let element = element["elem"].get("val").unwrap_or(element);
            found.extend(element.as_str().map(str::to_owned));
        }
    }
    found.into_iter().collect()
}

/// Asks every guest that is on; one that was just started is given the time to boot.
async fn guests(host: &Host, shared: &Shared) -> BTreeMap<String, Result<Guest, String>> {
    let deadline = Instant::now() + BOOTS;
    let mut guests = BTreeMap::new();
    for domain in host.domains.iter().filter(|domain| domain.active && !domain.macs.is_empty()) {
        let Some(guest) = guest(shared, &domain.vm).await else { continue };
        let told = loop {
            match guest.facts().await {
                Ok(facts) => break Ok(told(facts)),
                Err(why) if Instant::now() > deadline => break Err(why),
                Err(_) => sleep(Duration::from_millis(500)).await,
            }
        };
        guests.insert(domain.vm.clone(), told);
    }
    guests
}

fn told(facts: Facts) -> Guest {
    let Facts { instance_id, user_data_sha256, marker, .. } = facts;
    Guest { instance_id, user_data_sha256, marker }
}
