//! The agent's configuration: read once, parsed into types, unknown keys refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dewpoint_common::config::{self, wrong};
use dewpoint_common::telemetry::Log;
use dewpoint_common::units::{Size, Span};
use dewpoint_proto::cause::{Cause, shortened};
use dewpoint_proto::limits;
use dewpoint_proto::names::InterfaceName;
use serde::{Deserialize, Serialize};

use crate::hypervisor::libvirt::{Cpu, VirtType};
use crate::link::dial::{Coordinator, Plaintext};

/// Where the configuration is looked for when no path is given.
pub const DEFAULT_PATH: &str = "/etc/dewpoint/agent.toml";
/// Where every key stands with its default.
const SHIPPED: &str = "`dewpoint-agent check-config --config /dev/null`";

/// All of it. Every key has a default, so an empty file is a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The journal, images, disks.
    pub data_dir: PathBuf,
    /// The Unix socket.
    pub socket: PathBuf,
    /// `http://HOST:PORT`; none: the agent works alone.
    pub coordinator: Option<String>,
    /// Report, and touch nothing: for the first days on a host that has VMs of its own.
    pub observe_only: bool,
    /// libvirt and QEMU.
    pub hypervisor: Hypervisor,
    /// Bridge and anti-spoofing.
    pub network: Network,
    /// Disks and images.
    pub storage: Storage,
    /// The executor.
    pub execute: Execute,
    /// Where the log goes, and what is in it.
    pub log: Log,
    /// The session with the coordinator.
    pub link: Link,
}

/// Whether the agent changes anything on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It carries out events.
    Acts,
    /// It reports, and refuses every event.
    Observes,
}

/// libvirt and QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hypervisor {
    /// libvirt's connection.
    pub uri: String,
    /// KVM or emulation.
    pub virt_type: VirtType,
    /// QEMU's machine type.
    pub machine: String,
    /// What guests see as their CPU.
    pub cpu_mode: String,
}

/// Bridge and anti-spoofing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// The bridge of interfaces that name none.
    pub bridge: InterfaceName,
    /// nftables' table, of the bridge family.
    pub nft_table: String,
}

/// Disks and images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// How long replaced and deleted disks are kept.
    pub recycle_time: Span,
    /// How much of them at most.
    pub recycle_budget: Size,
    /// How much images that nobody uses may take.
    pub image_budget: Size,
    /// Free space that disks and images never get.
    pub reserve: Size,
    /// The files' group.
    pub group: String,
}

/// The executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Execute {
    /// VMs that are built at once, at least 1.
    pub builds: u16,
    /// How long a guest is given to go down when the event does not say.
    pub guest_timeout: Span,
    /// How long a SIGTERM waits for the step in hand.
    pub drain: Span,
    /// VMs that are started at once after a boot of the host, or by their restart policy; at least 1.
    pub starts: u16,
    /// How often in a row a VM is started again by its restart policy before it is left off.
    pub restart_limit: u16,
    /// How long a VM stays off before it is first started again; doubled each further time, up to 5 minutes.
    pub restart_backoff: Span,
    /// A VM that ran for so long ran well: its restarts are counted anew.
    pub restart_steady: Span,
}

/// The session with the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Nothing heard of the coordinator for so long: the session is dead, though no connection was closed. It pings every
    /// ten seconds, unless it is told otherwise.
    pub silence: Span,
    /// The longest wait before it is dialled again; each wait is anywhere between nothing and a bound that doubles.
    pub reconnect_most: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/dewpoint".into(),
            socket: "/run/dewpoint/agent.sock".into(),
            coordinator: None,
            observe_only: false,
            hypervisor: Hypervisor::default(),
            network: Network::default(),
            storage: Storage::default(),
            execute: Execute::default(),
            log: Log::default(),
            link: Link::default(),
        }
    }
}

impl Default for Hypervisor {
    fn default() -> Self {
        Self {
            uri: "qemu:///system".into(),
            virt_type: VirtType::Kvm,
            machine: "q35".into(),
            cpu_mode: "host-passthrough".into(),
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a constant that a test parses")]
        let bridge = "br0".parse().expect("br0 is an interface name");
        Self { bridge, nft_table: "dewpoint".into() }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            recycle_time: Span::seconds(7 * 24 * 3600),
            recycle_budget: Size(100 << 30),
            image_budget: Size(100 << 30),
            reserve: Size(1 << 30),
            group: "libvirt-qemu".into(),
        }
    }
}

impl Default for Execute {
    fn default() -> Self {
        Self {
            builds: 10,
            guest_timeout: Span::seconds(90),
            drain: Span::seconds(20),
            starts: 4,
            restart_limit: 10,
            restart_backoff: Span::seconds(2),
            restart_steady: Span::seconds(600),
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self { silence: Span::seconds(45), reconnect_most: Span::seconds(30) }
    }
}

impl Execute {
    fn check(&self) -> Result<(), Cause> {
        for (key, count) in [("builds", self.builds), ("starts", self.starts)] {
            if count == 0 {
                return Err(wrong(&format!("execute.{key}"), 0, "give at least 1"));
            }
        }
        let guest = limits::GUEST_TIMEOUT_SECONDS;
        within("execute.guest_timeout", self.guest_timeout, (*guest.start()).into(), (*guest.end()).into())?;
        within("execute.drain", self.drain, 1, 3600)
    }
}

impl Link {
    fn check(&self) -> Result<(), Cause> {
        within("link.silence", self.silence, 5, 600)?;
        within("link.reconnect_most", self.reconnect_most, 1, 600)
    }
}

fn within(key: &str, span: Span, from: u64, to: u64) -> Result<(), Cause> {
    if (Duration::from_secs(from)..=Duration::from_secs(to)).contains(&span.0) {
        return Ok(());
    }
    Err(wrong(key, span, &format!("give {from}s to {to}s")))
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// `INVALID`: the file, the key, what was found, and what is allowed.
    pub fn read(path: &Path) -> Result<Self, Cause> {
        config::read::<Self>(path, SHIPPED)?.checked().map_err(|cause| config::in_file(path, cause))
    }

    /// Parses a file's text.
    ///
    /// # Errors
    /// `INVALID`, naming the key.
    pub fn parse(text: &str) -> Result<Self, Cause> {
        config::parse::<Self>(text, SHIPPED)?.checked()
    }

    /// Whether the agent changes anything on its host.
    #[must_use]
    pub fn manner(&self) -> Manner {
        if self.observe_only { Manner::Observes } else { Manner::Acts }
    }

    fn checked(self) -> Result<Self, Cause> {
        for (key, path) in [("data_dir", &self.data_dir), ("socket", &self.socket)] {
            if !path.is_absolute() {
                return Err(wrong(key, path.display(), "give an absolute path"));
            }
        }
        if let Some(url) = &self.coordinator {
            // Whether plaintext may leave the host is for the flag to say.
            Coordinator::parse(url, Plaintext::Anywhere)
                .map_err(|cause| wrong("coordinator", shortened(url), &cause.advice))?;
        }
        self.hypervisor.check()?;
        self.network.check()?;
        self.execute.check()?;
        if self.storage.group.is_empty() {
            return Err(wrong("storage.group", "", "name the group that QEMU runs in: libvirt-qemu"));
        }
        self.link.check()?;
        Ok(self)
    }
}

impl Hypervisor {
    fn check(&self) -> Result<(), Cause> {
        let allowed = |b: u8| is_plain(b) || matches!(b, b'-' | b'.');
        if self.uri.is_empty() {
            return Err(wrong("hypervisor.uri", "", "give libvirt's connection, such as \"qemu:///system\""));
        }
        if self.machine.is_empty() || !self.machine.bytes().all(allowed) {
            let found = shortened(&self.machine);
            return Err(wrong("hypervisor.machine", found, "use letters, digits, `-`, `.` and `_`"));
        }
        self.cpu_mode
            .parse::<Cpu>()
            .map_err(|cause| wrong("hypervisor.cpu_mode", shortened(&self.cpu_mode), &cause.advice))?;
        Ok(())
    }
}

impl Network {
    fn check(&self) -> Result<(), Cause> {
        let table = &self.nft_table;
        if table.is_empty() || table.len() > 64 || !table.bytes().all(is_plain) {
            let allowed = "use 1 to 64 letters, digits and `_`";
            return Err(wrong("network.nft_table", shortened(table), allowed));
        }
        Ok(())
    }
}

fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_states_the_defaults() {
        let shipped = Config::parse(include_str!("../../packaging/agent.toml")).unwrap();
        assert_eq!(shipped, Config::default());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let cause = Config::parse("[hypervisor]\nvirt_typ = \"kvm\"\n").unwrap_err();
        assert!(cause.text.contains("line 2") && cause.text.contains("virt_typ"), "{cause:?}");
    }

    #[test]
    fn wrong_values_name_the_key_and_what_is_allowed() {
        for (text, says) in [
            ("[execute]\nbuilds = 0", "execute.builds"),
            ("[execute]\nstarts = 0", "execute.starts"),
            ("[execute]\nrestart_backoff = \"often\"", "\"30s\""),
            ("[execute]\ndrain = \"soon\"", "\"30s\""),
            ("[storage]\nreserve = \"1 apple\"", "\"512MiB\""),
            ("data_dir = \"here\"", "data_dir"),
            ("[log]\nformat = \"xml\"", "journald"),
            ("[network]\nnft_table = \"a; flush ruleset\"", "network.nft_table"),
            ("[network]\nbridge = \"a/b\"", "interface name"),
            ("[execute]\ndrain = \"1000d\"", "1s to 3600s"),
            ("[execute]\nguest_timeout = \"2h\"", "1s to 3600s"),
            ("[hypervisor]\nuri = \"\"", "qemu:///system"),
            ("[storage]\ngroup = \"\"", "libvirt-qemu"),
            ("[storage]\nreserve = 5", "512MiB"),
            ("[storage]\nreserv = \"5GiB\"", "`reserve`"),
            ("observe_only = \"yes\"", "true or false"),
            ("hypervisor = \"qemu\"", "a table of keys"),
            ("data_dir = \"/a\"\ndata_dir = \"/b\"", "twice"),
            ("data_dir = \"/a", "line 1"),
            ("[link]\nsilence = \"1s\"", "link.silence"),
            ("[link]\nreconnect_most = \"1d\"", "1s to 600s"),
        ] {
            let cause = Config::parse(text).unwrap_err();
            assert!(format!("{} {}", cause.text, cause.advice).contains(says), "{text}: {cause:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let config = Config::default();
        assert_eq!(Config::parse(&toml::to_string(&config).unwrap()).unwrap(), config);
    }
}
