//! An event as the file that `submit` reads, for a person to look at first.

use std::collections::BTreeMap;
use std::path::Path;

use dewpoint_common::units::Size;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::VmId;
use dewpoint_proto::names::VmName;
use dewpoint_proto::spec::{DiskMode, Nic, Placement, Restart, VmSpec};
use serde::Serialize;

/// The keys of a create, in the order in which they are read; tables last, as TOML wants it.
#[derive(Serialize)]
struct Create<'a> {
    kind: &'static str,
    vm: VmId,
    name: &'a VmName,
    vcpus: u32,
    memory: Size,
    disk: Size,
    disk_mode: DiskMode,
    image: &'a Path,
    ssh_keys: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    user_data: &'a str,
    placement: Placement,
    restart: Restart,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    nics: &'a [Nic],
}

#[derive(Serialize)]
struct Restore<'a> {
    kind: &'static str,
    vm: VmId,
    image: &'a Path,
}

/// Builds a VM under this id, as its spec says, from an image file of this host.
///
/// # Errors
/// `INTERNAL` for what cannot be said in TOML.
pub fn create(vm: VmId, spec: &VmSpec, image: &Path) -> Result<String, Cause> {
    // A file of text cannot hold other bytes. The guest that is on the disk has read its user-data at its first boot.
    let user_data = std::str::from_utf8(&spec.user_data);
    let text = toml(&Create {
        kind: "create",
        vm,
        name: &spec.name,
        vcpus: spec.vcpus,
        memory: Size(spec.memory_bytes),
        disk: Size(spec.disk_bytes),
        disk_mode: spec.disk_mode,
        image,
        ssh_keys: &spec.ssh_keys,
        user_data: user_data.unwrap_or_default(),
        placement: spec.placement,
        restart: spec.restart,
        labels: &spec.labels,
        nics: &spec.nics,
    })?;
    match user_data {
        Ok(_) => Ok(text),
        Err(_) => Ok(format!("# The VM's user-data is not text, and is left out.\n{text}")),
    }
}

/// Gives a VM that is there a disk made from an image file of this host.
///
/// # Errors
/// `INTERNAL` for what cannot be said in TOML.
pub fn restore(vm: VmId, image: &Path) -> Result<String, Cause> {
    toml(&Restore { kind: "restore", vm, image })
}

fn toml(event: &impl Serialize) -> Result<String, Cause> {
    toml::to_string(event).map_err(|error| {
        Cause::new(Reason::Internal, format!("the event cannot be written as TOML: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use dewpoint_proto::event::{Event, Kind};
    use dewpoint_proto::spec::ImageRef;
    use dewpoint_proto::time::Millis;

    use super::*;
    use crate::local::event_file::{Syntax, parse};

    fn read(text: &str) -> Result<Event, Cause> {
        parse(text, Syntax::Toml, Millis(1000), |name| {
            Ok(ImageRef {
                digest: "11".repeat(32).parse().unwrap(),
                size_bytes: 1,
                virtual_size_bytes: 1 << 30,
                local_path: Some(name.to_owned()),
            })
        })
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = "kind = 'create'\nname = 'web'\nvcpus = 2\nmemory = '512MiB'\ndisk = '3GiB'\nimage = '/i.qcow2'\n\
                    ssh_keys = ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me']\nuser_data = \"#cloud-config\\n{}\"\n\
                    placement = 'movable'\n[labels]\nteam = 'web'\n[[nics]]\nmac = '52:54:00:00:00:01'\n\
                    network = 'lab'\naddresses = ['192.0.2.5/24', '2001:db8::5/64']\ngateway4 = '192.0.2.1'\n";
        let event = read(text).unwrap();
        let Kind::Create(made) = &event.kind else { panic!("{event:?}") };
        let written = create(event.vm, &made.spec, Path::new("/i.qcow2")).unwrap();
        let again = read(&written).unwrap();
        assert_eq!((again.vm, &again.kind), (event.vm, &event.kind), "{written}");
        let back = read(&restore(event.vm, Path::new("/i.qcow2")).unwrap()).unwrap();
        assert!(matches!(back.kind, Kind::Restore(_)) && back.vm == event.vm);
    }

    #[test]
    fn user_data_that_is_no_text_is_left_out_and_said() {
        let Kind::Create(mut made) =
            read("kind = 'create'\nname = 'web'\nvcpus = 1\nmemory = '1GiB'\nimage = '/i'").unwrap().kind
        else {
            panic!("a create")
        };
        made.spec.user_data = vec![0x1f, 0x8b, 0xff];
        let written = create(VmId::fresh(), &made.spec, Path::new("/i")).unwrap();
        assert!(written.starts_with('#') && written.contains("left out"), "{written}");
        read(&written).unwrap();
    }
}
