//! Completions and man pages, both made from the command line's own description.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap_complete::Shell;

const NAME: &str = "dewpoint-coordinator";

/// Prints a shell's completions.
pub(crate) fn completion(shell: Shell, mut command: clap::Command) -> anyhow::Result<()> {
    // The generator panics when it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, NAME, &mut script);
    std::io::stdout().write_all(&script).context("the completions cannot be printed")
}

/// Writes `dewpoint-coordinator.1`, `dewpoint-coordinator-run.1`, ... into a folder that exists.
pub(crate) fn man(command: clap::Command, folder: &Path) -> anyhow::Result<()> {
    clap_mangen::generate_to(command, folder).with_context(|| {
        format!("man pages cannot be written to {}: name a folder that exists", folder.display())
    })
}
