//! A delivery's way in: its place in the queue, intake's judgement, and the rows of either answer.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::{Body, BodyDigest, Kind};
use dewpoint_proto::ids::{EventId, Generation, Seq, VmId};
use dewpoint_proto::outcome::Outcome;
use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::admission::{
    Admission, Delivery, Journaled, Known, KnownEvent, KnownVm, Offer, Origin, Parts, Payload, Presence,
    Target, Verdict,
};
use super::columns::{count, digest, int, parsed, placement, spec_bytes, text, to_json};
use super::error::JournalError;
use super::job::Tx;
use super::moment::{ClockOffset, Deadline};
use super::rows::{Change, ReportRow};
use super::stage::Stage;
use super::{append, query, reconcile};

/// The version of the bodies that this agent reads.
const KIND_VERSION: u32 = 1;

/// What a delivery is, whether its bytes can be read or not.
struct Incoming<'a> {
    event: EventId,
    vm: VmId,
    kind: &'a str,
    digest: BodyDigest,
    bytes: &'a [u8],
    origin: Origin,
}

impl<'a> Incoming<'a> {
    fn of(delivery: &'a Delivery) -> Self {
        let origin = delivery.origin;
        match &delivery.payload {
            Payload::Event(body) => Self {
                event: body.event().id,
                vm: body.event().vm,
                kind: body.event().kind.name().as_str(),
                digest: body.digest(),
                bytes: body.bytes(),
                origin,
            },
            Payload::Unreadable(found) => Self {
                event: found.event,
                vm: found.vm,
                kind: "unreadable",
                digest: BodyDigest(Sha256::digest(&found.bytes).into()),
                bytes: &found.bytes,
                origin,
            },
        }
    }
}

/// What a create's VM is to be, as its row has it; none: it is no create.
pub(super) fn spec_of(delivery: &Delivery) -> Option<Vec<u8>> {
    match &delivery.payload {
        Payload::Event(body) => match &body.event().kind {
            Kind::Create(create) => Some(spec_bytes(&create.spec)),
            _ => None,
        },
        Payload::Unreadable(_) => None,
    }
}

/// Journals a delivery and the answer to it; `spec` is the delivery's [`spec_of`].
pub(super) fn admit(
    tx: &mut Tx<'_>,
    delivery: &Delivery,
    spec: Option<&[u8]>,
) -> Result<Admission, JournalError> {
    let incoming = Incoming::of(delivery);
    if let Some(seq) = incoming.origin.seq()
        && let Some(stage) = take_place(tx, seq, &incoming)?
    {
        return Ok(Admission::Seen(stage));
    }
    let known = gather(tx, &incoming, delivery)?;
    match &delivery.payload {
        Payload::Event(body) => {
            let verdict = (tx.judge)(&known, &Offer { origin: &incoming.origin, body });
            match verdict {
                Verdict::Accept { supersedes } => {
                    let admitted = accept(tx, &incoming, body, &known, supersedes)?;
                    raise_vm(tx, body, admitted.generation(), spec)?;
                    Ok(Admission::New(admitted))
                }
                Verdict::Refuse(cause) => refuse(tx, &incoming, &known, cause),
                Verdict::Seen => seen(tx, incoming.event),
            }
        }
        Payload::Unreadable(_) if known.same_id == Some(incoming.digest) => seen(tx, incoming.event),
        Payload::Unreadable(found) => refuse(tx, &incoming, &known, found.cause.clone()),
    }
}

fn seen(tx: &Tx<'_>, event: EventId) -> Result<Admission, JournalError> {
    let standing = query::standing(tx.db, event)?.ok_or(JournalError::NoEvent(event))?;
    Ok(Admission::Seen(standing.stage))
}

/// Takes the delivery's place in the queue; the stage of its event, when it has that place already.
fn take_place(tx: &Tx<'_>, seq: Seq, incoming: &Incoming<'_>) -> Result<Option<Stage>, JournalError> {
    let expected = reconcile::last_seq(tx.db)?.next();
    if seq > expected || int(seq.0) == i64::MAX || seq.0 == 0 {
        return Err(JournalError::OutOfOrder { offered: seq, expected });
    }
    if seq < expected {
        return held_place(tx, seq, expected, incoming).map(Some);
    }
    tx.db
        .prepare_cached("INSERT INTO queue (seq, event_id, digest) VALUES (?1, ?2, ?3)")?
        .execute(params![int(seq.0), text(incoming.event.0), incoming.digest.0])?;
    Ok(None)
}

fn held_place(tx: &Tx<'_>, seq: Seq, expected: Seq, incoming: &Incoming<'_>) -> Result<Stage, JournalError> {
    let place: Option<(EventId, [u8; 32])> = tx
        .db
        .prepare_cached("SELECT event_id, digest FROM queue WHERE seq = ?1")?
        .query_row([int(seq.0)], |row| Ok((parsed(row, 0)?, digest(row, 1)?)))
        .optional()?;
    // Before the base of the queue there is nothing that could be delivered again.
    let Some((held, body)) = place else { return Err(JournalError::OutOfOrder { offered: seq, expected }) };
    if held != incoming.event || body != incoming.digest.0 {
        return Err(JournalError::SeqTaken { seq, held, offered: incoming.event });
    }
    query::standing(tx.db, held)?.map(|standing| standing.stage).ok_or(JournalError::NoEvent(held))
}

fn gather(tx: &Tx<'_>, incoming: &Incoming<'_>, delivery: &Delivery) -> Result<Known, JournalError> {
    let same_id = tx
        .db
        .prepare_cached("SELECT digest FROM events WHERE event_id = ?1")?
        .query_row([text(incoming.event.0)], |row| digest(row, 0))
        .optional()?
        .map(BodyDigest);
    let vm = known_vm(tx, incoming.vm)?;
    Ok(Known {
        same_id,
        // Whatever was accepted for a VM has left its row, if only a tombstone.
        unfinished: if vm.is_some() { unfinished_of(tx, incoming.vm)? } else { Vec::new() },
        vm,
        target: match &delivery.payload {
            Payload::Event(body) => target(tx, body)?,
            Payload::Unreadable(_) => Target::Missing,
        },
    })
}

fn known_vm(tx: &Tx<'_>, vm: VmId) -> Result<Option<KnownVm>, JournalError> {
    let found = tx
        .db
        .prepare_cached("SELECT generation, presence FROM vms WHERE vm_id = ?1")?
        .query_row([text(vm.0)], |row| {
            Ok(KnownVm { generation: Generation(count(row, 0)?), presence: query::presence(row, 1)? })
        })
        .optional()?;
    Ok(found)
}

fn unfinished_of(tx: &Tx<'_>, vm: VmId) -> Result<Vec<KnownEvent>, JournalError> {
    let mut statement = tx.db.prepare_cached(
        "SELECT event_id, kind FROM events WHERE vm_id = ?1 AND finished_at IS NULL ORDER BY n",
    )?;
    let rows = statement.query_map([text(vm.0)], |row| {
        let kind: String = row.get(1)?;
        Ok(KnownEvent { id: parsed(row, 0)?, kind: dewpoint_proto::event::KindName::from_name(&kind) })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn target(tx: &Tx<'_>, body: &Body) -> Result<Target, JournalError> {
    let Kind::Cancel(cancel) = &body.event().kind else { return Ok(Target::Missing) };
    let Some(standing) = query::standing(tx.db, cancel.target)? else { return Ok(Target::Missing) };
    Ok(match standing {
        other if other.vm != body.event().vm => Target::Missing,
        over if over.stage.is_finished() => Target::Finished,
        _ => Target::Unfinished,
    })
}

fn accept(
    tx: &mut Tx<'_>,
    incoming: &Incoming<'_>,
    body: &Body,
    known: &Known,
    supersedes: Option<EventId>,
) -> Result<Journaled, JournalError> {
    let generation = match incoming.origin {
        Origin::Delivered { generation, .. } => generation,
        Origin::Local => known.vm.map_or(Generation(0), |vm| vm.generation).next(),
    };
    let deadline = deadline(tx, incoming, body)?;
    insert(tx, incoming, generation, &Row { stage: Stage::Accepted, supersedes, deadline })?;
    tx.effects.changes.push(Change {
        event: incoming.event,
        vm: incoming.vm,
        stage: Stage::Accepted,
        entries: Vec::new(),
    });
    Ok(Journaled::new(Parts {
        body: body.clone(),
        origin: incoming.origin,
        generation,
        supersedes,
        deadline,
        accepted_at: tx.now,
    }))
}

/// The deadline with the clock that it is meant by: the coordinator's, as last heard, or our own.
fn deadline(tx: &Tx<'_>, incoming: &Incoming<'_>, body: &Body) -> Result<Option<Deadline>, JournalError> {
    let Some(not_after) = body.event().not_after else { return Ok(None) };
    let clock = match incoming.origin {
        Origin::Delivered { .. } => query::session(tx.db)?.clock,
        Origin::Local => None,
    };
    Ok(Some(Deadline { not_after, clock: clock.unwrap_or_else(|| ClockOffset::own(tx.now)) }))
}

fn refuse(
    tx: &mut Tx<'_>,
    incoming: &Incoming<'_>,
    known: &Known,
    cause: Cause,
) -> Result<Admission, JournalError> {
    let outcome = Outcome::Refused(cause.clone());
    let generation = match incoming.origin {
        Origin::Delivered { generation, .. } => generation,
        Origin::Local => Generation(0),
    };
    if known.same_id.is_none() {
        let stage = Stage::Finished(outcome.clone());
        insert(tx, incoming, generation, &Row { stage: stage.clone(), supersedes: None, deadline: None })?;
        let change = Change { event: incoming.event, vm: incoming.vm, stage, entries: Vec::new() };
        tx.effects.changes.push(change);
    } else if incoming.origin == Origin::Local {
        // The id is another event's: nothing to report, the answer goes to whoever submits.
        return Ok(Admission::Refused(cause));
    }
    let report = ReportRow {
        n: dewpoint_proto::ids::ReportSeq(0),
        event: incoming.event,
        seq: incoming.origin.seq(),
        generation,
        outcome,
        vm: None,
        body: None,
        begun_at: None,
        finished_at: tx.now.wall,
    };
    append::write_report(tx, &report)?;
    Ok(Admission::Refused(cause))
}

struct Row {
    stage: Stage,
    supersedes: Option<EventId>,
    deadline: Option<Deadline>,
}

fn insert(
    tx: &Tx<'_>,
    incoming: &Incoming<'_>,
    generation: Generation,
    row: &Row,
) -> Result<(), JournalError> {
    let (origin, seq, term) = match incoming.origin {
        Origin::Delivered { seq, term, .. } => ("delivered", Some(int(seq.0)), Some(int(term.0))),
        Origin::Local => ("local", None, None),
    };
    let outcome = match &row.stage {
        Stage::Finished(outcome) => Some(to_json(outcome)?),
        _ => None,
    };
    tx.db
        .prepare_cached(
            "INSERT INTO events (event_id, origin, seq, term, generation, vm_id, kind, kind_version, digest, body,
                 stage, supersedes, deadline, accepted_at, accepted_since_boot, accepted_boot, finished_at, outcome)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )?
        .execute(params![
            text(incoming.event.0),
            origin,
            seq,
            term,
            int(generation.0),
            text(incoming.vm.0),
            incoming.kind,
            KIND_VERSION,
            incoming.digest.0,
            incoming.bytes,
            row.stage.name(),
            row.supersedes.map(|id| text(id.0)),
            row.deadline.as_ref().map(to_json).transpose()?,
            tx.now.wall.0,
            int(tx.now.since_boot_ms),
            text(tx.now.boot.0),
            outcome.as_ref().map(|_| tx.now.wall.0),
            outcome,
        ])?;
    Ok(())
}

/// The VM's highest generation; for a create, what it is to be as well.
fn raise_vm(
    tx: &Tx<'_>,
    body: &Body,
    generation: Generation,
    spec: Option<&[u8]>,
) -> Result<(), JournalError> {
    let event = body.event();
    let Kind::Create(create) = &event.kind else {
        tx.db
            .prepare_cached("UPDATE vms SET generation = max(generation, ?2) WHERE vm_id = ?1")?
            .execute(params![text(event.vm.0), int(generation.0)])?;
        return Ok(());
    };
    tx.db
        .prepare_cached(
            "INSERT INTO vms (vm_id, name, generation, presence, wanted, placement, spec)
             VALUES (?1, ?2, ?3, ?4, 'off', ?5, ?6)
             ON CONFLICT (vm_id) DO UPDATE SET name = ?2, generation = max(generation, ?3), presence = ?4,
                 wanted = 'off', disk = NULL, seed = NULL, run = NULL, placement = ?5, spec = ?6",
        )?
        .execute(params![
            text(event.vm.0),
            create.spec.name.as_str(),
            int(generation.0),
            Presence::Building.as_str(),
            placement(&create.spec),
            spec,
        ])?;
    Ok(())
}

/// An accepted event from its row, for going on with after a start.
pub(super) fn proof(
    row: &super::rows::EventRow,
    deadline: Option<Deadline>,
    accepted_at: super::moment::Moment,
) -> Result<Journaled, Cause> {
    let lost = |why: &str| query::damaged(row.named(), why);
    let bytes = row.body.clone().ok_or_else(|| lost("it has no body"))?;
    let body = Body::decode(bytes)?;
    if body.digest() != row.digest {
        return Err(lost("its body does not match its digest"));
    }
    if body.event().id != row.id || body.event().vm != row.vm {
        return Err(lost("it has another event's body"));
    }
    Ok(Journaled::new(Parts {
        body,
        origin: row.origin,
        generation: row.generation,
        supersedes: row.supersedes,
        deadline,
        accepted_at,
    }))
}
