//! Hosts: claims of their queues, switches, sums.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, HostId, Seq, Term};
use dewpoint_proto::time::Millis;
use rusqlite::Connection;

use super::audit;
use super::codec::{IdBytes, int, json};
use super::recovery;
use super::report::mark_accepted;
use super::rows::{self, all, change, columns, one};
use super::writer::Effect;
use crate::store::causes::no_host;
use crate::store::matching::{LogMatch, OurLog, match_host};
use crate::store::{
    About, Act, AuditEntry, Claims, FleetRecord, Hello, HoldScope, HostClaim, HostFacts, HostRecord,
    HostSettled, Miscount, Settled, StoreError, StoreResult, Switch, Under, Word,
};

/// Takes a host's queue under a new term and matches its log with ours.
pub(super) fn claim(db: &Connection, hello: &Hello, at: Millis) -> StoreResult<Effect<HostClaim>> {
    let known = rows::host(db, hello.host)?;
    if let Some(retired) = known.as_ref().filter(|host| host.retired.is_some() && host.becomes.is_none()) {
        return Err(StoreError::Refused(is_retired(retired)));
    }
    let ours = known.as_ref().map(|host| our_log(db, host, hello.last_seq)).transpose()?;
    let found = match known.as_ref().and_then(|host| host.becomes) {
        Some(old) => LogMatch::Diverged(becomes(hello, old)),
        None => match_host(hello, ours.as_ref()),
    };
    let term = Term(known.as_ref().map_or(1, |host| host.term.0 + 1));
    register(db, hello, term, at)?;
    let claim = match found {
        LogMatch::New => {
            begin_journal(db, hello)?;
            recovery::heard(db, hello.host)?;
            let reports_acked = dewpoint_proto::ids::ReportSeq(0);
            HostClaim::Matched { term, after: Seq(0), reports_acked, changed: Vec::new() }
        }
        LogMatch::Matched { after } => {
            let row = "UPDATE hosts SET diverged = NULL, recovering = 0, reconciling = NULL, \
                 product_uuid = coalesce(product_uuid, ?2) WHERE host_id = ?1";
            change(db, row, &[&hello.host.bytes(), &hello.product_uuid])?;
            let (known_seq, reports_acked) =
                known.map(|host| (host.accepted_seq, host.last_report)).unwrap_or_default();
            let under = Under { host: hello.host, term, at };
            let changed = mark_accepted(db, under, known_seq, after)?;
            recovery::heard(db, hello.host)?;
            HostClaim::Matched { term, after, reports_acked, changed }
        }
        LogMatch::Diverged(cause) => {
            let row = "UPDATE hosts SET diverged = ?2, recovering = 0 WHERE host_id = ?1";
            change(db, row, &[&hello.host.bytes(), &json("hosts", &cause)?])?;
            HostClaim::Diverged { term, cause }
        }
        LogMatch::Recovering(cause) => {
            super::takeover::begin(db, hello, &cause)?;
            HostClaim::Diverged { term, cause }
        }
    };
    Ok(Effect::Keep(claim))
}

/// What our rows say of a host's log.
pub(super) fn our_log(db: &Connection, host: &HostRecord, at: Seq) -> StoreResult<OurLog> {
    let base =
        one(db, "SELECT base_seq, base_event FROM hosts WHERE host_id = ?1", &[&host.id.bytes()], |row| {
            let columns = columns("hosts", row);
            Ok((Seq(columns.count("base_seq")?), columns.optional_id::<EventId>("base_event")?))
        })?;
    let event_there = match base {
        Some((seq, event)) if seq == at && event.is_some() => event,
        _ => event_at(db, host.id, at)?,
    };
    Ok(OurLog {
        journal: host.journal,
        last_seq: host.last_seq,
        accepted_seq: host.accepted_seq,
        last_report: host.last_report,
        event_there,
        product_uuid: host.product_uuid.clone(),
        // A restored database may have forgotten what it gave out after that.
        goes_on_at: base
            .map(|(seq, _)| seq)
            .filter(|seq| *seq == host.last_seq && *seq > Seq(0) && !host.awaited),
    })
}

/// Our event at a place of a host's queue.
pub(super) fn event_at(db: &Connection, host: HostId, seq: Seq) -> StoreResult<Option<EventId>> {
    let row = "SELECT n, event_id FROM events WHERE host_id = ?1 AND seq = ?2 UNION ALL \
         SELECT n, event_id FROM finished WHERE host_id = ?1 AND seq = ?2 ORDER BY n DESC LIMIT 1";
    one(db, row, &[&host.bytes(), &int(seq.0)], |row| columns("events", row).id("event_id"))
}

/// Writes what may change with each hello, whatever the logs say; the journal stays what it was.
fn register(db: &Connection, hello: &Hello, term: Term, at: Millis) -> StoreResult<()> {
    change(
        db,
        "INSERT INTO hosts (host_id, hostname, journal_id, start_count, agent_version, term, last_heartbeat, told) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (host_id) DO UPDATE SET hostname = ?2, \
         start_count = ?4, agent_version = ?5, term = ?6, last_heartbeat = ?7, told = ?8",
        &[
            &hello.host.bytes(),
            &hello.hostname,
            &hello.journal.bytes(),
            &int(hello.start_count),
            &hello.agent_version,
            &int(term.0),
            &at.0,
            &json("hosts", hello)?,
        ],
    )?;
    Ok(())
}

/// A journal that begins: nothing was ever delivered into it.
fn begin_journal(db: &Connection, hello: &Hello) -> StoreResult<()> {
    change(
        db,
        "UPDATE hosts SET journal_id = ?2, diverged = NULL, recovering = 0, reconciling = NULL, report_open = 1, \
         product_uuid = coalesce(product_uuid, ?3) WHERE host_id = ?1",
        &[&hello.host.bytes(), &hello.journal.bytes(), &hello.product_uuid],
    )?;
    Ok(())
}

fn is_retired(host: &HostRecord) -> Cause {
    let why = host.retired.as_deref().unwrap_or_default();
    Cause::new(Reason::HostRetired, format!("host {} was retired: {why}", host.hostname))
        .advise(
            "its VMs may run elsewhere by now: stop them, then wipe the agent's data folder, and it joins as a new host",
        )
        .with("host_id", host.id)
}

fn becomes(hello: &Hello, old: HostId) -> Cause {
    Cause::new(Reason::Diverged, format!("host {} takes the place of host {old}", hello.hostname))
        .advise("its agent is told so, and starts again under that id")
        .with("state", "becomes")
        .with("host_id", hello.host)
        .with("becomes_host_id", old)
}

/// What holds for all.
pub(super) fn fleet(db: &Connection) -> StoreResult<FleetRecord> {
    let read = one(db, "SELECT held, recovering, destroy_limit FROM fleet WHERE id = 1", &[], |row| {
        let columns = columns("fleet", row);
        Ok(FleetRecord {
            held: columns.get("held")?,
            recovering: columns.optional_json("recovering")?,
            destroy_limit: columns.get("destroy_limit")?,
        })
    })?;
    let mut fleet =
        read.ok_or_else(|| StoreError::Corrupt { table: "fleet", text: "it has no row".into() })?;
    if let Some(cause) = fleet.recovering.take() {
        let awaited = recovery::awaited(db)?;
        let mut cause = cause.with("awaited_hosts", awaited);
        if awaited > 0 {
            cause.text.push_str(&format!("; {awaited} of them were not heard since"));
        }
        fleet.recovering = Some(cause);
    }
    Ok(fleet)
}

/// Keeps what a heartbeat brings; a capacity that it does not tell stays what it was.
pub(super) fn heartbeat(db: &Connection, under: Under, facts: &HostFacts) -> StoreResult<Effect<()>> {
    super::report::check_term(db, under)?;
    let capacity = facts.capacity.as_ref().map(|capacity| json("hosts", capacity)).transpose()?;
    change(
        db,
        "UPDATE hosts SET capacity = coalesce(?2, capacity), degraded = ?3, last_heartbeat = ?4 \
         WHERE host_id = ?1",
        &[&under.host.bytes(), &capacity, &json("hosts", &facts.degraded)?, &under.at.0],
    )?;
    Ok(Effect::Keep(()))
}

/// What is kept of a switch: why it is on.
fn reason(switch: Switch, word: &Word) -> Option<&str> {
    match switch {
        Switch::On => Some(&word.reason),
        Switch::Off => None,
    }
}

pub(super) fn set_cordon(
    db: &Connection,
    host: HostId,
    cordon: Switch,
    word: Word,
) -> StoreResult<Effect<HostSettled>> {
    let row = "UPDATE hosts SET cordoned = ?2 WHERE host_id = ?1";
    change(db, row, &[&host.bytes(), &reason(cordon, &word)])?;
    let Some(record) = rows::host(db, host)? else { return Ok(Effect::Undo(Err(no_host(host)))) };
    let act = match cordon {
        Switch::On => Act::Cordon,
        Switch::Off => Act::Uncordon,
    };
    audit::record(db, &AuditEntry { act, about: About::host(host), detail: String::new(), word })?;
    Ok(Effect::Keep(Ok(Box::new(record))))
}

pub(super) fn set_hold(
    db: &Connection,
    scope: HoldScope,
    hold: Switch,
    word: Word,
) -> StoreResult<Effect<Settled<u32>>> {
    let (about, hosts) = match scope {
        HoldScope::Fleet => {
            change(db, "UPDATE fleet SET held = ?1", &[&reason(hold, &word)])?;
            let count =
                one(db, "SELECT count(*) AS c FROM hosts", &[], |row| columns("hosts", row).get("c"))?;
            (About::default(), count.unwrap_or(0))
        }
        HoldScope::Host(host) => {
            let row = "UPDATE hosts SET held = ?2 WHERE host_id = ?1";
            if change(db, row, &[&host.bytes(), &reason(hold, &word)])? == 0 {
                return Ok(Effect::Undo(Err(no_host(host))));
            }
            (About::host(host), 1)
        }
    };
    let act = match hold {
        Switch::On => Act::Hold,
        Switch::Off => Act::Release,
    };
    audit::record(db, &AuditEntry { act, about, detail: String::new(), word })?;
    Ok(Effect::Keep(Ok(hosts)))
}

/// Counts claims from the VMs' rows, and corrects the sums that differ.
pub(super) fn recount(db: &Connection) -> StoreResult<Effect<Vec<Miscount>>> {
    correct(db).map(Effect::Keep)
}

/// The sums that differ from what the VMs' rows come to.
pub(super) fn miscounts(db: &Connection) -> StoreResult<Vec<Miscount>> {
    const COUNTED: &str = "SELECT h.host_id, h.claimed_vcpus, h.claimed_memory, h.claimed_disk, h.claimed_vms, \
         coalesce(v.vcpus, 0) AS vcpus, coalesce(v.memory, 0) AS memory, coalesce(v.disk, 0) AS disk, \
         coalesce(v.vms, 0) AS vms FROM hosts h LEFT JOIN (SELECT host_id, sum(vcpus) AS vcpus, \
         sum(memory) AS memory, sum(disk) AS disk, count(*) AS vms FROM vms WHERE host_id IS NOT NULL \
         GROUP BY host_id) v ON v.host_id = h.host_id";
    let mut counts = all(db, COUNTED, &[], |row| {
        let columns = columns("hosts", row);
        let counted = Claims {
            vcpus: columns.count("vcpus")?,
            memory_bytes: columns.count("memory")?,
            disk_bytes: columns.count("disk")?,
            vms: u32::try_from(columns.count("vms")?).unwrap_or(u32::MAX),
        };
        // A sum that went below zero reads as none at all: it differs, and is corrected.
        let kept = rows::claims_row(row).unwrap_or(Claims { vms: u32::MAX, ..Claims::default() });
        Ok(Miscount { host: columns.id("host_id")?, kept, counted })
    })?;
    counts.retain(|count| count.kept != count.counted);
    Ok(counts)
}

/// Sets those sums right.
pub(super) fn correct(db: &Connection) -> StoreResult<Vec<Miscount>> {
    let counts = miscounts(db)?;
    for Miscount { host, counted, .. } in &counts {
        change(
            db,
            "UPDATE hosts SET claimed_vcpus = ?2, claimed_memory = ?3, claimed_disk = ?4, claimed_vms = ?5 \
             WHERE host_id = ?1",
            &[
                &host.bytes(),
                &int(counted.vcpus),
                &int(counted.memory_bytes),
                &int(counted.disk_bytes),
                &counted.vms,
            ],
        )?;
    }
    Ok(counts)
}
