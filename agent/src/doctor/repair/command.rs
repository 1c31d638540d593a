//! The `ip` command of iproute2, with a deadline: for the two things about taps that libvirt does only at a start.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason, shortened};
use dewpoint_proto::names::InterfaceName;

const DEADLINE: Duration = Duration::from_secs(10);

/// Puts a tap into a bridge. Repeatable.
///
/// # Errors
/// `NETWORK_ERROR`.
pub(super) async fn into_bridge(tap: &InterfaceName, bridge: &InterfaceName) -> Result<(), Cause> {
    ip(&["link", "set", "dev", tap.as_str(), "master", bridge.as_str(), "up"]).await
}

/// Removes a tap, unless a process holds it.
///
/// # Errors
/// `NETWORK_ERROR`.
pub(super) async fn remove_tap(links: &Path, tap: &InterfaceName) -> Result<(), Cause> {
    // A tap has a carrier as long as a process has it open.
    let carrier = std::fs::read_to_string(links.join(tap.as_str()).join("carrier")).unwrap_or_default();
    if carrier.trim() == "1" {
        return Err(Cause::new(Reason::NetworkError, format!("a process holds the tap {tap}"))
            .advise("find it with `fuser /dev/net/tun`; a VM may be running past libvirt"));
    }
    ip(&["link", "delete", "dev", tap.as_str()]).await
}

async fn ip(arguments: &[&str]) -> Result<(), Cause> {
    let mut command = tokio::process::Command::new("ip");
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    let done = tokio::time::timeout(DEADLINE, command.output()).await;
    let output = match done {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            return Err(Cause::new(Reason::NetworkError, format!("ip could not be run: {error}"))
                .advise("install iproute2"));
        }
        Err(_) => {
            return Err(Cause::new(Reason::NetworkError, "ip did not end in time").advise("see `ip link`"));
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Cause::new(Reason::NetworkError, format!("ip {}: {}", arguments.join(" "), shortened(&said)))
        .advise("see `ip link`, and whether the agent has CAP_NET_ADMIN"))
}
