//! Chooses hosts: filters turn away, weighers order, and the explanation says why. Pure: the same input gives the same
//! ranking again. Never: claims anything (the store does, conditionally), reads a clock or a database.

use std::collections::BTreeMap;

use dewpoint_proto::ids::HostId;
use dewpoint_proto::time::Millis;
use serde::{Deserialize, Serialize};

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

/// How one placement was decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The best hosts, then the first of those turned away; bounded.
    pub hosts: Vec<HostVerdict>,
    /// How many each filter turned away.
    pub rejected: BTreeMap<String, u32>,
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
    pub rejected_by: Option<String>,
    /// Why, for people.
    pub text: String,
    /// Higher is better.
    pub score: f64,
    /// What each weigher gave.
    pub weights: BTreeMap<String, f64>,
}

// Scores are finite: made of ratios with nonzero divisors.
impl Eq for Explanation {}
impl Eq for HostVerdict {}
