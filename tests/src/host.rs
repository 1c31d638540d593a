//! What is really on the host, seen without Dewpoint: libvirt's domains, QEMU's processes, files, nftables' rules.

use std::path::{Path, PathBuf};

use virt::connect::Connect;
use virt::domain::Domain;

use crate::lab::Lab;
use crate::shell;

const URI: &str = "qemu:///system";
/// The persistent configuration, whatever runs.
const INACTIVE: u32 = 2;
/// Managed save, snapshots' and checkpoints' metadata, NVRAM: nothing stands in the way.
const UNDEFINE_ALL: u32 = 1 | 2 | 4 | 16;

/// A connection of the test's own.
pub struct Libvirt(Connect);

/// A domain, as libvirt tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainSeen {
    /// Its UUID, in lower case.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// Whether QEMU exists.
    pub active: bool,
    /// The XML of the running domain, or of the defined one when it is off.
    pub xml: String,
    /// The XML that it starts from next.
    pub persistent: String,
}

impl Libvirt {
    /// Connects to the system's libvirt.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn connect() -> Self {
        // Else libvirt prints each lookup of a domain that is not there.
        virt::error::clear_error_callback();
        let connected = Connect::open(Some(URI));
        Self(
            connected
                .unwrap_or_else(|error| panic!("libvirt ({URI}): {error}; start it with scripts/libvirt-up")),
        )
    }

    /// The connection, for what only one test needs.
    #[must_use]
    pub fn connection(&self) -> &Connect {
        &self.0
    }

    /// Every domain; one that goes away meanwhile is left out.
    ///
    /// # Panics
    /// When libvirt cannot list them.
    #[must_use]
    pub fn domains(&self) -> Vec<DomainSeen> {
        let all =
            self.0.list_all_domains(0).unwrap_or_else(|error| panic!("domains cannot be listed: {error}"));
        all.iter().filter_map(|domain| seen(domain).ok()).collect()
    }

    /// Those whose disks, seeds or logs lie below a folder.
    #[must_use]
    pub fn domains_with_files_in(&self, dir: &Path) -> Vec<DomainSeen> {
        let prefix = format!("{}/", dir.display());
        self.domains().into_iter().filter(|domain| domain.xml.contains(&prefix)).collect()
    }

    /// One domain, by UUID.
    #[must_use]
    pub fn domain(&self, uuid: &str) -> Option<DomainSeen> {
        self.0.lookup_domain_by_uuid_string(uuid).ok().and_then(|domain| seen(&domain).ok())
    }

    /// Powers off and undefines; failures are left for whoever looks next.
    pub fn remove(&self, domain: &DomainSeen) {
        if let Ok(found) = self.0.lookup_domain_by_uuid_string(&domain.uuid) {
            let _ = found.destroy();
            let _ = found.undefine_flags(UNDEFINE_ALL);
        }
    }
}

fn seen(domain: &Domain) -> Result<DomainSeen, virt::error::Error> {
    Ok(DomainSeen {
        uuid: domain.uuid_string()?,
        name: domain.name()?,
        active: domain.is_active()?,
        xml: domain.xml_desc(0)?,
        persistent: domain.xml_desc(INACTIVE)?,
    })
}

impl DomainSeen {
    /// QEMU's process, by the file that libvirt keeps of it.
    #[must_use]
    pub fn qemu_pid(&self) -> Option<u32> {
        let path = format!("/run/libvirt/qemu/{}.pid", self.name);
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// An attribute of the mark that the running QEMU was started with: `event`, `run`, `disk`, `seed`, ...
    #[must_use]
    pub fn live(&self, attribute: &str) -> Option<String> {
        mark(&self.xml, attribute)
    }

    /// An attribute of the mark in the persistent configuration.
    #[must_use]
    pub fn mark(&self, attribute: &str) -> Option<String> {
        mark(&self.persistent, attribute)
    }

    /// The tap of its first NIC.
    #[must_use]
    pub fn tap(&self) -> Option<String> {
        let interface = self.xml.split("<interface ").nth(1)?.split("</interface>").next()?;
        interface.split("<target dev='").nth(1)?.split('\'').next().map(str::to_owned)
    }
}

fn mark(xml: &str, attribute: &str) -> Option<String> {
    let mark = xml.split("<dewpoint:mark").nth(1)?.split('>').next()?;
    let value = mark.split(&format!(" {attribute}=")).nth(1)?;
    value.get(1..)?.split(['\'', '"']).next().map(str::to_owned)
}

/// When a process was started, in ticks since the boot: with the pid, which process it is.
#[must_use]
pub fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold spaces and parentheses; the fields after its last one are numbers.
    stat.rsplit(')').next()?.split_whitespace().nth(19).map(str::to_owned)
}

/// Resident memory of a process, in bytes.
#[must_use]
pub fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Every file below a folder, relative to it, sorted; a folder that is not there has none.
#[must_use]
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => found.extend(entry.path().strip_prefix(dir).map(Path::to_owned)),
            }
        }
    }
    found.sort();
    found
}

/// The lab's nftables table as text; empty when there is none.
#[must_use]
pub fn rules(lab: &Lab) -> String {
    let listed = shell::output("nft", ["list", "table", "bridge", &lab.table()]);
    String::from_utf8_lossy(&listed.stdout).into_owned()
}
