//! The VM that a create asks for. Everything here has been checked; nothing unchecked can be put into it by parsing.

mod convert;
mod restart;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

pub use restart::Restart;
use serde::{Deserialize, Deserializer, Serialize};

use crate::cause::{self, Cause, Reason, shortened};
use crate::limits;
use crate::names::{InterfaceName, NetworkName, VmName, check_label};

/// SHA-256 of an image file: its name everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct ImageDigest(pub [u8; 32]);

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image {self}")
    }
}

impl FromStr for ImageDigest {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        let mut bytes = [0; 32];
        let hexadecimal = text.strip_prefix("sha256:").unwrap_or(text);
        hex::decode_to_slice(hexadecimal, &mut bytes).map_err(|_| {
            Cause::new(Reason::Invalid, format!("`{}` is not an image digest", shortened(text)))
                .advise("give the SHA-256 of the image file as 64 hexadecimal digits")
        })?;
        Ok(Self(bytes))
    }
}

impl<'de> Deserialize<'de> for ImageDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        cause::from_text(deserializer)
    }
}

impl TryFrom<String> for ImageDigest {
    type Error = Cause;
    fn try_from(text: String) -> Result<Self, Cause> {
        text.parse()
    }
}

impl From<ImageDigest> for String {
    fn from(digest: ImageDigest) -> Self {
        digest.to_string()
    }
}

/// An image as events name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// SHA-256 of the file.
    pub digest: ImageDigest,
    /// The file's length.
    pub size_bytes: u64,
    /// The length of the disk in it.
    pub virtual_size_bytes: u64,
    /// A file on the host itself; only events submitted there may name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_path: Option<String>,
}

/// How a VM's disk is made from its image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskMode {
    /// A qcow2 overlay on the host's copy of the image.
    #[default]
    Overlay,
    /// A disk that shares nothing with the image.
    FullCopy,
}

/// Whether a VM may be built on another host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Lives and dies with its host's disks; started after a host boot without a coordinator.
    #[default]
    Bound,
    /// May be built elsewhere; after a host boot it waits for the coordinator.
    Movable,
}

/// A unicast MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        let wrong = || {
            Cause::new(Reason::Invalid, format!("`{}` is not a MAC address for a VM", shortened(text)))
                .advise("use six pairs of hexadecimal digits with colons, unicast, such as 52:54:00:12:34:56")
        };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(part.ok_or_else(wrong)?, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        cause::from_text(deserializer)
    }
}

impl TryFrom<String> for MacAddr {
    type Error = Cause;
    fn try_from(text: String) -> Result<Self, Cause> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

/// An address with its prefix length: `192.0.2.5/24`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct Cidr {
    /// The address itself, host bits included.
    pub address: IpAddr,
    /// At most 32 or 128.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cidr {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let address: IpAddr = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            (prefix <= most).then_some(Self { address, prefix })
        });
        parsed.ok_or_else(|| {
            Cause::new(
                Reason::Invalid,
                format!("`{}` is not an address with its prefix length", shortened(text)),
            )
            .advise("write it as 192.0.2.5/24 or 2001:db8::5/64")
        })
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        cause::from_text(deserializer)
    }
}

impl TryFrom<String> for Cidr {
    type Error = Cause;
    fn try_from(text: String) -> Result<Self, Cause> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

/// One network interface of a VM. The guest may use these addresses and no others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// The interface's hardware address.
    pub mac: MacAddr,
    /// The network's name in the catalogue; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// Bridge on the host; none: the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<InterfaceName>,
    /// Static addresses.
    #[serde(default)]
    pub addresses: Vec<Cidr>,
    /// Default route for IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway4: Option<Ipv4Addr>,
    /// Default route for IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway6: Option<Ipv6Addr>,
    /// DNS servers.
    #[serde(default)]
    pub nameservers: Vec<IpAddr>,
}

/// What a VM is made of, apart from its disk's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    /// Also the guest's hostname.
    pub name: VmName,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Guest memory.
    pub memory_bytes: u64,
    /// The disk's virtual size.
    pub disk_bytes: u64,
    /// How the disk is made.
    #[serde(default)]
    pub disk_mode: DiskMode,
    /// Network interfaces, in the guest's order.
    #[serde(default)]
    pub nics: Vec<Nic>,
    /// Lines as in `authorized_keys`, for the image's default user.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
    /// cloud-init user-data, given as it is.
    #[serde(default)]
    pub user_data: Vec<u8>,
    /// For people and schedulers.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether it may be built elsewhere.
    #[serde(default)]
    pub placement: Placement,
    /// What its host does when it goes off by itself.
    #[serde(default)]
    pub restart: Restart,
}

impl VmSpec {
    /// Checks every bound; parsing from the wire and from files ends here.
    ///
    /// # Errors
    /// `INVALID` or `TOO_LARGE`, naming the field, what was found, and what is allowed.
    pub fn checked(self) -> Result<Self, Cause> {
        in_range(
            "vcpus",
            u64::from(self.vcpus),
            u64::from(*limits::VCPUS.start())..=u64::from(*limits::VCPUS.end()),
        )?;
        size_in_range("memory_bytes", self.memory_bytes, limits::MEMORY_BYTES)?;
        size_in_range("disk_bytes", self.disk_bytes, limits::DISK_BYTES)?;
        at_most("user_data", self.user_data.len(), limits::USER_DATA_BYTES, "bytes")?;
        at_most("labels", self.labels.len(), limits::LABELS, "labels")?;
        at_most("ssh_keys", self.ssh_keys.len(), limits::SSH_KEYS, "keys")?;
        at_most("nics", self.nics.len(), limits::NICS, "network interfaces")?;
        self.labels.iter().try_for_each(|(key, value)| check_label(key, value))?;
        self.ssh_keys.iter().try_for_each(|key| check_ssh_key(key))?;
        self.nics.iter().try_for_each(check_nic)?;
        let mut macs: Vec<_> = self.nics.iter().map(|nic| nic.mac).collect();
        macs.sort_unstable();
        if let Some(twice) = macs.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Cause::new(
                Reason::Invalid,
                format!("two network interfaces have the MAC address {}", twice[0]),
            )
            .advise("give each interface a MAC address of its own"));
        }
        Ok(self)
    }
}

fn check_nic(nic: &Nic) -> Result<(), Cause> {
    at_most("addresses", nic.addresses.len(), limits::ADDRESSES, "addresses")?;
    at_most("nameservers", nic.nameservers.len(), limits::NAMESERVERS, "nameservers")?;
    for cidr in &nic.addresses {
        let address = cidr.address;
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return Err(Cause::new(Reason::Invalid, format!("{address} cannot be a guest's address"))
                .advise("give a unicast address of the network"));
        }
    }
    Ok(())
}

/// A public key line that stays one line in YAML and in `authorized_keys`.
fn check_ssh_key(key: &str) -> Result<(), Cause> {
    at_most("ssh_keys", key.len(), limits::SSH_KEY_BYTES, "bytes a key")?;
    let mut words = key.split(' ');
    let kind_fits = words.next().is_some_and(|kind| {
        ["ssh-", "ecdsa-", "sk-"].iter().any(|start| kind.starts_with(start))
            && kind.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'@' | b'.'))
    });
    let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let body_fits = words.next().is_some_and(|body| body.len() >= 16 && body.bytes().all(base64));
    if kind_fits && body_fits && !key.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Cause::new(Reason::Invalid, format!("`{}` is not an SSH public key", shortened(key)))
        .advise("give one line of a .pub file, without options: `ssh-ed25519 AAAA... comment`"))
}

fn in_range(field: &str, found: u64, allowed: std::ops::RangeInclusive<u64>) -> Result<(), Cause> {
    if allowed.contains(&found) {
        return Ok(());
    }
    let reason = if found > *allowed.end() { Reason::TooLarge } else { Reason::Invalid };
    Err(Cause::new(reason, format!("{field} is {found}"))
        .advise(format!("give {} to {}", allowed.start(), allowed.end()))
        .with("field", field))
}

fn size_in_range(field: &str, found: u64, allowed: std::ops::RangeInclusive<u64>) -> Result<(), Cause> {
    let advice =
        format!("give {} to {}", limits::in_units(*allowed.start()), limits::in_units(*allowed.end()));
    in_range(field, found, allowed).map_err(|cause| Cause { advice, ..cause })
}

fn at_most(field: &str, found: usize, most: usize, unit: &str) -> Result<(), Cause> {
    if found <= most {
        return Ok(());
    }
    Err(Cause::new(Reason::TooLarge, format!("{field} has {found} {unit}"))
        .advise(format!("give at most {most} {unit}"))
        .with("field", field))
}
