//! Commands of the host, run to their end.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started: with the command, and what may be missing.
pub fn output<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command.output().unwrap_or_else(|error| {
        panic!("`{program}` cannot be run: {error}; run scripts/setup, which installs what the tests need")
    })
}

/// Runs a command that must succeed, and gives what it printed.
///
/// # Panics
/// When it fails: with what it said.
pub fn run<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> String {
    let args: Vec<A> = args.into_iter().collect();
    let said: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()).collect();
    let done = output(program, args);
    assert!(
        done.status.success(),
        "`{program} {}` failed ({}): {}{}",
        said.join(" "),
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Runs a command whose failure means that there was nothing to do.
pub fn attempt<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> bool {
    output(program, args).status.success()
}
