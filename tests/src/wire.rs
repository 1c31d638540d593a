//! The frames that arrive at a lab's bridge, and those that it passes on to another port: whoever spoofs must reach
//! neither the host nor a neighbour.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};

use crate::lab::Lab;
use crate::shell;
use crate::wait::{SOON, until};

/// Frames since it was opened, as the host's own side of the bridge and a neighbour on it get them.
#[derive(Debug)]
pub struct Wiretap {
    socket: OwnedFd,
    watched: [usize; 2],
    frames: Vec<Vec<u8>>,
}

/// Bytes that may be queued between two looks.
const ROOM: usize = 256 << 20;

impl Wiretap {
    /// Watches the lab's bridge, and puts a neighbour on it.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn on(lab: &Lab) -> Self {
        let (port, neighbour) = (format!("{}w", lab.bridge()), format!("{}n", lab.bridge()));
        shell::run("ip", ["link", "add", &port, "type", "veth", "peer", "name", &neighbour]);
        shell::run("ip", ["link", "set", &port, "master", &lab.bridge(), "up"]);
        // Promiscuous, as a neighbour that listens would be; without addresses it says nothing itself.
        shell::run("ip", ["link", "set", &neighbour, "promisc", "on", "up"]);
        let kind = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, kind, SockProtocol::EthAll);
        let socket = socket.unwrap_or_else(|error| panic!("no packet socket: {error}"));
        // It hears every link of the machine, other tests' downloads on loopback too: without room they push our
        // frames out while the guest is being asked.
        setsockopt(&socket, sockopt::RcvBufForce, &ROOM)
            .unwrap_or_else(|error| panic!("no room for frames: {error}"));
        let index = |name: &str| {
            let index = if_nametoindex(name).unwrap_or_else(|error| panic!("{name}: {error}"));
            usize::try_from(index).unwrap_or(usize::MAX)
        };
        Self { socket, watched: [index(&lab.bridge()), index(&neighbour)], frames: Vec::new() }
    }

    /// Whether this frame has arrived, or one with this text in it.
    pub fn has(&mut self, frame: &[u8], text: &str) -> bool {
        self.receive();
        self.frames.iter().any(|seen| seen.starts_with(frame) || contains(seen, text.as_bytes()))
    }

    /// Forgets what text and frames were honest; what was false stays for the end. Called before an honest frame is
    /// sent, so that it is not taken for an earlier one.
    pub fn forget(&mut self) {
        self.receive();
        self.frames.retain(|frame| !contains(frame, b"tiny-spoof kind=honest"));
    }

    /// Waits until it has; see [`Wiretap::has`].
    pub async fn until_has(&mut self, frame: &[u8], text: &str) {
        until(&format!("a frame with `{text}` arrives"), SOON, async || {
            if self.has(frame, text) { Ok(()) } else { Err(format!("{} other frames", self.frames.len())) }
        })
        .await;
    }

    /// Takes what the kernel has queued; what came on other links is dropped.
    fn receive(&mut self) {
        let mut buffer = [0_u8; 4096];
        while let Ok((length, Some(from))) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
            if self.watched.contains(&from.ifindex()) {
                self.frames.push(buffer[..length].to_vec());
            }
        }
    }
}

fn contains(frame: &[u8], text: &[u8]) -> bool {
    frame.windows(text.len()).any(|part| part == text)
}
