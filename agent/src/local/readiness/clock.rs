//! The clock: deadlines and logs of several hosts are compared.

use std::time::Duration;

use super::ask::ask;
use super::{Judged, good, note};

pub(super) async fn check() -> Judged {
    let arguments = ["show", "--property=NTPSynchronized", "--value"];
    let answer = ask("timedatectl", &arguments, "", Duration::from_secs(5)).await;
    judge(answer.as_ref().map(|answer| answer.said.as_str()))
}

fn judge(said: Option<&str>) -> Judged {
    match said {
        Some("yes") => good("the clock is synchronised"),
        Some("no") => note(
            "the clock is not synchronised: deadlines and logs of several hosts would not agree",
            "install systemd-timesyncd or chrony; in a container, the host's clock is what counts",
        ),
        _ => note(
            "whether the clock is synchronised could not be found out",
            "`timedatectl`, or `chronyc tracking`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn what_is_not_known_is_not_good() {
        assert_eq!(judge(Some("yes")).0, Verdict::Good);
        assert_eq!(judge(Some("no")).0, Verdict::Note);
        assert_eq!(judge(Some("Failed to connect to bus")).0, Verdict::Note);
        assert_eq!(judge(None).0, Verdict::Note);
    }
}
