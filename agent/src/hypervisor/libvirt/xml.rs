//! The XML of a domain and of a backup, through a writer that escapes.
//!
//! Says everything that libvirt would otherwise find out by looking into files or decide by itself: formats, the whole
//! backing chain, ownership (libvirt changes none), what a power-off, a reboot and a crash lead to.

use std::io;
use std::path::Path;

use dewpoint_proto::cause::{Cause, Reason, shortened};
use dewpoint_proto::ids::HostId;
use quick_xml::Writer;
use quick_xml::events::BytesText;

use super::{Cpu, Settings, mark};
pub(super) use crate::hypervisor::domain_name;
use crate::hypervisor::{BackingFile, DiskFormat, DomainNic, DomainSpec};

type Xml = Writer<Vec<u8>>;
type Written = io::Result<()>;

/// Seconds between the guest's balloon statistics.
const BALLOON_PERIOD: &str = "10";

/// Who decides on a file's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// libvirt would change it (it has the `dac` security model), and is told not to: a host that crashes while a VM
    /// runs would never change it back.
    Kept,
    /// This libvirt changes none, and refuses to be told so.
    NotOurs,
}

/// The domain of a spec.
///
/// # Errors
/// `INVALID` for text that XML cannot carry, and for a path that is not absolute.
pub(super) fn domain(settings: &Settings, owner: Owner, spec: &DomainSpec) -> Result<String, Cause> {
    check(spec)?;
    written(|xml| write_domain(xml, settings, owner, spec))
}

/// A full backup of the disk into an existing qcow2.
///
/// # Errors
/// `INVALID`, as for a domain.
pub(super) fn backup(owner: Owner, target: &Path) -> Result<String, Cause> {
    check_path(target)?;
    written(|xml| {
        xml.create_element("domainbackup").with_attribute(("mode", "push")).write_inner_content(|xml| {
            xml.create_element("disks").write_inner_content(|xml| {
                xml.create_element("disk")
                    .with_attributes([("name", "vda"), ("backup", "yes"), ("type", "file")])
                    .write_inner_content(|xml| {
                        file_element(xml, owner, ("target", target))?;
                        empty(xml, "driver", &[("type", "qcow2")])
                    })?;
                empty(xml, "disk", &[("name", "vdb"), ("backup", "no")])
            })?;
            Ok(())
        })?;
        Ok(())
    })
}

fn written(write: impl FnOnce(&mut Xml) -> Written) -> Result<String, Cause> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    let bug = |error: &dyn std::fmt::Display| {
        Cause::new(Reason::Internal, format!("the domain's XML could not be written: {error}"))
    };
    write(&mut xml).map_err(|error| bug(&error))?;
    String::from_utf8(xml.into_inner()).map_err(|error| bug(&error))
}

fn write_domain(xml: &mut Xml, settings: &Settings, owner: Owner, spec: &DomainSpec) -> Written {
    xml.create_element("domain").with_attribute(("type", settings.virt_type.as_str())).write_inner_content(
        |xml| {
            text(xml, "name", &domain_name(&spec.name, spec.mark.vm))?;
            text(xml, "uuid", &spec.mark.vm.to_string())?;
            xml.create_element("metadata").write_inner_content(|xml| write_mark(xml, settings.host, spec))?;
            xml.create_element("memory")
                .with_attribute(("unit", "b"))
                .write_text_content(BytesText::new(&spec.memory_bytes.to_string()))?;
            xml.create_element("vcpu")
                .with_attribute(("placement", "static"))
                .write_text_content(BytesText::new(&spec.vcpus.to_string()))?;
            write_machine(xml, settings)?;
            // The lifecycle is the agent's: a VM that is off stays off until the agent starts it.
            text(xml, "on_poweroff", "destroy")?;
            text(xml, "on_reboot", "restart")?;
            text(xml, "on_crash", "destroy")?;
            xml.create_element("devices").write_inner_content(|xml| write_devices(xml, owner, spec))?;
            Ok(())
        },
    )?;
    Ok(())
}

fn write_mark(xml: &mut Xml, host: Option<HostId>, spec: &DomainSpec) -> Written {
    let element = format!("{}:mark", mark::PREFIX);
    let declaration = format!("xmlns:{}", mark::PREFIX);
    let attributes = mark::attributes(&spec.mark, host);
    xml.create_element(element)
        .with_attribute((declaration.as_str(), mark::NAMESPACE))
        .with_attributes(attributes.iter().map(|(name, value)| (*name, value.as_str())))
        .write_empty()?;
    Ok(())
}

fn write_machine(xml: &mut Xml, settings: &Settings) -> Written {
    xml.create_element("os").write_inner_content(|xml| {
        xml.create_element("type")
            .with_attributes([("arch", "x86_64"), ("machine", settings.machine.as_str())])
            .write_text_content(BytesText::new("hvm"))?;
        Ok(())
    })?;
    xml.create_element("features").write_inner_content(|xml| {
        empty(xml, "acpi", &[])?;
        empty(xml, "apic", &[])
    })?;
    match &settings.cpu {
        Cpu::Default => {}
        Cpu::HostPassthrough => empty(xml, "cpu", &[("mode", "host-passthrough")])?,
        Cpu::HostModel => empty(xml, "cpu", &[("mode", "host-model")])?,
        Cpu::Maximum => empty(xml, "cpu", &[("mode", "maximum")])?,
        Cpu::Named(name) => {
            xml.create_element("cpu")
                .with_attributes([("mode", "custom"), ("match", "exact")])
                .write_inner_content(|xml| text(xml, "model", name))?;
        }
    }
    empty(xml, "clock", &[("offset", "utc")])
}

fn write_devices(xml: &mut Xml, owner: Owner, spec: &DomainSpec) -> Written {
    write_disk(xml, owner, spec)?;
    write_seed(xml, owner, &spec.seed)?;
    spec.nics.iter().try_for_each(|nic| write_nic(xml, nic))?;
    write_serial(xml, &spec.console_log)?;
    xml.create_element("channel").with_attribute(("type", "unix")).write_inner_content(|xml| {
        empty(xml, "target", &[("type", "virtio"), ("name", "org.qemu.guest_agent.0")])
    })?;
    xml.create_element("rng").with_attribute(("model", "virtio")).write_inner_content(|xml| {
        xml.create_element("backend")
            .with_attribute(("model", "random"))
            .write_text_content(BytesText::new("/dev/urandom"))?;
        Ok(())
    })?;
    xml.create_element("memballoon")
        .with_attribute(("model", "virtio"))
        .write_inner_content(|xml| empty(xml, "stats", &[("period", BALLOON_PERIOD)]))?;
    empty(xml, "panic", &[("model", "isa")])?;
    empty(xml, "controller", &[("type", "usb"), ("model", "none")])?;
    xml.create_element("video").write_inner_content(|xml| empty(xml, "model", &[("type", "none")]))?;
    Ok(())
}

fn write_disk(xml: &mut Xml, owner: Owner, spec: &DomainSpec) -> Written {
    disk_element(xml, |xml| {
        empty(
            xml,
            "driver",
            &[("name", "qemu"), ("type", DiskFormat::Qcow2.as_str()), ("discard", "unmap")],
        )?;
        file_element(xml, owner, ("source", &spec.disk))?;
        write_backing(xml, owner, &spec.backing)?;
        empty(xml, "target", &[("dev", "vda"), ("bus", "virtio")])?;
        empty(xml, "boot", &[("order", "1")])
    })
}

/// The chain, down to an empty element that says where it ends.
fn write_backing(xml: &mut Xml, owner: Owner, chain: &[BackingFile]) -> Written {
    let Some((nearest, rest)) = chain.split_first() else {
        return empty(xml, "backingStore", &[]);
    };
    xml.create_element("backingStore").with_attribute(("type", "file")).write_inner_content(|xml| {
        empty(xml, "format", &[("type", nearest.format.as_str())])?;
        file_element(xml, owner, ("source", &nearest.path))?;
        write_backing(xml, owner, rest)
    })?;
    Ok(())
}

fn write_seed(xml: &mut Xml, owner: Owner, seed: &Path) -> Written {
    disk_element(xml, |xml| {
        empty(xml, "driver", &[("name", "qemu"), ("type", DiskFormat::Raw.as_str())])?;
        file_element(xml, owner, ("source", seed))?;
        empty(xml, "backingStore", &[])?;
        empty(xml, "target", &[("dev", "vdb"), ("bus", "virtio")])?;
        empty(xml, "readonly", &[])
    })
}

fn disk_element(xml: &mut Xml, inner: impl FnOnce(&mut Xml) -> Written) -> Written {
    xml.create_element("disk")
        .with_attributes([("type", "file"), ("device", "disk")])
        .write_inner_content(inner)?;
    Ok(())
}

fn file_element(xml: &mut Xml, owner: Owner, (name, path): (&str, &Path)) -> Written {
    let element = xml.create_element(name).with_attribute(("file", path_text(path)));
    match owner {
        Owner::Kept => element
            .write_inner_content(|xml| empty(xml, "seclabel", &[("model", "dac"), ("relabel", "no")]))?,
        Owner::NotOurs => element.write_empty()?,
    };
    Ok(())
}

fn write_nic(xml: &mut Xml, nic: &DomainNic) -> Written {
    xml.create_element("interface").with_attribute(("type", "bridge")).write_inner_content(|xml| {
        empty(xml, "mac", &[("address", &nic.mac.to_string())])?;
        empty(xml, "source", &[("bridge", nic.bridge.as_str())])?;
        empty(xml, "target", &[("dev", nic.tap.as_str())])?;
        empty(xml, "model", &[("type", "virtio")])
    })?;
    Ok(())
}

/// A terminal for `virsh console`, and all its output in a file that libvirt's log daemon writes and rotates.
fn write_serial(xml: &mut Xml, log: &Path) -> Written {
    xml.create_element("serial").with_attribute(("type", "pty")).write_inner_content(|xml| {
        empty(xml, "log", &[("file", path_text(log)), ("append", "on")])?;
        empty(xml, "target", &[("port", "0")])
    })?;
    Ok(())
}

fn text(xml: &mut Xml, name: &str, value: &str) -> Written {
    xml.create_element(name).write_text_content(BytesText::new(value))?;
    Ok(())
}

fn empty(xml: &mut Xml, name: &str, attributes: &[(&str, &str)]) -> Written {
    xml.create_element(name).with_attributes(attributes.iter().copied()).write_empty()?;
    Ok(())
}

/// `check_path` has seen that it is text.
fn path_text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

fn check(spec: &DomainSpec) -> Result<(), Cause> {
    check_text(&spec.name)?;
    let files = [&spec.disk, &spec.seed, &spec.console_log];
    let backing = spec.backing.iter().map(|file| &file.path);
    files.into_iter().chain(backing).try_for_each(|path| check_path(path))
}

fn check_path(path: &Path) -> Result<(), Cause> {
    let text = path.to_str().filter(|_| path.is_absolute());
    let Some(text) = text else {
        return Err(invalid(&path.to_string_lossy(), "is not an absolute path in UTF-8"));
    };
    check_text(text)
}

/// XML 1.0 has no form for most control characters, and libvirt writes names and paths into files of lines.
fn check_text(text: &str) -> Result<(), Cause> {
    if text.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')) {
        return Err(invalid(text, "has characters that a domain's XML cannot carry"));
    }
    Ok(())
}

fn invalid(text: &str, why: &str) -> Cause {
    Cause::new(Reason::Invalid, format!("`{}` {why}", shortened(text)))
}
