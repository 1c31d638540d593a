//! What helps outside a fleet: completions and man pages, both made from the command line's own description.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use dewpoint_proto::cause::{Cause, Reason};

use crate::args::Cli;
use crate::failure::Failure;
use crate::output::Output;

/// Prints a shell's completions.
pub(crate) fn completion(shell: Shell, output: &mut Output<'_>) -> Result<(), Failure> {
    // The generator panics when it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dewpoint", &mut script);
    output.text(&String::from_utf8_lossy(&script))
}

/// Writes `dewpoint.1`, `dewpoint-vm.1`, `dewpoint-vm-create.1`, ... into a folder that exists.
///
/// # Errors
/// `INVALID` naming the folder.
pub(crate) fn man(dir: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(Cli::command(), dir).map_err(|error| {
        Cause::new(Reason::Invalid, format!("man pages cannot be written to {}: {error}", dir.display()))
            .advise("give a folder that exists and can be written")
            .into()
    })
}
