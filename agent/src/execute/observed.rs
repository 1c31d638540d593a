//! What a plan decides on: the parts of a VM as they were seen just now.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::VmId;
use dewpoint_proto::spec::ImageDigest;

use crate::execute::step::Step;
use crate::hypervisor::{Domain, Hypervisor, Seen};
use crate::network::{Allowed, Shield};
use crate::storage::{ImageServer, Storage, VmFiles};

/// The parts of a VM as they were seen just now. A part that was not asked for is unknown, and so only waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its domain.
    pub domain: Seen<Domain>,
    /// Its files.
    pub files: Seen<VmFiles>,
    /// Its anti-spoofing rules.
    pub shield: Seen<Vec<Allowed>>,
    /// The image that matters to the event, in the cache.
    pub image: Seen<()>,
    /// The image that the event made, on the image server.
    pub uploaded: Seen<()>,
}

/// Which parts a plan asks for, beside the domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The VM's files.
    pub files: bool,
    /// Its anti-spoofing rules.
    pub shield: bool,
    /// Whether this image is in the cache.
    pub image: Option<ImageDigest>,
    /// Whether this image is on the image server.
    pub uploaded: Option<(ImageDigest, ImageServer)>,
}

impl Observed {
    /// Nothing has been looked at.
    #[must_use]
    pub fn nothing() -> Self {
        Self { domain: unasked(), files: unasked(), shield: unasked(), image: unasked(), uploaded: unasked() }
    }

    /// What a step may have changed is looked at again; the rest is kept. The domain is always looked at: guests
    /// act on their own.
    #[must_use]
    pub fn kept_after(mut self, step: Step) -> Self {
        self.domain = unasked();
        match step {
            Step::FetchImage => self.image = unasked(),
            Step::Upload => self.uploaded = unasked(),
            Step::SetShield | Step::ClearShield => self.shield = unasked(),
            Step::MakeDisk
            | Step::MakeSeed
            | Step::BeginBackup
            | Step::AbortBackup
            | Step::CopySnapshot
            | Step::SealSnapshot
            | Step::RetireDisks
            | Step::Discard
            | Step::RemoveFolder => self.files = unasked(),
            Step::AdoptSnapshot => {
                self.files = unasked();
                self.image = unasked();
                self.uploaded = unasked();
            }
            Step::Define
            | Step::PointAtNew
            | Step::PointBack
            | Step::Mark
            | Step::Start
            | Step::AskShutdown
            | Step::PowerOff
            | Step::Thaw
            | Step::Undefine => {}
        }
        self
    }
}

/// Looks at what is needed and not known yet, all at once.
pub async fn observe(
    vm: VmId,
    needs: &Needs,
    known: Observed,
    world: (&dyn Hypervisor, &dyn Storage, &dyn Shield),
) -> Observed {
    let (hypervisor, storage, shield) = world;
    let (domain, files, rules, image, uploaded) = tokio::join!(
        part(true, known.domain, async { hypervisor.observe(vm).await }),
        part(needs.files, known.files, async { storage.observe(vm).await }),
        part(needs.shield, known.shield, async { shield.observe(vm).await }),
        part(needs.image.is_some(), known.image, async {
            match needs.image {
                Some(digest) => storage.image(digest).await,
                None => unasked(),
            }
        }),
        part(needs.uploaded.is_some(), known.uploaded, async {
            match &needs.uploaded {
                Some((digest, server)) => storage.uploaded(*digest, server).await,
                None => unasked(),
            }
        }),
    );
    Observed { domain, files, shield: rules, image, uploaded }
}

async fn part<T>(needed: bool, known: Seen<T>, look: impl Future<Output = Seen<T>>) -> Seen<T> {
    match known {
        Seen::Unknown(_) if needed => look.await,
        known => known,
    }
}

fn unasked<T>() -> Seen<T> {
    Seen::Unknown("not looked at".to_owned())
}

/// A domain with the VM's UUID that bears no mark of ours.
#[must_use]
pub fn foreign(domain: &Domain) -> Cause {
    Cause::new(
        Reason::ForeignDomain,
        format!("the domain {} has the VM's UUID and no mark of Dewpoint", domain.name),
    )
    .advise("look at it with `virsh dumpxml`; rename, move or undefine it, then send the event again")
    .with("domain", &domain.name)
}
