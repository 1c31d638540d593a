//! Pings one agent: at intervals, and at once when another session claims its host.

use std::time::Duration;

use dewpoint_proto::wire::agent::{Ping, to_agent::Message};
use tokio::time::{MissedTickBehavior, interval};

use super::outbound::Outbound;
use super::session::End;
use super::sessions::Handle;

/// Never returns but with the session's end. That nothing comes back is for [`super::receive`] to notice.
pub(super) async fn run(handle: &Handle, outbound: &Outbound, every: Duration) -> End {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut nonce = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = handle.poke.notified() => {}
        }
        nonce += 1;
        if let Err(end) = outbound.send(Message::Ping(Ping { nonce })).await {
            return end;
        }
    }
}
