//! `libvirt-guests`: it saves or stops VMs at shutdown and starts them at boot on its own account, beside the agent.

use std::time::Duration;

use super::ask::ask;
use super::{Judged, good, note};

pub(super) async fn check() -> Judged {
    let answer =
        ask("systemctl", &["is-enabled", "libvirt-guests.service"], "", Duration::from_secs(5)).await;
    judge(answer.as_ref().map(|answer| answer.said.as_str()))
}

fn judge(said: Option<&str>) -> Judged {
    match said.and_then(|said| said.lines().next()) {
        Some("enabled" | "enabled-runtime") => note(
            "libvirt-guests is enabled: it may save VMs at shutdown and start them at boot, without the agent's word",
            "`systemctl disable libvirt-guests` (without --now, which would shut the VMs down)",
        ),
        Some(said) if said.contains("No such file") || said.contains("not-found") => {
            good("libvirt-guests is not installed")
        }
        Some(said) if ["disabled", "masked", "masked-runtime", "static"].contains(&said) => {
            good(format!("libvirt-guests is {said}"))
        }
        _ => note(
            "whether libvirt-guests is enabled could not be found out",
            "`systemctl is-enabled libvirt-guests`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_second_master_of_the_vms_is_named() {
        let enabled = judge(Some("enabled"));
        assert_eq!(enabled.0, Verdict::Note);
        assert!(enabled.2.contains("without --now"));
        assert_eq!(judge(Some("disabled")).0, Verdict::Good);
        assert_eq!(
            judge(Some(
                "Failed to get unit file state for libvirt-guests.service: No such file or directory"
            ))
            .0,
            Verdict::Good
        );
        assert_eq!(judge(None).0, Verdict::Note);
    }
}
