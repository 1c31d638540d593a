//! cgroups: libvirt puts each QEMU into one of its own, and the agent's limits rest on them.

use super::ask::kernel_says;
use super::{Judged, good, note};

/// What libvirt and the unit make use of.
const WANTED: [&str; 3] = ["cpu", "memory", "io"];

pub(super) fn check() -> Judged {
    judge(kernel_says("/sys/fs/cgroup/cgroup.controllers").as_deref())
}

fn judge(controllers: Option<&str>) -> Judged {
    let Some(controllers) = controllers else {
        return note(
            "cgroup version 1, or none: the agent's limits do not all hold",
            "boot with systemd.unified_cgroup_hierarchy=1, the default of Debian 12, 13 and Ubuntu 24.04",
        );
    };
    let missing: Vec<&str> = WANTED
        .into_iter()
        .filter(|wanted| !controllers.split_whitespace().any(|found| found == *wanted))
        .collect();
    if missing.is_empty() {
        return good("cgroup version 2");
    }
    note(
        format!("cgroup version 2 without {}: no limits of that kind", missing.join(", ")),
        "in a container, have it delegated; else look for cgroup_disable in /proc/cmdline",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn versions_and_controllers_are_told_apart() {
        assert_eq!(judge(Some("cpuset cpu io memory pids")).0, Verdict::Good);
        let partly = judge(Some("cpuset cpu pids"));
        assert!(partly.0 == Verdict::Note && partly.1.contains("memory, io"));
        assert_eq!(judge(None).0, Verdict::Note);
    }
}
