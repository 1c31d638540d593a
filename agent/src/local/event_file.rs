//! The TOML or JSON file that `dewpoint-agent submit` reads: one event, with a key for each thing it says.
//!
//! ```toml
//! kind = "create"
//! name = "web"
//! vcpus = 1
//! memory = "512MiB"
//! disk = "4GiB"
//! image = "/srv/images/debian-12.qcow2"
//! ssh_keys = ["ssh-ed25519 AAAA... me"]
//! [[nics]]
//! mac = "52:54:00:12:34:56"
//! addresses = ["192.0.2.5/24"]
//! gateway4 = "192.0.2.1"
//! ```

pub mod manual;
mod once;
pub mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dewpoint_common::text_file::{self, Unreadable};
use dewpoint_common::units::{Size, Span};
use dewpoint_common::{config, wording};
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{
    Cancel, Create, Destroy, DiskDisposal, Event, InitialPower, Kind, Reboot, RebootManner, Restore,
    Snapshot, Stop, Stubborn,
};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::names::{ImageName, VmName};
use dewpoint_proto::spec::{DiskMode, ImageRef, Nic, Placement, Restart, VmSpec};
use dewpoint_proto::time::Millis;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use once::Once;

const KINDS: &str = "create, start, stop, reboot, snapshot, restore, destroy or cancel";
const ADVICE: &str = "see `dewpoint-agent submit --help` for the keys of each kind";

/// Reads an event from a file; `.json` is JSON, all else TOML.
///
/// `image` turns what the file names (an absolute path, or a digest of the host's cache) into an image.
///
/// # Errors
/// `INVALID` or `TOO_LARGE`: the file, the key, what was found, what is allowed.
pub fn read(
    path: &Path,
    now: Millis,
    image: impl Fn(&str) -> Result<ImageRef, Cause>,
) -> Result<Event, Cause> {
    let text = read_text(path)?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let syntax = if is_json { Syntax::Json } else { Syntax::Toml };
    parse(&text, syntax, now, image).map_err(|mut cause| {
        cause.text = format!("{}: {}", path.display(), cause.text);
        cause.with("file", path.display())
    })
}

#[derive(Clone, Copy, Debug)]
enum Syntax {
    Toml,
    Json,
}

fn parse(
    text: &str,
    syntax: Syntax,
    now: Millis,
    image: impl Fn(&str) -> Result<ImageRef, Cause>,
) -> Result<Event, Cause> {
    let mut keys: Map<String, Value> = match syntax {
        Syntax::Json => json(text)?,
        Syntax::Toml => {
            toml::from_str(text).map_err(|error| config::mistake(text, "", &error).advise(ADVICE))?
        }
    };
    let kind: Option<String> = optional(&mut keys, "kind")?;
    let kind =
        kind.ok_or_else(|| invalid("`kind` is missing").advise(format!("use {KINDS}")).with("key", "kind"))?;
    let vm: Option<VmId> = optional_id(&mut keys, "vm")?;
    let id = optional_id(&mut keys, "event_id")?.unwrap_or_else(EventId::fresh);
    let not_after: Option<Span> = optional(&mut keys, "not_after")?;
    let note = optional(&mut keys, "note")?.unwrap_or_default();
    let kind = kind_of(&kind, keys, image)?;
    let vm = match (vm, &kind) {
        (Some(vm), _) => vm,
        (None, Kind::Create(_)) => VmId::fresh(),
        (None, _) => return Err(invalid("`vm` is missing").advise("give the VM's id").with("key", "vm")),
    };
    let not_after = not_after.map(|span| now.plus(span.0));
    Ok(Event { id, vm, accepted_at: now, not_after, retry_of: None, note, kind })
}

fn kind_of(
    kind: &str,
    keys: Map<String, Value>,
    image: impl Fn(&str) -> Result<ImageRef, Cause>,
) -> Result<Kind, Cause> {
    Ok(match kind {
        "create" => Kind::Create(Box::new(create(rest(keys)?, image)?)),
        "start" => {
            let Nothing {} = rest(keys)?;
            Kind::Start
        }
        "stop" => {
            let StopKeys { force, timeout } = rest(keys)?;
            let stubborn = if force { Stubborn::Force } else { Stubborn::Leave };
            Kind::Stop(Stop { stubborn, timeout_seconds: seconds(timeout) })
        }
        "reboot" => {
            let RebootKeys { hard, timeout } = rest(keys)?;
            let manner = if hard { RebootManner::Hard } else { RebootManner::Soft };
            Kind::Reboot(Reboot { manner, timeout_seconds: seconds(timeout) })
        }
        "snapshot" => {
            let SnapshotKeys { image_name } = rest(keys)?;
            Kind::Snapshot(Snapshot { image_name })
        }
        "restore" => {
            let keys: RestoreKeys = rest(keys)?;
            Kind::Restore(Restore { source: image(&keys.image).map_err(|cause| at_key("image", cause))? })
        }
        "destroy" => {
            let DestroyKeys { now } = rest(keys)?;
            Kind::Destroy(Destroy {
                disks: if now { DiskDisposal::DeleteNow } else { DiskDisposal::Recycle },
            })
        }
        "cancel" => {
            let CancelKeys { target } = rest(keys)?;
            Kind::Cancel(Cancel { target: id_at("target", &target)? })
        }
        other => {
            return Err(invalid(format!("kind is `{}`", dewpoint_proto::cause::shortened(other)))
                .advise(format!("use {KINDS}"))
                .with("key", "kind"));
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateKeys {
    name: VmName,
    vcpus: u32,
    memory: Size,
    disk: Option<Size>,
    #[serde(default)]
    disk_mode: DiskMode,
    image: String,
    #[serde(default)]
    nics: Vec<Nic>,
    #[serde(default)]
    ssh_keys: Vec<String>,
    #[serde(default)]
    user_data: String,
    user_data_file: Option<PathBuf>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    placement: Placement,
    #[serde(default)]
    restart: Restart,
    start: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StopKeys {
    #[serde(default)]
    force: bool,
    timeout: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RebootKeys {
    #[serde(default)]
    hard: bool,
    timeout: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotKeys {
    image_name: Option<ImageName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoreKeys {
    image: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DestroyKeys {
    #[serde(default)]
    now: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelKeys {
    target: String,
}

fn create(keys: CreateKeys, image: impl Fn(&str) -> Result<ImageRef, Cause>) -> Result<Create, Cause> {
    let source = image(&keys.image).map_err(|cause| at_key("image", cause))?;
    let user_data = match (&keys.user_data_file, keys.user_data.is_empty()) {
        (None, _) => keys.user_data.into_bytes(),
        (Some(path), true) => read_text(path).map_err(|cause| at_key("user_data_file", cause))?.into_bytes(),
        (Some(_), false) => {
            return Err(invalid("user_data and user_data_file are both given").advise("give one of them"));
        }
    };
    let spec = VmSpec {
        name: keys.name,
        vcpus: keys.vcpus,
        memory_bytes: keys.memory.0,
        disk_bytes: keys.disk.map_or(source.virtual_size_bytes, |size| size.0),
        disk_mode: keys.disk_mode,
        nics: keys.nics,
        ssh_keys: keys.ssh_keys,
        user_data,
        labels: keys.labels,
        placement: keys.placement,
        restart: keys.restart,
    }
    .checked()
    .map_err(in_our_keys)?;
    let power = if keys.start.unwrap_or(true) { InitialPower::On } else { InitialPower::Off };
    Ok(Create { spec, source, power })
}

fn optional<T: DeserializeOwned>(keys: &mut Map<String, Value>, key: &str) -> Result<Option<T>, Cause> {
    let Some(value) = keys.remove(key) else { return Ok(None) };
    serde_json::from_value(value).map(Some).map_err(|error| mistake(key, &error))
}

fn optional_id<T: FromStr<Err = Cause>>(
    keys: &mut Map<String, Value>,
    key: &str,
) -> Result<Option<T>, Cause> {
    let text: Option<String> = optional(keys, key)?;
    text.map(|text| id_at(key, &text)).transpose()
}

fn id_at<T: FromStr<Err = Cause>>(key: &str, text: &str) -> Result<T, Cause> {
    text.parse().map_err(|cause| at_key(key, cause))
}

/// A cause that names the key it speaks of.
fn at_key(key: &str, mut cause: Cause) -> Cause {
    if !cause.text.starts_with(key) {
        cause.text = format!("{key}: {}", cause.text);
    }
    cause.with("key", key)
}

/// Sizes are bytes within, and have keys and units of their own here.
fn in_our_keys(mut cause: Cause) -> Cause {
    let Some(field) = cause.fields.get("field").cloned() else { return cause };
    let key = match field.strip_suffix("_bytes") {
        Some(size) => {
            cause.text = format!("{} bytes", cause.text.replacen(&field, size, 1));
            size
        }
        None => &field,
    };
    cause.with("key", key)
}

fn json(text: &str) -> Result<Map<String, Value>, Cause> {
    let wrong = |error: serde_json::Error| {
        let told = error.to_string();
        let told = told.split(" at line ").next().unwrap_or_default();
        let told = match told.strip_prefix("EOF while parsing ") {
            Some(within) => format!("the file ends within {within}: it is not whole"),
            None => wording::plain(told, None),
        };
        invalid(format!("line {}: {told}", error.line())).with("line", error.line())
    };
    match serde_json::from_str(text).map_err(wrong)? {
        Once(Value::Object(keys)) => Ok(keys),
        Once(other) => Err(invalid(format!(
            "found `{}`, expected an object: {{ \"kind\": .. }}",
            dewpoint_proto::cause::shortened(&other.to_string())
        ))),
    }
}

fn rest<T: DeserializeOwned>(keys: Map<String, Value>) -> Result<T, Cause> {
    serde_path_to_error::deserialize(Value::Object(keys))
        .map_err(|error| mistake(&wording::key(error.path()), error.inner()))
}

/// The key, what was found there, and what is allowed.
fn mistake(key: &str, error: &serde_json::Error) -> Cause {
    let what = wording::plain(&error.to_string(), None);
    if key.is_empty() { invalid(what) } else { invalid(format!("{key}: {what}")).with("key", key) }
}

fn seconds(span: Option<Span>) -> Option<u32> {
    span.map(|span| u32::try_from(span.0.as_secs().max(1)).unwrap_or(u32::MAX))
}

fn read_text(path: &Path) -> Result<String, Cause> {
    text_file::read(path).map_err(|why| {
        let reason = if matches!(why, Unreadable::Long) { Reason::TooLarge } else { Reason::Invalid };
        Cause::new(reason, format!("{} cannot be read: {why}", path.display()))
            .advise("name a readable file of UTF-8 text")
            .with("file", path.display())
    })
}

fn invalid(text: impl Into<String>) -> Cause {
    Cause::new(Reason::Invalid, text).advise(ADVICE)
}

#[cfg(test)]
mod tests;
