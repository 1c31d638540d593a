//! Asking other programs, with a deadline and a bound on what they say.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

/// More than any answer that is understood here.
const MOST: u64 = 64 * 1024;

/// What a program said.
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    /// Its standard output, and its standard error where that is empty.
    pub(super) said: String,
}

/// Runs a program; none: it is not there, or did not end in time.
pub(super) async fn ask(
    program: &str,
    arguments: &[&str],
    input: &str,
    deadline: Duration,
) -> Option<Answer> {
    timeout(deadline, run(program, arguments, input)).await.ok()?.ok()
}

async fn run(program: &str, arguments: &[&str], input: &str) -> std::io::Result<Answer> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that has ended early says why.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = async {
        if let Some(stdout) = stdout {
            stdout.take(MOST).read_to_end(&mut said).await?;
        }
        std::io::Result::Ok(())
    };
    let read_errors = async {
        if let Some(stderr) = stderr {
            stderr.take(MOST).read_to_end(&mut complained).await?;
        }
        std::io::Result::Ok(())
    };
    tokio::try_join!(read, read_errors)?;
    let status = child.wait().await?;
    let words = if said.is_empty() { complained } else { said };
    Ok(Answer { status, said: String::from_utf8_lossy(&words).trim().to_owned() })
}

/// A kernel file's text; none: it is not there or may not be read.
pub(super) fn kernel_says(path: impl Into<PathBuf>) -> Option<String> {
    std::fs::read_to_string(path.into()).ok().map(|text| text.trim().to_owned())
}
