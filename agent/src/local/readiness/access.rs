//! Who may reach what: the agent's user, and QEMU's way to its disks.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, User};

use super::{Judged, bad, good, note};
use crate::config::Config;

/// The user that the package makes.
const AGENT: &str = "dewpoint";
/// polkit lets its members manage `qemu:///system`.
const LIBVIRT: &str = "libvirt";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Access {
    /// Whether the package's user is there; without, the agent is run as whoever starts it.
    packaged: bool,
    /// The groups that the agent's user should be in and is not.
    not_in: Vec<String>,
    /// Groups that are not there at all.
    missing: Vec<String>,
    /// Folders on the way to the disks through which QEMU may not pass.
    closed: Vec<PathBuf>,
}

pub(super) fn check(config: &Config) -> Judged {
    judge(&look(config))
}

fn judge(access: &Access) -> Judged {
    if !access.missing.is_empty() {
        return bad(
            format!("there is no group {}", access.missing.join(", ")),
            "install libvirt-daemon-system, which makes it; storage.group names the one of QEMU's files",
        );
    }
    if let Some(closed) = access.closed.first() {
        return bad(
            format!("QEMU may not pass through {}", closed.display()),
            format!("chmod o+x {}", closed.display()),
        );
    }
    match (access.packaged, access.not_in.as_slice()) {
        (false, _) => note(
            format!("there is no user {AGENT}: not installed as a package?"),
            "run the agent as root, or install the package",
        ),
        (true, []) => good(format!("user {AGENT} is in the groups it needs, and QEMU can pass to its disks")),
        (true, groups) => bad(
            format!("user {AGENT} is not in group {}", groups.join(", ")),
            format!("usermod -aG {} {AGENT}, then `systemctl restart dewpoint-agent`", groups.join(",")),
        ),
    }
}

fn look(config: &Config) -> Access {
    let agent = User::from_name(AGENT).ok().flatten();
    let mut access =
        Access { packaged: agent.is_some(), closed: closed(&config.data_dir), ..Access::default() };
    for name in [LIBVIRT, &config.storage.group] {
        match Group::from_name(name).ok().flatten() {
            None => access.missing.push(name.to_owned()),
            Some(group) if group.mem.iter().any(|member| member == AGENT) => {}
            Some(group) if agent.as_ref().is_some_and(|agent| agent.gid == group.gid) => {}
            Some(_) => access.not_in.push(name.to_owned()),
        }
    }
    access
}

/// The folders from the root to `path` that exist and do not let others pass.
fn closed(path: &Path) -> Vec<PathBuf> {
    let passable = |folder: &Path| {
        std::fs::metadata(folder).map_or(true, |found| found.permissions().mode() & 0o001 != 0)
    };
    let mut folders: Vec<PathBuf> = path.ancestors().map(Path::to_owned).collect();
    folders.reverse();
    folders.into_iter().filter(|folder| !passable(folder)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn each_obstacle_names_what_removes_it() {
        let sound = Access { packaged: true, ..Access::default() };
        assert_eq!(judge(&sound).0, Verdict::Good);
        let alone = judge(&Access { not_in: vec!["libvirt".into()], ..sound.clone() });
        assert_eq!(alone.0, Verdict::Bad);
        assert!(alone.2.contains("usermod -aG libvirt dewpoint"));
        let shut = judge(&Access { closed: vec!["/srv".into()], ..sound.clone() });
        assert!(shut.2.contains("chmod o+x /srv"));
        assert_eq!(judge(&Access { missing: vec!["libvirt".into()], ..sound }).0, Verdict::Bad);
        assert_eq!(judge(&Access::default()).0, Verdict::Note);
    }

    #[test]
    fn a_closed_folder_on_the_way_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let shut = dir.path().join("shut");
        std::fs::create_dir_all(shut.join("data")).unwrap();
        std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(closed(&shut.join("data")).contains(&shut));
        assert!(!closed(&shut.join("data")).contains(&"/".into()));
    }
}
