//! The coordinator's configuration: read once, parsed into types, unknown keys refused.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dewpoint_common::config::{self, wrong};
use dewpoint_common::telemetry::Log;
pub use dewpoint_common::units::{Size, Span};
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::limits;
use serde::{Deserialize, Serialize};

use crate::events::EventsConfig;
use crate::events::liveness::LivenessPolicy;
use crate::images;
use crate::router;
use crate::scheduler::{Policy, Rules};

/// Where the configuration is looked for when no path is given.
pub const DEFAULT_PATH: &str = "/etc/dewpoint/coordinator.toml";
/// Where every key stands with its default.
const SHIPPED: &str = "`dewpoint-coordinator check-config --config /dev/null`";

/// All of it. Every key has a default, so an empty file is a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// gRPC, for callers and agents; port 0: any free one.
    pub listen: SocketAddr,
    /// gRPC on a Unix socket as well, for callers and agents of this machine; none: on `listen` alone.
    pub socket: Option<PathBuf>,
    /// The database and the image files.
    pub data_dir: PathBuf,
    /// Image files over HTTP.
    pub images: Images,
    /// How hosts are chosen.
    pub scheduler: Scheduler,
    /// The sessions with agents.
    pub router: Router,
    /// What is bounded for the whole fleet.
    pub limits: Limits,
    /// How long a SIGTERM waits for what is under way.
    pub drain: Span,
    /// Where the log goes, and what is in it.
    pub log: Log,
    /// Given with `--insecure` alone, never in a file.
    #[serde(skip)]
    pub plaintext: Plaintext,
}

/// Whether plaintext may leave the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plaintext {
    /// Listen on loopback alone.
    #[default]
    LoopbackOnly,
    /// `--insecure` was given.
    Anywhere,
}

/// Image files over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Images {
    /// HTTP; port 0: any free one.
    pub listen: SocketAddr,
    /// Where hosts and callers reach it; none: at `listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Left free on the disk, for the database beside the images.
    pub keep_free: Size,
    /// Uploads at a time.
    pub uploads: u16,
    /// Downloads at a time.
    pub downloads: u16,
}

/// How hosts are chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scheduler {
    /// Declared vCPUs that one hardware thread carries.
    pub vcpu_overcommit: f64,
    /// Kept back for the host itself.
    pub memory_reserve: Size,
    /// Counted for each VM on top of its declared memory: QEMU's own.
    pub memory_per_vm: Size,
    /// Declared disk that one byte of the host's carries.
    pub disk_overcommit: f64,
    /// Free disk that is never counted on.
    pub disk_reserve: Size,
    /// VMs on one host, at most 135.
    pub vms_per_host: u32,
}

/// The sessions with agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Router {
    /// How often agents are asked for a heartbeat.
    pub heartbeat: Span,
    /// A host that is silent for longer is late: it gets no new VMs.
    pub late_after: Span,
    /// A host that is silent for longer is lost. Nothing is concluded about its VMs.
    pub lost_after: Span,
    /// How often a session is pinged; one that is silent for three of these is ended.
    pub ping: Span,
    /// Hosts connected at once.
    pub sessions: u32,
    /// Hosts whose logs are matched at once; others wait in turn.
    pub handshakes: u16,
}

/// What is bounded for the whole fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// VMs that may be destroyed in a minute; 0: any number. `dewpoint fleet destroy-limit` sets another.
    pub destroys_a_minute: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7400)),
            socket: None,
            data_dir: "/var/lib/dewpoint-coordinator".into(),
            images: Images::default(),
            scheduler: Scheduler::default(),
            router: Router::default(),
            limits: Limits::default(),
            drain: Span::seconds(10),
            log: Log::default(),
            plaintext: Plaintext::LoopbackOnly,
        }
    }
}

impl Default for Images {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7401)),
            url: None,
            keep_free: Size(1 << 30),
            uploads: 16,
            downloads: 128,
        }
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        let policy = Policy::default();
        Self {
            vcpu_overcommit: policy.vcpu_overcommit,
            memory_reserve: Size(policy.memory_reserve_bytes),
            memory_per_vm: Size(policy.memory_overhead_bytes),
            disk_overcommit: policy.disk_overcommit,
            disk_reserve: Size(policy.disk_reserve_bytes),
            vms_per_host: policy.vms_per_host,
        }
    }
}

impl Default for Router {
    fn default() -> Self {
        Self {
            heartbeat: Span::seconds(3),
            late_after: Span::seconds(10),
            lost_after: Span::seconds(60),
            ping: Span::seconds(10),
            sessions: 20_000,
            handshakes: 128,
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// `INVALID`: the file, the line or key, what was found, and what is allowed.
    pub fn read(path: &Path) -> Result<Self, Cause> {
        config::read(path, SHIPPED)
    }

    /// Parses a file's text.
    ///
    /// # Errors
    /// `INVALID`, naming the line and the key.
    pub fn parse(text: &str) -> Result<Self, Cause> {
        config::parse(text, SHIPPED)
    }

    /// Checks what no single key shows; flags may have changed what the file said.
    ///
    /// # Errors
    /// `INVALID` naming the key, or `PLAINTEXT_REFUSED`.
    pub fn checked(self) -> Result<Self, Cause> {
        if !self.data_dir.is_absolute() {
            return Err(wrong("data_dir", self.data_dir.display(), "give an absolute path"));
        }
        if let Some(socket) = self.socket.as_deref().filter(|path| !path.is_absolute()) {
            return Err(wrong("socket", socket.display(), "give an absolute path"));
        }
        self.plaintext_allowed("listen", self.listen)?;
        self.plaintext_allowed("images.listen", self.images.listen)?;
        if let Some(url) = &self.images.url {
            check_url(url)?;
        }
        if self.images.uploads == 0 || self.images.downloads == 0 {
            return Err(wrong("images.uploads or images.downloads", 0, "give at least 1"));
        }
        self.scheduler.check()?;
        self.router.check()?;
        Ok(self)
    }

    fn plaintext_allowed(&self, key: &str, address: SocketAddr) -> Result<(), Cause> {
        if self.plaintext == Plaintext::Anywhere || address.ip().is_loopback() {
            return Ok(());
        }
        Err(Cause::new(Reason::PlaintextRefused, format!("{key} is {address}, and nothing is encrypted yet"))
            .advise(
                "listen on loopback, or give --insecure on a network that you trust with root on every host",
            )
            .with("key", key))
    }

    /// For the image files.
    #[must_use]
    pub fn image_settings(&self) -> images::Settings {
        images::Settings {
            keep_free: self.images.keep_free.0,
            uploads: self.images.uploads.into(),
            downloads: self.images.downloads.into(),
            ..images::Settings::at(self.data_dir.join("images"))
        }
    }

    /// For placement, liveness and limits.
    #[must_use]
    pub fn events_config(&self) -> EventsConfig {
        let rules = Rules {
            placement: Policy {
                vcpu_overcommit: self.scheduler.vcpu_overcommit,
                memory_reserve_bytes: self.scheduler.memory_reserve.0,
                memory_overhead_bytes: self.scheduler.memory_per_vm.0,
                disk_overcommit: self.scheduler.disk_overcommit,
                disk_reserve_bytes: self.scheduler.disk_reserve.0,
                vms_per_host: self.scheduler.vms_per_host,
            },
            liveness: LivenessPolicy {
                late_after: self.router.late_after.0,
                lost_after: self.router.lost_after.0,
            },
        };
        EventsConfig { rules, destroys_a_minute: self.limits.destroys_a_minute }
    }

    /// For the sessions.
    #[must_use]
    pub fn router_settings(&self, images_url: String) -> router::Settings {
        router::Settings {
            heartbeat: self.router.heartbeat.0,
            ping: self.router.ping.0,
            sessions: self.router.sessions,
            handshakes: self.router.handshakes,
            ..router::Settings::with_images_at(images_url)
        }
    }
}

impl Scheduler {
    fn check(&self) -> Result<(), Cause> {
        for (key, ratio) in
            [("vcpu_overcommit", self.vcpu_overcommit), ("disk_overcommit", self.disk_overcommit)]
        {
            if !(0.1..=1000.0).contains(&ratio) {
                return Err(wrong(&format!("scheduler.{key}"), ratio, "give 0.1 to 1000.0"));
            }
        }
        if !(1..=limits::VMS_PER_HOST).contains(&self.vms_per_host) {
            let advice = format!("give 1 to {}", limits::VMS_PER_HOST);
            return Err(wrong("scheduler.vms_per_host", self.vms_per_host, &advice));
        }
        Ok(())
    }
}

impl Router {
    fn check(&self) -> Result<(), Cause> {
        let Self { heartbeat, late_after, lost_after, ping, sessions, handshakes } = self;
        if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&heartbeat.0) {
            return Err(wrong("router.heartbeat", heartbeat, "give 1s to 60s"));
        }
        if late_after.0 <= heartbeat.0 || lost_after.0 < late_after.0 {
            let found = format!("{late_after}, with router.lost_after {lost_after}");
            return Err(wrong("router.late_after", found, "give heartbeat < late_after <= lost_after"));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(300)).contains(&ping.0) {
            return Err(wrong("router.ping", ping, "give 1s to 300s"));
        }
        if *sessions == 0 {
            return Err(wrong("router.sessions", 0, "give at least 1"));
        }
        if *handshakes == 0 {
            return Err(wrong("router.handshakes", 0, "give at least 1"));
        }
        Ok(())
    }
}

/// Scheme, host and port, nothing behind: paths are appended.
fn check_url(url: &str) -> Result<(), Cause> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let parsed: Option<axum::http::uri::Authority> = rest.and_then(|authority| authority.parse().ok());
    if parsed.is_some_and(|authority| !authority.as_str().contains('@')) {
        return Ok(());
    }
    Err(wrong("images.url", url.escape_debug(), "give scheme, host and port: http://images.example:7401"))
}

#[cfg(test)]
mod tests;
