//! Saying that the agent is ready: to systemd, and to whoever else started it.

use std::io::Write;
use std::path::Path;

use dewpoint_common::systemd;
use dewpoint_proto::cause::{Cause, Reason};

/// Tells systemd, and writes the ready file, whole.
pub(super) fn announce(ready_file: Option<&Path>) -> Result<(), Cause> {
    systemd::ready();
    let Some(path) = ready_file else { return Ok(()) };
    write(path).map_err(|error| {
        Cause::new(
            Reason::StorageError,
            format!("the ready file {} cannot be written: {error}", path.display()),
        )
        .advise("name a path in a folder that exists")
    })
}

fn write(path: &Path) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file = std::fs::File::create(&part)?;
    writeln!(file, "{{\"pid\":{}}}", std::process::id())?;
    std::fs::rename(&part, path)
}
