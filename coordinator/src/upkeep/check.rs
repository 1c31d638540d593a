//! `check`: whether the database's rows agree with each other, and with the files of images.

use std::collections::BTreeMap;
use std::fs;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::spec::ImageDigest;

use super::{database, io_error, must_be_there};
use crate::app::DataLock;
use crate::config::Config;
use crate::store::sqlite::check as rows;

pub use crate::store::sqlite::check::Finding;

/// Whether sums are set right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Look only; a coordinator may run.
    No,
    /// Correct the sums; none may.
    Sums,
}

/// What does not agree.
///
/// # Errors
/// `HELD` when a repair is asked for while a coordinator runs; when something cannot be read.
pub fn check(config: &Config, repair: Repair) -> Result<Vec<Finding>, Cause> {
    let place = database(config);
    must_be_there(&place)?;
    let mut found = match repair {
        Repair::No => rows::check(&place)?,
        Repair::Sums => {
            let _lock = DataLock::take(&config.data_dir).map_err(|error| {
                Cause::new(Reason::Held, format!("{error:#}"))
                    .advise("stop the coordinator, or check without --repair")
            })?;
            rows::repair(&place)?
        }
    };
    found.extend(images(config)?);
    Ok(found)
}

/// The catalogue against the folder. A file without a row may be a snapshot whose report is on its way.
fn images(config: &Config) -> Result<Vec<Finding>, Cause> {
    let rows = rows::catalogue(&database(config))?;
    let mut files = files(config)?;
    let mut found = Vec::new();
    for image in rows {
        match files.remove(&image.digest) {
            Some(length) if length == image.size_bytes => {}
            Some(length) => found.push(Finding::new(
                "images",
                format!("the file of image {} has {length} bytes of {}", image.digest, image.size_bytes),
            )),
            None => found.push(Finding::new(
                "images",
                format!("image {} has no file: put it again, or remove the image", image.digest),
            )),
        }
    }
    let without = |digest: &ImageDigest| {
        Finding::new("images", format!("file {digest} is of no image of the catalogue: add it, or delete it"))
    };
    found.extend(files.keys().map(without));
    Ok(found)
}

/// The whole files in the folder, and their lengths; what is being uploaded bears another name.
fn files(config: &Config) -> Result<BTreeMap<ImageDigest, u64>, Cause> {
    let folder = config.data_dir.join("images");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(io_error("it cannot be listed", &folder, &error)),
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|error| io_error("it cannot be listed", &folder, &error))?;
        let name = entry.file_name();
        let Some(digest) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Ok(file) = entry.metadata() {
            files.insert(digest, file.len());
        }
    }
    Ok(files)
}
