//! A storage that fails, or goes silent, where a test says so. For the tests of this workspace alone.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::spec::{ImageDigest, ImageRef, VmSpec};

use super::{
    Described, DiskPaths, ImageServer, JobProgress, NewDisk, Retirement, Seen, Space, Storage, VmFiles,
};

/// The operations of [`Storage`] that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Op {
    Observe,
    List,
    Image,
    FetchImage,
    MakeDisk,
    MakeSeed,
    Describe,
    DiskPaths,
    RetireDisk,
    PurgeRecycled,
    Discard,
    RemoveFolder,
    MakeBackupTarget,
    CopySnapshot,
    SealSnapshot,
    AdoptSnapshot,
    Uploaded,
    Upload,
    Space,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails, without effect.
    Fail(Cause),
    /// It fails, having taken effect.
    FailAfter(Cause),
    /// It never returns, and has no effect: the agent dies before it.
    CutBefore,
    /// It never returns, having taken effect: the agent dies after it.
    CutAfter,
}

/// A storage with faults. What cannot fail with a cause (`observe`, `image`, `uploaded`) becomes `Unknown`.
pub struct Faulty<S> {
    inner: S,
    plan: Mutex<HashMap<Op, VecDeque<Fault>>>,
    calls: Mutex<Vec<Op>>,
}

impl<S> Faulty<S> {
    /// Without faults so far.
    pub fn new(inner: S) -> Self {
        Self { inner, plan: Mutex::default(), calls: Mutex::default() }
    }

    /// The next `times` calls of `op` go wrong, after what was planned for it before.
    pub fn plan(&self, op: Op, fault: &Fault, times: usize) {
        let mut plan = locked(&self.plan);
        plan.entry(op).or_default().extend(std::iter::repeat_n(fault.clone(), times));
    }

    /// Every call so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Op> {
        locked(&self.calls).clone()
    }

    /// What is below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn fault(&self, op: Op) -> Option<Fault> {
        locked(&self.calls).push(op);
        locked(&self.plan).get_mut(&op)?.pop_front()
    }

    async fn through<T>(
        &self,
        op: Op,
        work: impl Future<Output = Result<T, Cause>> + Send,
    ) -> Result<T, Cause> {
        match self.fault(op) {
            None => work.await,
            Some(Fault::Fail(cause)) => Err(cause),
            Some(Fault::FailAfter(cause)) => work.await.and(Err(cause)),
            Some(Fault::CutBefore) => std::future::pending().await,
            Some(Fault::CutAfter) => {
                // How it went is lost with the one who asked.
                drop(work.await);
                std::future::pending().await
            }
        }
    }

    async fn seeing<T: Send>(&self, op: Op, look: impl Future<Output = Seen<T>> + Send) -> Seen<T> {
        let seen = self.through(op, async { Ok(look.await) }).await;
        seen.unwrap_or_else(|cause| Seen::Unknown(cause.text))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl<S: Storage> Storage for Faulty<S> {
    async fn observe(&self, vm: VmId) -> Seen<VmFiles> {
        self.seeing(Op::Observe, self.inner.observe(vm)).await
    }

    async fn list(&self) -> Result<BTreeSet<VmId>, Cause> {
        self.through(Op::List, self.inner.list()).await
    }

    async fn image(&self, digest: ImageDigest) -> Seen<()> {
        self.seeing(Op::Image, self.inner.image(digest)).await
    }

    async fn fetch_image(
        &self,
        image: &ImageRef,
        from: Option<&ImageServer>,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        self.through(Op::FetchImage, self.inner.fetch_image(image, from, progress)).await
    }

    async fn make_disk(&self, disk: &NewDisk, progress: &JobProgress) -> Result<(), Cause> {
        self.through(Op::MakeDisk, self.inner.make_disk(disk, progress)).await
    }

    async fn make_seed(&self, vm: VmId, event: EventId, spec: &VmSpec) -> Result<(), Cause> {
        self.through(Op::MakeSeed, self.inner.make_seed(vm, event, spec)).await
    }

    async fn describe(&self, vm: VmId, disk: EventId, seed: EventId) -> Result<Described, Cause> {
        self.through(Op::Describe, self.inner.describe(vm, disk, seed)).await
    }

    async fn disk_paths(&self, vm: VmId, event: EventId) -> Result<DiskPaths, Cause> {
        self.through(Op::DiskPaths, self.inner.disk_paths(vm, event)).await
    }

    fn seed_path(&self, vm: VmId, event: EventId) -> PathBuf {
        self.inner.seed_path(vm, event)
    }

    fn console_path(&self, vm: VmId) -> PathBuf {
        self.inner.console_path(vm)
    }

    async fn retire_disk(&self, vm: VmId, disk: EventId, how: &Retirement) -> Result<(), Cause> {
        self.through(Op::RetireDisk, self.inner.retire_disk(vm, disk, how)).await
    }

    async fn purge_recycled(&self, vm: VmId) -> Result<(), Cause> {
        self.through(Op::PurgeRecycled, self.inner.purge_recycled(vm)).await
    }

    async fn discard(&self, vm: VmId, event: EventId) -> Result<(), Cause> {
        self.through(Op::Discard, self.inner.discard(vm, event)).await
    }

    async fn remove_folder(&self, vm: VmId) -> Result<(), Cause> {
        self.through(Op::RemoveFolder, self.inner.remove_folder(vm)).await
    }

    async fn make_backup_target(&self, vm: VmId, event: EventId, disk: EventId) -> Result<PathBuf, Cause> {
        self.through(Op::MakeBackupTarget, self.inner.make_backup_target(vm, event, disk)).await
    }

    async fn copy_snapshot(
        &self,
        vm: VmId,
        event: EventId,
        disk: EventId,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        self.through(Op::CopySnapshot, self.inner.copy_snapshot(vm, event, disk, progress)).await
    }

    async fn seal_snapshot(&self, vm: VmId, event: EventId) -> Result<(), Cause> {
        self.through(Op::SealSnapshot, self.inner.seal_snapshot(vm, event)).await
    }

    async fn adopt_snapshot(
        &self,
        vm: VmId,
        event: EventId,
        progress: &JobProgress,
    ) -> Result<ImageRef, Cause> {
        self.through(Op::AdoptSnapshot, self.inner.adopt_snapshot(vm, event, progress)).await
    }

    async fn uploaded(&self, digest: ImageDigest, to: &ImageServer) -> Seen<()> {
        self.seeing(Op::Uploaded, self.inner.uploaded(digest, to)).await
    }

    async fn upload(&self, image: &ImageRef, to: &ImageServer, progress: &JobProgress) -> Result<(), Cause> {
        self.through(Op::Upload, self.inner.upload(image, to, progress)).await
    }

    async fn space(&self) -> Result<Space, Cause> {
        self.through(Op::Space, self.inner.space()).await
    }

    async fn degraded(&self) -> Vec<Cause> {
        self.inner.degraded().await
    }
}

#[cfg(test)]
mod tests {
    use dewpoint_proto::cause::Reason;
    use tokio::time::{Duration, timeout};

    use super::*;
    use crate::storage::{Files, Settings};

    #[tokio::test]
    async fn faults_come_in_the_order_planned_and_then_stop() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::new(dir.path().join("data"), dewpoint_proto::ids::HostId::fresh());
        let storage =
            Faulty::new(Files::open(settings, std::sync::Arc::new(crate::clock::SystemClock)).unwrap());
        let (vm, event) = (VmId::fresh(), EventId::fresh());
        let cause = Cause::new(Reason::DiskFull, "no room");
        storage.plan(Op::Discard, &Fault::Fail(cause.clone()), 2);
        storage.plan(Op::Discard, &Fault::CutAfter, 1);
        storage.plan(Op::Observe, &Fault::Fail(cause.clone()), 1);

        assert_eq!(storage.discard(vm, event).await, Err(cause.clone()));
        assert_eq!(storage.discard(vm, event).await, Err(cause));
        assert!(timeout(Duration::from_millis(50), storage.discard(vm, event)).await.is_err());
        assert_eq!(storage.discard(vm, event).await, Ok(()));
        assert_eq!(storage.observe(vm).await, Seen::Unknown("no room".into()));
        assert_eq!(storage.observe(vm).await, Seen::Absent);
        assert_eq!(storage.calls().len(), 6);
    }
}
