//! `agent_rss_idle`, `agent_rss_100`: what the agent holds in memory beyond a bare process that is connected with
//! libvirt's client library.

use std::time::Duration;

use dewpoint_proto::event::InitialPower;

use super::Effort;
use super::bare::Bare;
use super::create::{carried_out, event, image};
use super::figure::{Pair, Target, print_absolute};
use crate::agent::{Agent, Link};
use crate::host::resident;
use crate::lab::Lab;
use crate::local::Local;

/// VMs that the agent builds itself and leaves off.
const VMS: usize = 100;
/// How long the memory must stand still to be measured, in looks.
const STILL: usize = 20;

/// Measures and prints both, with an agent that has done nothing before.
///
/// # Panics
/// When the agent fails.
pub async fn run(effort: Effort) {
    let lab = Lab::new();
    let mut agent = Agent::new(&lab, Link::Alone);
    agent.start().await;
    let mut idle = Vec::new();
    for _ in 0..effort.of(3, 9) {
        agent.stop().await;
        agent.start().await;
        idle.push(beyond(&agent).await);
    }
    print_absolute("agent_rss_idle", "MB", Target::AtMost(20.0), &idle);
    let mut local = Local::of(&agent).await;
    let image = image();
    for _ in 0..VMS {
        let (_, create) = event(&lab, &image, InitialPower::Off);
        carried_out(&mut local, create).await;
    }
    print_absolute("agent_rss_100", "MB", Target::AtMost(30.0), &[beyond(&agent).await]);
}

/// What it has more than a bare process; the bare process is the baseline.
async fn beyond(agent: &Agent) -> Pair {
    let bare = Bare::start();
    let (own, baseline) = (settled(agent.pid()).await, settled(bare.pid()).await);
    Pair { value: own - baseline, baseline }
}

/// Megabytes, once they stand still.
async fn settled(pid: u32) -> f64 {
    let mut looks = tokio::time::interval(Duration::from_millis(25));
    let (mut last, mut still) = (0, 0);
    for _ in 0..400 {
        looks.tick().await;
        let now = resident(pid).unwrap_or_else(|| panic!("process {pid} is gone"));
        still = if now == last { still + 1 } else { 0 };
        last = now;
        if still == STILL {
            break;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let megabytes = last as f64 / 1e6;
    megabytes
}
