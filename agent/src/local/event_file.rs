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
pub mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dewpoint_common::units::{Size, Span};
use dewpoint_common::wording;
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

/// A file larger than this is not an event.
const MOST_BYTES: u64 = 1024 * 1024;
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
    let text = read_bounded(path)?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let syntax = if is_json { Syntax::Json } else { Syntax::Toml };
    parse(&text, syntax, now, image).map_err(|mut cause| {
        cause.text = format!("{}: {}", path.display(), cause.text);
        cause
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
        Syntax::Json => serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?,
        Syntax::Toml => toml::from_str(text).map_err(|error| unreadable(text, &error))?,
    };
    let kind: String = required(&mut keys, "kind")?;
    let vm: Option<VmId> = optional_id(&mut keys, "vm")?;
    let id = optional_id(&mut keys, "event_id")?.unwrap_or_else(EventId::fresh);
    let not_after: Option<Span> = optional(&mut keys, "not_after")?;
    let note = optional(&mut keys, "note")?.unwrap_or_default();
    let kind = kind_of(&kind, keys, image)?;
    let vm = match (vm, &kind) {
        (Some(vm), _) => vm,
        (None, Kind::Create(_)) => VmId::fresh(),
        (None, _) => return Err(invalid("`vm` is missing")),
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
            Kind::Restore(Restore { source: image(&keys.image)? })
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
                .advise("use create, start, stop, reboot, snapshot, restore, destroy or cancel"));
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
    let source = image(&keys.image)?;
    let user_data = match (&keys.user_data_file, keys.user_data.is_empty()) {
        (None, _) => keys.user_data.into_bytes(),
        (Some(path), true) => read_bounded(path)?.into_bytes(),
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
    .checked()?;
    let power = if keys.start.unwrap_or(true) { InitialPower::On } else { InitialPower::Off };
    Ok(Create { spec, source, power })
}

fn required<T: DeserializeOwned>(keys: &mut Map<String, Value>, key: &str) -> Result<T, Cause> {
    optional(keys, key)?.ok_or_else(|| invalid(format!("`{key}` is missing")))
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
    text.parse()
        .map_err(|cause: Cause| Cause { text: format!("{key}: {}", cause.text), ..cause }.with("key", key))
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

fn read_bounded(path: &Path) -> Result<String, Cause> {
    let wrong = |error: std::io::Error| {
        invalid(format!("{}: {error}", path.display())).advise("name a readable file of UTF-8 text")
    };
    let length = std::fs::metadata(path).map_err(wrong)?.len();
    if length > MOST_BYTES {
        return Err(Cause::new(Reason::TooLarge, format!("{} has {length} bytes", path.display()))
            .advise(format!("give a file of at most {MOST_BYTES} bytes")));
    }
    std::fs::read_to_string(path).map_err(wrong)
}

fn unreadable(text: &str, error: &toml::de::Error) -> Cause {
    let start = error.span().map_or(0, |span| span.start);
    let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
    invalid(format!("line {line}: {}", error.message().replace('\n', " ")))
}

fn invalid(text: impl Into<String>) -> Cause {
    Cause::new(Reason::Invalid, text).advise(ADVICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: &str = "018f3c5e-7c1a-7d3e-9a5b-2f6d8c4b1a90";

    fn image(name: &str) -> Result<ImageRef, Cause> {
        Ok(ImageRef {
            digest: "11".repeat(32).parse().unwrap(),
            size_bytes: 1,
            virtual_size_bytes: 1 << 30,
            local_path: Some(name.to_owned()),
        })
    }

    fn toml(text: &str) -> Result<Event, Cause> {
        parse(text, Syntax::Toml, Millis(1000), image)
    }

    #[test]
    fn a_create_in_toml_says_all_that_a_vm_is_made_of() {
        let event = toml(
            "kind = 'create'\nname = 'web'\nvcpus = 2\nmemory = '512MiB'\nimage = '/i.qcow2'\nnot_after = '5s'\n\
             restart = 'always'\n\
             [[nics]]\nmac = '52:54:00:00:00:01'\naddresses = ['192.0.2.5/24']\ngateway4 = '192.0.2.1'\n",
        )
        .unwrap();
        assert_eq!(event.not_after, Some(Millis(6000)));
        let Kind::Create(create) = event.kind else { panic!("{event:?}") };
        assert_eq!((create.spec.name.as_str(), create.spec.memory_bytes), ("web", 512 << 20));
        assert_eq!(create.spec.restart, Restart::Always);
        assert_eq!(create.spec.disk_bytes, 1 << 30, "the image's virtual size when none is given");
    }

    #[test]
    fn json_says_the_same() {
        let text = format!("{{\"kind\":\"stop\",\"vm\":\"{VM}\",\"force\":true,\"timeout\":\"20s\"}}");
        let event = parse(&text, Syntax::Json, Millis(0), image).unwrap();
        assert_eq!(event.kind, Kind::Stop(Stop { stubborn: Stubborn::Force, timeout_seconds: Some(20) }));
    }

    #[test]
    fn each_mistake_names_key_what_was_found_and_what_is_allowed() {
        let stop = format!("kind = 'stop'\nvm = '{VM}'\n");
        let create = "kind = 'create'\nname = 'x'\nvcpus = 1\nmemory = '1GiB'\nimage = '/i'\n";
        let without =
            |key: &str| create.lines().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n");
        let mut listing = String::new();
        for text in [
            "kind = 'explode'".to_owned(),
            "kind = 7".to_owned(),
            "vm = 'x'".to_owned(),
            "kind = stop".to_owned(),
            "kind = 'start'".to_owned(),
            "kind = 'start'\nvm = 'web'".to_owned(),
            "kind = 'start'\nvm = '00000000-0000-0000-0000-000000000000'".to_owned(),
            format!("kind = 'cancel'\nvm = '{VM}'\ntarget = 'it'"),
            format!("{stop}forse = true"),
            format!("{stop}force = 'very'"),
            format!("{stop}timeout = 30"),
            format!("{stop}timeout = '30 apples'"),
            format!("{stop}not_after = 'soon'"),
            format!("{}\nname = '../x'", without("name")),
            format!("{}\nvcpus = 0", without("vcpus")),
            format!("{}\nvcpus = 'two'", without("vcpus")),
            format!("{}\nmemory = '1 GB'", without("memory")),
            format!("{}\nmemory = 1024", without("memory")),
            format!("{}\nmemory = '1KiB'", without("memory")),
            without("memory"),
            format!("{create}disk_mode = 'thin'"),
            format!("{create}[[nics]]\nmac = 'ff:ff'"),
            format!("{create}[[nics]]\naddresses = ['192.0.2.5/24', 7]"),
            format!("{create}[[nics]]\nbridg = 'br0'"),
            format!("{create}[labels]\nrole = 7"),
        ] {
            let cause = toml(&text).unwrap_err();
            let last = text.lines().last().unwrap_or_default();
            listing.push_str(&format!("{last}\n    {}\n    -> {}\n", cause.text, cause.advice));
        }
        insta::assert_snapshot!(listing);
    }

    #[test]
    fn a_file_of_any_bytes_is_an_error_that_names_the_file() {
        use proptest::prelude::*;
        let folder = tempfile::tempdir().unwrap();
        proptest!(ProptestConfig::with_cases(64), |(bytes in prop::collection::vec(any::<u8>(), 0..256), json in any::<bool>())| {
            let path = folder.path().join(if json { "event.json" } else { "event.toml" });
            std::fs::write(&path, bytes).unwrap();
            let cause = read(&path, Millis(0), image).unwrap_err();
            prop_assert!(cause.text.contains("event."), "{cause}");
        });
    }
}
