//! AppArmor: whether guests are confined by it, and whether what libvirt needs for that is there.

use std::path::Path;

use super::ask::kernel_says;
use super::{Judged, bad, good, note};

/// libvirt makes each guest's profile from it.
const TEMPLATE: &str = "/etc/apparmor.d/libvirt/TEMPLATE.qemu";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confinement {
    Off,
    NoTemplate,
    On,
}

pub(super) fn check() -> Judged {
    let enabled = kernel_says("/sys/module/apparmor/parameters/enabled").is_some_and(|value| value == "Y");
    judge(match (enabled, Path::new(TEMPLATE).exists()) {
        (false, _) => Confinement::Off,
        (true, false) => Confinement::NoTemplate,
        (true, true) => Confinement::On,
    })
}

fn judge(confinement: Confinement) -> Judged {
    match confinement {
        Confinement::On => good("AppArmor is on, and confines guests"),
        Confinement::NoTemplate => bad(
            format!("AppArmor is on, and libvirt's {TEMPLATE} is missing: no guest would start"),
            "reinstall libvirt-daemon-system, with --force-confmiss if the file was deleted",
        ),
        Confinement::Off => note(
            "AppArmor is off: guests are confined by their user and cgroup alone",
            "boot with apparmor=1 security=apparmor, the default of Debian and Ubuntu, where the kernel has it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn off_is_worth_a_note_and_half_is_bad() {
        assert_eq!(judge(Confinement::On).0, Verdict::Good);
        assert_eq!(judge(Confinement::Off).0, Verdict::Note);
        assert_eq!(judge(Confinement::NoTemplate).0, Verdict::Bad);
    }
}
