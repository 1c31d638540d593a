//! The bridge of interfaces that name none.

use std::path::Path;

use super::ask::kernel_says;
use super::{Judged, bad, good, note};
use crate::config::Config;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Bridge {
    Absent,
    Other,
    There { up: bool, ports: usize, filtered: bool },
}

pub(super) fn check(config: &Config) -> Judged {
    let name = config.network.bridge.as_str();
    judge(name, &look(Path::new("/sys/class/net"), name))
}

fn judge(name: &str, bridge: &Bridge) -> Judged {
    match bridge {
        Bridge::Absent => bad(
            format!("there is no bridge {name}"),
            format!(
                "make one (`ip link add {name} type bridge`, for good in your network's settings), or name yours in network.bridge"
            ),
        ),
        Bridge::Other => bad(
            format!("{name} is an interface, and no bridge"),
            "make a bridge with that interface as its port, and name it in network.bridge",
        ),
        Bridge::There { up: false, .. } => {
            bad(format!("bridge {name} is down"), format!("ip link set {name} up"))
        }
        Bridge::There { filtered: true, .. } => note(
            format!("bridge {name}: its frames pass the host's iptables too, which often drop them"),
            "sysctl net.bridge.bridge-nf-call-iptables=0 (and -ip6tables), unless something here needs it",
        ),
        Bridge::There { ports: 0, .. } => note(
            format!("bridge {name} has no port: VMs reach this host and each other alone"),
            format!(
                "`ip link set eth0 master {name}`, with your interface for eth0, when they are to reach more"
            ),
        ),
        Bridge::There { ports, .. } => good(format!("bridge {name} is up, {ports} ports")),
    }
}

fn look(interfaces: &Path, name: &str) -> Bridge {
    let interface = interfaces.join(name);
    if !interface.exists() {
        return Bridge::Absent;
    }
    if !interface.join("bridge").is_dir() {
        return Bridge::Other;
    }
    let flags = kernel_says(interface.join("flags"));
    let flags =
        flags.and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()).unwrap_or(0);
    let ports = std::fs::read_dir(interface.join("brif")).map_or(0, Iterator::count);
    let filtered =
        kernel_says("/proc/sys/net/bridge/bridge-nf-call-iptables").is_some_and(|value| value == "1");
    Bridge::There { up: flags & 1 != 0, ports, filtered }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_bridge_is_told_from_what_only_has_its_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(dir.path(), "br0"), Bridge::Absent);
        std::fs::create_dir_all(dir.path().join("br0")).unwrap();
        assert_eq!(look(dir.path(), "br0"), Bridge::Other);
        std::fs::create_dir_all(dir.path().join("br0/bridge")).unwrap();
        std::fs::create_dir_all(dir.path().join("br0/brif/eth0")).unwrap();
        std::fs::write(dir.path().join("br0/flags"), "0x1003\n").unwrap();
        assert!(matches!(look(dir.path(), "br0"), Bridge::There { up: true, ports: 1, .. }));
    }

    #[test]
    fn verdicts() {
        let of = |bridge| judge("br0", &bridge).0;
        assert_eq!(of(Bridge::There { up: true, ports: 1, filtered: false }), Verdict::Good);
        assert_eq!(of(Bridge::There { up: true, ports: 0, filtered: false }), Verdict::Note);
        assert_eq!(of(Bridge::There { up: true, ports: 1, filtered: true }), Verdict::Note);
        assert_eq!(of(Bridge::There { up: false, ports: 1, filtered: false }), Verdict::Bad);
        assert_eq!(of(Bridge::Absent), Verdict::Bad);
    }
}
