//! Where each file is, and what a name found on disk means. Names are parsed here and nowhere else.

use std::path::PathBuf;

pub(super) use dewpoint_common::durable::{PART, part_of};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::spec::ImageDigest;

/// Our mark in a VM's folder.
pub(super) const MARK: &str = "vm.json";
/// What libvirt's log daemon writes; it also rotates to `console.log.0` and so on.
pub(super) const CONSOLE: &str = "console.log";

/// The data folder's paths.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
}

impl Layout {
    pub(super) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(super) fn image(&self, digest: ImageDigest) -> PathBuf {
        self.images().join(digest.to_string())
    }

    pub(super) fn image_part(&self, digest: ImageDigest) -> PathBuf {
        part_of(&self.image(digest))
    }

    pub(super) fn vms(&self) -> PathBuf {
        self.root.join("vms")
    }

    pub(super) fn folder(&self, vm: VmId) -> PathBuf {
        self.vms().join(vm.to_string())
    }

    pub(super) fn disk(&self, vm: VmId, event: EventId) -> PathBuf {
        self.folder(vm).join(Made::Disk.file_name(event))
    }

    pub(super) fn seed(&self, vm: VmId, event: EventId) -> PathBuf {
        self.folder(vm).join(Made::Seed.file_name(event))
    }

    pub(super) fn snapshot(&self, vm: VmId, event: EventId) -> PathBuf {
        self.folder(vm).join(Made::Snapshot.file_name(event))
    }

    pub(super) fn console(&self, vm: VmId) -> PathBuf {
        self.folder(vm).join(CONSOLE)
    }

    pub(super) fn recycle(&self) -> PathBuf {
        self.root.join("recycle")
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }
}

/// The kinds of file that an event makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    Disk,
    Seed,
    Snapshot,
}

impl Made {
    pub(super) const ALL: [Self; 3] = [Self::Disk, Self::Seed, Self::Snapshot];

    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Disk => "qcow2",
            Self::Seed => "seed",
            Self::Snapshot => "snapshot",
        }
    }

    pub(super) fn file_name(self, event: EventId) -> String {
        format!("{event}.{}", self.extension())
    }
}

/// What a name in a VM's folder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The mark.
    Mark,
    /// The console log, or one of its older pieces.
    Console,
    /// A backing image.
    Base(ImageDigest),
    /// Whole.
    Whole(Made, EventId),
    /// Half made by an event.
    Part(Made, EventId),
    /// Half made, of no event: the mark's or a base's.
    OurPart,
    /// Nothing that we make.
    Foreign,
}

impl Entry {
    pub(super) fn of(name: &str) -> Self {
        if name == MARK {
            return Self::Mark;
        }
        if name == CONSOLE || name.strip_prefix("console.log.").is_some_and(is_number) {
            return Self::Console;
        }
        if let Some(whole) = name.strip_suffix(PART) {
            return match Self::of(whole) {
                Self::Whole(made, event) => Self::Part(made, event),
                Self::Mark | Self::Base(_) => Self::OurPart,
                Self::Console | Self::Part(..) | Self::OurPart | Self::Foreign => Self::Foreign,
            };
        }
        base_of(name).map_or_else(|| Self::made(name), Self::Base)
    }

    fn made(name: &str) -> Self {
        let Some((id, extension)) = name.split_once('.') else { return Self::Foreign };
        let made = Made::ALL.into_iter().find(|made| made.extension() == extension);
        match (made, exact(id)) {
            (Some(made), Some(event)) => Self::Whole(made, EventId(event)),
            _ => Self::Foreign,
        }
    }
}

/// The file name of a backing image in a VM's folder.
pub(super) fn base_name(digest: ImageDigest) -> String {
    format!("{digest}.base")
}

/// The image that a backing file's name stands for, when it is one that we gave.
pub(super) fn base_of(name: &str) -> Option<ImageDigest> {
    let digest: ImageDigest = name.strip_suffix(".base")?.parse().ok()?;
    (base_name(digest) == name).then_some(digest)
}

/// The VM of a folder's name, when it is one that we gave.
pub(super) fn vm_of(name: &str) -> Option<VmId> {
    exact(name).map(VmId)
}

/// A UUID in the one form that we write; other forms are other files.
fn exact(text: &str) -> Option<uuid::Uuid> {
    let id = uuid::Uuid::try_parse(text).ok()?;
    (!id.is_nil() && id.hyphenated().to_string() == text).then_some(id)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_what_they_were_made_for() {
        let event = EventId::fresh();
        for made in Made::ALL {
            let name = made.file_name(event);
            assert_eq!(Entry::of(&name), Entry::Whole(made, event));
            assert_eq!(Entry::of(&format!("{name}{PART}")), Entry::Part(made, event));
            assert_eq!(Entry::of(&format!("{name}{PART}{PART}")), Entry::Foreign);
        }
        let digest = ImageDigest([7; 32]);
        assert_eq!(Entry::of(&base_name(digest)), Entry::Base(digest));
        assert_eq!(Entry::of("console.log.12"), Entry::Console);
    }

    #[test]
    fn lookalikes_are_foreign() {
        let event = EventId::fresh().to_string();
        let lookalikes = [
            format!("{}.qcow2", event.to_uppercase()),
            format!("{}.qcow2", event.replace('-', "")),
            format!("sha256:{}.base", ImageDigest([7; 32])),
            format!("{event}.qcow2.part~"),
            "console.log.old".to_owned(),
            "00000000-0000-0000-0000-000000000000.qcow2".to_owned(),
            "..qcow2".to_owned(),
            String::new(),
        ];
        for name in lookalikes {
            assert_eq!(Entry::of(&name), Entry::Foreign, "{name}");
        }
    }
}
