//! The host and its daemons, and what happens to them: faults begin and end here, and whoever died by himself is
//! started again, as systemd would.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use virt::domain::DomainState;
use virt::enumutil::Enum;

use super::by_hand;
use super::callers::{Shared, guest};
use super::history::What;
use super::plan::{Daemon, Death, FaultKind, GuestAct, RESTART_LIMIT, WireFault};
use crate::agent::{Agent, Link};
use crate::coordinator::{self, Coordinator};
use crate::host::{Libvirt, Qemu, qemus, started};
use crate::lab::Lab;
use crate::libvirtd::Libvirtd;
use crate::process::signal;
use crate::proxy::{self, State, Wire};
use crate::volume::Volume;

/// The agent's disk: room for what six tiny VMs, their snapshots and the recycle folder need.
const VOLUME: u64 = 3 << 30;
/// Small bounds, so that they are met.
fn agent_tables() -> String {
    format!(
        "[storage]\nreserve = \"64MiB\"\nrecycle_time = \"90s\"\nrecycle_budget = \"512MiB\"\n\
         [execute]\nrestart_limit = {RESTART_LIMIT}\nrestart_backoff = \"1s\"\n"
    )
}
const COORDINATOR: &str = "[scheduler]\ndisk_reserve = \"64MiB\"\n";
/// What a VM that crashes on and on runs between two crashes.
const A_RUN: Duration = Duration::from_secs(2);
/// What virsh may take before it is given up.
const VIRSH: &str = "30";

/// The host. Its parts are dropped in this order: daemons, wire, disk, and the lab last.
pub struct Machine {
    /// The agent.
    pub agent: Agent,
    /// The coordinator.
    pub coordinator: Coordinator,
    /// libvirt's daemon.
    pub libvirtd: Libvirtd,
    /// To the coordinator, and to its images: both are cut at once, as a network is.
    wires: [Wire; 2],
    volume: Volume,
    /// Where all of it is.
    pub lab: Lab,
    held: Held,
    /// What was set going and is not waited for.
    errands: JoinSet<()>,
}

/// What must not be started again, for a fault holds it down; and what hangs.
#[derive(Default)]
struct Held {
    daemons: Vec<Daemon>,
    stopped: Vec<(usize, Qemu)>,
    /// VMs that crash on and on.
    crashing: Vec<Crashing>,
    disk_full: bool,
}

/// A VM that crashes whenever it has run for a moment.
struct Crashing {
    fault: usize,
    slot: u8,
    vm: String,
    /// Its present process, and since when it is seen.
    seen: Option<(Qemu, Instant)>,
}

impl Machine {
    /// Makes all of it, and starts the daemons.
    ///
    /// # Panics
    /// When something cannot be made.
    pub async fn start() -> Self {
        let lab = Lab::with_libvirt();
        // First: libvirt's daemons see the mounts that there are when they start.
        let volume = Volume::mount(&lab.dir().join("agent"), VOLUME);
        let mut libvirtd = Libvirtd::new(&lab);
        libvirtd.start().await;
        let wires = [
            Wire::listen(&lab, proxy::GRPC, coordinator::GRPC).await,
            Wire::listen(&lab, proxy::IMAGES, coordinator::IMAGES).await,
        ];
        let mut coordinator = Coordinator::with(&lab, proxy::IMAGES, COORDINATOR);
        coordinator.start().await;
        let mut agent = Agent::with(&lab, Link::Proxy, &agent_tables());
        agent.start().await;
        let (held, errands) = (Held::default(), JoinSet::new());
        Self { agent, coordinator, libvirtd, wires, volume, lab, held, errands }
    }

    /// A fault begins; what there is to say of it.
    pub async fn begin(&mut self, n: usize, kind: FaultKind, shared: &Arc<Shared>) -> String {
        let vm = kind.slot().map(|slot| shared.slots.vm(slot));
        match (kind, vm) {
            (FaultKind::Ends { daemon, how }, _) => self.end_daemon(daemon, how).await,
            (FaultKind::LibvirtStalls, _) if self.libvirtd.runs() => self.libvirtd.stall(),
            (FaultKind::Wire { how }, _) => self.set_wires(match how {
                WireFault::Cut => State::Cut,
                WireFault::HalfOpen => State::HalfOpen,
                WireFault::Stalled => State::Stalled,
            }),
            (FaultKind::DiskFull, _) => {
                self.held.disk_full = true;
                self.volume.fill();
            }
            (FaultKind::QemuStops { .. }, Some(vm)) => {
                for qemu in self.qemus_of(&vm) {
                    signal(qemu.pid, Signal::SIGSTOP);
                    self.held.stopped.push((n, qemu));
                }
            }
            (FaultKind::QemuIsKilled { .. }, Some(vm)) => {
                let qemus = self.qemus_of(&vm);
                qemus.iter().for_each(|qemu| signal(qemu.pid, Signal::SIGKILL));
                return format!("{qemus:?}");
            }
            (FaultKind::CrashesOnAndOn { slot }, Some(vm)) => {
                self.held.crashing.push(Crashing { fault: n, slot, vm, seen: None });
            }
            (FaultKind::Guest { does, .. }, Some(vm)) => self.tell_guest(does, vm, shared),
            (FaultKind::DestroyedBehindOurBack { .. }, Some(vm)) => self.virsh("destroy", &vm),
            (FaultKind::PausedBehindOurBack { .. }, Some(vm)) => self.virsh("suspend", &vm),
            (FaultKind::UndefinedBehindOurBack { .. }, Some(vm)) => self.virsh("undefine", &vm),
            (FaultKind::EditedBehindOurBack { .. }, Some(vm)) => {
                let place = self.lab.hypervisor().clone();
                self.errands.spawn(by_hand::edit(place, vm, Arc::clone(shared)));
            }
            _ => return "nothing to be done".to_owned(),
        }
        String::new()
    }

    /// A fault ends. `vm`: the one that it began with.
    pub fn end(&mut self, n: usize, kind: FaultKind, vm: Option<&str>) {
        match (kind, vm) {
            (FaultKind::Ends { daemon, .. }, _) => {
                self.held.daemons.retain(|held| *held != daemon);
                self.start_daemon(daemon);
            }
            (FaultKind::LibvirtStalls, _) if self.libvirtd.runs() => self.libvirtd.resume(),
            (FaultKind::Wire { .. }, _) => self.set_wires(State::Open),
            (FaultKind::DiskFull, _) => {
                self.volume.free();
                self.held.disk_full = false;
            }
            (FaultKind::QemuStops { .. }, _) => {
                for (_, qemu) in self.held.stopped.extract_if(.., |(of, _)| *of == n) {
                    // Another process may have its number by now.
                    if started(qemu.pid).as_ref() == Some(&qemu.started) {
                        signal(qemu.pid, Signal::SIGCONT);
                    }
                }
            }
            (FaultKind::CrashesOnAndOn { .. }, _) => {
                self.held.crashing.retain(|crashing| crashing.fault != n)
            }
            (FaultKind::PausedBehindOurBack { .. }, Some(vm)) => self.virsh("resume", vm),
            _ => {}
        }
    }

    /// Starts whoever died by himself, and says so. Where the disk is full that is no wonder.
    pub fn supervise(&mut self, shared: &Shared) {
        let ended = [
            (Daemon::Agent, self.agent.ended_by_itself()),
            (Daemon::Coordinator, self.coordinator.ended_by_itself()),
            (Daemon::Libvirt, self.libvirtd.ended_by_itself()),
        ];
        for (daemon, status) in ended {
            let Some(status) = status else { continue };
            let excuse =
                (daemon == Daemon::Agent && self.held.disk_full).then(|| "the disk is full".to_owned());
            let (daemon_name, status) = (format!("{daemon:?}"), words(status));
            shared.history.add(What::DiedByItself { daemon: daemon_name, status, excuse });
            self.start_daemon(daemon);
        }
        while self.errands.try_join_next().is_some() {}
        self.crash_again(shared);
    }

    /// Each kill is noted as a fault of its own: it explains an end and a restart. One that has not begun to run is let be: its
    /// start would fail, and be no run that crashed.
    fn crash_again(&mut self, shared: &Shared) {
        for crashing in &mut self.held.crashing {
            let found = qemus(self.lab.dir()).into_iter().find(|qemu| qemu.uuid == crashing.vm);
            let since = crashing.seen.take().filter(|(seen, _)| Some(seen) == found.as_ref());
            let Some(qemu) = found else { continue };
            let (_, since) =
                crashing.seen.insert((qemu.clone(), since.map_or_else(Instant::now, |(_, at)| at)));
            if since.elapsed() < A_RUN {
                continue;
            }
            let (kind, vm) = (FaultKind::QemuIsKilled { slot: crashing.slot }, Some(crashing.vm.clone()));
            let detail = format!("again: {qemu:?}");
            shared.history.add(What::FaultBegan { n: crashing.fault, kind, vm, detail });
            signal(qemu.pid, Signal::SIGKILL);
        }
    }

    /// Starts what does not run.
    pub fn start_all(&mut self) {
        self.held.daemons.clear();
        for daemon in [Daemon::Libvirt, Daemon::Coordinator, Daemon::Agent] {
            self.start_daemon(daemon);
        }
    }

    async fn end_daemon(&mut self, daemon: Daemon, how: Death) {
        self.held.daemons.push(daemon);
        // How one ended that was told to is its own affair; that it ends at all is waited for.
        match (daemon, how) {
            (Daemon::Agent, Death::Sigkill) if self.agent.runs() => self.agent.kill(),
            (Daemon::Agent, Death::Sigterm) if self.agent.runs() => _ = self.agent.stop().await,
            (Daemon::Coordinator, Death::Sigkill) if self.coordinator.runs() => self.coordinator.kill(),
            (Daemon::Coordinator, Death::Sigterm) if self.coordinator.runs() => {
                _ = self.coordinator.stop().await
            }
            (Daemon::Libvirt, Death::Sigkill) if self.libvirtd.runs() => self.libvirtd.kill(),
            (Daemon::Libvirt, Death::Sigterm) if self.libvirtd.runs() => _ = self.libvirtd.stop().await,
            _ => {}
        }
    }

    fn start_daemon(&mut self, daemon: Daemon) {
        if self.held.daemons.contains(&daemon) {
            return;
        }
        match daemon {
            Daemon::Agent if !self.agent.runs() => self.agent.start_without_waiting(),
            Daemon::Coordinator if !self.coordinator.runs() => self.coordinator.start_without_waiting(),
            Daemon::Libvirt if !self.libvirtd.runs() => self.libvirtd.start_without_waiting(),
            _ => {}
        }
    }

    fn set_wires(&self, state: State) {
        for wire in &self.wires {
            wire.set(state);
        }
    }

    fn qemus_of(&self, vm: &str) -> Vec<Qemu> {
        qemus(self.lab.dir()).into_iter().filter(|qemu| qemu.uuid == vm).collect()
    }

    /// libvirt may be stopped or gone: nobody waits for it.
    fn virsh(&mut self, does: &str, vm: &str) {
        let uri = self.lab.hypervisor().uri();
        let mut command = Command::new("timeout");
        command.args([VIRSH, "virsh", "-q", "-c", uri, does, vm]).kill_on_drop(true);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        self.errands.spawn(async move { drop(command.status().await) });
    }

    fn tell_guest(&mut self, does: GuestAct, vm: String, shared: &Arc<Shared>) {
        let shared = Arc::clone(shared);
        let what = match does {
            GuestAct::PowersOff => "poweroff",
            GuestAct::Panics => "crash",
            GuestAct::Reboots => "reboot",
        };
        self.errands.spawn(async move {
            if let Some(guest) = guest(&shared, &vm).await {
                drop(guest.tell(what).await);
            }
        });
    }

    /// Waits for what was set going, and lets everything that still hangs go on.
    pub async fn let_go(&mut self) {
        drop(
            timeout(Duration::from_secs(60), async { while self.errands.join_next().await.is_some() {} })
                .await,
        );
        self.set_wires(State::Open);
        self.volume.free();
        self.held.disk_full = false;
        self.held.crashing.clear();
        self.start_all();
    }

    /// VMs that are paused: by a full disk, or by hand. A person would look at them; here they go on.
    pub fn resume_paused(&self) {
        let Ok(libvirt) = Libvirt::try_connect(self.lab.hypervisor()) else { return };
        for domain in libvirt.connection().list_all_domains(0).unwrap_or_default() {
            if domain.state().is_ok_and(|(state, _)| state == Enum::Known(DomainState::Paused)) {
                let _ = domain.resume();
            }
        }
    }
}

fn words(status: ExitStatus) -> String {
    status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"))
}
