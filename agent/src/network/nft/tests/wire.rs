//! A bridge with a guest's tap (one end of a veth pair), an interface that is not ours, and a listener.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dewpoint_proto::ids::VmId;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::network::nft::{Nft, NftSettings};
use crate::network::tap_name;

/// A frame that has not come by then never comes: the listener waits for a later one anyway.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything in it goes away with the thread: there is nothing to clean up, however the test ends.
pub(super) struct Wire {
    pub nft: Nft,
    pub vm: VmId,
    /// The guest's end of tap 0.
    guest: OwnedFd,
    /// Another port of the bridge.
    other: OwnedFd,
    listener: OwnedFd,
    marks: AtomicU32,
}

impl Wire {
    /// None, and says so: there is no right to make a network namespace.
    pub(super) fn new() -> Option<Self> {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            assert!(!nix::unistd::geteuid().is_root(), "root may make network namespaces: {error}");
            eprintln!(
                "SKIPPED: anti-spoofing is NOT TESTED, as only root may make network namespaces ({error})"
            );
            return None;
        }
        let vm = VmId::fresh();
        ip("link add br0 type bridge");
        port(tap_name(vm, 0).as_str(), "guest");
        port("eth7", "other");
        port("eth8", "listener");
        ip("link set br0 up");
        let nft = Nft::new(NftSettings::default());
        let (listener, guest, other) =
            (packet_socket("listener"), packet_socket("guest"), packet_socket("other"));
        let wire = Self { nft, vm, guest, other, listener, marks: AtomicU32::new(0) };
        wire.wait_for_carrier();
        Some(wire)
    }

    /// A port forwards only once the bridge has noticed its cable.
    fn wait_for_carrier(&self) {
        self.listen_for(Duration::from_millis(20));
        let began = Instant::now();
        for from in [&self.guest, &self.other] {
            let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[0x88, 0xb5], b"<carrier?>"].concat();
            loop {
                send(from.as_raw_fd(), &frame, MsgFlags::empty()).unwrap();
                if recv(self.listener.as_raw_fd(), &mut [0; 2048], MsgFlags::empty()).is_ok() {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "the bridge does not forward at all");
            }
            while recv(self.listener.as_raw_fd(), &mut [0; 2048], MsgFlags::empty()).is_ok() {}
        }
        self.listen_for(PATIENCE);
    }

    fn listen_for(&self, span: Duration) {
        let span = TimeVal::milliseconds(i64::try_from(span.as_millis()).unwrap());
        setsockopt(&self.listener, sockopt::ReceiveTimeout, &span).unwrap();
    }

    /// Whether a frame that the guest sends comes out of the bridge.
    pub(super) fn passes(&self, frame: &[u8]) -> bool {
        self.comes_through(&self.guest, frame)
    }

    /// Whether a frame from an interface that is not ours comes out of the bridge.
    pub(super) fn passes_from_other(&self, frame: &[u8]) -> bool {
        self.comes_through(&self.other, frame)
    }

    /// Sends the frame, then one that always passes, and listens for which of the two comes first.
    fn comes_through(&self, from: &OwnedFd, frame: &[u8]) -> bool {
        let number = self.marks.fetch_add(1, Ordering::Relaxed);
        let (mark, end) = (format!("<frame {number:08}>"), format!("<end {number:08}>"));
        send(from.as_raw_fd(), &[frame, mark.as_bytes()].concat(), MsgFlags::empty()).unwrap();
        let last = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[0x88, 0xb5], end.as_bytes()].concat();
        send(self.other.as_raw_fd(), &last, MsgFlags::empty()).unwrap();
        let mut came = false;
        loop {
            let mut buffer = [0; 2048];
            let length = recv(self.listener.as_raw_fd(), &mut buffer, MsgFlags::empty())
                .map_err(std::io::Error::from)
                .unwrap_or_else(|error| {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    panic!("the bridge does not forward at all")
                });
            came |= buffer[..length].ends_with(mark.as_bytes());
            if buffer[..length].ends_with(end.as_bytes()) {
                return came;
            }
        }
    }
}

/// Runs nft with a script, as somebody else would.
pub(super) fn nft(script: &str) -> String {
    run(Command::new("nft").args(script.split(' ')))
}

fn ip(arguments: &str) -> String {
    run(Command::new("ip").args(arguments.split(' ')))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A port of the bridge, and the other end of its cable. Neither speaks IPv6 of its own accord.
fn port(name: &str, end: &str) {
    ip(&format!("link add {name} type veth peer name {end}"));
    for device in [name, end] {
        ip(&format!("link set {device} addrgenmode none"));
    }
    ip(&format!("link set {name} master br0"));
    ip(&format!("link set {name} up"));
    ip(&format!("link set {end} up"));
}

fn packet_socket(device: &str) -> OwnedFd {
    let fd =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
    let address = nix::ifaddrs::getifaddrs()
        .unwrap()
        .filter(|found| found.interface_name == device)
        .find_map(|found| found.address?.as_link_addr().copied())
        .unwrap();
    bind(fd.as_raw_fd(), &address).unwrap();
    fd
}
