//! The `nft` command: scripts on its standard input, JSON from its standard output, and a deadline.

use std::ffi::OsString;
use std::process::{Output, Stdio};
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason, shortened};
use tokio::io::AsyncWriteExt;

/// How nftables is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftSettings {
    /// The command and what comes before nft's own arguments, such as `ip netns exec NAME nft`.
    pub command: Vec<OsString>,
    /// Our table's name.
    pub table: String,
    /// How long the command may take.
    pub deadline: Duration,
}

impl Default for NftSettings {
    fn default() -> Self {
        Self { command: vec!["nft".into()], table: "dewpoint".to_owned(), deadline: Duration::from_secs(10) }
    }
}

pub(super) struct Command {
    settings: NftSettings,
}

impl Command {
    pub(super) fn new(settings: NftSettings) -> Self {
        Self { settings }
    }

    /// Our table as JSON; none: nft said that there is none.
    pub(super) async fn list(&self) -> Result<Option<Vec<u8>>, Cause> {
        let output = self.finished(&["-j", "list", "table", "bridge", &self.settings.table], "").await?;
        if output.status.success() {
            return Ok(Some(output.stdout));
        }
        // The first line of what it says when the kernel knows no such table; any other failure proves nothing.
        if output.stderr.starts_with(b"Error: No such file or directory") {
            return Ok(None);
        }
        Err(failed(&output))
    }

    /// Runs a script as one transaction.
    pub(super) async fn run(&self, script: &str) -> Result<(), Cause> {
        let output = self.finished(&["-f", "-"], script).await?;
        if output.status.success() { Ok(()) } else { Err(failed(&output)) }
    }

    async fn finished(&self, arguments: &[&str], input: &str) -> Result<Output, Cause> {
        match tokio::time::timeout(self.settings.deadline, self.output(arguments, input)).await {
            Ok(result) => result.map_err(|error| {
                Cause::new(Reason::NetworkError, format!("nft could not be run: {error}"))
                    .advise("install nftables, and run the agent with CAP_NET_ADMIN")
            }),
            // Dropped with the future: killed. Its transaction was made or not.
            Err(_) => Err(Cause::new(
                Reason::NetworkError,
                format!("nft did not end within {} s", self.settings.deadline.as_secs_f32()),
            )
            .advise("see `nft list ruleset` for how long it takes")),
        }
    }

    async fn output(&self, arguments: &[&str], input: &str) -> std::io::Result<Output> {
        let (program, first) = self.settings.command.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let mut child = tokio::process::Command::new(program)
            .args(first)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that has ended early says why on stderr.
            match stdin.write_all(input.as_bytes()).await {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
                _ => drop(stdin),
            }
        }
        child.wait_with_output().await
    }
}

fn failed(output: &Output) -> Cause {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    Cause::new(Reason::NetworkError, format!("nft failed ({}): {}", output.status, shortened(line)))
        .advise("see `nft list ruleset`, and whether the agent has CAP_NET_ADMIN")
}
