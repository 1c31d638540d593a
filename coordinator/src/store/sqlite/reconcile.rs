//! A diverged host, by a person's word: its machine is accepted, or a new queue begins.
//!
//! What the host does not have becomes `unknown`, with its cause; claims and addresses stay with their VMs. Nothing is
//! written unless the host is as it was when the plan was made.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::Body;
use dewpoint_proto::ids::{EventId, HostId, VmId};
use dewpoint_proto::time::Millis;
use prost::bytes::Bytes;
use rusqlite::Connection;
use std::collections::BTreeSet;

use super::audit;
use super::codec::{IdBytes, int, json};
use super::rows::{self, change, columns, one};
use super::takeover;
use super::writer::Effect;
use crate::events::stage::{After, Entry, Stage};
use crate::store::{
    About, Act, AuditEntry, Changed, Cure, HostRecord, NewQueue, Reconciliation, Settled, Settlement,
    StoreResult, TakenOver,
};

/// Where an event stands, in which host's queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) event: EventId,
    pub(super) vm: VmId,
    pub(super) host: Option<HostId>,
    pub(super) stage: Stage,
}

/// From a row with `event_id`, `vm_id`, `host_id` and `stage`.
pub(super) fn standing(row: &rusqlite::Row<'_>) -> StoreResult<Standing> {
    let columns = columns("events", row);
    let stage: String = columns.get("stage")?;
    Ok(Standing {
        event: columns.id("event_id")?,
        vm: columns.id("vm_id")?,
        host: columns.optional_id("host_id")?,
        stage: Stage::from_name(&stage).ok_or_else(|| columns.corrupt("stage", stage))?,
    })
}

/// Ends an event whose host cannot say any more how it ended.
pub(super) fn make_unknown(
    db: &Connection,
    standing: Standing,
    cause: &Cause,
    at: Millis,
) -> StoreResult<Option<Changed>> {
    let Ok(After::Moved(stage)) = standing.stage.after(Entry::JournalLost) else { return Ok(None) };
    let row = "UPDATE events SET stage = ?2, ended = 1, unknown = ?3, finished_at = ?4, stage_at = ?4 WHERE event_id = ?1";
    let cause = json("events", &cause.clone().with("event_id", standing.event))?;
    change(db, row, &[&standing.event.bytes(), &stage.as_str(), &cause, &at.0])?;
    Ok(Some(Changed { event: standing.event, vm: standing.vm, host: standing.host, kind: None }))
}

/// What is said when the host is not as it was.
pub(super) fn stale(host: HostId) -> Cause {
    Cause::new(Reason::PlanChanged, format!("host {host} is not as it was when the plan was made"))
        .advise("look at the plan again: `dewpoint host reconcile HOST`")
        .with("host_id", host)
}

/// Carries a plan out.
pub(super) fn reconcile(db: &Connection, told: &Reconciliation) -> StoreResult<Effect<Settled<Settlement>>> {
    let host = rows::host(db, told.host)?;
    let Some(host) = host.filter(|host| {
        host.term == told.term
            && host.last_seq == told.last_seq
            && host.diverged.is_some()
            && !host.recovering
    }) else {
        return Ok(Effect::Undo(Err(stale(told.host))));
    };
    let product_uuid = host.told.as_ref().and_then(|hello| hello.product_uuid.clone());
    let row = "UPDATE hosts SET product_uuid = coalesce(?2, product_uuid) WHERE host_id = ?1";
    change(db, row, &[&host.id.bytes(), &product_uuid])?;
    let Cure::NewQueue { queue, unknown, continued, raised, adopted } = &told.cure else {
        change(db, "UPDATE hosts SET diverged = NULL WHERE host_id = ?1", &[&host.id.bytes()])?;
        keep(db, told, "another machine, the same queue".to_owned())?;
        return Ok(Effect::Keep(Ok(Settlement::default())));
    };
    let planned: BTreeSet<EventId> =
        unknown.iter().map(|(event, _)| *event).chain(continued.iter().copied()).collect();
    let standing: Vec<_> = takeover::unfinished(db, host.id)?.into_iter().map(|(found, _)| found).collect();
    if planned != standing.iter().map(|found| found.event).collect() {
        return Ok(Effect::Undo(Err(stale(told.host))));
    }
    let mut settlement = Settlement::default();
    for (event, cause) in unknown {
        let found = standing.iter().find(|found| found.event == *event);
        let changed = found.map(|found| make_unknown(db, *found, cause, told.word.at)).transpose()?.flatten();
        settlement.changed.extend(changed);
    }
    // What it says of its VMs counts from a new beginning, as its reports do.
    change(db, "UPDATE vms SET as_of = 0 WHERE last_host = ?1", &[&host.id.bytes()])?;
    for (vm, generation) in raised {
        let row = "UPDATE vms SET generation = max(generation, ?2) WHERE vm_id = ?1";
        change(db, row, &[&vm.bytes(), &int(generation.0)])?;
    }
    let mut taken = TakenOver::default();
    for holding in adopted {
        takeover::adopt(db, &host, holding, told.word.at, &mut taken)?;
    }
    for cause in taken.contradictions {
        tracing::warn!(host_id = %host.id, reason = %cause.reason, "{cause}");
    }
    settlement.vms = taken.vms;
    begin_queue(db, &host, queue)?;
    let detail = format!(
        "a new queue after seq {}; {} events unknown, {} VMs taken up",
        queue.base,
        settlement.changed.len(),
        settlement.vms.len()
    );
    keep(db, told, detail)?;
    Ok(Effect::Keep(Ok(settlement)))
}

fn keep(db: &Connection, told: &Reconciliation, detail: String) -> StoreResult<()> {
    let (about, word) = (About::host(told.host), told.word.clone());
    audit::record(db, &AuditEntry { act: Act::Reconcile, about, detail, word })
}

/// The queue goes on from its base; the host is diverged until its agent says so too.
fn begin_queue(db: &Connection, host: &HostRecord, queue: &NewQueue) -> StoreResult<()> {
    let waits = Cause::new(
        Reason::Diverged,
        format!("host {}: reconciled, and its agent has yet to begin the new queue", host.hostname),
    )
    .advise("it is told so when it is connected; if it stays like this, see the agent's log")
    .with("state", "reconciling")
    .with("host_id", host.id);
    change(
        db,
        "UPDATE hosts SET journal_id = ?2, base_seq = ?3, base_event = ?4, last_seq = ?3, accepted_seq = ?3, \
         last_report = 0, report_open = 1, reconciling = ?5, diverged = ?6 WHERE host_id = ?1",
        &[
            &host.id.bytes(),
            &queue.to.bytes(),
            &int(queue.base.0),
            &queue.base_event.bytes(),
            &json("hosts", queue)?,
            &json("hosts", &waits)?,
        ],
    )?;
    Ok(())
}

/// A VM's create, while its bytes are kept.
pub(super) fn create_of(db: &Connection, vm: VmId) -> StoreResult<Option<Body>> {
    let row = "SELECT body FROM (SELECT vm_id, kind, body FROM events UNION ALL SELECT vm_id, kind, body FROM finished) \
         WHERE vm_id = ?1 AND kind = 'create' AND body IS NOT NULL LIMIT 1";
    let bytes = one(db, row, &[&vm.bytes()], |row| columns("events", row).get::<Vec<u8>>("body"))?;
    // One that only a newer version can read is as good as gone.
    Ok(bytes.and_then(|bytes| Body::decode(Bytes::from(bytes)).ok()))
}
