//! Keeps VMs as they are wanted while no event is at work on them: says what happened to them by themselves, starts them
//! again by their restart policy, and after a boot of the host.
//!
//! ```text
//! what libvirt says ─▶ ears ─┬─▶ a look at one VM, in its lane ─▶ decide (pure) ─▶ journal ─▶ start
//! stock, of all VMs ─────────┘
//! ```
//!
//! Owns: what was heard and is not noted yet, and a board that shows what it waits for. It acts in the VM's lane, so that a
//! VM never has two deciders, and an event that arrives goes first. Never: changes what is wanted, powers off a guest that
//! answers, defines or undefines, resumes, or repairs what somebody else changed: that is named, for a person to mend.

pub mod attention;
pub mod board;
mod configs;
pub mod decide;
pub(super) mod ears;
mod edited;
pub mod incident;
pub mod next;
mod started;
pub(super) mod stock;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// The bounds that the keeper keeps to.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Starts by policy, one after the other, before a VM is left off.
    pub limit: u32,
    /// Before the first of them; doubled with each further one.
    pub backoff_first: Duration,
    /// The longest wait before one.
    pub backoff_most: Duration,
    /// A VM that ran for so long ran well: its count begins anew.
    pub steady: Duration,
    /// VMs that are started at once.
    pub starts: usize,
    /// How often all VMs are looked at though nothing was heard.
    pub stock: Duration,
    /// How long after something was heard, so that much of it is one look; and how long after an end was seen, so that
    /// libvirt has told of it.
    pub settle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            limit: 10,
            backoff_first: Duration::from_secs(2),
            backoff_most: Duration::from_secs(300),
            steady: Duration::from_secs(600),
            starts: 4,
            stock: Duration::from_secs(15),
            settle: Duration::from_millis(200),
        }
    }
}
