//! What was edited while nobody listened.

use super::*;
use crate::hypervisor::ConfigDigest;

impl Host {
    /// Its configuration is looked at.
    fn has(&mut self, sha256: &str, written_by: &str) {
        let digest = ConfigDigest { written_by: written_by.to_owned(), sha256: sha256.to_owned() };
        self.config = Some(ConfigSeen { generation: self.row.generation, digest });
    }

    /// What is noted, and whether that is an edit.
    fn notes(&mut self) -> Option<bool> {
        let before = self.row.kept.incident.take();
        let kept = match self.decides() {
            Keep::Note(kept) => *kept,
            _ => {
                self.row.kept.incident = before;
                return None;
            }
        };
        self.row.kept = kept;
        let kind = self.row.kept.incident.as_ref().map(|incident| incident.kind);
        Some(kind == Some(IncidentKind::EditedByHand))
    }
}

#[test]
fn another_configuration_of_the_same_generation_is_an_edit_and_told_once() {
    for wanted in [Wanted::On, Wanted::Off] {
        let mut host = Host::with(Restart::Never);
        if wanted == Wanted::Off {
            host.row.wanted = Wanted::Off;
            host.goes_off("shutoff/shutdown", &[]);
        }
        host.has("as made", "libvirt 1");
        assert_eq!((host.notes(), host.notes()), (Some(false), None), "seen for the first time");
        host.has("edited", "libvirt 1");
        assert_eq!((host.notes(), host.notes()), (Some(true), None), "{wanted:?}");
        host.has("as made", "libvirt 1");
        assert_eq!((host.notes(), host.notes()), (Some(true), None), "put back");
    }
}

#[test]
fn what_an_event_or_another_libvirt_wrote_is_no_edit() {
    let mut host = Host::with(Restart::Never);
    host.has("as made", "libvirt 1");
    assert_eq!(host.notes(), Some(false));
    host.row.generation = Generation(2);
    assert_eq!(host.notes(), None, "seen before the event, so it says nothing of what is there now");
    host.has("by an event", "libvirt 1");
    assert_eq!(host.notes(), Some(false));
    host.has("by a newer one", "libvirt 2");
    assert_eq!((host.notes(), host.notes()), (Some(false), None));
}

#[test]
fn nothing_is_said_of_what_an_event_is_at_work_on_or_is_not_ours() {
    let mut host = Host::with(Restart::Never);
    host.has("as made", "libvirt 1");
    assert_eq!(host.notes(), Some(false));
    host.has("edited", "libvirt 1");
    host.row.unfinished = true;
    assert_eq!(host.notes(), None);
    host.row.unfinished = false;
    host.there().mark = Seen::Absent;
    assert_eq!(host.notes(), None);
}

#[test]
fn what_was_heard_of_is_told_once_and_seen_anew() {
    let mut host = Host::with(Restart::Never);
    host.has("as made", "libvirt 1");
    assert_eq!(host.notes(), Some(false));
    host.heard = vec!["defined/updated".to_owned()];
    assert_eq!(host.notes(), Some(true));
    host.heard.clear();
    host.has("edited", "libvirt 1");
    assert_eq!((host.notes(), host.notes()), (Some(false), None), "no second edit");
}

#[test]
fn an_edit_holds_up_no_restart() {
    let mut host = Host::with(Restart::Always);
    host.has("as made", "libvirt 1");
    assert_eq!(host.notes(), Some(false));
    host.goes_off("shutoff/crashed", &[]);
    host.has("edited", "libvirt 1");
    assert_eq!(host.notes(), Some(false), "that it went off comes first");
    assert_eq!(host.notes(), Some(true), "then, while it waits to be started, that it was edited");
    assert!(matches!(host.decides(), Keep::Wait(_)), "{:?}", host.decides());
    host.now.since_boot_ms += 3_600_000;
    assert_eq!(host.decides(), Keep::Start(StartAs::New));
}
