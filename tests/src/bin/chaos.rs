//! `make chaos MINUTES=n SEED=s`: random events and faults, then the promises. See `docs/chaos.md`.
//!
//! `dewpoint-chaos MINUTES [SEED]`: without a seed, one is drawn, and printed like any other. `dewpoint-chaos plan MINUTES SEED`
//! prints what would be done. Exits with 1 when a promise was broken.

use std::process::ExitCode;
use std::time::Duration;

use dewpoint_tests::chaos::plan::Plan;
use dewpoint_tests::chaos::{evidence_dir, run};

const USAGE: &str = "usage: dewpoint-chaos [plan] MINUTES [SEED]   (whole numbers; 1 to 600 minutes)";

fn main() -> std::io::Result<ExitCode> {
    let mut words: Vec<String> = std::env::args().skip(1).filter(|word| !word.is_empty()).collect();
    let only_plan = words.first().is_some_and(|word| word == "plan");
    if only_plan {
        words.remove(0);
    }
    let Some(plan) = plan(&words) else {
        eprintln!("{USAGE}");
        return Ok(ExitCode::from(64));
    };
    if only_plan {
        println!("{}", serde_json::to_string_pretty(&plan)?);
        return Ok(ExitCode::SUCCESS);
    }
    // The main thread lives as long as the daemons that it starts; the work itself is done by others.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(go(&plan)))
}

fn plan(words: &[String]) -> Option<Plan> {
    let minutes: u64 = words.first()?.parse().ok().filter(|minutes| (1..=600).contains(minutes))?;
    let seed = match words.get(1) {
        Some(seed) => seed.parse().ok()?,
        None => rand::random_range(0..1_000_000),
    };
    Some(Plan::of(seed, Duration::from_secs(60 * minutes)))
}

async fn go(plan: &Plan) -> ExitCode {
    let (seed, minutes) = (plan.seed, plan.length.as_secs() / 60);
    let dir = evidence_dir(seed);
    println!("chaos: seed {seed}, {minutes} minutes; the log is {}", dir.join("log.jsonl").display());
    let verdict = run(plan, &dir).await;
    println!("chaos: {}", verdict.summary);
    if verdict.violations.is_empty() {
        println!("chaos: seed {seed}: every promise was kept");
        let _ = std::fs::remove_dir_all(&dir);
        return ExitCode::SUCCESS;
    }
    for violation in &verdict.violations {
        println!("chaos: broken: {}: {}", violation.promise, violation.detail);
    }
    println!(
        "chaos: seed {seed}: {} broken; the evidence stays in {}\nchaos: the same acts again: make chaos MINUTES={minutes} SEED={seed}",
        verdict.violations.len(),
        dir.display(),
    );
    ExitCode::FAILURE
}
