//! What the journal keeps of what happened to a VM without an event, and of what was done about it.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{Generation, RunId, VmId};
use dewpoint_proto::vm_state::{Incident, IncidentKind};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::admission::Presence;
use super::columns::to_json;
use super::error::JournalError;
use super::moment::{BootId, Moment};
use super::{query, schema};
use crate::hypervisor::{ConfigDigest, Wanted};

/// The version of what this agent writes.
const VERSION: u32 = 1;

/// What happened to a VM without an event, and what was done about it. Outlives the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// What happened last.
    pub incident: Option<Incident>,
    /// How the VM is now, other than wanted; none: it is as wanted, or an event is at work.
    pub noted: Option<Noted>,
    /// Starts by policy since it last ran well.
    pub restarts: u32,
    /// When the latest of them was begun.
    pub last: Option<Moment>,
    /// The run of the latest of them.
    pub run: Option<RunId>,
    /// That start is not known to have been answered.
    pub starting: bool,
    /// Its configuration as it was last seen; none: not seen since somebody or an event wrote it.
    pub config: Option<ConfigSeen>,
}

/// The configuration of a VM's domain, and what the VM was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigSeen {
    /// Another generation's may differ: an event wrote it.
    pub generation: Generation,
    /// The configuration.
    pub digest: ConfigDigest,
}

/// How a VM is, other than wanted, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// What made it so.
    pub what: IncidentKind,
    /// The run that it happened to.
    pub run: Option<RunId>,
    /// When that was seen; after a start that failed, when it failed.
    pub at: Moment,
}

impl Kept {
    /// From its row.
    pub(super) fn from_stored(version: u32, json: &str) -> Result<Self, Cause> {
        let unreadable = |why: String| {
            Cause::new(
                dewpoint_proto::cause::Reason::UnknownKind,
                format!("what is kept of a VM's restarts {why}"),
            )
            .advise("install the agent version that wrote it, or a newer one")
        };
        if version > VERSION {
            return Err(unreadable(format!("is of version {version}, this agent knows {VERSION}")));
        }
        serde_json::from_str(json).map_err(|error| unreadable(format!("cannot be read: {error}")))
    }
}

/// Writes what is kept of a VM, and the run that is begun with it. A VM that is gone by now is passed over.
pub(super) fn write(db: &Connection, vm: VmId, kept: &Kept, run: Option<RunId>) -> Result<(), JournalError> {
    if let Some(run) = run {
        db.prepare_cached("UPDATE vms SET run = ?2 WHERE vm_id = ?1 AND presence <> 'gone'")?
            .execute(params![vm.to_string(), run.to_string()])?;
    }
    db.prepare_cached(
        "INSERT INTO keeping (vm_id, version, json)
             SELECT vm_id, ?2, ?3 FROM vms WHERE vm_id = ?1 AND presence <> 'gone'
         ON CONFLICT (vm_id) DO UPDATE SET version = ?2, json = ?3",
    )?
    .execute(params![vm.to_string(), VERSION, to_json(kept)?])?;
    Ok(())
}

/// Forgets a VM.
pub(super) fn forget(db: &Connection, vm: VmId) -> Result<(), JournalError> {
    db.prepare_cached("DELETE FROM keeping WHERE vm_id = ?1")?.execute([vm.to_string()])?;
    Ok(())
}

/// Takes in that the agent starts: if the host has booted since it last did, every VM that is wanted on went down with
/// the host, and its count of restarts begins anew. One transaction.
pub(super) fn note_boot(db: &Connection, now: Moment) -> Result<(), JournalError> {
    let tx = db.unchecked_transaction()?;
    let before = last_boot(&tx)?;
    if before == Some(now.boot) && schema::get(&tx, "boot")?.is_some() {
        return Ok(());
    }
    schema::put(&tx, "boot", &now.boot.0.to_string())?;
    if before.is_some_and(|before| before != now.boot) {
        let rows = query::vms(&tx)?;
        let down = rows.iter().filter(|row| row.presence == Presence::There && row.wanted == Wanted::On);
        let mut vms = 0;
        for row in down {
            vms += 1;
            let (what, run) = (IncidentKind::HostWentDown, row.run);
            let kept = Kept {
                incident: Some(Incident { kind: what, at: now.wall, detail: String::new(), run }),
                noted: Some(Noted { what, run, at: now }),
                config: row.kept.config.clone(),
                ..Kept::default()
            };
            write(&tx, row.vm, &kept, None)?;
        }
        tracing::info!(vms, "the host has booted since: VMs that are wanted on went down with it");
    }
    Ok(tx.commit()?)
}

/// The boot that the agent last started in, or, under an older version, last wrote an entry in.
fn last_boot(db: &Connection) -> Result<Option<BootId>, JournalError> {
    let text = match schema::get(db, "boot")? {
        Some(text) => Some(text),
        None => db
            .prepare_cached("SELECT boot FROM entries ORDER BY n DESC LIMIT 1")?
            .query_map([], |row| row.get(0))?
            .next()
            .transpose()?,
    };
    let damaged = |error| JournalError::Damaged(format!("meta: boot: {error}"));
    text.map(|text: String| uuid::Uuid::try_parse(&text).map(BootId).map_err(damaged)).transpose()
}
