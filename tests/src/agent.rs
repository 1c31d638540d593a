//! An agent in a lab: its configuration, its process, and the commands that an operator uses on the spot.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::lab::Lab;
use crate::process::{Daemon, binary};
use crate::shell;
use crate::wait::{BOOT, until};

/// An agent with its own data folder; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    dir: PathBuf,
    daemon: Option<Daemon>,
    /// The boot id that it is told; none: the kernel's.
    boot_id: Option<PathBuf>,
}

/// The kernel's boot id, for one process alone, is what stands in a file: `$0`; the rest is that process.
const IN_A_BOOT: &str = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";

/// Whether an agent has a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It dials the lab's coordinator.
    Coordinator,
    /// It dials the lab's coordinator over [`crate::proxy`].
    Proxy,
    /// It works by itself.
    Alone,
}

impl Agent {
    /// Writes its configuration; it is not started.
    ///
    /// # Panics
    /// When the configuration cannot be written.
    #[must_use]
    pub fn new(lab: &Lab, link: Link) -> Self {
        Self::with(lab, link, "")
    }

    /// The same, with more tables of its configuration.
    ///
    /// # Panics
    /// When the configuration cannot be written.
    #[must_use]
    pub fn with(lab: &Lab, link: Link, tables: &str) -> Self {
        let agent = Self { dir: lab.dir().to_owned(), daemon: None, boot_id: None };
        let text = configuration(lab, link) + tables;
        std::fs::write(agent.config(), text).unwrap_or_else(|error| panic!("agent.toml: {error}"));
        agent
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// The folder of a VM's disks and seeds.
    #[must_use]
    pub fn vm_dir(&self, vm: &str) -> PathBuf {
        self.data().join("vms").join(vm)
    }

    /// Its Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("agent.sock")
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become so.
    pub async fn start(&mut self) {
        self.start_without_waiting();
        self.until_ready().await;
    }

    /// Starts it; [`Agent::until_ready`] waits for it.
    ///
    /// # Panics
    /// When it runs already.
    pub fn start_without_waiting(&mut self) {
        assert!(self.daemon.is_none(), "the agent runs already");
        let ready = self.ready_file();
        let _ = std::fs::remove_file(&ready);
        let config = self.config();
        let args = [Path::new("run"), Path::new("--config"), &config, Path::new("--ready-file"), &ready];
        self.daemon = Some(match &self.boot_id {
            None => Daemon::start("dewpoint-agent", args, &self.log()),
            Some(boot_id) => {
                let agent = binary("dewpoint-agent");
                let there = [Path::new("--mount"), Path::new("sh"), Path::new("-c"), Path::new(IN_A_BOOT)];
                let all = there.into_iter().chain([boot_id.as_path(), agent.as_path()]).chain(args);
                Daemon::run("dewpoint-agent", Path::new("unshare"), all, &self.log())
            }
        });
    }

    /// From its next start on it is told that the host has booted since.
    ///
    /// # Panics
    /// When no boot id can be written.
    pub fn after_a_boot(&mut self) {
        let path = self.dir.join("boot_id");
        let id = format!("{}\n", uuid::Uuid::new_v4());
        std::fs::write(&path, id).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.boot_id = Some(path);
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it ends instead, or takes too long.
    pub async fn until_ready(&mut self) {
        let ready = self.ready_file();
        let daemon = self.daemon.as_mut();
        let daemon = daemon.unwrap_or_else(|| panic!("the agent was not started"));
        until("the agent is ready", BOOT, async || {
            daemon.must_run();
            if ready.exists() { Ok(()) } else { Err("no ready-file") }
        })
        .await;
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap_or_else(|| panic!("the agent does not run"));
        daemon.must_run();
        daemon.kill();
    }

    /// SIGTERM, and its exit status.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn stop(&mut self) -> std::process::ExitStatus {
        let mut daemon = self.daemon.take().unwrap_or_else(|| panic!("the agent does not run"));
        daemon.terminate().await
    }

    /// How it ended, if it did so by itself; it can be started again then.
    pub fn ended_by_itself(&mut self) -> Option<std::process::ExitStatus> {
        let ended = self.daemon.as_mut()?.ended().ok()?;
        self.daemon = None;
        Some(ended)
    }

    /// Whether it was started.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.daemon.is_some()
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().map(Daemon::pid).unwrap_or_else(|| panic!("the agent does not run"))
    }

    /// Runs one of its commands against this agent's configuration.
    ///
    /// # Panics
    /// When the command cannot be run.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Output {
        let config = self.config().to_string_lossy().into_owned();
        let args = args.iter().copied().chain(["--config", &config]);
        shell::output(&binary("dewpoint-agent").to_string_lossy(), args)
    }

    /// Runs one of its commands with `--json`; it must succeed.
    ///
    /// # Panics
    /// When it fails, or prints something else than one document.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Value {
        let args: Vec<_> = args.iter().copied().chain(["--json"]).collect();
        let done = self.command(&args);
        let (said, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "dewpoint-agent {args:?}: {}: {errors}", done.status);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("dewpoint-agent {args:?}: {error}: {said}"))
    }

    fn ready_file(&self) -> PathBuf {
        self.dir.join("agent.ready")
    }
}

/// What runs the tests' guests: emulation, unless `VIRT_TYPE` says otherwise.
#[must_use]
pub fn virt_type() -> String {
    std::env::var("VIRT_TYPE").unwrap_or_else(|_| "qemu".to_owned())
}

fn configuration(lab: &Lab, link: Link) -> String {
    let dial = |port| format!("coordinator = \"http://{}\"\n", lab.listen(port));
    let coordinator = match link {
        Link::Coordinator => dial(crate::coordinator::GRPC),
        Link::Proxy => dial(crate::proxy::GRPC),
        Link::Alone => String::new(),
    };
    format!(
        "data_dir = \"{dir}/agent\"\nsocket = \"{dir}/agent.sock\"\n{coordinator}\
         [hypervisor]\nuri = \"{uri}\"\nvirt_type = \"{virt_type}\"\ncpu_mode = \"{cpu}\"\n\
         [network]\nbridge = \"{bridge}\"\nnft_table = \"{table}\"\n",
        dir = lab.dir().display(),
        uri = lab.hypervisor().uri(),
        virt_type = virt_type(),
        cpu = std::env::var("CPU_MODE").unwrap_or_else(|_| "maximum".to_owned()),
        bridge = lab.bridge(),
        table = lab.table(),
    )
}
