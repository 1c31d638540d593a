//! Specs to and from the wire: parsing checks every bound.

use std::net::IpAddr;
use std::str::FromStr;

use super::{Cidr, DiskMode, ImageRef, Nic, Placement, VmSpec, at_most, in_range};
use crate::cause::{Cause, Reason, shortened};
use crate::limits;
use crate::wire::event as wire;

impl TryFrom<wire::VmSpec> for VmSpec {
    type Error = Cause;

    fn try_from(spec: wire::VmSpec) -> Result<Self, Cause> {
        let disk_mode = match spec.disk_mode() {
            wire::DiskMode::Overlay => DiskMode::Overlay,
            wire::DiskMode::FullCopy => DiskMode::FullCopy,
        };
        let placement = match spec.placement() {
            wire::Placement::Bound => Placement::Bound,
            wire::Placement::Movable => Placement::Movable,
        };
        let restart = spec.restart().into();
        at_most("nics", spec.nics.len(), limits::NICS, "network interfaces")?;
        Self {
            name: spec.name.parse()?,
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            disk_bytes: spec.disk_bytes,
            disk_mode,
            nics: spec.nics.into_iter().map(Nic::try_from).collect::<Result<_, _>>()?,
            ssh_keys: spec.ssh_keys,
            user_data: spec.user_data.to_vec(),
            labels: spec.labels.into_iter().collect(),
            placement,
            restart,
        }
        .checked()
    }
}

impl From<VmSpec> for wire::VmSpec {
    fn from(spec: VmSpec) -> Self {
        let disk_mode = match spec.disk_mode {
            DiskMode::Overlay => wire::DiskMode::Overlay,
            DiskMode::FullCopy => wire::DiskMode::FullCopy,
        };
        let placement = match spec.placement {
            Placement::Bound => wire::Placement::Bound,
            Placement::Movable => wire::Placement::Movable,
        };
        Self {
            name: spec.name.into(),
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            disk_bytes: spec.disk_bytes,
            disk_mode: disk_mode.into(),
            nics: spec.nics.into_iter().map(Into::into).collect(),
            ssh_keys: spec.ssh_keys,
            user_data: spec.user_data.into(),
            labels: spec.labels.into_iter().collect(),
            placement: placement.into(),
            restart: wire::Restart::from(spec.restart).into(),
        }
    }
}

impl TryFrom<wire::Nic> for Nic {
    type Error = Cause;

    fn try_from(nic: wire::Nic) -> Result<Self, Cause> {
        Ok(Self {
            mac: nic.mac.parse()?,
            network: optional(&nic.network)?,
            bridge: optional(&nic.bridge)?,
            addresses: nic.addresses.iter().map(|a| a.parse()).collect::<Result<_, _>>()?,
            gateway4: address("gateway4", &nic.gateway4)?,
            gateway6: address("gateway6", &nic.gateway6)?,
            nameservers: nic
                .nameservers
                .iter()
                .filter_map(|text| address("nameservers", text).transpose())
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<Nic> for wire::Nic {
    fn from(nic: Nic) -> Self {
        let text = |value: Option<String>| value.unwrap_or_default();
        Self {
            mac: nic.mac.to_string(),
            network: text(nic.network.map(Into::into)),
            bridge: text(nic.bridge.map(Into::into)),
            addresses: nic.addresses.iter().map(Cidr::to_string).collect(),
            gateway4: text(nic.gateway4.map(|a| a.to_string())),
            gateway6: text(nic.gateway6.map(|a| a.to_string())),
            nameservers: nic.nameservers.iter().map(IpAddr::to_string).collect(),
        }
    }
}

impl TryFrom<wire::ImageRef> for ImageRef {
    type Error = Cause;

    fn try_from(image: wire::ImageRef) -> Result<Self, Cause> {
        in_range("size_bytes", image.size_bytes, limits::IMAGE_BYTES)?;
        in_range("virtual_size_bytes", image.virtual_size_bytes, limits::DISK_BYTES)?;
        if !image.local_path.is_empty() && !image.local_path.starts_with('/') {
            return Err(Cause::new(Reason::Invalid, "an image's local path must be absolute")
                .advise("give the path from `/` on"));
        }
        Ok(Self {
            digest: image.digest.parse()?,
            size_bytes: image.size_bytes,
            virtual_size_bytes: image.virtual_size_bytes,
            local_path: (!image.local_path.is_empty()).then_some(image.local_path),
        })
    }
}

impl From<ImageRef> for wire::ImageRef {
    fn from(image: ImageRef) -> Self {
        Self {
            digest: image.digest.to_string(),
            size_bytes: image.size_bytes,
            virtual_size_bytes: image.virtual_size_bytes,
            local_path: image.local_path.unwrap_or_default(),
        }
    }
}

/// Text that stands for nothing when empty.
fn optional<T: FromStr<Err = Cause>>(text: &str) -> Result<Option<T>, Cause> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

fn address<T: FromStr>(field: &str, text: &str) -> Result<Option<T>, Cause> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Cause::new(Reason::Invalid, format!("{field} `{}` is not an address", shortened(text)))
            .advise("write it as 192.0.2.1 or 2001:db8::1")
            .with("field", field)
    })
}
