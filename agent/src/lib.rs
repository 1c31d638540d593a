//! The Dewpoint agent: a daemon on every hypervisor that builds and looks after its VMs.
//!
//! A tour, in the order an event passes through:
//!
//! - [`link`] holds the session with the coordinator and hands each delivery to
//! - [`intake`], which accepts, refuses or withholds it: the decision is pure, and made inside the transaction of
//! - [`journal`], the one thread that owns `agent.db`. Only what the journal returns can be executed by
//! - [`execute`]: one lane for each VM observes, plans, journals, applies, and observes again, until the plan is empty.
//!   Effects go through three narrow traits:
//! - [`hypervisor`] (domains, by libvirt), [`storage`] (images, disks, seeds, recycle), [`network`] (anti-spoofing).
//! - [`report`] tells the coordinator how each event ended, until it is acknowledged.
//! - [`notes`] records what may be lost, every libvirt call and every state seen; [`why`] tells a VM's story from it.
//! - [`doctor`] puts all sources beside each other and tells where they disagree.
//! - [`local`] is the Unix socket and the commands for debugging on the spot.
//!
//! Parts hand values on; only [`agent`] knows them all.

pub mod agent;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod execute;
pub mod hypervisor;
pub mod identity;
pub mod intake;
pub mod journal;
pub mod link;
pub mod local;
pub mod network;
pub mod notes;
pub mod report;
pub mod storage;
pub mod why;
