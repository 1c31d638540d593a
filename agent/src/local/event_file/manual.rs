//! What an event file may say, for `submit --help` and the manual. The tests hold it to the reader, key by key.

/// The keys of each kind, and files to begin with.
pub const MANUAL: &str = "\
THE FILE

One event: TOML, or JSON with the same keys when its name ends in .json.

    kind        create, start, stop, reboot, snapshot, restore, destroy, cancel
    vm          the VM's id, a UUID; a create without it makes one
    event_id    a UUID of your own: submitted again, it is the same event
    not_after   not begun within this time (10m), it expires
    note        why, in your words

create:

    name        the VM's name, and the guest's hostname
    vcpus       CPUs
    memory      such as 512MiB or 4GiB
    image       an absolute path on this host, or the SHA-256 of a cached image
    disk        such as 20GiB; without it, as large as the image's
    disk_mode   overlay (shares the image's file) or full-copy
    ssh_keys    lines as in authorized_keys
    user_data   for cloud-init; or user_data_file, a path
    labels      a table of words
    placement   bound (to this host) or movable
    restart     never, on-crash or always
    start       false: it is left off
    nics        a table for each interface: mac, addresses, gateway4, gateway6,
                nameservers, bridge (without it, the host's), network (a word)

stop:           force (power it off after the timeout), timeout (90s)
reboot:         hard (a power cycle), timeout
snapshot:       image_name
restore:        image
destroy:        now (delete the disks instead of recycling them)
cancel:         target, the event's id

EXAMPLES

    kind = \"create\"
    name = \"web\"
    vcpus = 1
    memory = \"512MiB\"
    disk = \"4GiB\"
    image = \"/srv/images/debian-12.qcow2\"
    ssh_keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ0 me\"]
    [[nics]]
    mac = \"52:54:00:12:34:56\"
    addresses = [\"192.0.2.5/24\", \"2001:db8::5/64\"]
    gateway4 = \"192.0.2.1\"

    kind = \"stop\"
    vm = \"018f3c5e-7c1a-7d3e-9a5b-2f6d8c4b1a90\"
    timeout = \"60s\"
    force = true

    kind = \"destroy\"
    vm = \"018f3c5e-7c1a-7d3e-9a5b-2f6d8c4b1a90\"
    note = \"moved to another site\"
";

#[cfg(test)]
mod tests {
    use dewpoint_proto::cause::Cause;
    use dewpoint_proto::spec::ImageRef;
    use dewpoint_proto::time::Millis;

    use super::MANUAL;
    use crate::local::event_file::read;

    fn image(path: &str) -> Result<ImageRef, Cause> {
        let digest = "11".repeat(32).parse().unwrap();
        let local_path = Some(path.to_owned());
        Ok(ImageRef { digest, size_bytes: 1, virtual_size_bytes: 1 << 30, local_path })
    }

    fn reads(text: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("event.toml");
        std::fs::write(&path, text).unwrap();
        read(&path, Millis(0), image).map(drop).map_err(|cause| cause.text)
    }

    #[test]
    fn every_example_is_an_event() {
        let (_, examples) = MANUAL.split_once("EXAMPLES").unwrap();
        let mut events: Vec<String> = Vec::new();
        for line in examples.lines().map(str::trim) {
            if line.starts_with("kind") {
                events.push(String::new());
            }
            if let Some(event) = events.last_mut() {
                event.push_str(line);
                event.push('\n');
            }
        }
        assert_eq!(events.len(), 3);
        for event in events {
            assert_eq!(reads(&event), Ok(()), "{event}");
        }
    }

    /// Serde names the keys that a kind takes when it is given another.
    #[test]
    fn every_key_that_is_taken_is_in_the_manual() {
        let vm = "vm = '018f3c5e-7c1a-7d3e-9a5b-2f6d8c4b1a90'";
        let create = "name = 'x'\nvcpus = 1\nmemory = '1GiB'\nimage = '/i'";
        for (kind, more) in [
            ("create", create),
            ("create", &format!("{create}\n[[nics]]")),
            ("stop", ""),
            ("reboot", ""),
            ("snapshot", ""),
            ("restore", ""),
            ("destroy", ""),
            ("cancel", ""),
        ] {
            let said = reads(&format!("kind = '{kind}'\n{vm}\n{more}\nno_such_key = 1")).unwrap_err();
            let taken: Vec<_> =
                said.split('`').skip(1).step_by(2).filter(|key| *key != "no_such_key").collect();
            assert!(!taken.is_empty(), "{kind}: {said}");
            for key in taken {
                assert!(MANUAL.contains(key), "the manual does not tell of `{key}` of {kind}");
            }
        }
        assert!(MANUAL.lines().all(|line| line.chars().count() <= 80));
    }
}
