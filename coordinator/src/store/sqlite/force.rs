//! A person answers for a silent host: the event ends by their word.
//!
//! Only the event's row changes. The VM's claim and addresses stand: what is on the host is not proven by anybody's
//! word on an event, and goes with the host's report, or when a person says that the host's disks are gone. The entry
//! stays in the host's queue, so what the host has not taken yet must be cancelled first.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::KindName;
use dewpoint_proto::outcome::{Outcome, Succeeded};
use rusqlite::Connection;

use super::audit;
use super::codec::{IdBytes, int, json};
use super::rows::{self, one};
use super::writer::Effect;
use crate::events::stage::{After, Entry, ForcedAs, Stage};
use crate::store::causes::no_event;
use crate::store::{About, Act, AuditEntry, EventRecord, Forcing, Settled, StoreError, StoreResult, Word};

/// Ends an event by a person's word.
pub(super) fn force(db: &Connection, forcing: &Forcing) -> StoreResult<Effect<Settled<Box<EventRecord>>>> {
    let Forcing { event: id, ends, word } = forcing.clone();
    let Some(event) = rows::event(db, id)? else { return Ok(Effect::Undo(Err(no_event(id)))) };
    if let Some(cause) = senseless(db, &event, ends)? {
        return Ok(Effect::Undo(Err(cause)));
    }
    let stage = match event.stage.after(Entry::Forced(ends)) {
        Ok(After::Moved(stage)) => stage,
        other => return Err(StoreError::Corrupt { table: "events", text: format!("{id}: {other:?}") }),
    };
    write(db, &event, stage, ends, &word)?;
    let detail = format!("{} of {} was {}, now {stage}", event.kind, event.vm_name, event.stage);
    let about = About { host: event.host, event: Some(id), vm: Some(event.vm) };
    audit::record(db, &AuditEntry { act: Act::Force, about, detail, word })?;
    let forced = rows::event(db, id)?.map(Box::new).ok_or_else(|| no_event(id));
    Ok(Effect::Keep(forced))
}

fn write(db: &Connection, event: &EventRecord, stage: Stage, ends: ForcedAs, word: &Word) -> StoreResult<()> {
    let text = format!("{} answered for its host: {}", word.who, word.reason);
    let cause = Cause::new(Reason::Forced, text.clone()).advise("look at the VM before you rely on it");
    let (outcome, unknown) = match ends {
        ForcedAs::Failed => (Some(Outcome::Failed(cause)), None),
        ForcedAs::Succeeded => (Some(Outcome::Succeeded(Succeeded { image: None, note: text })), None),
        ForcedAs::Unknown => (None, Some(cause)),
    };
    rows::change_event(
        db,
        "stage = ?2, ended = 1, outcome = ?3, unknown = ?4, forced = ?5, \
         finished_at = coalesce(finished_at, ?6), stage_at = ?6",
        &[
            &event.id.bytes(),
            &stage.as_str(),
            &outcome.map(|outcome| json("events", &outcome)).transpose()?,
            &unknown.map(|cause| json("events", &cause)).transpose()?,
            &json("events", word)?,
            &word.at.0,
        ],
    )
}

/// Why nobody's word is asked for.
fn senseless(db: &Connection, event: &EventRecord, ends: ForcedAs) -> StoreResult<Option<Cause>> {
    let id = event.id;
    let said = |reason, text: String, advice: &str| {
        Cause::new(reason, text).advise(advice).with("event_id", id).with("stage", event.stage)
    };
    Ok(match event.stage {
        Stage::Pending => Some(said(
            Reason::WrongStage,
            format!("event {id} has no host that anybody could answer for"),
            "cancel it: the coordinator ends it at once",
        )),
        Stage::Assigned if !is_called_off(db, event)? => Some(said(
            Reason::WrongStage,
            format!("event {id} is still in its host's queue, and is carried out when the host comes back"),
            "cancel it first; then force it, and the cancel",
        )),
        Stage::Unknown if ends == ForcedAs::Unknown => {
            Some(said(Reason::TooLate, format!("event {id} is unknown already"), "say how it ended"))
        }
        Stage::Assigned | Stage::Accepted | Stage::Running | Stage::Unknown => None,
        ended => Some(said(
            Reason::TooLate,
            format!("event {id} has {ended} already"),
            "there is nothing to answer for",
        )),
    })
}

/// Whether it does no harm when the host comes back and takes it: it is a cancel, or one or a destroy follows it.
fn is_called_off(db: &Connection, event: &EventRecord) -> StoreResult<bool> {
    if event.kind == KindName::Cancel {
        return Ok(true);
    }
    let Some((host, seq)) = event.host.zip(event.seq) else { return Ok(true) };
    let row = "SELECT 1 FROM events WHERE host_id = ?1 AND seq > ?2 AND vm_id = ?3 \
         AND kind IN ('cancel', 'destroy') LIMIT 1";
    let found = one(db, row, &[&host.bytes(), &int(seq.0), &event.vm.bytes()], |_| Ok(()))?;
    Ok(found.is_some())
}
