//! A seed read back: what a VM is made of, for one whose journal is lost. The volume may have been written by anyone: it is
//! parsed within bounds, and what is not as we write it is an error.

use std::collections::BTreeMap;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::limits::GIB;
use dewpoint_proto::names::VmName;
use dewpoint_proto::spec::{Cidr, DiskMode, MacAddr, Nic, Placement, Restart, VmSpec};
use serde::Deserialize;

use super::NO_USER_DATA;
use super::iso;

/// What a seed tells of its VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::storage) struct SeedContent {
    /// The guest's hostname: the VM's name.
    pub(in crate::storage) name: VmName,
    /// The VM's id, as the guest has it.
    pub(in crate::storage) instance_id: String,
    /// Keys of the image's default user.
    pub(in crate::storage) ssh_keys: Vec<String>,
    /// As the caller gave it.
    pub(in crate::storage) user_data: Vec<u8>,
    /// In the guest's order; bridges and networks are not in a seed.
    pub(in crate::storage) nics: Vec<Nic>,
}

impl SeedContent {
    /// The smallest VM that a seed and its disk speak of: what else it was made of is not in them.
    pub(in crate::storage) fn spec(self, disk_bytes: u64) -> VmSpec {
        VmSpec {
            name: self.name,
            vcpus: 1,
            memory_bytes: GIB,
            disk_bytes,
            disk_mode: DiskMode::Overlay,
            nics: self.nics,
            ssh_keys: self.ssh_keys,
            user_data: self.user_data,
            labels: BTreeMap::new(),
            placement: Placement::Bound,
            restart: Restart::default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MetaData {
    instance_id: String,
    local_hostname: VmName,
    #[serde(default)]
    public_keys: Vec<String>,
}

#[derive(Deserialize)]
struct NetworkConfig {
    ethernets: BTreeMap<String, Ethernet>,
}

#[derive(Deserialize)]
struct Ethernet {
    r#match: Match,
    #[serde(default)]
    addresses: Vec<Cidr>,
    gateway4: Option<std::net::Ipv4Addr>,
    gateway6: Option<std::net::Ipv6Addr>,
    #[serde(default)]
    nameservers: Nameservers,
}

#[derive(Deserialize)]
struct Match {
    macaddress: MacAddr,
}

#[derive(Default, Deserialize)]
struct Nameservers {
    #[serde(default)]
    addresses: Vec<std::net::IpAddr>,
}

/// The content of a volume's bytes.
///
/// # Errors
/// `STORAGE_ERROR` for what is not as we write it.
pub(in crate::storage) fn content(volume: &[u8]) -> Result<SeedContent, Cause> {
    let file = |name: &str| iso::file(volume, name);
    let meta: MetaData = parsed(file("meta-data").ok_or_else(|| strange("it has no meta-data"))?)?;
    let nics = match file("network-config") {
        None => Vec::new(),
        Some(bytes) => nics(parsed(bytes)?)?,
    };
    let user_data = file("user-data").unwrap_or_default();
    Ok(SeedContent {
        name: meta.local_hostname,
        instance_id: meta.instance_id,
        ssh_keys: meta.public_keys,
        user_data: if user_data == NO_USER_DATA { Vec::new() } else { user_data.to_vec() },
        nics,
    })
}

/// In the order of their numbers: `eth10` comes after `eth9`.
fn nics(config: NetworkConfig) -> Result<Vec<Nic>, Cause> {
    let mut numbered = Vec::new();
    for (name, ethernet) in config.ethernets {
        let number = name.strip_prefix("eth").and_then(|number| number.parse::<usize>().ok());
        let nic = Nic {
            mac: ethernet.r#match.macaddress,
            network: None,
            bridge: None,
            addresses: ethernet.addresses,
            gateway4: ethernet.gateway4,
            gateway6: ethernet.gateway6,
            nameservers: ethernet.nameservers.addresses,
        };
        numbered.push((number.ok_or_else(|| strange("it names an interface that is not ours"))?, nic));
    }
    numbered.sort_by_key(|(number, _)| *number);
    Ok(numbered.into_iter().map(|(_, nic)| nic).collect())
}

fn parsed<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Cause> {
    serde_json::from_slice(bytes).map_err(|error| strange(&error.to_string()))
}

fn strange(why: &str) -> Cause {
    Cause::new(Reason::StorageError, format!("the seed is not as we write it: {why}"))
        .advise("build the VM from its disk instead: `dewpoint-agent orphans remove`, then `recycle restore`")
}
