//! `make bench`: prints one line of JSON for each figure; see `docs/benchmarks.md`.
//!
//! `dewpoint-bench [NAME...]` measures only the groups named: create, push, journal, accept, recover, storm,
//! memory, start, doctor.

use dewpoint_tests::agent::{Agent, Link};
use dewpoint_tests::bench::bare::{BARE_PROCESS, Bare};
use dewpoint_tests::bench::{Effort, accept, create, doctor, journal, memory, push, recover, start, storm};
use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::lab::Lab;

fn main() -> std::io::Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    if asked.iter().any(|name| name == BARE_PROCESS) {
        Bare::be();
        return Ok(());
    }
    // The main thread lives as long as the daemons that it starts; the work itself is done by others.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(Effort::asked(), &asked));
    Ok(())
}

async fn measure(effort: Effort, asked: &[String]) {
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|one| one == name);
    let lab = Lab::new();
    if wanted("journal") {
        journal::run(effort, lab.dir()).await;
    }
    if wanted("accept") {
        accept::run(effort, lab.dir()).await;
    }
    if wanted("push") {
        let fleet = Fleet::start().await;
        push::run(effort, &fleet, lab.dir()).await;
    }
    if wanted("create") {
        let mut agent = Agent::new(&lab, Link::Alone);
        agent.start().await;
        create::run(effort, &lab, &agent).await;
    }
    if asked.iter().any(|name| name == "start") || (asked.is_empty() && effort == Effort::Full) {
        start::run(effort).await;
    }
    if wanted("recover") {
        recover::run(effort, lab.dir()).await;
    }
    if wanted("storm") {
        let lab = Lab::new();
        storm::run(effort, &lab).await;
    }
    if asked.iter().any(|name| name == "doctor") || (asked.is_empty() && effort == Effort::Full) {
        doctor::run(effort, lab.dir()).await;
    }
    if wanted("memory") {
        memory::run(effort).await;
    }
}
