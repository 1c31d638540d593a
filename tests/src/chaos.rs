//! Random events and random faults on real libvirt, and at the end the promises, checked against both databases and the
//! host. What it does, how to read a failure and how to play it again: `docs/chaos.md`.
//!
//! ```text
//! seed ─▶ plan ─▶ callers, machine, watch ─▶ history ─▶ let go, settle ─▶ gather ─▶ world ─▶ check ─▶ violations
//! ```
//!
//! Plan and checks are pure; the rest acts and looks, and decides nothing.

pub mod by_hand;
pub mod callers;
pub mod check;
pub mod dice;
pub mod gather;
pub mod history;
pub mod machine;
pub mod plan;
pub mod settle;
pub mod slots;
pub mod watch;
pub mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use self::callers::Shared;
use self::check::Violation;
use self::history::{History, Line, What};
use self::machine::Machine;
use self::plan::{Fault, Plan, Timed};
use self::slots::Slots;
use crate::caller::Caller;
use crate::fleet::prepare;

/// How often daemons that died are looked for.
const SUPERVISE: Duration = Duration::from_millis(500);
/// What callers may still take for what they have begun.
const LAST_WORDS: Duration = Duration::from_secs(120);

/// What a run came to.
#[derive(Debug)]
pub struct Verdict {
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// What was done: events asked for and taken, faults, markers.
    pub summary: String,
}

/// Carries out the plan of a seed, and checks what it led to. `dir`: where log and evidence go.
///
/// Call it on the main thread: daemons end with the thread that started them.
///
/// # Panics
/// When the host lacks what is needed.
pub async fn run(plan: &Plan, dir: &Path) -> Verdict {
    let history = History::new(&dir.join("log.jsonl"));
    let mut machine = Machine::start().await;
    let caller = Caller::of(machine.coordinator.url());
    prepare(&caller, &machine.lab).await;
    let slots = Slots::of(plan.seed, machine.lab.ip4(1).octets()[2]);
    let prefix = machine.lab.name("c");
    let shared = Arc::new(Shared { caller, history: history.clone(), slots, prefix });
    let lab = &machine.lab;
    let watching = tokio::spawn(watch::run(lab.dir().to_owned(), lab.hypervisor().clone(), history.clone()));
    carry_out(plan, &mut machine, &shared).await;
    machine.let_go().await;
    settle::settle(&mut machine, &shared).await;
    watching.abort();
    let world = gather::world(&machine, &shared).await;
    let violations = check::all(&world);
    if !violations.is_empty() {
        keep_evidence(&machine, &world, &violations, dir);
    }
    Verdict { violations, summary: summary(&world) }
}

/// Callers and markers on tasks of their own; faults here, for they start and end processes.
async fn carry_out(plan: &Plan, machine: &mut Machine, shared: &Arc<Shared>) {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, asks) in (0..).zip(plan.asks.clone()) {
        tasks.spawn(callers::run(number, asks, Arc::clone(shared), begin));
    }
    tasks.spawn(callers::mark(plan.markers.clone(), Arc::clone(shared), begin));
    let local = by_hand::Local { config: machine.agent.config(), dir: machine.lab.dir().to_owned() };
    tasks.spawn(by_hand::submit(plan.local.clone(), local, Arc::clone(shared), begin));
    let mut vms = vec![None; plan.faults.len()];
    for Due { at, n, does } in due(&plan.faults) {
        wait_until(begin + at, machine, shared).await;
        let kind = plan.faults[n].what.kind;
        match does {
            Does::Begin => {
                let vm = kind.slot().map(|slot| shared.slots.vm(slot));
                vms[n].clone_from(&vm);
                // Noted before it is done: what follows from it is seen later.
                let detail = format!("for {:?}", plan.faults[n].what.lasts);
                shared.history.add(What::FaultBegan { n, kind, vm, detail });
                machine.begin(n, kind, shared).await;
            }
            Does::End => {
                machine.end(n, kind, vms[n].as_deref());
                shared.history.add(What::FaultEnded { n, kind, vm: vms[n].clone() });
            }
        }
    }
    wait_until(begin + plan.length, machine, shared).await;
    // What they are in the middle of needs its daemons.
    let mut looks = interval(SUPERVISE);
    let waited = timeout(LAST_WORDS, async {
        loop {
            tokio::select! {
                ended = tasks.join_next() => if ended.is_none() { return },
                _ = looks.tick() => machine.supervise(shared),
            }
        }
    });
    if waited.await.is_err() {
        tasks.abort_all();
    }
}

async fn wait_until(at: Instant, machine: &mut Machine, shared: &Shared) {
    let mut looks = interval(SUPERVISE);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = sleep_until(at) => return,
            _ = looks.tick() => machine.supervise(shared),
        }
    }
}

/// A fault's begin or end.
struct Due {
    at: Duration,
    n: usize,
    does: Does,
}

enum Does {
    Begin,
    End,
}

/// Begins and ends, in the order of their time.
fn due(faults: &[Timed<Fault>]) -> Vec<Due> {
    let mut due: Vec<_> = faults
        .iter()
        .enumerate()
        .flat_map(|(n, fault)| {
            let end = fault.at + fault.what.lasts;
            [Due { at: fault.at, n, does: Does::Begin }, Due { at: end, n, does: Does::End }]
        })
        .collect();
    due.sort_by_key(|due| due.at);
    due
}

fn summary(world: &world::World) -> String {
    let count = |wanted: fn(&What) -> bool| world.history.iter().filter(|line| wanted(&line.what)).count();
    let processes: BTreeSet<_> = world.history.iter().filter_map(process).collect();
    let mut kinds: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for event in &world.fleet.events {
        let [succeeded, all] = kinds.entry(&event.kind).or_default();
        *succeeded += usize::from(event.stage == "succeeded");
        *all += 1;
    }
    let kinds: Vec<_> =
        kinds.iter().map(|(kind, [succeeded, all])| format!("{succeeded} of {all} {kind}")).collect();
    let ended = |stage: &str| world.fleet.events.iter().filter(|event| event.stage == stage).count();
    format!(
        "{} requests; events that succeeded: {}; {} failed, {} cancelled; {} faults, {} VMs, {} markers, {} power-ons seen, {} by a policy, {} given up, {} edits",
        count(|what| matches!(what, What::Asked { .. })),
        kinds.join(", "),
        ended("failed"),
        ended("cancelled"),
        count(|what| matches!(what, What::FaultBegan { .. })),
        world.fleet.vms.len(),
        count(|what| matches!(what, What::Marked { confirmed: true, .. })),
        processes.len(),
        check::restarts(world),
        check::given_up(world),
        count(|what| matches!(what, What::Edited { .. })),
    )
}

/// The process that a line shows.
fn process(line: &Line) -> Option<&(u32, String)> {
    let What::Seen { run, .. } = &line.what else { return None };
    run.qemu.as_ref()
}

/// Logs, databases and the world, beside the log of acts: the lab itself goes.
fn keep_evidence(machine: &Machine, world: &world::World, violations: &[Violation], dir: &Path) {
    let text = format!("{violations:#?}\n\n{world:#?}\n");
    let kept = std::fs::write(dir.join("world.txt"), text);
    kept.unwrap_or_else(|error| eprintln!("{}: {error}", dir.display()));
    let lab = machine.lab.dir();
    let files =
        ["agent.log", "coordinator.log", "agent/agent.db*", "coordinator/coordinator.db*", "libvirt/*.log"];
    for pattern in files {
        let from = lab.join(pattern);
        crate::shell::attempt("sh", ["-c", &format!("cp -a {} {}", from.display(), dir.display())]);
    }
    let consoles = format!(
        "for log in {}/agent/vms/*/console.log; do cp \"$log\" {}/console-$(basename \"${{log%/*}}\").log; done",
        lab.display(),
        dir.display()
    );
    crate::shell::attempt("sh", ["-c", &consoles]);
    crate::shell::attempt(
        "cp",
        ["-a", &lab.join("libvirt/log/qemu").to_string_lossy(), &dir.to_string_lossy()],
    );
}

/// Where a run's log and evidence go: a folder of the cache, made anew.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn evidence_dir(seed: u64) -> PathBuf {
    let cache = std::env::var_os("DEWPOINT_CACHE")
        .map_or_else(|| crate::lab::workspace().join(".cache"), PathBuf::from);
    let dir = cache.join("chaos").join(format!("seed-{seed}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    dir
}
