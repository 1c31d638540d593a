//! The mark that an event writes: what its plan waits to see, and what its step writes, are one value.

use dewpoint_proto::event::Kind;
use dewpoint_proto::ids::{EventId, RunId};
use sha2::{Digest, Sha256};

use super::question::{Question, Vm};
use crate::execute::history::Aim;
use crate::hypervisor::{Mark, Wanted};

/// The mark of a VM that does not exist yet.
#[must_use]
pub fn of_new(question: &Question<'_>, wanted: Wanted) -> Mark {
    Mark {
        vm: question.event.vm,
        generation: question.generation,
        event: question.id(),
        run: (wanted == Wanted::On).then(|| question.run()),
        wanted,
        disk: question.id(),
        seed: question.id(),
    }
}

/// The mark that an event gives a VM that is there, as the VM is now.
#[must_use]
pub fn desired(question: &Question<'_>, vm: &Vm<'_>) -> Mark {
    let before = question.before(Some(vm));
    let mark = Mark { generation: question.generation, event: question.id(), ..vm.mark.clone() };
    let present = if vm.is_on() { vm.run().or(vm.mark.run) } else { None };
    match (question.history.aim(), &question.event.kind) {
        (Aim::Do, Kind::Start | Kind::Reboot(_)) => {
            Mark { run: present.or(Some(question.run())), wanted: Wanted::On, ..mark }
        }
        (Aim::Do, Kind::Stop(_)) => Mark { wanted: Wanted::Off, ..mark },
        (Aim::Do, Kind::Restore(_)) => Mark {
            disk: question.id(),
            run: if restored_on(question, vm) { Some(question.run()) } else { mark.run },
            ..mark
        },
        (Aim::Undo, _) => {
            let again = before.run.map(|_| run_after_undo(question.id()));
            let disk = before.disk.unwrap_or(mark.disk);
            let seed = before.seed.unwrap_or(mark.seed);
            Mark { run: present.or(again).or(mark.run), wanted: before.wanted, disk, seed, ..mark }
        }
        (Aim::Do, Kind::Create(_) | Kind::Snapshot(_) | Kind::Destroy(_) | Kind::Cancel(_)) => {
            vm.mark.clone()
        }
    }
}

/// Whether a restored VM is powered on: it was, or events want it so.
#[must_use]
pub fn restored_on(question: &Question<'_>, vm: &Vm<'_>) -> bool {
    let before = question.before(Some(vm));
    before.run.is_some() || before.wanted == Wanted::On
}

/// The run of a VM that undoing an event powers on again. Another than the event's own, which may have been; and the
/// same after a crash.
#[must_use]
pub fn run_after_undo(event: EventId) -> RunId {
    let digest = Sha256::new().chain_update(b"dewpoint undo ").chain_update(event.0.as_bytes()).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    RunId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}
