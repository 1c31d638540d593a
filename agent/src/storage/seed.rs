//! The NoCloud seed that a guest reads at its first boot: a small ISO 9660 volume with the label `cidata`.
//!
//! meta-data and network-config are JSON, which is YAML too: nothing in a string can end it. user-data is the caller's,
//! byte for byte. Keys and hostname travel in meta-data, so that they reach the default user whatever user-data says.
//! The same input gives the same bytes.

mod iso;
pub(super) mod read;

use std::net::IpAddr;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::spec::{Nic, VmSpec};
use serde_json::{Map, Value, json};

pub(super) use self::read::SeedContent;
use super::durable::{READ_MODE, is_file};
use super::failure::OrFailed;
use super::files::Files;
use super::folder::read_at_most;
use super::made_of::MadeOf;
use super::space::Place;

/// Far above what the limits on events let into a seed.
const MOST: u64 = 4 * 1024 * 1024;

/// What cloud-init is told when the caller says nothing: no warning about a missing header.
const NO_USER_DATA: &[u8] = b"#cloud-config\n{}\n";

impl Files {
    pub(super) async fn seed(&self, vm: VmId, event: EventId, spec: &VmSpec) -> Result<(), Cause> {
        let bytes = build(vm, spec);
        self.make_room(Place::Disks, bytes.len() as u64, "the seed").await?;
        let made_of = MadeOf::of(event, spec);
        let turn = self.lock(vm).await;
        self.short(move |inner| {
            let _turn = turn;
            inner.ensure_folder(vm, || Some(made_of))?;
            let path = inner.layout.seed(vm, event);
            if is_file(&path).or_failed("look for the seed", &path)? {
                return Ok(());
            }
            inner.durable.write_new(&path, &bytes, READ_MODE).or_failed("write the seed", &path)
        })
        .await
    }
}

/// What a seed tells of its VM.
pub(super) fn read_from(path: &std::path::Path) -> Result<SeedContent, Cause> {
    read::content(&read_at_most(path, MOST).or_failed("read the seed", path)?)
}

/// The volume's bytes.
pub(super) fn build(vm: VmId, spec: &VmSpec) -> Vec<u8> {
    let user_data = if spec.user_data.is_empty() { NO_USER_DATA } else { &spec.user_data };
    let meta_data = yaml(&meta_data(vm, spec));
    let network = (!spec.nics.is_empty()).then(|| yaml(&network_config(&spec.nics)));
    let mut files = vec![iso::File { name: "meta-data", content: meta_data.as_bytes() }];
    files.extend(network.as_ref().map(|text| iso::File { name: "network-config", content: text.as_bytes() }));
    files.push(iso::File { name: "user-data", content: user_data });
    iso::volume("cidata", &files)
}

fn meta_data(vm: VmId, spec: &VmSpec) -> Value {
    json!({
        "instance-id": vm.to_string(),
        "local-hostname": spec.name.as_str(),
        "public-keys": spec.ssh_keys,
    })
}

/// Version 2, in what every cloud-init since 22.4 renders alike for ifupdown, netplan and networkd.
///
/// `gateway4` and `gateway6` rather than `routes`: for ifupdown (Debian 12) cloud-init turns routes into calls of
/// `route` from net-tools, which its images do not have; netplan calls the gateways deprecated, and takes them.
/// No address by DHCP or router advertisement: anti-spoofing would drop what the guest sends from one. (cloud-init
/// 22.4 takes no notice of `accept-ra` when it renders for networkd: a Debian 12 guest still makes itself an address
/// where a router advertises, beside its static ones.)
/// `set-name` because the ifupdown renderer needs the interface's name, and only the MAC is known here.
fn network_config(nics: &[Nic]) -> Value {
    let ethernets: Map<String, Value> =
        nics.iter().enumerate().map(|(index, nic)| (format!("eth{index}"), ethernet(index, nic))).collect();
    json!({ "version": 2, "ethernets": ethernets })
}

fn ethernet(index: usize, nic: &Nic) -> Value {
    let mut ethernet = json!({
        "match": { "macaddress": nic.mac.to_string() },
        "set-name": format!("eth{index}"),
        "dhcp4": false,
        "dhcp6": false,
        "accept-ra": false,
    });
    let addresses: Vec<String> = nic.addresses.iter().map(ToString::to_string).collect();
    if !addresses.is_empty() {
        ethernet["addresses"] = json!(addresses);
    }
    let has = |is: fn(&IpAddr) -> bool| nic.addresses.iter().any(|cidr| is(&cidr.address));
    // A gateway is of use only to an interface with an address of its family, and netplan refuses it elsewhere.
    if let Some(gateway) = nic.gateway4.filter(|_| has(IpAddr::is_ipv4)) {
        ethernet["gateway4"] = json!(gateway.to_string());
    }
    if let Some(gateway) = nic.gateway6.filter(|_| has(IpAddr::is_ipv6)) {
        ethernet["gateway6"] = json!(gateway.to_string());
    }
    if !nic.nameservers.is_empty() {
        let servers: Vec<String> = nic.nameservers.iter().map(ToString::to_string).collect();
        ethernet["nameservers"] = json!({ "addresses": servers });
    }
    ethernet
}

/// JSON that YAML reads alike: beyond ASCII, YAML breaks lines at some characters and refuses others, so they are
/// escaped. Only those above U+FFFF are left as they are: YAML does not join the two halves that JSON splits them into.
fn yaml(value: &Value) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for c in format!("{value:#}\n").chars() {
        match u32::from(c) {
            code @ (0x7f..=0xffff) => {
                // Writing to a string does not fail.
                let _ = write!(text, "\\u{code:04x}");
            }
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests;
