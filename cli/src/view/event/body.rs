//! What an event asks for. User-data and keys may hold secrets: their sizes are shown, never themselves.

use dewpoint_proto::wire::event::event::Kind;
use dewpoint_proto::wire::event::{DiskMode, Event, VmSpec};
use serde::Serialize;

use super::ImageRefView;
use crate::text::size;
use crate::view::vm::{NicView, placement, restart};

/// What an event asks for, as JSON.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum AskedView {
    Create { spec: Box<SpecView>, source: Option<ImageRefView>, start: bool },
    Start,
    Stop { force: bool, timeout_seconds: u32 },
    Reboot { hard: bool, timeout_seconds: u32 },
    Snapshot { image_name: String },
    Restore { source: Option<ImageRefView> },
    Destroy { now: bool },
    Cancel { target_event_id: String },
}

/// A VM as asked for.
#[derive(Serialize)]
pub(crate) struct SpecView {
    name: String,
    vcpus: u32,
    memory_bytes: u64,
    disk_bytes: u64,
    disk_mode: &'static str,
    nics: Vec<NicView>,
    ssh_keys: usize,
    user_data_bytes: usize,
    placement: &'static str,
    restart: &'static str,
}

impl AskedView {
    /// None when it is of a kind that this version does not know.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        Some(match event.kind.as_ref()? {
            Kind::Create(create) => Self::Create {
                spec: Box::new(create.spec.as_ref().map(SpecView::from)?),
                source: create.source.as_ref().map(ImageRefView::from),
                start: create.start,
            },
            Kind::Start(_) => Self::Start,
            Kind::Stop(stop) => Self::Stop { force: stop.force, timeout_seconds: stop.timeout_seconds },
            Kind::Reboot(reboot) => {
                Self::Reboot { hard: reboot.hard, timeout_seconds: reboot.timeout_seconds }
            }
            Kind::Snapshot(snapshot) => Self::Snapshot { image_name: snapshot.image_name.clone() },
            Kind::Restore(restore) => {
                Self::Restore { source: restore.source.as_ref().map(ImageRefView::from) }
            }
            Kind::Destroy(destroy) => Self::Destroy { now: destroy.now },
            Kind::Cancel(cancel) => Self::Cancel { target_event_id: cancel.target_event_id.clone() },
        })
    }

    /// One line for people; empty where the kind says it all.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Create { spec, .. } => format!(
                "{} vCPUs, {} memory, {} disk ({})",
                spec.vcpus,
                size(spec.memory_bytes),
                size(spec.disk_bytes),
                spec.disk_mode
            ),
            Self::Start => String::new(),
            Self::Stop { force: true, .. } => "by force when the guest does not go down".to_owned(),
            Self::Stop { force: false, .. } => "of the guest".to_owned(),
            Self::Reboot { hard: true, .. } => "hard".to_owned(),
            Self::Reboot { hard: false, .. } => "soft".to_owned(),
            Self::Snapshot { image_name } => image_name.clone(),
            Self::Restore { source } => source.as_ref().map(|image| image.digest.clone()).unwrap_or_default(),
            Self::Destroy { now: true } => "disks deleted at once".to_owned(),
            Self::Destroy { now: false } => "disks to the recycle folder".to_owned(),
            Self::Cancel { target_event_id } => target_event_id.clone(),
        }
    }
}

impl From<&VmSpec> for SpecView {
    fn from(spec: &VmSpec) -> Self {
        let disk_mode = match spec.disk_mode() {
            DiskMode::Overlay => "overlay",
            DiskMode::FullCopy => "full-copy",
        };
        Self {
            name: spec.name.clone(),
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            disk_bytes: spec.disk_bytes,
            disk_mode,
            nics: spec.nics.iter().map(NicView::from).collect(),
            ssh_keys: spec.ssh_keys.len(),
            user_data_bytes: spec.user_data.len(),
            placement: placement(spec.placement()),
            restart: restart(spec.restart()),
        }
    }
}
