//! Our mark as a metadata element: `<mark vm= generation= event= run= wanted= disk= seed= host=/>` in the namespace
//! [`NAMESPACE`]. libvirt keeps it with the domain, so it can be written by others: it is parsed, never trusted. One
//! without a host was written by an earlier version, and is this host's.

use std::collections::BTreeMap;
use std::str::FromStr;

use dewpoint_proto::cause::{Cause, shortened};
use dewpoint_proto::ids::{Generation, HostId, VmId};
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use crate::hypervisor::{Mark, Wanted};

/// The XML namespace of our metadata; libvirt finds the element by it.
pub(super) const NAMESPACE: &str = "https://dewpoint.dev/ns/domain/1";

/// The prefix under which libvirt shows it.
pub(super) const PREFIX: &str = "dewpoint";

/// A mark is a dozen short attributes; more is not ours.
const MOST_BYTES: usize = 4096;

/// The attributes of a mark of this host.
pub(super) fn attributes(mark: &Mark, host: Option<HostId>) -> Vec<(&'static str, String)> {
    let mut attributes = vec![
        ("vm", mark.vm.to_string()),
        ("generation", mark.generation.to_string()),
        ("event", mark.event.to_string()),
        ("wanted", wanted(mark.wanted).to_owned()),
        ("disk", mark.disk.to_string()),
        ("seed", mark.seed.to_string()),
    ];
    if let Some(run) = mark.run {
        attributes.push(("run", run.to_string()));
    }
    if let Some(host) = host {
        attributes.push(("host", host.to_string()));
    }
    attributes
}

/// The element as `virDomainSetMetadata` takes it: without prefix, which libvirt adds.
pub(super) fn to_xml(mark: &Mark, host: Option<HostId>) -> String {
    // Every value is a UUID, a number or one of two words: nothing to escape.
    let attributes: String =
        attributes(mark, host).iter().map(|(name, value)| format!(" {name}=\"{value}\"")).collect();
    format!("<mark{attributes}/>")
}

/// Why a mark is not the domain's own.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Strange {
    /// It is not one that this agent reads, and why.
    Unreadable(String),
    /// It is a copy of another VM's.
    Of(VmId),
    /// It is another host's: of an agent beside this one, or of the host whose disk this one's was cloned from.
    OfHost(HostId),
}

impl Strange {
    /// For people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Unreadable(why) => why.clone(),
            Self::Of(vm) => format!("bears the mark of VM {vm}"),
            Self::OfHost(host) => format!("bears the mark of host {host}"),
        }
    }
}

/// The mark of `vm` on this host from what `virDomainGetMetadata` gave; else what is wrong with it.
pub(super) fn from_xml(vm: VmId, here: Option<HostId>, xml: &str) -> Result<Mark, Strange> {
    let (mark, host) = parsed(xml).map_err(Strange::Unreadable)?;
    if let (Some(here), Some(host)) = (here, host)
        && here != host
    {
        return Err(Strange::OfHost(host));
    }
    if mark.vm == vm { Ok(mark) } else { Err(Strange::Of(mark.vm)) }
}

/// The mark, and the host that wrote it.
type Written = (Mark, Option<HostId>);

fn parsed(xml: &str) -> Result<Written, String> {
    if xml.len() > MOST_BYTES {
        return Err(format!("a mark of {} bytes", xml.len()));
    }
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event() {
            Ok(Event::Start(element) | Event::Empty(element)) => return of_element(&element),
            Ok(Event::Text(_) | Event::Comment(_) | Event::Decl(_)) => {}
            Ok(_) => return Err("a mark without an element".to_owned()),
            Err(error) => return Err(format!("a mark that is not XML: {error}")),
        }
    }
}

fn of_element(element: &BytesStart<'_>) -> Result<Written, String> {
    if element.local_name().as_ref() != "mark" {
        return Err(format!("a mark called `{}`", shortened(element.local_name().as_ref())));
    }
    let found = Found::of(element)?;
    let host = if found.0.contains_key("host") { Some(found.parsed("host")?) } else { None };
    let mark = Mark {
        vm: found.parsed("vm")?,
        generation: Generation(found.number("generation")?),
        event: found.parsed("event")?,
        run: if found.0.contains_key("run") { Some(found.parsed("run")?) } else { None },
        wanted: match found.text("wanted")? {
            "on" => Wanted::On,
            "off" => Wanted::Off,
            other => return Err(format!("a mark with wanted `{}`", shortened(other))),
        },
        disk: found.parsed("disk")?,
        seed: found.parsed("seed")?,
    };
    Ok((mark, host))
}

/// The attributes that are there; those of a newer version are passed over.
struct Found(BTreeMap<String, String>);

impl Found {
    fn of(element: &BytesStart<'_>) -> Result<Self, String> {
        let mut found = BTreeMap::new();
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|error| format!("a mark that is not XML: {error}"))?;
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| format!("a mark that is not XML: {error}"))?;
            found.insert(attribute.key.as_ref().to_owned(), value.into_owned());
        }
        Ok(Self(found))
    }

    fn text(&self, name: &str) -> Result<&str, String> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("a mark without {name}"))
    }

    fn parsed<T: FromStr<Err = Cause>>(&self, name: &str) -> Result<T, String> {
        self.text(name)?.parse().map_err(|cause: Cause| format!("a mark whose {name} is wrong: {cause}"))
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        let text = self.text(name)?;
        text.parse().map_err(|_| format!("a mark with {name} `{}`", shortened(text)))
    }
}

fn wanted(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::On => "on",
        Wanted::Off => "off",
    }
}
