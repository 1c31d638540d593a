//! Which files the disks of our domains are, as their persistent configuration names them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dewpoint_proto::ids::{HostId, VmId};
use quick_xml::XmlVersion;
use quick_xml::events::Event;
use quick_xml::reader::Reader;
use virt::connect::Connect;
use virt::error::Error;
use virt_sys as sys;

use super::observe::{any_mark, control};
use crate::hypervisor::{Control, Seen};

/// Of every domain that bears our mark. One that cannot be asked is left out: nothing is concluded from that.
pub(super) fn all(connect: &Connect, here: Option<HostId>) -> Result<BTreeMap<VmId, Vec<PathBuf>>, Error> {
    let mut found = BTreeMap::new();
    for handle in connect.list_all_domains(0)? {
        let vm = VmId(handle.uuid()?);
        let ours = matches!(any_mark(&handle, here, vm), Ok(Seen::There(_)));
        // Asking for XML waits for the domain's lock: not of one that is busy.
        if !ours || handle.is_active()? && !matches!(control(&handle), Ok(Control::Idle)) {
            continue;
        }
        match handle.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE) {
            Ok(xml) => drop(found.insert(vm, files(&xml))),
            Err(error) => tracing::debug!(vm_id = %vm, %error, "a domain's disks are not told"),
        }
    }
    Ok(found)
}

/// The `file` of each `source` below a `disk`, backing files included. What cannot be read ends the list.
fn files(xml: &str) -> Vec<PathBuf> {
    let mut reader = Reader::from_str(xml);
    let (mut files, mut disks) = (Vec::new(), 0_u32);
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) if element.local_name().as_ref() == "disk" => disks += 1,
            Ok(Event::End(element)) if element.local_name().as_ref() == "disk" => {
                disks = disks.saturating_sub(1)
            }
            Ok(Event::Start(element) | Event::Empty(element))
                if disks > 0 && element.local_name().as_ref() == "source" =>
            {
                let file = element.attributes().flatten().find(|attribute| attribute.key.as_ref() == "file");
                let value = file.and_then(|file| file.normalized_value(XmlVersion::Implicit1_0).ok());
                files.extend(value.map(|value| PathBuf::from(value.into_owned())));
            }
            Ok(Event::Eof) | Err(_) => return files,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_what_they_rest_on_are_found_and_nothing_else() {
        let xml = "<domain><devices><disk type='file'><source file='/a/b &amp; c.qcow2'><seclabel model='dac'/></source>\
                   <backingStore type='file'><source file='/a/base'/></backingStore></disk>\
                   <serial type='file'><source path='/a/log'/></serial><disk><source dev='/dev/x'/></disk></devices></domain>";
        assert_eq!(files(xml), [PathBuf::from("/a/b & c.qcow2"), PathBuf::from("/a/base")]);
        assert_eq!(files("<domain><disk><source file='/x'/></oops>"), [PathBuf::from("/x")]);
        assert!(files("no xml at all").is_empty());
    }
}
