//! What is really on the host, seen without Dewpoint: libvirt's domains, QEMU's processes, files, nftables' rules.

use std::path::{Path, PathBuf};

use virt::connect::Connect;
use virt::domain::Domain;

use crate::lab::Lab;
use crate::shell;

/// The persistent configuration, whatever runs.
const INACTIVE: u32 = 2;
/// Managed save, snapshots' and checkpoints' metadata, NVRAM: nothing stands in the way.
const UNDEFINE_ALL: u32 = 1 | 2 | 4 | 16;

/// Which libvirt: the machine's, or a lab's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    uri: String,
    run: PathBuf,
}

impl Place {
    /// The machine's.
    #[must_use]
    pub fn machine() -> Self {
        Self { uri: "qemu:///system".to_owned(), run: "/run/libvirt".into() }
    }

    /// The one of [`crate::libvirtd`] in this folder.
    #[must_use]
    pub fn own(dir: &Path) -> Self {
        let run = dir.join("libvirt/run");
        Self { uri: format!("qemu+unix:///system?socket={}/libvirt-sock", run.display()), run }
    }

    /// What clients connect to.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Where it keeps what it knows of its running domains: pid files and states, also while it is down.
    #[must_use]
    pub fn states(&self) -> PathBuf {
        self.run.join("qemu")
    }
}

/// A connection of the test's own.
pub struct Libvirt {
    connection: Connect,
    place: Place,
}

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
    pid_file: PathBuf,
}

impl Libvirt {
    /// Connects to the machine's libvirt.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn connect() -> Self {
        Self::connect_to(&Place::machine())
    }

    /// Connects to one.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn connect_to(place: &Place) -> Self {
        Self::try_connect(place).unwrap_or_else(|why| panic!("{why}; start it with scripts/libvirt-up"))
    }

    /// Connects to one, if it answers.
    ///
    /// # Errors
    /// What libvirt says.
    pub fn try_connect(place: &Place) -> Result<Self, String> {
        // Else libvirt prints each lookup of a domain that is not there.
        virt::error::clear_error_callback();
        let connection =
            Connect::open(Some(&place.uri)).map_err(|error| format!("libvirt ({}): {error}", place.uri))?;
        Ok(Self { connection, place: place.clone() })
    }

    /// The connection, for what only one test needs.
    #[must_use]
    pub fn connection(&self) -> &Connect {
        &self.connection
    }

    /// Every domain; one that goes away meanwhile is left out.
    ///
    /// # Panics
    /// When libvirt cannot list them.
    #[must_use]
    pub fn domains(&self) -> Vec<DomainSeen> {
        let all = self.connection.list_all_domains(0);
        let all = all.unwrap_or_else(|error| panic!("domains cannot be listed: {error}"));
        all.iter().filter_map(|domain| self.seen(domain).ok()).collect()
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
        self.connection.lookup_domain_by_uuid_string(uuid).ok().and_then(|domain| self.seen(&domain).ok())
    }

    /// Powers off and undefines; failures are left for whoever looks next.
    pub fn remove(&self, domain: &DomainSeen) {
        if let Ok(found) = self.connection.lookup_domain_by_uuid_string(&domain.uuid) {
            let _ = found.destroy();
            let _ = found.undefine_flags(UNDEFINE_ALL);
        }
    }

    fn seen(&self, domain: &Domain) -> Result<DomainSeen, virt::error::Error> {
        let name = domain.name()?;
        Ok(DomainSeen {
            uuid: domain.uuid_string()?,
            active: domain.is_active()?,
            xml: domain.xml_desc(0)?,
            persistent: domain.xml_desc(INACTIVE)?,
            pid_file: self.place.states().join(format!("{name}.pid")),
            name,
        })
    }
}

impl DomainSeen {
    /// QEMU's process, by the file that libvirt keeps of it.
    #[must_use]
    pub fn qemu_pid(&self) -> Option<u32> {
        std::fs::read_to_string(&self.pid_file).ok()?.trim().parse().ok()
    }

    /// An attribute of the mark that the running QEMU was started with: `event`, `run`, `disk`, `seed`, ...
    #[must_use]
    pub fn live(&self, attribute: &str) -> Option<String> {
        mark_in(&self.xml, attribute)
    }

    /// An attribute of the mark in the persistent configuration.
    #[must_use]
    pub fn mark(&self, attribute: &str) -> Option<String> {
        mark_in(&self.persistent, attribute)
    }

    /// The tap of its first NIC.
    #[must_use]
    pub fn tap(&self) -> Option<String> {
        let interface = self.xml.split("<interface ").nth(1)?.split("</interface>").next()?;
        interface.split("<target dev='").nth(1)?.split('\'').next().map(str::to_owned)
    }
}

/// An attribute of the mark in a domain's XML.
#[must_use]
pub fn mark_in(xml: &str, attribute: &str) -> Option<String> {
    let mark = xml.split("<dewpoint:mark").nth(1)?.split('>').next()?;
    let value = mark.split(&format!(" {attribute}=")).nth(1)?;
    value.get(1..)?.split(['\'', '"']).next().map(str::to_owned)
}

/// A QEMU, by its process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Qemu {
    /// Its process id.
    pub pid: u32,
    /// When it was started, see [`started`].
    pub started: String,
    /// The UUID of its VM.
    pub uuid: String,
}

/// The QEMUs whose command line names something below a folder, whoever runs them.
#[must_use]
pub fn qemus(dir: &Path) -> Vec<Qemu> {
    let needle = format!("{}/", dir.display());
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found: Vec<_> = processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line);
            let mut words = line.split('\0');
            if !words.next()?.contains("qemu-system") || !line.contains(&needle) {
                return None;
            }
            let uuid = words.skip_while(|word| *word != "-uuid").nth(1)?.to_owned();
            Some(Qemu { pid, started: started(pid)?, uuid })
        })
        .collect();
    found.sort();
    found
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
