//! The words that every part of Dewpoint shares, and their form on the wire.
//!
//! - [`wire`]: the generated messages and services. Nothing from there is trusted: it is parsed into the types below
//!   at the edge, and the rest of the code never sees it.
//! - [`ids`]: one type for each kind of identifier.
//! - [`event`]: [`event::Event`], what it may ask for, and [`event::Body`], its bytes as accepted.
//! - [`spec`]: the VM that a create asks for.
//! - [`names`]: hostnames, image names, labels.
//! - [`limits`]: the bounds, enforced at both ends.
//! - [`outcome`] and [`cause`]: how an event ended and why, in the one form that every layer uses.
//! - [`vm_state`]: what a host says of one of its VMs.
//! - [`status`]: the edge to gRPC.
//! - `hostile` (feature `faults`): messages as bytes, for the tests of both ends.

pub mod cause;
pub mod event;
#[cfg(feature = "faults")]
pub mod hostile;
pub mod ids;
pub mod limits;
pub mod names;
pub mod outcome;
pub mod spec;
pub mod status;
pub mod time;
pub mod vm_state;

/// The generated messages and services.
#[expect(
    missing_docs,
    clippy::all,
    clippy::allow_attributes,
    clippy::too_many_lines,
    reason = "generated; documented in the .proto files"
)]
pub mod wire {
    /// The event, what it asks for, how it ended.
    pub mod event {
        pub mod v1 {
            tonic::include_proto!("dewpoint.event.v1");
        }
        pub use v1::*;
    }
    /// The session between an agent and a coordinator.
    pub mod agent {
        pub mod v1 {
            tonic::include_proto!("dewpoint.agent.v1");
        }
        pub use v1::*;
    }
    /// What callers use.
    pub mod fleet {
        pub mod v1 {
            tonic::include_proto!("dewpoint.fleet.v1");
        }
        pub use v1::*;
    }
    /// The agent's Unix socket.
    pub mod local {
        pub mod v1 {
            tonic::include_proto!("dewpoint.local.v1");
        }
        pub use v1::*;
    }

    /// The encoded file descriptors, for gRPC reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
