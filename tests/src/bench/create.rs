//! `create_to_running`: from an event's arrival at the agent to its VM seen running and its end journaled, against
//! libvirt's own define and start of the same XML with the same disk.

use std::time::{Duration, Instant};

use dewpoint_proto::event::{Create, Destroy, DiskDisposal, Event, InitialPower, Kind};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::limits::{GIB, MIB};
use dewpoint_proto::spec::{DiskMode, ImageRef, MacAddr, Nic, Placement, Restart, VmSpec};
use dewpoint_proto::time::Millis;
use sha2::{Digest, Sha256};

use super::Effort;
use super::figure::{Pair, Target, ms, print};
use crate::agent::Agent;
use crate::host::Libvirt;
use crate::lab::{Lab, tiny_image};
use crate::local::Local;

/// Measures and prints it. The agent works alone: what a coordinator adds is `push`'s.
///
/// # Panics
/// When the agent or libvirt fails.
pub async fn run(effort: Effort, lab: &Lab, agent: &Agent) {
    let libvirt = Libvirt::connect();
    let mut local = Local::of(agent).await;
    let image = image();
    // The first brings the image into the cache, and QEMU into the page cache.
    pair(lab, &libvirt, &mut local, &image).await;
    let (mut pairs, began) = (Vec::new(), Instant::now());
    while !is_enough(effort, pairs.len(), began.elapsed()) {
        pairs.push(pair(lab, &libvirt, &mut local, &image).await);
    }
    print("create_to_running", "ms", Target::AtMost(1.10), &pairs);
}

/// A start under emulation takes 300 to 560 ms, so few pairs tell little: quickly, as many as the time allows.
fn is_enough(effort: Effort, pairs: usize, spent: Duration) -> bool {
    match effort {
        Effort::Quick => pairs >= 7 && spent >= Duration::from_secs(25),
        Effort::Full => pairs >= 75,
    }
}

async fn pair(lab: &Lab, libvirt: &Libvirt, local: &mut Local, image: &ImageRef) -> Pair {
    let (vm, create) = event(lab, image, InitialPower::On);
    let value = carried_out(local, create).await;
    let baseline = bare(libvirt, vm);
    carried_out(local, destroy(vm)).await;
    Pair { value: ms(value), baseline: ms(baseline) }
}

/// Submits an event and waits for its end.
pub(super) async fn carried_out(local: &mut Local, event: Event) -> Duration {
    let id = event.id.to_string();
    let began = Instant::now();
    local.submit(event).await;
    local.until(&id, &["finished", "reported"]).await;
    began.elapsed()
}

/// Takes the VM's domain away behind the agent's back, and has libvirt build it again from what it was.
fn bare(libvirt: &Libvirt, vm: VmId) -> Duration {
    let seen = libvirt.domain(&vm.to_string()).unwrap_or_else(|| panic!("VM {vm} has no domain"));
    libvirt.remove(&seen);
    let began = Instant::now();
    let defined = libvirt.connection().define_domain_xml(&seen.persistent);
    let domain = defined.unwrap_or_else(|error| panic!("define: {error}"));
    domain.create().unwrap_or_else(|error| panic!("start: {error}"));
    began.elapsed()
}

/// The tiny image, as an event names it.
pub(super) fn image() -> ImageRef {
    let path = tiny_image();
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // The virtual size, big-endian, of a qcow2's header.
    let size: [u8; 8] = bytes[24..32].try_into().unwrap_or([0; 8]);
    ImageRef {
        digest: dewpoint_proto::spec::ImageDigest(Sha256::digest(&bytes).into()),
        size_bytes: bytes.len() as u64,
        virtual_size_bytes: u64::from_be_bytes(size),
        local_path: Some(path.to_string_lossy().into_owned()),
    }
}

/// A create as operators ask for it: a NIC with an address, shielded.
pub(super) fn event(lab: &Lab, image: &ImageRef, power: InitialPower) -> (VmId, Event) {
    let (id, vm) = (EventId::fresh(), VmId::fresh());
    let nic = Nic {
        mac: MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
        network: None,
        bridge: None,
        addresses: vec![lab.cidr4(9).parse().unwrap_or_else(|_| panic!("an address"))],
        gateway4: Some(lab.ip4(1)),
        gateway6: None,
        nameservers: Vec::new(),
    };
    let spec = VmSpec {
        name: lab.name("bench").parse().unwrap_or_else(|_| panic!("a name")),
        vcpus: 1,
        memory_bytes: 128 * MIB,
        disk_bytes: GIB,
        disk_mode: DiskMode::Overlay,
        nics: vec![nic],
        ssh_keys: Vec::new(),
        user_data: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        placement: Placement::Bound,
        restart: Restart::default(),
    };
    (vm, made(id, vm, Kind::Create(Box::new(Create { spec, source: image.clone(), power }))))
}

fn destroy(vm: VmId) -> Event {
    made(EventId::fresh(), vm, Kind::Destroy(Destroy { disks: DiskDisposal::DeleteNow }))
}

fn made(id: EventId, vm: VmId, kind: Kind) -> Event {
    Event { id, vm, accepted_at: Millis::now(), not_after: None, retry_of: None, note: String::new(), kind }
}
