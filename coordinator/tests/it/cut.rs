//! Kills a command exactly where the files in a folder have become others: it is stopped before and after each of its system
//! calls, and looked at.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How a command that was to be cut off ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was killed at its place.
    Killed,
    /// It was over before it came there.
    Exited(i32),
}

/// Stops itself, so that it can be attached to before it does anything.
const HELD: &str = "kill -STOP $$; exec \"$@\"";

/// Runs a command, and sends it SIGKILL when names, or which files are empty, have changed for the `nth` time in a folder.
#[expect(clippy::zombie_processes, reason = "whoever traces it waits for it, by its id")]
pub(crate) fn cut(command: &Command, folder: &Path, nth: usize) -> End {
    let mut held = Command::new("sh");
    held.args(["-c", HELD, "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => held.env(name, value),
            None => held.env_remove(name),
        };
    }
    let child = held.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    assert!(matches!(waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap(), WaitStatus::Stopped(..)));
    ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL).unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    follow(pid, folder, nth)
}

fn follow(pid: Pid, folder: &Path, nth: usize) -> End {
    let (mut before, mut changes) = (look(folder), 0);
    loop {
        let signal = match waitpid(pid, None).unwrap() {
            WaitStatus::Exited(_, code) => return End::Exited(code),
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => return End::Killed,
            WaitStatus::Stopped(_, signal) => Some(signal),
            WaitStatus::PtraceSyscall(_) => {
                let now = look(folder);
                changes += usize::from(now != before);
                before = now;
                if changes == nth {
                    kill(pid, Signal::SIGKILL).unwrap();
                    continue;
                }
                None
            }
            // That it was stopped when it was attached to.
            WaitStatus::PtraceEvent(..) => None,
            other => panic!("{other:?}"),
        };
        ptrace::syscall(pid, signal).unwrap();
    }
}

/// The names in a folder, and whether each is empty; sorted.
fn look(folder: &Path) -> Vec<(std::ffi::OsString, bool)> {
    let mut seen: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| (entry.file_name(), entry.metadata().is_ok_and(|file| file.len() == 0)))
        .collect();
    seen.sort();
    seen
}
