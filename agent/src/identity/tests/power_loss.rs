//! The file is whole or not there, whenever the power goes; an id that was answered is never another afterwards.

use std::sync::Arc;

use dewpoint_common::durable::recorder::{Recorder, Survives};

use super::*;

/// What a telling was answered; none: it was cut off.
type Answer = Option<HostId>;

/// Cuts `tell` before each of its changes, by the power and by a kill after which the agent starts again; `check` hears
/// what was there before, what was answered, and what is found.
fn cut_everywhere(
    before: Option<HostId>,
    tell: impl Fn(&Durable, &Path) -> Answer,
    check: impl Fn(Answer, Answer),
) {
    let dir = tempfile::tempdir().unwrap();
    for cut in 0.. {
        let data = dir.path().join(format!("cut-{cut}"));
        std::fs::create_dir(&data).unwrap();
        if let Some(host_id) = before {
            write(&durable(&data), &data, &Identity { host_id, product_uuid: machine("a") }).unwrap();
        }
        let recorder = Arc::new(Recorder::watch(&data, cut).unwrap());
        let watched = Durable::new(data.clone(), None, Some(recorder.clone()));
        let answered = tell(&watched, &data);
        after_power_loss(&recorder, &dir.path().join(format!("power-{cut}")), |found| check(answered, found));

        recorder.go_on();
        let started = start(&watched, &data);
        assert!(answered.is_none_or(|answered| answered == started), "at change {cut}");
        after_power_loss(&recorder, &dir.path().join(format!("kill-{cut}")), |found| {
            assert_eq!(found, Some(started), "killed at change {cut}, then the power went");
        });
        if answered.is_some() {
            assert!(cut >= 4, "the recorder saw each change");
            return;
        }
    }
}

/// What the next boot finds, and that an agent starts on it with an id that stays.
fn after_power_loss(recorder: &Recorder, at: &Path, found: impl Fn(Answer)) {
    for kind in Survives::ALL {
        let data = at.with_extension(format!("{kind:?}"));
        recorder.rebuild(kind, &data).unwrap();
        let there = read(&data).unwrap().map(|identity| identity.host_id);
        found(there);
        let started = start(&durable(&data), &data);
        assert!(there.is_none_or(|there| there == started));
        assert_eq!(start(&durable(&data), &data), started);
    }
}

fn start(durable: &Durable, data: &Path) -> HostId {
    read_or_make_through(durable, data, machine("a")).unwrap().host_id
}

#[test]
fn a_first_start_survives_power_loss_at_every_change() {
    cut_everywhere(
        None,
        |durable, data| read_or_make_through(durable, data, machine("a")).ok().map(|made| made.host_id),
        |answered, found| assert!(answered.is_none() || found == answered, "{answered:?}, {found:?}"),
    );
}

#[test]
fn an_id_taken_on_a_persons_word_survives_power_loss_at_every_change() {
    let (old, new) = (HostId::fresh(), HostId::fresh());
    cut_everywhere(
        Some(old),
        |durable, data| {
            let identity = Identity { host_id: new, product_uuid: machine("a") };
            write(durable, data, &identity).ok().map(|()| new)
        },
        |answered, found| match answered {
            Some(_) => assert_eq!(found, Some(new)),
            None => assert!(found == Some(old) || found == Some(new), "half of an id: {found:?}"),
        },
    );
}
