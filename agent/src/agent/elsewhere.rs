//! The data folder moved, its configuration changed, or one of its file systems not mounted: found and said, so that
//! nothing is concluded from files that are elsewhere. Never: moves, links or deletes anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::VmId;
use tokio::sync::watch;

use crate::hypervisor::Hypervisor;
use crate::journal::Journal;
use crate::journal::admission::Presence;
use crate::storage::Storage;

/// Until a look succeeds.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two looks: what they find changes by a person's hand alone.
const EVERY: Duration = Duration::from_secs(3600);

/// What is compared.
pub(super) struct Elsewhere {
    pub(super) data_dir: PathBuf,
    pub(super) journal: Journal,
    pub(super) hypervisor: Arc<dyn Hypervisor>,
    pub(super) storage: Arc<dyn Storage>,
    /// What the heartbeat says of it.
    pub(super) told: watch::Sender<Vec<Cause>>,
}

impl Elsewhere {
    /// A journal that knows VMs beside a data folder that has none: a file system is not mounted, most likely. Acting on
    /// it would take each of those disks for gone.
    pub(super) async fn refuse_without_folders(&self) -> Result<(), Cause> {
        let rows = self.journal.vms().await.map_err(Cause::from)?;
        let built = rows.iter().filter(|row| row.presence == Presence::There && row.disk.is_some()).count();
        if built == 0 || !self.storage.list().await?.is_empty() {
            return Ok(());
        }
        let vms = self.data_dir.join("vms");
        Err(Cause::new(
            Reason::StorageError,
            format!("the journal knows {built} VMs, and {} holds none", vms.display()),
        )
        .advise(
            "mount the file system that belongs there, or set data_dir right; if those disks are lost for good, begin a \
             new journal with `dewpoint-agent journal new`",
        )
        .with("path", vms.display()))
    }

    /// Looks now and then until dropped.
    pub(super) async fn run(self) {
        loop {
            let wait = match self.look().await {
                Ok(found) => {
                    self.tell(found);
                    EVERY
                }
                Err(cause) => {
                    tracing::debug!(reason = %cause.reason, "the domains' disks cannot be looked at: {cause}");
                    AGAIN
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn tell(&self, found: Vec<Cause>) {
        self.told.send_if_modified(|told| {
            if *told == found {
                return false;
            }
            for cause in &found {
                tracing::error!(reason = %cause.reason, advice = cause.advice, "{cause}");
            }
            *told = found;
            true
        });
    }

    /// Domains of this host's VMs that start from files outside the data folder.
    async fn look(&self) -> Result<Vec<Cause>, Cause> {
        let mut ours = self.storage.list().await?;
        ours.extend(self.journal.vms().await.map_err(Cause::from)?.iter().map(|row| row.vm));
        let files = self.hypervisor.disk_files().await?;
        let mut strays = Vec::new();
        for (vm, files) in files {
            let Some(file) = self.outside(files).await else { continue };
            strays.push((vm, file));
        }
        let (ours, others): (Vec<_>, Vec<_>) = strays.into_iter().partition(|(vm, _)| ours.contains(vm));
        if let Some((vm, file)) = others.first() {
            // Another agent's, or this one's before data_dir was changed: nobody but a person can tell.
            tracing::warn!(count = others.len(), vm_id = %vm, path = %file.display(),
                "domains bear Dewpoint's mark and belong to another data folder; if data_dir was changed, set it back");
        }
        let Some((vm, file)) = ours.first() else { return Ok(Vec::new()) };
        Ok(vec![moved(ours.len(), *vm, file, &self.data_dir)])
    }

    /// The first that is outside the data folder, by whatever name or link.
    async fn outside(&self, files: Vec<PathBuf>) -> Option<PathBuf> {
        for file in files {
            if file.starts_with(&self.data_dir) {
                continue;
            }
            let real = (tokio::fs::canonicalize(&file).await, tokio::fs::canonicalize(&self.data_dir).await);
            if !matches!(real, (Ok(file), Ok(folder)) if file.starts_with(&folder)) {
                return Some(file);
            }
        }
        None
    }
}

fn moved(count: usize, vm: VmId, file: &Path, data_dir: &Path) -> Cause {
    let domains = if count == 1 { "1 domain starts" } else { &format!("{count} domains start") };
    Cause::new(
        Reason::StorageError,
        format!(
            "{domains} from files outside the data folder {}: VM {vm} from {}",
            data_dir.display(),
            file.display()
        ),
    )
    .advise(
        "if the data folder was moved, move it back, or link or mount it at its old place as well; if data_dir was \
         changed, set it back and restart the agent; nothing was changed",
    )
    .with("vm_id", vm)
    .with("path", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::adopt::tests::built;
    use crate::hypervisor::fake::FakeHypervisor;
    use crate::hypervisor::fake::world::World;
    use crate::journal::fixture::{Folder, id, vm};
    use crate::storage::fake::FakeStorage;

    fn elsewhere(world: &World, journal: &Journal, data_dir: &str) -> Elsewhere {
        Elsewhere {
            data_dir: data_dir.into(),
            journal: journal.clone(),
            hypervisor: Arc::new(FakeHypervisor::new(world.clone())),
            storage: Arc::new(FakeStorage::new(world.clone())),
            told: watch::Sender::new(Vec::new()),
        }
    }

    #[tokio::test]
    async fn domains_that_point_out_of_the_data_folder_are_told_and_left_alone() {
        let (world, folder) = (World::default(), Folder::new());
        built(&world, vm(1), id(1)).await;
        // Another agent's, of another data folder.
        built(&world, vm(2), id(2)).await;
        world.change(|state| state.folders.remove(&vm(2)));
        let before = world.state();
        let journal = folder.open();
        let here = elsewhere(&world, &journal, "/fake");
        assert_eq!(here.look().await.unwrap(), []);
        let moved = elsewhere(&world, &journal, "/new");
        let found = moved.look().await.unwrap();
        let [cause] = found.as_slice() else { panic!("{found:?}") };
        assert!(cause.text.starts_with("1 domain") && cause.text.contains("/fake/"), "{cause}");
        assert!(cause.advice.contains("data_dir"), "{cause:?}");
        moved.tell(found.clone());
        assert_eq!(*moved.told.borrow(), found);
        assert_eq!(world.state().domains.len(), before.domains.len());
        assert_eq!(world.state().runs, before.runs);
    }

    #[tokio::test]
    async fn a_folder_that_is_linked_at_its_old_place_is_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (real, old) = (dir.path().join("new"), dir.path().join("old"));
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join("disk"), "").unwrap();
        std::os::unix::fs::symlink(&real, &old).unwrap();
        let (world, folder) = (World::default(), Folder::new());
        let here = elsewhere(&world, &folder.open(), real.to_str().unwrap());
        assert_eq!(here.outside(vec![old.join("disk")]).await, None);
        let gone = old.join("gone");
        assert_eq!(here.outside(vec![real.join("disk"), gone.clone()]).await, Some(gone));
    }

    #[tokio::test]
    async fn a_journal_with_vms_beside_an_empty_folder_stops_the_start() {
        let (world, folder) = (World::default(), Folder::new());
        built(&world, vm(1), id(1)).await;
        let journal = folder.open();
        crate::agent::adopt::tests::adoption(&world, &journal).try_once().await.unwrap();
        elsewhere(&world, &journal, "/fake").refuse_without_folders().await.unwrap();
        world.change(|state| state.folders.clear());
        let cause = elsewhere(&world, &journal, "/fake").refuse_without_folders().await.unwrap_err();
        assert!(cause.text.contains("1 VMs") && cause.advice.contains("mount"), "{cause:?}");
    }
}
