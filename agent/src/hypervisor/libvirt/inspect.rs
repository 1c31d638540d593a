//! A domain looked at closely: its flags, and what its XML names. The XML may have been edited by anyone: it is parsed,
//! and what is not understood is not there.

use std::collections::BTreeMap;

use dewpoint_proto::ids::{HostId, VmId};
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use sha2::{Digest, Sha256};
use virt::connect::Connect;
use virt::domain::Domain as Handle;
use virt::error::Error;
use virt_sys as sys;

use super::observe;
use super::trouble::{is_no_domain, is_unsupported};
use crate::hypervisor::{ConfigDigest, Control, Details, Domain, Inspected, InspectedNic, Seen};

/// One domain, or all.
pub(super) fn inspect(
    connect: &Connect,
    here: Option<HostId>,
    which: Option<VmId>,
) -> Result<BTreeMap<VmId, Inspected>, Error> {
    let domains = match which {
        None => observe::all(connect, here)?,
        Some(vm) => match observe::one(connect, here, vm)? {
            Seen::There(domain) => [(vm, domain)].into(),
            Seen::Absent | Seen::Unknown(_) => BTreeMap::new(),
        },
    };
    let mut inspected = BTreeMap::new();
    for (vm, domain) in domains {
        let details = details_of(connect, &domain)?;
        inspected.insert(vm, Inspected { domain, details });
    }
    Ok(inspected)
}

/// A domain that cannot be asked hides no other.
fn details_of(connect: &Connect, domain: &Domain) -> Result<Seen<Details>, Error> {
    if let Control::Busy(why) = &domain.control {
        return Ok(Seen::Unknown(why.clone()));
    }
    let looked = connect.lookup_domain_by_uuid(domain.vm.0).and_then(|handle| details(connect, &handle));
    match looked {
        Ok(details) => Ok(Seen::There(details)),
        Err(error) if is_no_domain(&error) => Ok(Seen::Absent),
        Err(error) if connect.is_alive().unwrap_or(false) => Ok(Seen::Unknown(error.message().to_owned())),
        Err(error) => Err(error),
    }
}

fn details(connect: &Connect, handle: &Handle) -> Result<Details, Error> {
    let persistent = handle.is_persistent()?;
    // A transient domain cannot be asked for either, nor can drivers that have no such thing.
    let flag = |asked: Result<bool, Error>| match asked {
        Err(error) if !persistent || is_unsupported(&error) => Ok(false),
        other => other,
    };
    let autostart = flag(handle.autostart())?;
    let managed_save = flag(handle.has_managed_save(0))?;
    // The next start's, and not the running one's: what is mended is what comes.
    let xml = handle.xml_desc(if persistent { sys::VIR_DOMAIN_XML_INACTIVE } else { 0 })?;
    let config = if persistent { Some(digest(connect.lib_version()?, &xml)) } else { None };
    Ok(Details { persistent, autostart, managed_save, config, ..from_xml(&xml) })
}

fn digest(version: u32, xml: &str) -> ConfigDigest {
    let sha256 = Sha256::digest(without_metadata(xml).concat());
    ConfigDigest { written_by: format!("libvirt {version}"), sha256: hex::encode(sha256) }
}

/// What is before and after the domain's metadata; elsewhere libvirt escapes what looks like it.
fn without_metadata(xml: &str) -> [&str; 2] {
    const END: &str = "</metadata>";
    match (xml.find("<metadata"), xml.rfind(END)) {
        (Some(from), Some(end)) if from < end => [&xml[..from], &xml[end + END.len()..]],
        _ => [xml, ""],
    }
}

/// What the XML names.
fn from_xml(xml: &str) -> Details {
    let mut reader = Reader::from_str(xml);
    let mut found = Walk::default();
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) => {
                found.path.push(element.local_name().as_ref().to_owned());
                found.element(&element);
            }
            Ok(Event::Empty(element)) => {
                found.path.push(element.local_name().as_ref().to_owned());
                found.element(&element);
                found.leave();
            }
            Ok(Event::End(_)) => found.leave(),
            Ok(Event::Text(text)) => found.text(&text),
            Ok(Event::Eof) | Err(_) => return found.details,
            Ok(_) => {}
        }
    }
}

/// Where the walk is, and what it has found.
#[derive(Default)]
struct Walk {
    path: Vec<String>,
    source: Option<String>,
    target: Option<String>,
    nic: InspectedNic,
    unit: u64,
    details: Details,
}

impl Walk {
    fn element(&mut self, element: &BytesStart<'_>) {
        let attribute = |name: &str| {
            let found = element.try_get_attribute(name).ok().flatten()?;
            found.normalized_value(XmlVersion::Implicit1_0).ok().map(|value| value.into_owned())
        };
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["domain", "memory"] => self.unit = unit(attribute("unit").as_deref()),
            ["domain", "devices", "disk", "source"] => self.source = attribute("file"),
            ["domain", "devices", "disk", "target"] => self.target = attribute("dev"),
            ["domain", "devices", "interface", "source"] => self.nic.bridge = attribute("bridge"),
            ["domain", "devices", "interface", "target"] => self.nic.tap = attribute("dev"),
            ["domain", "devices", "interface", "mac"] => self.nic.mac = attribute("address"),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match (path.as_slice(), text.trim().parse::<u64>()) {
            (["domain", "memory"], Ok(number)) => {
                self.details.memory_bytes = number.saturating_mul(self.unit);
            }
            (["domain", "vcpu"], Ok(number)) => self.details.vcpus = u32::try_from(number).unwrap_or(0),
            _ => {}
        }
    }

    fn leave(&mut self) {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["domain", "devices", "disk"] => {
                let source = self.source.take().map(Into::into);
                match self.target.take().as_deref() {
                    Some("vda") => self.details.disk = source,
                    Some("vdb") => self.details.seed = source,
                    _ => {}
                }
            }
            ["domain", "devices", "interface"] => {
                self.details.nics.push(std::mem::take(&mut self.nic));
            }
            _ => {}
        }
        self.path.pop();
    }
}

/// Bytes in libvirt's unit; it writes KiB when it says nothing.
fn unit(name: Option<&str>) -> u64 {
    match name {
        Some("b" | "bytes") => 1,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        _ => 1 << 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_xml_names_is_found_where_it_belongs() {
        let details = from_xml(
            "<domain type='kvm'><memory unit='KiB'>131072</memory><vcpu placement='static'>2</vcpu><devices>\
             <disk type='file'><source file='/v/a.qcow2'/><backingStore type='file'><source file='/v/x.base'/>\
             </backingStore><target dev='vda' bus='virtio'/></disk>\
             <disk type='file'><source file='/v/a.seed'/><target dev='vdb'/></disk>\
             <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>\
             <target dev='dp0'/></interface></devices></domain>",
        );
        assert_eq!(details.disk, Some("/v/a.qcow2".into()), "not the backing file's");
        assert_eq!(details.seed, Some("/v/a.seed".into()));
        assert_eq!((details.vcpus, details.memory_bytes), (2, 128 << 20));
        let nic = &details.nics[0];
        assert_eq!((nic.tap.as_deref(), nic.bridge.as_deref()), (Some("dp0"), Some("br0")));
    }

    #[test]
    fn a_digest_is_of_all_but_the_metadata_and_of_who_wrote_it() {
        let xml = |vcpus, mark| {
            format!("<domain><metadata><a:b>{mark}</a:b></metadata><vcpu>{vcpus}</vcpu></domain>")
        };
        assert_eq!(digest(1, &xml(1, "x")), digest(1, &xml(1, "another")));
        assert_ne!(digest(1, &xml(1, "x")), digest(1, &xml(2, "x")));
        assert_ne!(digest(1, &xml(1, "x")), digest(2, &xml(1, "x")));
        assert_ne!(digest(1, "</metadata><metadata>"), digest(1, ""), "whatever it is");
    }

    #[test]
    fn what_is_no_xml_names_nothing() {
        assert_eq!(from_xml("<domain><devices><disk"), Details::default());
        assert_eq!(from_xml(""), Details::default());
    }
}
