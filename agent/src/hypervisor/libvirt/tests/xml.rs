//! The XML we write, and what libvirt reads from it.

use std::path::{Path, PathBuf};

use dewpoint_proto::ids::{EventId, Generation, HostId, VmId};
use proptest::prelude::*;
use uuid::Uuid;
use virt::connect::Connect;

use crate::hypervisor::libvirt::xml::Owner;
use crate::hypervisor::libvirt::{Cpu, Settings, VirtType, mark, xml};
use crate::hypervisor::{BackingFile, DiskFormat, DomainNic, DomainSpec, Mark, Wanted};

fn spec() -> DomainSpec {
    let id = |n: u128| Uuid::from_u128(0x018f_3c5e_7c1a_7d3e_9a5b_2f6d_8c4b_1a90 + n);
    DomainSpec {
        name: "web-1".to_owned(),
        vcpus: 2,
        memory_bytes: 1 << 30,
        disk: PathBuf::from("/var/lib/dewpoint/vms/a/b.qcow2"),
        backing: vec![
            BackingFile { path: PathBuf::from("/var/lib/dewpoint/vms/a/c.base"), format: DiskFormat::Qcow2 },
            BackingFile { path: PathBuf::from("/var/lib/dewpoint/vms/a/d.base"), format: DiskFormat::Raw },
        ],
        seed: PathBuf::from("/var/lib/dewpoint/vms/a/b.seed"),
        nics: vec![DomainNic {
            tap: "dp6d8c4b1a900".parse().unwrap(),
            bridge: "br0".parse().unwrap(),
            mac: "52:54:00:12:34:56".parse().unwrap(),
        }],
        console_log: PathBuf::from("/var/lib/dewpoint/vms/a/console.log"),
        mark: Mark {
            vm: VmId(id(0)),
            generation: Generation(7),
            event: EventId(id(1)),
            run: Some(EventId(id(1)).into()),
            wanted: Wanted::On,
            disk: EventId(id(2)),
            seed: EventId(id(3)),
        },
    }
}

#[test]
fn a_domain_reads_as_agreed() {
    let settings = Settings { cpu: Cpu::Named("x86-64-v2".to_owned()), ..Settings::default() };
    insta::assert_snapshot!("domain", xml::domain(&settings, Owner::Kept, &spec()).unwrap());
}

/// As for a user's own libvirt, which has no `dac` model and refuses one.
#[test]
fn owners_are_not_spoken_of_where_libvirt_changes_none() {
    let settings = Settings::default();
    assert!(!xml::domain(&settings, Owner::NotOurs, &spec()).unwrap().contains("seclabel"));
    assert!(!xml::backup(Owner::NotOurs, Path::new("/a")).unwrap().contains("seclabel"));
}

#[test]
fn a_backup_reads_as_agreed() {
    insta::assert_snapshot!(
        "backup",
        xml::backup(Owner::Kept, Path::new("/var/lib/dewpoint/vms/a/b.snapshot.part")).unwrap()
    );
}

#[test]
fn control_characters_and_relative_paths_are_refused() {
    let settings = Settings::default();
    for name in ["a\0b", "a\nb", "\u{1b}[2J", "\u{ffff}", "\u{85}"] {
        xml::domain(&settings, Owner::Kept, &DomainSpec { name: name.to_owned(), ..spec() }).unwrap_err();
        xml::domain(&settings, Owner::Kept, &DomainSpec { disk: format!("/a/{name}").into(), ..spec() })
            .unwrap_err();
    }
    xml::domain(&settings, Owner::Kept, &DomainSpec { seed: "../seed".into(), ..spec() }).unwrap_err();
    xml::backup(Owner::Kept, Path::new("relative")).unwrap_err();
}

#[test]
fn a_mark_comes_back_as_it_was_written() {
    let mark = spec().mark;
    let here = Some(HostId::fresh());
    let come_back = |mark: &Mark, host| mark::from_xml(mark.vm, here, &mark::to_xml(mark, host));
    assert_eq!(come_back(&mark, here), Ok(mark.clone()));
    let never = Mark { run: None, wanted: Wanted::Off, ..mark };
    assert_eq!(come_back(&never, here), Ok(never.clone()));
    assert_eq!(come_back(&never, None), Ok(never.clone()), "an earlier version wrote no host");
    let other = HostId::fresh();
    assert_eq!(come_back(&never, Some(other)), Err(mark::Strange::OfHost(other)));
    let later = mark::to_xml(&never, here).replace("<mark", "<dewpoint:mark later='x' xmlns:dewpoint='y'");
    assert_eq!(mark::from_xml(never.vm, here, &later), Ok(never), "a newer version may add attributes");
}

#[test]
fn what_is_not_a_mark_says_why() {
    let mark = spec().mark;
    let good = mark::to_xml(&mark, Some(HostId::fresh()));
    let bad = [
        good.replace("host=\"", "host=\"x"),
        String::new(),
        "<mark".to_owned(),
        "<mark/>".to_owned(),
        good.replace("<mark", "<other"),
        good.replace("generation=\"7\"", "generation=\"-1\""),
        good.replace("generation=\"7\"", "generation=\"7\" generation=\"8\""),
        good.replace("wanted=\"on\"", "wanted=\"perhaps\""),
        good.replace("wanted=\"on\"", "wanted=\"&boom;\""),
        good.replace("<mark", &format!("<mark x=\"{}\"", "y".repeat(5000))),
        good.replace(&format!("vm=\"{}\"", mark.vm), &format!("vm=\"{}\"", VmId::fresh())),
    ];
    for xml in bad {
        mark::from_xml(mark.vm, None, &xml).unwrap_err();
    }
}

proptest! {
    /// Whatever reads as XML anywhere in a spec reaches libvirt as the same text, or is refused by us or by libvirt.
    #[test]
    fn hostile_text_stays_text(
        name in hostile(),
        file in hostile(),
    ) {
        let settings = Settings { virt_type: VirtType::Qemu, ..Settings::default() };
        let spec = DomainSpec { name: name.clone(), console_log: format!("/c/{file}").into(), ..spec() };
        if let Ok(xml) = xml::domain(&settings, Owner::Kept, &spec) {
            let element = Document::of(&xml);
            prop_assert_eq!(element.text_of("name"), crate::hypervisor::domain_name(&name, spec.mark.vm));
            prop_assert_eq!(element.count("domain"), 1);
            prop_assert_eq!(element.attribute("log", "file"), format!("/c/{file}"));
        } else {
            prop_assert!(name.chars().chain(file.chars()).any(|c| c.is_control() || u32::from(c) == 0xfffe));
        }
    }

    #[test]
    fn no_text_makes_the_mark_reader_panic(text in hostile()) {
        drop(mark::from_xml(spec().mark.vm, None, &text));
        drop(mark::from_xml(spec().mark.vm, None, &format!("<mark vm='{text}'/>")));
    }
}

fn hostile() -> impl Strategy<Value = String> {
    let tricks = prop::sample::select(vec![
        "</name><name>x",
        "]]>",
        "<!--",
        "-->",
        "&amp;",
        "&#0;",
        "&lt;",
        "\"",
        "'",
        "' x='y",
        "<?xml?>",
        "\u{0}",
        "%s%n",
        "$(id)",
        "`id`",
        "..",
        ";",
        "\u{202e}",
        "é",
        "\u{1F4A3}",
        " ",
        "\u{fffe}",
    ]);
    prop::collection::vec(prop_oneof![tricks.prop_map(str::to_owned), "\\PC{0,6}"], 0..6)
        .prop_map(|parts| parts.concat())
}

/// Read back by libvirt's own kind of parser: everything that is not what we wrote would show.
struct Document(String);

impl Document {
    fn of(xml: &str) -> Self {
        Self(xml.to_owned())
    }

    fn events(&self) -> Vec<quick_xml::events::Event<'_>> {
        let mut reader = quick_xml::Reader::from_str(&self.0);
        let mut events = Vec::new();
        loop {
            match reader.read_event().unwrap() {
                quick_xml::events::Event::Eof => return events,
                event => events.push(event),
            }
        }
    }

    fn count(&self, name: &str) -> usize {
        use quick_xml::events::Event;
        let events = self.events();
        events
            .iter()
            .filter(|e| matches!(e, Event::Start(e) | Event::Empty(e) if e.name().as_ref() == name))
            .count()
    }

    fn attribute(&self, element: &str, name: &str) -> String {
        use quick_xml::events::Event;
        let events = self.events();
        let found = events.iter().find_map(|event| match event {
            Event::Start(e) | Event::Empty(e) if e.name().as_ref() == element => {
                e.try_get_attribute(name).unwrap()
            }
            _ => None,
        });
        found.unwrap().normalized_value(quick_xml::XmlVersion::Implicit1_0).unwrap().into_owned()
    }

    fn text_of(&self, element: &str) -> String {
        use quick_xml::events::Event;
        let mut inside = false;
        let mut text = String::new();
        for event in self.events() {
            match event {
                Event::Start(e) if e.name().as_ref() == element => inside = true,
                Event::End(e) if e.name().as_ref() == element => return text,
                Event::Text(e) if inside => text.push_str(&e.xml10_content()),
                Event::GeneralRef(e) if inside => {
                    let name: &str = &e;
                    text.push_str(&quick_xml::escape::unescape(&format!("&{name};")).unwrap());
                }
                _ => {}
            }
        }
        text
    }
}

/// libvirt's test driver parses domains as the QEMU driver does, without QEMU.
#[test]
fn libvirt_reads_hostile_names_as_they_are() {
    let connect = Connect::open(Some("test:///default")).unwrap();
    for name in ["a&b", "<name>", "a\"b'c", "é\u{1F4A3}", "]]>", "-->", "$(id)", "a;b|c"] {
        let settings = Settings { virt_type: VirtType::Qemu, ..Settings::default() };
        let spec = DomainSpec { name: name.to_owned(), ..spec() };
        // The test driver has one type of domain, and no machines.
        let xml = xml::domain(&settings, Owner::Kept, &spec)
            .unwrap()
            .replace("<domain type=\"qemu\"", "<domain type=\"test\"")
            .replace(" machine=\"q35\"", "");
        let domain = connect.define_domain_xml(&xml).unwrap();
        assert_eq!(domain.name().unwrap(), crate::hypervisor::domain_name(name, spec.mark.vm));
        domain.undefine().unwrap();
    }
}
