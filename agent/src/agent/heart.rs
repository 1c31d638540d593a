//! The agent's beat: through the executor's loop and the journal's thread. Beside it, what is wrong with the host is
//! logged when it begins and when it ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dewpoint_common::message;
use dewpoint_common::systemd::Beat;
use dewpoint_proto::cause::{Cause, Reason};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::execute::executor::Executor;
use crate::journal::{Journal, JournalError};
use crate::link::{LinkState, Phase};
use crate::report::Inventory;

/// For what is wrong with the host: only shown, so a beat does not wait for it.
const PATIENCE: Duration = Duration::from_millis(200);

/// What must be alive, and what is shown of it.
pub(super) struct Heart {
    /// None: the agent only observes, and its loop is the one that beats.
    executor: Option<Executor>,
    journal: Journal,
    inventory: Arc<dyn Inventory>,
    link: Option<watch::Receiver<LinkState>>,
    /// What is wrong with the host, as it was logged.
    wrong: Mutex<BTreeMap<String, String>>,
}

impl Heart {
    pub(super) fn new(
        executor: Option<Executor>,
        journal: Journal,
        inventory: Arc<dyn Inventory>,
        link: Option<watch::Receiver<LinkState>>,
    ) -> Self {
        Self { executor, journal, inventory, link, wrong: Mutex::default() }
    }
}

impl Beat for Heart {
    async fn beat(&self) -> Result<String, String> {
        if let Some(executor) = &self.executor
            && !executor.beat().await
        {
            return Err("the executor has ended".to_owned());
        }
        match self.journal.ping().await {
            // It answers, and says why it takes nothing.
            Ok(())
            | Err(
                JournalError::Withheld(_)
                | JournalError::Full(_)
                | JournalError::Disk(_)
                | JournalError::Corrupt(_),
            ) => {}
            Err(error) => return Err(error.to_string()),
        }
        let wrong = timeout(PATIENCE, self.inventory.degraded()).await;
        if let Ok(wrong) = &wrong {
            self.log(wrong);
        }
        Ok(self.status(&wrong.unwrap_or_default()))
    }
}

impl Heart {
    /// One honest line.
    fn status(&self, wrong: &[Cause]) -> String {
        let link = match self.link.as_ref().map(|link| link.borrow().phase.clone()) {
            None => "works alone".to_owned(),
            Some(Phase::Connected) => "connected to the coordinator".to_owned(),
            Some(Phase::Apart(_)) => "apart from the coordinator".to_owned(),
            Some(Phase::Diverged(_)) => "diverged from the coordinator".to_owned(),
        };
        let busy = self.executor.as_ref().map_or(0, |executor| executor.busy().len());
        let vms = if busy == 1 { "VM has" } else { "VMs have" };
        let first = wrong.first().map(|cause| format!("; degraded: {}", cause.text)).unwrap_or_default();
        format!("{link}; {busy} {vms} unfinished events{first}")
    }

    /// What began and what ended since the last look. libvirt and the journal have messages of their own.
    fn log(&self, wrong: &[Cause]) {
        let own = |cause: &&Cause| !matches!(cause.reason, Reason::HypervisorDown | Reason::JournalError);
        let now: BTreeMap<_, _> =
            wrong.iter().filter(own).map(|cause| (key(cause), cause.text.clone())).collect();
        let before = {
            let mut known = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *known, now.clone())
        };
        for cause in wrong.iter().filter(own).filter(|cause| !before.contains_key(&key(cause))) {
            tracing::warn!(message_id = message::DEGRADED, reason = %cause.reason, advice = cause.advice,
                "the host is degraded: {}", cause.text);
        }
        for (_, text) in before.iter().filter(|(key, _)| !now.contains_key(*key)) {
            tracing::info!(message_id = message::RECOVERED, "no longer so: {text}");
        }
    }
}

/// Numbers in a cause's text change while it stays the same cause.
fn key(cause: &Cause) -> String {
    format!("{} {}", cause.reason, cause.text.replace(|c: char| c.is_ascii_digit(), ""))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use dewpoint_common::systemd;
    use dewpoint_proto::vm_state::VmState;
    use dewpoint_proto::wire::agent as wire;
    use tokio::sync::{mpsc, watch};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::execute::apply::Effects;
    use crate::execute::executor::Parts;
    use crate::execute::plan::Server;
    use crate::execute::settings::Settings;
    use crate::hypervisor::fake::FakeHypervisor;
    use crate::hypervisor::fake::world::World;
    use crate::journal::fixture::{Folder, settings, stall};
    use crate::network::fake::FakeShield;
    use crate::report::progress::ProgressBoard;
    use crate::storage::fake::FakeStorage;

    /// Short: nothing is waited for that lives.
    const EVERY: Duration = Duration::from_millis(20);

    struct Well;

    #[async_trait]
    impl Inventory for Well {
        async fn vms(&self) -> Result<Vec<VmState>, Cause> {
            Ok(Vec::new())
        }

        async fn holdings(&self) -> Result<Vec<crate::report::Holding>, Cause> {
            Ok(Vec::new())
        }

        async fn capacity(&self) -> wire::Capacity {
            wire::Capacity::default()
        }

        async fn degraded(&self) -> Vec<Cause> {
            Vec::new()
        }
    }

    struct Rig {
        _folder: Folder,
        journal: Journal,
        executor: Executor,
        heart: Heart,
    }

    fn rig() -> Rig {
        let folder = Folder::new();
        let journal = Journal::open(&folder.path().join("agent.db"), settings()).unwrap();
        let world = World::default();
        let effects = Effects {
            hypervisor: Arc::new(FakeHypervisor::new(world.clone())),
            storage: Arc::new(FakeStorage::new(world.clone())),
            shield: Arc::new(FakeShield::new(world)),
        };
        let executor = Executor::new(Parts {
            journal: journal.clone(),
            effects,
            settings: Settings::with_bridge("br0".parse().unwrap()),
            server: watch::Sender::new(Server::None).subscribe(),
            hold: watch::Sender::new(false).subscribe(),
            board: ProgressBoard::default(),
            keeping: crate::execute::keep::board::Board::default(),
        });
        let heart = Heart::new(Some(executor.clone()), journal.clone(), Arc::new(Well), None);
        Rig { _folder: folder, journal, executor, heart }
    }

    fn run(executor: &Executor) -> CancellationToken {
        let (stop, executor) = (CancellationToken::new(), executor.clone());
        let (told, (_, admitted)) = (stop.clone(), mpsc::channel(1));
        tokio::spawn(async move { executor.run(admitted, told).await });
        stop
    }

    #[tokio::test]
    async fn a_beat_passes_the_executor_and_the_journal() {
        let rig = rig();
        let _stop = run(&rig.executor);
        assert_eq!(rig.heart.beat().await.unwrap(), "works alone; 0 VMs have unfinished events");
    }

    /// What was told until systemd was told that the daemon is stuck.
    async fn told_until_stuck(heart: &Heart) -> Vec<String> {
        let told = Mutex::new(Vec::new());
        let (stuck, mut is_stuck) = watch::channel(false);
        let tell = |states: &[systemd::NotifyState<'_>]| {
            let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
            stuck.send_if_modified(|known| {
                *known |= lines.iter().any(|line| line.starts_with("STATUS=stuck"));
                *known
            });
            told.lock().unwrap().extend(lines);
        };
        tokio::select! {
            () = systemd::watch(heart, EVERY, tell) => {}
            _ = is_stuck.wait_for(|stuck| *stuck) => {}
        }
        told.into_inner().unwrap()
    }

    #[tokio::test]
    async fn a_main_loop_that_hangs_feeds_no_watchdog() {
        // Never run: it takes nothing from its queues.
        let rig = rig();
        let told = told_until_stuck(&rig.heart).await;
        assert!(!told.contains(&"WATCHDOG=1".to_owned()), "{told:?}");
    }

    #[tokio::test]
    async fn a_journal_that_hangs_feeds_no_watchdog() {
        let rig = rig();
        let _stop = run(&rig.executor);
        let release = stall(&rig.journal).await;
        let told = told_until_stuck(&rig.heart).await;
        assert!(!told.contains(&"WATCHDOG=1".to_owned()), "{told:?}");
        drop(release);
        rig.heart.beat().await.unwrap();
    }
}
