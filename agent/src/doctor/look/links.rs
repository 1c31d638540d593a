//! Interfaces of the host, as the kernel lists them in `/sys/class/net`.

use std::fs;
use std::path::Path;

use dewpoint_proto::cause::{Cause, Reason};

use crate::doctor::world::Links;
use crate::network::is_tap_name;

pub(super) fn look(folder: &Path) -> Result<Links, Cause> {
    let listed = fs::read_dir(folder).map_err(|error| {
        Cause::new(Reason::NetworkError, format!("{} cannot be listed: {error}", folder.display()))
            .advise("mount /sys")
    })?;
    let mut links = Links::default();
    for interface in listed.flatten() {
        let Ok(name) = interface.file_name().into_string() else { continue };
        if interface.path().join("bridge").is_dir() {
            links.bridges.insert(name);
        } else if is_tap_name(&name) {
            links.taps.insert(name, bridge_of(&interface.path()));
        }
    }
    Ok(links)
}

/// The bridge that an interface is in.
fn bridge_of(interface: &Path) -> Option<String> {
    let master = fs::read_link(interface.join("master")).ok()?;
    Some(master.file_name()?.to_string_lossy().into_owned())
}
