//! nftables: that the kernel takes a bridge table, and that nothing empties the whole ruleset behind our back.

use std::time::Duration;

use super::ask::ask;
use super::{Judged, bad, good, note};

const DEADLINE: Duration = Duration::from_secs(5);
const SETTINGS: &str = "/etc/nftables.conf";

#[derive(Clone, Debug, PartialEq, Eq)]
struct Firewall {
    /// What nft said to a bridge table that it was to check and not to make; none: nothing against it.
    refused: Option<String>,
    /// `nftables.service` is enabled, and its file begins by emptying the ruleset.
    flushes: bool,
}

pub(super) async fn check() -> Judged {
    let script = "add table bridge dewpoint_readiness\n";
    let (tried, enabled) = tokio::join!(
        ask("nft", &["--check", "-f", "-"], script, DEADLINE),
        ask("systemctl", &["is-enabled", "nftables.service"], "", DEADLINE),
    );
    let refused = match tried {
        None => Some("nft is not installed, or did not end in time".to_owned()),
        Some(answer) if answer.status.success() => None,
        Some(answer) => Some(answer.said.lines().next().unwrap_or("no message").to_owned()),
    };
    let empties = std::fs::read_to_string(SETTINGS).is_ok_and(|text| empties(&text));
    let flushes = empties && enabled.is_some_and(|answer| answer.said == "enabled");
    judge(&Firewall { refused, flushes })
}

fn judge(firewall: &Firewall) -> Judged {
    match firewall {
        Firewall { refused: Some(said), .. } if said.contains("Operation not permitted") => {
            note(format!("nftables was not tried: {said}"), "run this as root")
        }
        Firewall { refused: Some(said), .. } => bad(
            format!("nftables takes no bridge table: {said}"),
            "install nftables, and a kernel with CONFIG_NF_TABLES_BRIDGE; without it VMs could take each other's addresses",
        ),
        Firewall { flushes: true, .. } => note(
            format!(
                "nftables.service is enabled, and {SETTINGS} begins with `flush ruleset`: each reload of it takes Dewpoint's table away"
            ),
            format!(
                "in {SETTINGS}, flush your own tables alone; after a reload, `systemctl restart dewpoint-agent`"
            ),
        ),
        _ => good("nftables takes a bridge table"),
    }
}

fn empties(settings: &str) -> bool {
    settings.lines().any(|line| line.trim_start().starts_with("flush ruleset"))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn what_would_take_the_rules_away_is_named() {
        assert!(empties("#!/usr/sbin/nft -f\n\nflush ruleset\n\ntable inet filter {\n"));
        assert!(!empties("# flush ruleset\nflush table inet filter\n"));
        let of = |refused: Option<&str>, flushes| {
            judge(&Firewall { refused: refused.map(str::to_owned), flushes }).0
        };
        assert_eq!(of(None, false), Verdict::Good);
        assert_eq!(of(None, true), Verdict::Note);
        assert_eq!(of(Some("Error: Operation not supported"), false), Verdict::Bad);
        assert_eq!(of(Some("Operation not permitted (you must be root)"), false), Verdict::Note);
    }
}
