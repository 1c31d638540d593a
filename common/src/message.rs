//! Message ids: what an operator searches a log for, whatever the words say in this version.
//!
//! An id is 128 random bits, given once and never reused. It goes into the field `message_id`, which journald knows as
//! `MESSAGE_ID`: `journalctl MESSAGE_ID=f33e89d41f6433afc796b204057307f5`. `docs/logs.md` lists them all.

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $id:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $id;)*

        /// Every name with its id.
        pub const ALL: &[(&str, &str)] = &[$((stringify!($name), $id)),*];
    };
}

messages! {
    /// An event was taken: on a host into its journal, on the coordinator into its store.
    EVENT_ACCEPTED = "656b3ab78859882c23305bfbe77acb8e";
    /// An event was turned away, with its reason.
    EVENT_REFUSED = "4553ba63130cc651d2856c5dbcfdb896";
    /// The first step of an event is journaled.
    EVENT_BEGUN = "e1f269162bff1131066622e578b63bcb";
    /// A step is journaled and about to be applied.
    STEP_BEGUN = "fc57f1df6c4d9c304940a7c1e453d7eb";
    /// A step's call or job returned well.
    STEP_RETURNED = "4cf486e5fd4e333be442de7482568dcc";
    /// A step's call or job returned an error.
    STEP_FAILED = "c8d1d0ffef88951b338a4226fed9767f";
    /// An event cannot be done, or was cancelled: it is undone from here on.
    UNDO_DECIDED = "9d7e568ca4872a0a4dd3ee1cf2637cb0";
    /// An event ended, and how.
    EVENT_ENDED = "f33e89d41f6433afc796b204057307f5";
    /// A session between a host and the coordinator began.
    SESSION_UP = "620f5cb90e17effcbc3db41cfdad8e16";
    /// A session ended, or could not be begun, and why.
    SESSION_DOWN = "a72c41311fce6fb7b6cfce80b3baa331";
    /// The logs of a host and of the coordinator do not match: a person must look.
    HOST_DIVERGED = "dc33ce7f20d1ed377b456c2dd20ffb12";
    /// An operator holds the host, or the fleet: no new steps.
    HELD = "4d2790bab61f13e3b2e345792c672bb6";
    /// The hold ended.
    RELEASED = "ba36e4484337b4f9984fc1bcc9df2558";
    /// Something is wrong with the host as a whole.
    DEGRADED = "d909bf9252aa38fd473d8a37a5cf09a7";
    /// What was wrong with the host as a whole no longer is.
    RECOVERED = "439765adc3b897ae0967346a3c3624b3";
    /// libvirt does not answer.
    LIBVIRT_DOWN = "d0325f922e1e4faf9785cb8f76fb6e05";
    /// libvirt answers, and tells of its domains.
    LIBVIRT_UP = "f7053d9101c8a3db78fe8765997a3cb2";
    /// The journal takes no new events.
    JOURNAL_WITHHELD = "2eb97957e2eda848cc7fedcde7eb15cb";
    /// The journal takes new events again.
    JOURNAL_TAKES = "0907586923ee1f3caa6eb325917e41c6";
    /// A VM is not as it should be: it crashed, was stopped behind our back, or the like.
    VM_INCIDENT = "9229fa133fbcc71dff57c4a870a6a8c0";
    /// A VM was started by its restart policy, or after a host boot.
    VM_RESTARTED = "c6a546c57ba619d429f25652c444eb43";
    /// A daemon starts.
    STARTED = "eeb592541b887ac425d9c8bd38a76455";
    /// A daemon is ready.
    READY = "50c61b2ff421480e8e9d983b306d9931";
    /// A daemon was told to stop, and finishes what is in hand.
    STOPPING = "c4b0ed7d407f16a803142c79d1196531";
    /// A daemon has stopped.
    STOPPED = "fdbe10f076540d4e7ea78d6724819cb8";
    /// A daemon's main loop or its database's thread does not answer; systemd is not told that all is well.
    STUCK = "549d83a1d7968c0756f1ca9798d84cec";
    /// So many more messages like one before were counted and not written.
    REPEATED = "54ffcad3e7f95b99807d77b3beeea1c2";
    /// So many lines of the log were lost, as journald did not take them.
    LINES_LOST = "23d18cf5d6ab8d5ea190e6dc5d7e88a1";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_what_journald_takes_and_none_is_given_twice() {
        let ids: BTreeSet<_> = ALL.iter().map(|(_, id)| id).collect();
        assert_eq!(ids.len(), ALL.len());
        for (name, id) in ALL {
            let is_hex = id.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
            assert!(is_hex && id.len() == 32, "{name}: {id}");
        }
    }

    #[test]
    fn every_id_is_in_the_manual() {
        let manual = include_str!("../../docs/logs.md");
        for (name, id) in ALL {
            let row = manual.lines().find(|line| line.starts_with(&format!("| `{id}` |")));
            assert!(row.is_some_and(|row| row.contains(name)), "docs/logs.md has no row for {name} {id}");
        }
    }
}
