//! The harness of the end-to-end tests, the benchmarks and whoever else needs a fleet on this machine.
//!
//! - [`lab`]: a slot of this machine: a folder, a bridge, address ranges and an nftables table of one's own.
//! - [`process`]: the real binaries as child processes that die with their test.
//! - [`fleet`]: a coordinator, an agent and a caller in one lab; [`agent`] and [`coordinator`] are its parts.
//! - [`caller`] and [`request`]: the gRPC API, as callers use it.
//! - [`local`]: the agent's Unix socket.
//! - [`guest`]: the tiny guest's HTTP interface (`docs/lab.md`).
//! - [`host`]: what is really on the host, seen without Dewpoint: domains, QEMU processes, files, rules.
//! - [`libvirtd`]: a libvirt of a lab's own, to be killed, stopped and started.
//! - [`journal`]: what an agent's journal holds, to cut the agent off at a moment of an event.
//! - [`wire`]: the frames that arrive at a bridge.
//! - [`proxy`] and [`volume`]: a wire to be cut, a disk to be filled.
//! - [`chaos`]: random events and faults, and the promises checked afterwards, behind `make chaos`.
//! - [`mod@bench`]: the benchmarks behind `make bench`.
//! - [`wait`]: conditions with a bound; nothing here waits on time alone.
//!
//! Everything is named by its lab's slot, so that whoever takes a slot next can remove what a killed test left in it,
//! and nothing else. A harness that cannot do its work panics with what to do: it has no callers that could go on.

pub mod agent;
pub mod bench;
pub mod caller;
pub mod chaos;
pub mod coordinator;
pub mod fleet;
pub mod guest;
pub mod host;
pub mod journal;
pub mod lab;
pub mod libvirtd;
pub mod local;
pub mod process;
pub mod proxy;
pub mod request;
pub mod shell;
pub mod volume;
pub mod wait;
pub mod wire;
