//! Images and networks.

use std::net::IpAddr;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::names::{ImageName, NetworkName};
use dewpoint_proto::spec::ImageDigest;
use rusqlite::{Connection, Row};

use super::codec::{int, json};
use super::rows::{all, change, columns, one};
use super::writer::Effect;
use crate::store::causes::{no_image, no_network};
use crate::store::page::bad_token;
use crate::store::{
    ImageAddition, ImageRecord, ImageRemoved, ImageSelector, NetworkRecord, NetworkSpec, Page, Paged,
    Settled, StoreError, StoreResult,
};

/// Addresses of one network that are read, at most: a /8 has no more.
const ADDRESSES_MOST: u32 = 1 << 24;

pub(super) fn add_image(db: &Connection, image: &ImageAddition) -> StoreResult<Effect<Settled<ImageRecord>>> {
    change(
        db,
        "INSERT OR IGNORE INTO images (digest, size, virtual_size, format, added_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        &[
            &image.digest.0,
            &int(image.size_bytes),
            &int(image.virtual_size_bytes),
            &image.format,
            &image.at.0,
        ],
    )?;
    if let Some(name) = &image.name
        && let Some(taken) = point_name(db, name, image.digest)?
    {
        return Ok(Effect::Undo(Err(taken)));
    }
    let added = by_digest(db, image.digest)?.ok_or_else(|| no_image(&ImageSelector::Digest(image.digest)));
    Ok(Effect::Keep(added))
}

/// Points a name at an image; what hinders it when it points at another.
pub(super) fn point_name(
    db: &Connection,
    name: &ImageName,
    digest: ImageDigest,
) -> StoreResult<Option<Cause>> {
    let row = "INSERT INTO image_names (name, digest) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
    change(db, row, &[&name.as_str(), &digest.0])?;
    let there = digest_of(db, name)?;
    Ok((there != Some(digest)).then(|| {
        Cause::new(Reason::ImageNameTaken, format!("the name {name} points at another image"))
            .advise("choose another name, or remove that one first")
            .with("name", name)
            .with("digest", digest)
    }))
}

fn digest_of(db: &Connection, name: &ImageName) -> StoreResult<Option<ImageDigest>> {
    one(db, "SELECT digest FROM image_names WHERE name = ?1", &[&name.as_str()], |row| {
        Ok(ImageDigest(columns("image_names", row).digest("digest")?))
    })
}

pub(super) fn image(db: &Connection, image: &ImageSelector) -> StoreResult<Option<ImageRecord>> {
    match image {
        ImageSelector::Digest(digest) => by_digest(db, *digest),
        ImageSelector::Name(name) => match digest_of(db, name)? {
            Some(digest) => by_digest(db, digest),
            None => Ok(None),
        },
    }
}

fn by_digest(db: &Connection, digest: ImageDigest) -> StoreResult<Option<ImageRecord>> {
    one(db, "SELECT * FROM images WHERE digest = ?1", &[&digest.0], |row| image_row(db, row))
}

fn image_row(db: &Connection, row: &Row<'_>) -> StoreResult<ImageRecord> {
    let columns = columns("images", row);
    let digest = ImageDigest(columns.digest("digest")?);
    let names = "SELECT name FROM image_names WHERE digest = ?1 ORDER BY name";
    let made_by: Option<EventId> = columns.optional_id("made_by")?;
    Ok(ImageRecord {
        digest,
        names: all(db, names, &[&digest.0], |row| super::rows::columns("image_names", row).parsed("name"))?,
        size_bytes: columns.count("size")?,
        virtual_size_bytes: columns.count("virtual_size")?,
        format: columns.get("format")?,
        added_at: columns.time("added_at")?.unwrap_or_default(),
        made_by: made_by.zip(columns.optional_id::<VmId>("made_from")?),
    })
}

pub(super) fn images(db: &Connection, page: &Page) -> StoreResult<Paged<ImageRecord>> {
    let after = page.token().map(|token| token.parse::<ImageDigest>().map_err(refused)).transpose()?;
    let list = "SELECT * FROM images WHERE ?1 IS NULL OR digest > ?1 ORDER BY digest LIMIT ?2";
    let size = page.size();
    let items = all(db, list, &[&after.map(|digest| digest.0), &(size + 1)], |row| image_row(db, row))?;
    Ok(paged(items, size, |image| image.digest.to_string()))
}

fn refused(_: Cause) -> StoreError {
    StoreError::Refused(bad_token())
}

/// Cuts the one item more that was read; it says whether there is a next page.
pub(super) fn paged<T>(mut items: Vec<T>, size: u32, token: impl Fn(&T) -> String) -> Paged<T> {
    let more = items.len() > size as usize;
    items.truncate(size as usize);
    let next = if more { items.last().map(token) } else { None };
    Paged { items, next }
}

pub(super) fn remove_image(
    db: &Connection,
    image: &ImageSelector,
) -> StoreResult<Effect<Settled<ImageRemoved>>> {
    let Some(record) = self::image(db, image)? else {
        return Ok(Effect::Undo(Err(no_image(image))));
    };
    if let ImageSelector::Name(name) = image {
        change(db, "DELETE FROM image_names WHERE name = ?1", &[&name.as_str()])?;
        if record.names.len() > 1 {
            return Ok(Effect::Keep(Ok(ImageRemoved::Name)));
        }
    }
    if let Some(cause) = needed(db, record.digest)? {
        return Ok(Effect::Undo(Err(cause)));
    }
    change(db, "DELETE FROM image_names WHERE digest = ?1", &[&record.digest.0])?;
    change(db, "DELETE FROM images WHERE digest = ?1", &[&record.digest.0])?;
    Ok(Effect::Keep(Ok(ImageRemoved::Image(record.digest))))
}

/// The unfinished event that needs the image, as what hinders its removal.
fn needed(db: &Connection, digest: ImageDigest) -> StoreResult<Option<Cause>> {
    let row = "SELECT event_id, kind FROM events WHERE ended = 0 AND image = ?1 LIMIT 1";
    let by = one(db, row, &[&digest.0], |row| {
        let columns = columns("events", row);
        Ok((columns.id::<EventId>("event_id")?, columns.get::<String>("kind")?))
    })?;
    Ok(by.map(|(event, kind)| {
        Cause::new(Reason::ImageInUse, format!("an unfinished {kind} needs the image: {event}"))
            .advise("wait until it ends, or cancel it")
            .with("event_id", event)
            .with("digest", digest)
    }))
}

pub(super) fn add_network(
    db: &Connection,
    spec: &NetworkSpec,
) -> StoreResult<Effect<Settled<NetworkRecord>>> {
    let row = "INSERT OR IGNORE INTO networks (name, spec) VALUES (?1, ?2)";
    change(db, row, &[&spec.name.as_str(), &json("networks", spec)?])?;
    let there = network(db, &spec.name)?.filter(|there| there.spec == *spec);
    Ok(Effect::Keep(there.ok_or_else(|| {
        Cause::new(Reason::NetworkExists, format!("a network {} exists, and differs", spec.name))
            .advise("choose another name, or delete that network first")
            .with("network", &spec.name)
    })))
}

pub(super) fn network(db: &Connection, name: &NetworkName) -> StoreResult<Option<NetworkRecord>> {
    one(db, &format!("{NETWORK} WHERE name = ?1"), &[&name.as_str()], network_row)
}

/// Without counting its addresses, which takes a while in a large one.
pub(super) fn network_is_there(db: &Connection, name: &NetworkName) -> StoreResult<bool> {
    Ok(one(db, "SELECT 1 FROM networks WHERE name = ?1", &[&name.as_str()], |_| Ok(()))?.is_some())
}

const NETWORK: &str = "SELECT name, spec, (SELECT count(*) FROM addresses WHERE network = networks.name) AS used \
     FROM networks";

fn network_row(row: &Row<'_>) -> StoreResult<NetworkRecord> {
    let columns = columns("networks", row);
    Ok(NetworkRecord { spec: columns.json("spec")?, addresses_used: columns.get("used")? })
}

pub(super) fn networks(db: &Connection, page: &Page) -> StoreResult<Paged<NetworkRecord>> {
    let size = page.size();
    let list = format!("{NETWORK} WHERE ?1 IS NULL OR name > ?1 ORDER BY name LIMIT ?2");
    let items = all(db, &list, &[&page.token(), &(size + 1)], network_row)?;
    Ok(paged(items, size, |network| network.spec.name.to_string()))
}

pub(super) fn remove_network(db: &Connection, name: &NetworkName) -> StoreResult<Effect<Settled<()>>> {
    let vm = one(db, "SELECT vm_id FROM nics WHERE network = ?1 LIMIT 1", &[&name.as_str()], |row| {
        columns("nics", row).id::<VmId>("vm_id")
    })?;
    if let Some(vm) = vm {
        let cause = Cause::new(Reason::NetworkInUse, format!("VM {vm} is in network {name}"))
            .advise("destroy its VMs first")
            .with("network", name)
            .with("vm_id", vm);
        return Ok(Effect::Undo(Err(cause)));
    }
    let removed = change(db, "DELETE FROM networks WHERE name = ?1", &[&name.as_str()])?;
    Ok(Effect::Keep(if removed == 1 { Ok(()) } else { Err(no_network(name)) }))
}

pub(super) fn addresses(db: &Connection, name: &NetworkName) -> StoreResult<Vec<IpAddr>> {
    let list = "SELECT address FROM addresses WHERE network = ?1 LIMIT ?2";
    all(db, list, &[&name.as_str(), &ADDRESSES_MOST], |row| columns("addresses", row).parsed("address"))
}
