//! `qemu-img` as a subprocess: no environment, no input, bounded output, a deadline, killed when the caller goes away.
//!
//! Formats and file names are always given, never probed. What reads images from outside runs under resource limits.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason, shortened};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::failure::{disk_full, refused};
use super::{DiskFormat, JobProgress};

/// What short commands are given.
const SHORT: Duration = Duration::from_secs(60);
/// How long a copy may go without a sign of progress: it reports every tenth of a percent, and syncs at its end.
const STALL: Duration = Duration::from_secs(600);
/// A check reads every table once.
const CHECK: Duration = Duration::from_secs(600);
const MOST_OUTPUT: usize = 1024 * 1024;

/// The tool, and where it is.
#[derive(Clone, Debug)]
pub(super) struct QemuImg {
    pub(super) program: PathBuf,
}

/// What `qemu-img info` says of an image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Info {
    pub(super) format: String,
    pub(super) virtual_size: u64,
    #[serde(default)]
    backing_filename: Option<String>,
    #[serde(default)]
    encrypted: bool,
    #[serde(default)]
    snapshots: Vec<serde_json::Value>,
    #[serde(default)]
    format_specific: Option<FormatSpecific>,
}

#[derive(Debug, Deserialize)]
struct FormatSpecific {
    #[serde(default)]
    data: Specifics,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Specifics {
    #[serde(default)]
    data_file: Option<String>,
    #[serde(default)]
    corrupt: bool,
}

impl Info {
    /// Whether QEMU, too, sees an image that stands alone.
    pub(super) fn check_plain(&self) -> Result<(), Cause> {
        let specifics = self.format_specific.as_ref().map(|specific| &specific.data);
        if self.backing_filename.is_some() || specifics.is_some_and(|data| data.data_file.is_some()) {
            return Err(refused("names another file, QEMU says"));
        }
        if self.encrypted || !self.snapshots.is_empty() || specifics.is_some_and(|data| data.corrupt) {
            return Err(refused("is encrypted, damaged, or has internal snapshots, QEMU says"));
        }
        Ok(())
    }
}

/// How long a command may take.
#[derive(Clone, Copy)]
enum Patience {
    /// In all.
    Total(Duration),
    /// Without a sign of progress.
    Stall(Duration),
}

/// What it said before it ended.
struct Ended {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: String,
}

impl QemuImg {
    /// What QEMU says of a file from outside, under limits on memory and time.
    pub(super) async fn info(&self, path: &Path, format: DiskFormat) -> Result<Info, Cause> {
        let mut command = self.limited();
        command.args(["info", "--output=json", "-f", format.as_str()]).arg(path);
        let ended = self.run(command, Patience::Total(SHORT), None).await?;
        if !ended.status.success() {
            return Err(refused(format_args!("cannot be read by QEMU: {}", shortened(&ended.stderr))));
        }
        serde_json::from_slice(&ended.stdout).map_err(|error| {
            Cause::new(Reason::StorageError, format!("qemu-img info said what we do not understand: {error}"))
                .advise("see `qemu-img --version` on the host: 7.2 and newer are known")
        })
    }

    /// Whether a qcow2 of our own making is consistent.
    pub(super) async fn check(&self, path: &Path) -> Result<(), Cause> {
        let mut command = self.limited();
        command.args(["check", "-q", "-f", "qcow2"]).arg(path);
        let ended = self.run(command, Patience::Total(CHECK), None).await?;
        // 3: leaked clusters, which cost room and nothing else.
        match ended.status.code() {
            Some(0 | 3) => Ok(()),
            Some(2) => Err(refused(format_args!("is damaged: {}", shortened(&ended.stderr)))),
            _ => Err(failure("check", &ended)),
        }
    }

    /// Bytes that a qcow2 of an image's content takes.
    pub(super) async fn measure(&self, path: &Path, format: DiskFormat) -> Result<u64, Cause> {
        #[derive(Deserialize)]
        struct Measured {
            required: u64,
        }
        let mut command = self.limited();
        command.args(["measure", "--output=json", "-O", "qcow2", "-f", format.as_str()]).arg(path);
        let ended = self.run(command, Patience::Total(SHORT), None).await?;
        let measured = ended.status.success().then(|| serde_json::from_slice::<Measured>(&ended.stdout));
        match measured {
            Some(Ok(measured)) => Ok(measured.required),
            _ => Err(failure("measure", &ended)),
        }
    }

    /// Makes an overlay in `folder` that names its base relatively, or with no base an empty disk. The file is there.
    pub(super) async fn create(
        &self,
        folder: &Path,
        name: &str,
        base: Option<(&str, DiskFormat)>,
        size: u64,
    ) -> Result<(), Cause> {
        let mut command = self.plain();
        command.current_dir(folder).args(["create", "-q", "-f", "qcow2"]);
        if let Some((base, format)) = base {
            command.args(["-F", format.as_str(), "-b", base]);
        }
        command.arg(name).arg(size.to_string());
        self.succeed("create", command, Patience::Total(SHORT), None).await
    }

    /// Grows a disk that nothing uses.
    pub(super) async fn resize(&self, path: &Path, size: u64) -> Result<(), Cause> {
        let mut command = self.plain();
        command.args(["resize", "-q", "-f", "qcow2"]).arg(path).arg(size.to_string());
        self.succeed("resize", command, Patience::Total(SHORT), None).await
    }

    /// Copies an image that nothing uses, with all that it rests on, into a qcow2 that stands alone. QEMU's locks
    /// refuse one in use. Progress is in bytes of `total`.
    pub(super) async fn convert(
        &self,
        from: &Path,
        format: DiskFormat,
        to: &Path,
        progress: (&JobProgress, u64),
    ) -> Result<(), Cause> {
        let mut command = self.plain();
        command.args(["convert", "-p", "-f", format.as_str(), "-O", "qcow2"]).arg(from).arg(to);
        self.succeed("convert", command, Patience::Stall(STALL), Some(progress)).await
    }

    fn plain(&self) -> Command {
        Command::new(&self.program)
    }

    /// A hostile image can make QEMU allocate and compute at will; `prlimit` needs no code between fork and exec.
    fn limited(&self) -> Command {
        let mut command = Command::new("/usr/bin/prlimit");
        command.args(["--as=2147483648", "--cpu=300", "--fsize=0", "--"]).arg(&self.program);
        command
    }

    async fn succeed(
        &self,
        what: &str,
        command: Command,
        patience: Patience,
        progress: Option<(&JobProgress, u64)>,
    ) -> Result<(), Cause> {
        let ended = self.run(command, patience, progress).await?;
        if ended.status.success() { Ok(()) } else { Err(failure(what, &ended)) }
    }

    async fn run(
        &self,
        mut command: Command,
        patience: Patience,
        progress: Option<(&JobProgress, u64)>,
    ) -> Result<Ended, Cause> {
        let mut child = command
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.not_started(&error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let stall = match patience {
            Patience::Stall(stall) => stall,
            Patience::Total(total) => total,
        };
        let work = async {
            let (stdout, stderr) =
                tokio::try_join!(gather(stdout, stall, progress), gather(stderr, stall, None))?;
            // It has closed its output, so it is about to end.
            let status = timeout(SHORT, child.wait()).await.map_err(|_| overran(SHORT))?;
            let status = status.map_err(|error| self.not_started(&error))?;
            Ok(Ended { status, stdout, stderr: String::from_utf8_lossy(&stderr).trim().to_owned() })
        };
        match patience {
            Patience::Stall(_) => work.await,
            Patience::Total(total) => timeout(total, work).await.unwrap_or_else(|_| Err(overran(total))),
        }
    }

    fn not_started(&self, error: &std::io::Error) -> Cause {
        Cause::new(Reason::StorageError, format!("could not run qemu-img: {error}"))
            .advise("install qemu-utils, or set the path of qemu-img in the agent's configuration")
            .with("path", self.program.display())
    }
}

/// Reads to the end, keeping the first MiB; each piece that comes is a sign of life.
async fn gather(
    from: Option<impl AsyncRead + Unpin>,
    stall: Duration,
    progress: Option<(&JobProgress, u64)>,
) -> Result<Vec<u8>, Cause> {
    let mut kept = Vec::new();
    let Some(mut from) = from else { return Ok(kept) };
    let mut piece = vec![0; 4096];
    loop {
        // A copy's stderr is silent for as long as all is well: stdout is where it must show life.
        let read = from.read(&mut piece);
        let read = match progress {
            Some(_) => timeout(stall, read).await.map_err(|_| overran(stall))?,
            None => read.await,
        };
        let length = read.map_err(|error| {
            Cause::new(Reason::StorageError, format!("could not read what qemu-img says: {error}"))
                .advise("look at the kernel's log; then retry")
        })?;
        if length == 0 {
            return Ok(kept);
        }
        match progress {
            Some((progress, total)) => tell(&piece[..length], progress, total),
            None => kept.extend_from_slice(&piece[..length.min(MOST_OUTPUT - kept.len())]),
        }
    }
}

/// `    (12.34/100%)\r`: the last one counts.
fn tell(piece: &[u8], progress: &JobProgress, total: u64) {
    let text = String::from_utf8_lossy(piece);
    let percent = text.rsplit('(').find_map(|part| part.split_once("/100%")?.0.trim().parse::<f64>().ok());
    if let Some(percent) = percent {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "progress for people; clamped to 0 to 1"
        )]
        progress.set((total as f64 * (percent / 100.0).clamp(0.0, 1.0)) as u64, total);
    }
}

fn failure(what: &str, ended: &Ended) -> Cause {
    let said: String = ended.stderr.chars().take(400).collect();
    if said.contains("No space left on device") || said.contains("Disk quota exceeded") {
        return disk_full(format!("no room was left during qemu-img {what}"));
    }
    let cause =
        Cause::new(Reason::StorageError, format!("qemu-img {what} failed ({}): {said}", ended.status));
    if said.contains("Failed to get") && said.contains("lock") {
        return cause
            .advise("the disk is in use by a running QEMU: stop the VM, or find who else has it open");
    }
    cause.advise("look at the host's disks and at the kernel's log; then retry")
}

fn overran(limit: Duration) -> Cause {
    Cause::new(Reason::StorageError, format!("qemu-img gave no sign of life for {} s", limit.as_secs()))
        .advise("look at the host's disks: one may be hanging; then retry")
}
