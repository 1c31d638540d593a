//! The real binaries as child processes. They die with the thread that started them, and so with its test.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{SOON, until};

/// A binary of this workspace, built in the same profile as whoever asks; or, to try others, of the folder `DEWPOINT_BIN`.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os("DEWPOINT_BIN") {
        return PathBuf::from(dir).join(name);
    }
    let own = std::env::current_exe().unwrap_or_else(|error| panic!("where am I: {error}"));
    // A test lies in deps/, a benchmark beside the daemons.
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not built beside {}: run `cargo build --workspace` first", own.display())
    })
}

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    name: &'static str,
    log: PathBuf,
}

impl Daemon {
    /// Starts a binary of this workspace; what it says is appended to `log`. Call it on the test's own thread: the
    /// kernel kills the child when the thread that started it ends.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start<A: AsRef<OsStr>>(name: &'static str, args: impl IntoIterator<Item = A>, log: &Path) -> Self {
        Self::run(name, &binary(name), args, log)
    }

    /// Starts any other program alike.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run<A: AsRef<OsStr>>(
        name: &'static str,
        program: &Path,
        args: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> Self {
        let said = OpenOptions::new().create(true).append(true).open(log);
        let said = said.unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let errors = said.try_clone().unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args);
        command.stdin(Stdio::null()).stdout(said).stderr(errors);
        let child =
            command.spawn().unwrap_or_else(|error| panic!("setpriv, of util-linux, cannot be run: {error}"));
        Self { child, name, log: log.to_owned() }
    }

    /// Its process id; `setpriv` has become it by exec.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, now; reaped on return.
    pub fn kill(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and its exit status.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn terminate(&mut self) -> ExitStatus {
        signal(self.pid(), Signal::SIGTERM);
        until(&format!("{} ends on SIGTERM", self.name), SOON * 2, async || self.ended()).await
    }

    /// Its exit status, once it has ended.
    ///
    /// # Errors
    /// While it runs.
    pub fn ended(&mut self) -> Result<ExitStatus, String> {
        match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(format!("{} runs, as {}", self.name, self.child.id())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Panics with the end of its log when it has ended by itself.
    ///
    /// # Panics
    /// See above.
    pub fn must_run(&mut self) {
        if let Ok(status) = self.ended() {
            let how = status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
            panic!("{} ended by itself ({how}):\n{}", self.name, tail(&self.log));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("\n--- the end of {}:\n{}", self.log.display(), tail(&self.log));
        }
    }
}

/// Sends a signal; a process that is gone needs none.
pub fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)), signal);
}

/// The last lines of a log.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
