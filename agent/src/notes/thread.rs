//! The thread that writes: what has gathered, in one transaction without an fsync.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::VmId;
use dewpoint_proto::time::Millis;
use rusqlite::{Connection, params};
use tokio::sync::{mpsc, watch};

use super::rows::{CallEnd, CallNote, Note, StateNote};
use super::{Bounds, schema};

/// Records in one transaction.
const GROUP: usize = 256;
/// Records between two looks for what is too old or too much.
const PRUNE: usize = 2000;
/// A look that went well is counted with those before it for so long.
const FOLD_MS: i64 = 10 * 60 * 1000;
/// VMs whose looks are counted together; more than a host has.
const FOLDS: usize = 1024;

/// The thread's own state.
pub(super) struct Writer {
    db: Connection,
    path: PathBuf,
    bounds: Bounds,
    dropped: Arc<AtomicU64>,
    withheld: watch::Receiver<Option<Cause>>,
    /// The newest row of each VM, while it is one of looks that went well.
    folds: HashMap<VmId, Fold>,
    since_prune: usize,
    /// Whether the last group was not written: said once.
    failing: bool,
}

#[derive(Clone, Copy)]
struct Fold {
    row: i64,
    since: Millis,
}

impl Writer {
    pub(super) fn new(
        db: Connection,
        path: &Path,
        bounds: Bounds,
        dropped: Arc<AtomicU64>,
        withheld: watch::Receiver<Option<Cause>>,
    ) -> Self {
        let path = path.to_owned();
        // The first group prunes: the agent may have been away for long.
        let since_prune = PRUNE;
        Self { db, path, bounds, dropped, withheld, folds: HashMap::new(), since_prune, failing: false }
    }

    /// Until the last handle is dropped.
    pub(super) fn run(mut self, mut inbox: mpsc::Receiver<Note>) {
        let mut group = Vec::with_capacity(GROUP);
        while inbox.blocking_recv_many(&mut group, GROUP) > 0 {
            self.take(&group);
            group.clear();
        }
    }

    fn take(&mut self, group: &[Note]) {
        // The journal has no room for what must be true: none is taken for what may be lost.
        if self.withheld.borrow().is_some() {
            self.drop_all(group);
            return;
        }
        match self.write(group) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(path = %self.path.display(), "calls and states are recorded again");
                }
            }
            Err(error) => self.failed(group, &error),
        }
    }

    fn failed(&mut self, group: &[Note], error: &rusqlite::Error) {
        self.drop_all(group);
        if schema::is_damage(error)
            && let Ok(db) = schema::replace(&self.path, self.bounds.pages, &error.to_string())
        {
            self.db = db;
            return;
        }
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(path = %self.path.display(), "calls and states are not recorded: {error}");
        }
    }

    fn drop_all(&mut self, group: &[Note]) {
        self.dropped.fetch_add(group.len() as u64, Ordering::Relaxed);
        self.folds.clear();
    }

    fn write(&mut self, group: &[Note]) -> rusqlite::Result<()> {
        let lost = self.dropped.load(Ordering::Relaxed);
        // Dropped without a commit, it is rolled back.
        let tx = self.db.unchecked_transaction()?;
        for note in group {
            put(&tx, &mut self.folds, note)?;
        }
        if lost > 0 {
            count_lost(&tx, lost)?;
        }
        self.since_prune += group.len();
        if self.since_prune >= PRUNE {
            self.since_prune = 0;
            prune(&tx, &self.bounds)?;
        }
        tx.commit()?;
        self.dropped.fetch_sub(lost, Ordering::Relaxed);
        Ok(())
    }
}

fn put(db: &Connection, folds: &mut HashMap<VmId, Fold>, note: &Note) -> rusqlite::Result<()> {
    match note {
        Note::Start { at, version } => db
            .prepare_cached("INSERT INTO starts (at, version) VALUES (?1, ?2)")?
            .execute(params![at.0, version])
            .map(drop),
        Note::Call(call) => put_call(db, folds, call),
        Note::State(state) => put_state(db, state),
        Note::Told { vm, at, words } => db
            .prepare_cached("INSERT INTO states (vm_id, at, words) VALUES (?1, ?2, ?3)")?
            .execute(params![vm.to_string(), at.0, words])
            .map(drop),
    }
}

fn put_call(db: &Connection, folds: &mut HashMap<VmId, Fold>, note: &CallNote) -> rusqlite::Result<()> {
    let CallNote { vm, call, at, took, end } = note;
    let took_us = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
    let folds_in = *call == super::recorder::OBSERVE && *end == CallEnd::Well;
    let fold = vm.and_then(|vm| folds.remove(&vm)).filter(|fold| at.0 - fold.since.0 < FOLD_MS);
    if let (Some(vm), Some(fold), true) = (vm, fold, folds_in) {
        db.prepare_cached(
            "UPDATE calls SET times = times + 1, until = ?2, took_us = max(took_us, ?3) WHERE n = ?1",
        )?
        .execute(params![fold.row, at.0, took_us])?;
        folds.insert(*vm, fold);
        return Ok(());
    }
    let (result, reason, error) = match end {
        CallEnd::Well => ("well", None, None),
        CallEnd::Failed { reason, error } => ("failed", reason.as_deref(), Some(error)),
        CallEnd::Overran { error } => ("overran", None, Some(error)),
    };
    db.prepare_cached(
        "INSERT INTO calls (vm_id, call, at, until, times, took_us, result, reason, error)
         VALUES (?1, ?2, ?3, ?3, 1, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![vm.map(|vm| vm.to_string()), call, at.0, took_us, result, reason, error])?;
    if let (Some(vm), true) = (vm, folds_in) {
        if folds.len() >= FOLDS {
            folds.clear();
        }
        folds.insert(*vm, Fold { row: db.last_insert_rowid(), since: *at });
    }
    Ok(())
}

fn put_state(db: &Connection, note: &StateNote) -> rusqlite::Result<()> {
    let StateNote { vm, at, was, now } = note;
    let (was, run) = (was.map(|was| was.as_str()), now.run.map(|run| run.to_string()));
    db.prepare_cached(
        "INSERT INTO states (vm_id, at, was, now, detail, run) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![vm.to_string(), at.0, was, now.power.as_str(), now.detail, run])
    .map(drop)
}

fn count_lost(db: &Connection, lost: u64) -> rusqlite::Result<()> {
    let lost = i64::try_from(lost).unwrap_or(i64::MAX);
    db.execute(
        "INSERT INTO meta (key, value) VALUES ('lost', ?1) ON CONFLICT (key) DO UPDATE SET value = value + ?1",
        [lost],
    )?;
    db.execute(
        "INSERT INTO meta (key, value) VALUES ('lost_at', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1",
        [Millis::now().0],
    )
    .map(drop)
}

/// Rows past the bounds go, the oldest first.
fn prune(db: &Connection, bounds: &Bounds) -> rusqlite::Result<()> {
    let keep_ms = i64::try_from(bounds.keep.as_millis()).unwrap_or(i64::MAX);
    let since = Millis::now().0.saturating_sub(keep_ms);
    for (table, most) in [("calls", bounds.calls), ("states", bounds.states), ("starts", 1000)] {
        db.execute(
            &format!(
                "DELETE FROM {table} WHERE at < ?1 OR n <= (SELECT coalesce(max(n), 0) FROM {table}) - ?2"
            ),
            params![since, most],
        )?;
    }
    Ok(())
}
