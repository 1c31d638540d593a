//! Chooses hosts: filters turn away, weighers order, and the explanation says why.
//!
//! Pure: the same request, hosts and time give the same ranking and explanation again. Never: claims anything (the
//! store does, conditionally, and what it turns down is ranked again), reads a clock or a database.
//!
//! - `filter/` has a file per rule that turns hosts away; `weigh/` a file per rule that prefers some to others.
//! - `rank` runs them over all hosts, in one pass that allocates for the few that are shown or chosen.

mod filter;
mod rank;
mod weigh;

use std::borrow::Cow;
use std::collections::BTreeMap;

use dewpoint_proto::ids::{EventId, HostId};
use dewpoint_proto::names::InterfaceName;
use dewpoint_proto::time::Millis;
use serde::{Deserialize, Serialize};

pub use rank::rank;

use crate::events::liveness::LivenessPolicy;
use crate::store::{Candidate, Claims, HostCapacity};

/// Ratios and reserves that placement goes by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Declared vCPUs that one hardware thread carries.
    pub vcpu_overcommit: f64,
    /// Kept back for the host itself.
    pub memory_reserve_bytes: u64,
    /// Counted for each VM on top of its declared memory: QEMU's own.
    pub memory_overhead_bytes: u64,
    /// Declared disk that one byte of the host's carries.
    pub disk_overcommit: f64,
    /// Free disk that is never counted on.
    pub disk_reserve_bytes: u64,
    /// VMs on one host, at most 135.
    pub vms_per_host: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            vcpu_overcommit: 4.0,
            memory_reserve_bytes: 1 << 30,
            memory_overhead_bytes: 64 << 20,
            disk_overcommit: 1.0,
            disk_reserve_bytes: 1 << 30,
            vms_per_host: dewpoint_proto::limits::VMS_PER_HOST,
        }
    }
}

impl Policy {
    /// The sums that claims may reach on a host of this capacity.
    #[must_use]
    pub fn most(&self, capacity: &HostCapacity) -> Claims {
        Claims {
            vcpus: scaled(u64::from(capacity.cpus), self.vcpu_overcommit),
            memory_bytes: capacity.memory_bytes.saturating_sub(self.memory_reserve_bytes),
            disk_bytes: scaled(capacity.disk_bytes, self.disk_overcommit)
                .saturating_sub(self.disk_reserve_bytes),
            vms: self.vms_per_host.min(dewpoint_proto::limits::VMS_PER_HOST),
        }
    }
}

/// Rounded down; a ratio that is no number carries nothing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a float cast saturates, and capacities are far below 2^52"
)]
fn scaled(value: u64, ratio: f64) -> u64 {
    (value as f64 * ratio.max(0.0)).floor() as u64
}

/// What is to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Breaks ties, so that creates that come together spread.
    pub event: EventId,
    /// Declared.
    pub vcpus: u32,
    /// Declared.
    pub memory_bytes: u64,
    /// Declared; an overlay counts in full.
    pub disk_bytes: u64,
    /// What building writes at once: the image, and a full copy.
    pub disk_now_bytes: u64,
    /// Each must be on the host.
    pub bridges: Vec<InterfaceName>,
    /// No other host will do.
    pub only_host: Option<HostId>,
}

/// A host, as placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// Its id.
    pub id: HostId,
    /// For the explanation.
    pub hostname: String,
    /// By the coordinator's clock.
    pub last_heartbeat: Option<Millis>,
    /// Gets no new VMs.
    pub cordoned: bool,
    /// Is delivered nothing, by its own switch or the fleet's.
    pub held: bool,
    /// Its agent reports and touches nothing.
    pub observe_only: bool,
    /// Its log does not match.
    pub diverged: bool,
    /// The reason of the first of its degradations.
    pub degraded: Option<String>,
    /// None: it has not told yet.
    pub capacity: Option<HostCapacity>,
    /// By declared sizes.
    pub claims: Claims,
    /// Creates and restores assigned to it and unfinished.
    pub builds: u32,
}

/// What the rules look at: one host for one request.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) request: &'a Request,
    pub(crate) host: &'a HostView,
    pub(crate) capacity: &'a HostCapacity,
    pub(crate) most: Claims,
    pub(crate) rules: &'a Rules,
    pub(crate) now: Millis,
}

/// What placement and liveness go by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Ratios and reserves.
    pub placement: Policy,
    /// When a host is late, and when lost.
    pub liveness: LivenessPolicy,
}

/// Hosts that fit, best first, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    /// The best of those that fit; bounded.
    pub candidates: Vec<Candidate>,
    /// Why these.
    pub explanation: Explanation,
}

/// A filter's or weigher's name: our own, or what another version called one.
pub type RuleName = Cow<'static, str>;

/// How one placement was decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The best hosts, then the first of those turned away; bounded.
    pub hosts: Vec<HostVerdict>,
    /// How many each filter turned away.
    pub rejected: BTreeMap<RuleName, u32>,
    /// How many were looked at.
    pub considered: u32,
    /// When.
    pub decided_at: Millis,
}

/// Verdict on one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostVerdict {
    /// Which host.
    pub host: HostId,
    /// Its name.
    pub hostname: String,
    /// The filter that turned it away; none: it fits.
    pub rejected_by: Option<RuleName>,
    /// Why, for people.
    pub text: String,
    /// Higher is better.
    pub score: f64,
    /// What each weigher gave.
    pub weights: BTreeMap<RuleName, f64>,
}

// Scores are finite: made of ratios with nonzero divisors.
impl Eq for Explanation {}
impl Eq for HostVerdict {}

#[cfg(test)]
mod tests;
