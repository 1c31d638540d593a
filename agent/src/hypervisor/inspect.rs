//! What a person who mends the host looks at, beside what plans decide on.

use std::path::PathBuf;

use dewpoint_proto::spec::VmSpec;
use serde::{Deserialize, Serialize};

use super::{Domain, Seen};

/// A domain, looked at closely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// As plans see it.
    pub domain: Domain,
    /// The rest. Unknown while the domain is busy: asking would wait for it.
    pub details: Seen<Details>,
}

/// What libvirt has of a domain beside its state and its mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// It has a configuration that outlives its run.
    pub persistent: bool,
    /// libvirt would start it by itself.
    pub autostart: bool,
    /// It has a saved memory image, which a start by libvirt would go on from.
    pub managed_save: bool,
    /// The file of `vda`.
    pub disk: Option<PathBuf>,
    /// The file of `vdb`.
    pub seed: Option<PathBuf>,
    /// Network interfaces, in order.
    pub nics: Vec<InspectedNic>,
    /// Virtual CPUs; 0: not told.
    pub vcpus: u32,
    /// Guest memory; 0: not told.
    pub memory_bytes: u64,
    /// Of the configuration that outlives its run; none: there is none, or it is not told.
    pub config: Option<ConfigDigest>,
}

/// What a domain's persistent configuration is compared by, our mark left out: that we change ourselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDigest {
    /// Whoever wrote it down: another version of libvirt may write the same configuration otherwise.
    pub written_by: String,
    /// SHA-256 of what it wrote, in hex.
    pub sha256: String,
}

/// A network interface, as the domain's XML has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectedNic {
    /// The tap on the host.
    pub tap: Option<String>,
    /// The bridge it is put into.
    pub bridge: Option<String>,
    /// The guest's hardware address.
    pub mac: Option<String>,
}

impl Details {
    /// Gives a spec the sizes and bridges that the domain has, as far as they are told.
    pub fn size(&self, spec: &mut VmSpec) {
        if self.vcpus > 0 {
            spec.vcpus = self.vcpus;
        }
        if self.memory_bytes > 0 {
            spec.memory_bytes = self.memory_bytes;
        }
        for (nic, seen) in spec.nics.iter_mut().zip(&self.nics) {
            nic.bridge = seen.bridge.as_ref().and_then(|bridge| bridge.parse().ok());
        }
    }
}
