//! The values of the command line: each parsed once, with an error that says how to write it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, shortened};
use dewpoint_proto::ids::{HostId, VmId};
use dewpoint_proto::limits;
use dewpoint_proto::names::{ImageName, NetworkName, VmName, check_label};
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::time::Millis;

use crate::failure::invalid;

/// A size in bytes: `512MiB`, `2GiB`, `2G` (binary units), or bare bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        let wrong = || {
            invalid(format!("`{}` is not a size", shortened(text))).advise(
                "write a whole number with a binary unit: 512MiB, 2GiB, 2G; without a unit it is bytes",
            )
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let power = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            "t" | "tib" => 40,
            _ => return Err(wrong()),
        };
        number.checked_mul(1 << power).map(Self).ok_or_else(wrong)
    }
}

/// A number of virtual CPUs.
///
/// # Errors
/// `INVALID`.
pub(crate) fn vcpus(text: &str) -> Result<u32, Cause> {
    let (least, most) = (limits::VCPUS.start(), limits::VCPUS.end());
    text.parse().map_err(|_| {
        invalid(format!("`{}` is not a number of vCPUs", shortened(text)))
            .advise(format!("give a whole number from {least} to {most}"))
    })
}

/// How long: `30s`, `5m`, `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// What no bound of ours exceeds, so that instants never overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

impl FromStr for Span {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        match humantime::parse_duration(text) {
            Ok(span) if !span.is_zero() && span <= LONGEST => Ok(Self(span)),
            _ => Err(invalid(format!("`{}` is not a duration", shortened(text)))
                .advise("write it as 30s, 5m or 1h30m, more than nothing")),
        }
    }
}

impl Span {
    /// Whole seconds, rounded up, within what a guest may be given.
    ///
    /// # Errors
    /// `INVALID`.
    pub(crate) fn guest_seconds(self) -> Result<u32, Cause> {
        let seconds = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        u32::try_from(seconds).ok().filter(|s| limits::GUEST_TIMEOUT_SECONDS.contains(s)).ok_or_else(|| {
            invalid(format!("a guest cannot be given {}", humantime::format_duration(self.0)))
                .advise(format!("give at most {}s", limits::GUEST_TIMEOUT_SECONDS.end()))
        })
    }
}

/// A deadline: an instant, or a span from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAfter {
    In(Span),
    At(Millis),
}

impl FromStr for NotAfter {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::At(Millis(at.as_millisecond())));
        }
        text.parse().map(Self::In).map_err(|_: Cause| {
            invalid(format!("`{}` is neither a duration nor an instant", shortened(text)))
                .advise("write it as 5m or as 2026-11-21T10:00:00Z")
        })
    }
}

impl NotAfter {
    /// Milliseconds since the epoch.
    pub(crate) fn at(self, now: Millis) -> Millis {
        match self {
            Self::In(span) => now.plus(span.0),
            Self::At(at) => at,
        }
    }
}

/// A VM as a person names it: its id, or a name that only one VM has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VmRef(String);

impl FromStr for VmRef {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        match text.parse::<VmId>() {
            Ok(id) => Ok(Self(id.to_string())),
            Err(_) => text.parse::<VmName>().map(|name| Self(name.into())),
        }
    }
}

impl fmt::Display for VmRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host as a person names it: its id, or a hostname that only one host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostRef {
    Id(HostId),
    Hostname(String),
}

impl FromStr for HostRef {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let charset = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if (1..=253).contains(&text.len()) && text.bytes().all(charset) {
            return Ok(Self::Hostname(text.to_owned()));
        }
        Err(invalid(format!("`{}` is neither a hostname nor a host id", shortened(text)))
            .advise("take one from `dewpoint host ls`"))
    }
}

impl fmt::Display for HostRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Hostname(name) => f.write_str(name),
        }
    }
}

/// An image as a person names it: its name or its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageArg(String);

impl FromStr for ImageArg {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        match text.parse::<ImageDigest>() {
            Ok(digest) => Ok(Self(digest.to_string())),
            Err(_) => text.parse::<ImageName>().map(|name| Self(name.into())),
        }
    }
}

impl fmt::Display for ImageArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A label: `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Label {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            invalid(format!("`{}` is not a label", shortened(text))).advise("write it as key=value")
        })?;
        check_label(key, value)?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// A network interface: `NET`, `NET,ip=192.0.2.5`, `NET,ip=192.0.2.5,ip=2001:db8::5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NicArg {
    pub(crate) network: NetworkName,
    /// Empty: any free address of the pool.
    pub(crate) address4: String,
    pub(crate) address6: String,
}

impl FromStr for NicArg {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        let wrong = |what: &str| {
            invalid(format!("`{}`: {what}", shortened(text)))
                .advise("write it as NETWORK, NETWORK,ip=192.0.2.5 or NETWORK,ip=192.0.2.5,ip=2001:db8::5")
        };
        let mut parts = text.split(',');
        let network = parts.next().unwrap_or_default().parse()?;
        let mut nic = Self { network, address4: String::new(), address6: String::new() };
        for part in parts {
            let address = part.strip_prefix("ip=").ok_or_else(|| wrong("only ip= may follow the network"))?;
            let address: IpAddr = address.parse().map_err(|_| wrong("what follows ip= is not an address"))?;
            let slot = if address.is_ipv4() { &mut nic.address4 } else { &mut nic.address6 };
            if !slot.is_empty() {
                return Err(wrong("one address of a family is the most"));
            }
            *slot = address.to_string();
        }
        Ok(nic)
    }
}

/// The addresses that a network gives out: `192.0.2.10-192.0.2.99`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pool4 {
    pub(crate) first: Ipv4Addr,
    pub(crate) last: Ipv4Addr,
}

impl FromStr for Pool4 {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        let pool = text.split_once('-').and_then(|(first, last)| {
            Some(Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
        });
        pool.filter(|pool| pool.first <= pool.last).ok_or_else(|| {
            invalid(format!("`{}` is not a range of addresses", shortened(text)))
                .advise("write the first and the last: 192.0.2.10-192.0.2.99")
        })
    }
}

#[cfg(test)]
mod tests;
