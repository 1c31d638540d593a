//! A coordinator in a lab: its configuration and its process.

use std::path::{Path, PathBuf};

use crate::lab::Lab;
use crate::process::Daemon;
use crate::wait::{SOON, until};

/// Where it listens for callers and agents, on the lab's own loopback address.
pub const GRPC: u16 = 7400;
/// Where it serves images.
pub const IMAGES: u16 = 7401;

/// A coordinator with its own data folder; killed when dropped.
#[derive(Debug)]
pub struct Coordinator {
    dir: PathBuf,
    url: String,
    daemon: Option<Daemon>,
}

impl Coordinator {
    /// Writes its configuration; it is not started.
    ///
    /// # Panics
    /// When the configuration cannot be written.
    #[must_use]
    pub fn new(lab: &Lab) -> Self {
        Self::with(lab, IMAGES, "")
    }

    /// The same, with images that agents fetch at another port of the lab's, and more tables of its configuration.
    ///
    /// # Panics
    /// When the configuration cannot be written.
    #[must_use]
    pub fn with(lab: &Lab, images: u16, tables: &str) -> Self {
        let dir = lab.dir().to_owned();
        // A heartbeat a second: what only heartbeats bring is there soon enough to be waited for.
        let text = format!(
            "data_dir = \"{}/coordinator\"\nlisten = \"{}\"\n[images]\nlisten = \"{}\"\nurl = \"http://{}\"\n[router]\nheartbeat = \"1s\"\n{tables}",
            dir.display(),
            lab.listen(GRPC),
            lab.listen(IMAGES),
            lab.listen(images),
        );
        let config = dir.join("coordinator.toml");
        std::fs::write(&config, text).unwrap_or_else(|error| panic!("{}: {error}", config.display()));
        Self { dir, url: format!("http://{}", lab.listen(GRPC)), daemon: None }
    }

    /// What callers and agents dial.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.join("coordinator")
    }

    /// Starts it, and waits until it listens.
    ///
    /// # Panics
    /// When it runs already, ends, or takes too long.
    pub async fn start(&mut self) {
        self.start_without_waiting();
        let ready = self.dir.join("coordinator.ready");
        let Some(daemon) = self.daemon.as_mut() else { return };
        until("the coordinator listens", SOON, async || {
            daemon.must_run();
            if ready.exists() { Ok(()) } else { Err("no ready-file") }
        })
        .await;
    }

    /// Starts it, and leaves it to itself.
    ///
    /// # Panics
    /// When it runs already.
    pub fn start_without_waiting(&mut self) {
        assert!(self.daemon.is_none(), "the coordinator runs already");
        let ready = self.dir.join("coordinator.ready");
        let _ = std::fs::remove_file(&ready);
        let (config, log) = (self.dir.join("coordinator.toml"), self.dir.join("coordinator.log"));
        let args = [Path::new("run"), Path::new("--config"), &config, Path::new("--ready-file"), &ready];
        self.daemon = Some(Daemon::start("dewpoint-coordinator", args, &log));
    }

    /// SIGTERM, and its exit status.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub async fn stop(&mut self) -> std::process::ExitStatus {
        let mut daemon = self.daemon.take().unwrap_or_else(|| panic!("the coordinator does not run"));
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

    /// SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap_or_else(|| panic!("the coordinator does not run"));
        daemon.must_run();
        daemon.kill();
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().map(Daemon::pid).unwrap_or_else(|| panic!("the coordinator does not run"))
    }
}
