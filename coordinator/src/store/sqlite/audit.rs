//! The acts of people. A transition that a person asked for records its act in the same savepoint.

use rusqlite::{Connection, Row};

use super::catalogue::paged;
use super::codec::IdBytes;
use super::conditions::Conditions;
use super::rows::{all, change, columns};
use super::writer::Effect;
use crate::store::page::bad_token;
use crate::store::{About, AuditEntry, AuditRecord, Page, Paged, StoreError, StoreResult, Word};

/// Acts that are kept, the newest: years of what people do by hand.
const KEPT_MOST: i64 = 100_000;

/// Keeps an act that has no transition of its own.
pub(super) fn record_act(db: &Connection, entry: &AuditEntry) -> StoreResult<Effect<()>> {
    record(db, entry).map(Effect::Keep)
}

/// Keeps an act; the oldest beyond the bound goes.
pub(super) fn record(db: &Connection, entry: &AuditEntry) -> StoreResult<()> {
    let AuditEntry { act, about, detail, word } = entry;
    change(
        db,
        "INSERT INTO audit (at, who, act, host_id, event_id, vm_id, detail, reason) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        &[
            &word.at.0,
            &word.who,
            &act.as_str(),
            &about.host.map(IdBytes::bytes),
            &about.event.map(IdBytes::bytes),
            &about.vm.map(IdBytes::bytes),
            detail,
            &word.reason,
        ],
    )?;
    change(db, "DELETE FROM audit WHERE n <= (SELECT max(n) FROM audit) - ?1", &[&KEPT_MOST])?;
    Ok(())
}

/// Newest first; a page's token is the row number of its last item.
pub(super) fn audit(db: &Connection, about: About, page: &Page) -> StoreResult<Paged<AuditRecord>> {
    let refused = || StoreError::Refused(bad_token());
    let before = page.token().map(str::parse::<i64>).transpose().map_err(|_| refused())?;
    let (host, event) = (about.host.map(IdBytes::bytes), about.event.map(IdBytes::bytes));
    let vm = about.vm.map(IdBytes::bytes);
    let size = page.size();
    let limit = size + 1;
    let mut such = Conditions::default();
    such.with_any("a.host_id =", &host);
    such.with_any("a.event_id =", &event);
    such.with_any("a.vm_id =", &vm);
    such.with_any("a.n <", &before);
    let limit = such.value(&limit);
    let list = format!(
        "SELECT a.*, h.hostname FROM audit a LEFT JOIN hosts h ON h.host_id = a.host_id WHERE {} \
         ORDER BY a.n DESC LIMIT {limit}",
        such.such()
    );
    let read = |row: &Row<'_>| Ok((columns("audit", row).get::<i64>("n")?, audit_row(row)?));
    let items = all(db, &list, such.values(), read)?;
    let Paged { items, next } = paged(items, size, |(n, _)| n.to_string());
    Ok(Paged { items: items.into_iter().map(|(_, act)| act).collect(), next })
}

fn audit_row(row: &Row<'_>) -> StoreResult<AuditRecord> {
    let columns = columns("audit", row);
    Ok(AuditRecord {
        act: columns.get("act")?,
        about: About {
            host: columns.optional_id("host_id")?,
            event: columns.optional_id("event_id")?,
            vm: columns.optional_id("vm_id")?,
        },
        hostname: columns.get("hostname")?,
        detail: columns.get("detail")?,
        word: Word {
            who: columns.get("who")?,
            reason: columns.get("reason")?,
            at: columns.time("at")?.unwrap_or_default(),
        },
    })
}
