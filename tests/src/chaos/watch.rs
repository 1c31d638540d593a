//! Watches QEMUs from outside: processes by `/proc`, runs and disks by the files in which libvirt keeps its running
//! domains' state. Both are there whether libvirt answers or not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::history::{History, Seen, What};
use crate::host::{Place, Qemu, mark_in, qemus, started};

/// Between two looks.
const BETWEEN: Duration = Duration::from_millis(200);

/// Looks for as long as it is let, and notes what changed.
pub async fn run(dir: PathBuf, place: Place, history: History) {
    let mut looks = interval(BETWEEN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = BTreeMap::new();
    loop {
        looks.tick().await;
        let (dir, states) = (dir.clone(), place.states());
        let Ok(looked) = tokio::task::spawn_blocking(move || look(&dir, &states)).await else { return };
        note(&mut before, looked, &history);
    }
}

/// What one look showed.
#[derive(Debug, Default)]
struct Looked {
    qemus: Vec<Qemu>,
    states: BTreeMap<String, (u32, Seen)>,
}

fn look(dir: &Path, states: &Path) -> Looked {
    // States first: a process that a state names and that is not there any more is seen to be gone.
    let states = state_files(states);
    Looked { qemus: qemus(dir), states }
}

fn note(before: &mut BTreeMap<String, Seen>, looked: Looked, history: &History) {
    let mut now: BTreeMap<String, Seen> = BTreeMap::new();
    for (vm, qemus) in by_vm(looked.qemus) {
        if qemus.len() > 1 {
            history.add(What::Twice { vm: vm.clone(), pids: qemus.iter().map(|qemu| qemu.pid).collect() });
        }
        let newest = &qemus[qemus.len() - 1];
        let state = looked.states.get(&vm).filter(|(pid, _)| *pid == newest.pid);
        let told = state.map(|(_, seen)| seen.clone()).unwrap_or_default();
        now.insert(vm, Seen { qemu: Some((newest.pid, newest.started.clone())), ..told });
    }
    for vm in before.keys() {
        now.entry(vm.clone()).or_default();
    }
    for (vm, seen) in &now {
        if before.get(vm) != Some(seen) {
            history.add(What::Seen { vm: vm.clone(), run: seen.clone() });
        }
    }
    *before = now;
}

/// Those that still are what they were: one look takes time, in which one ends and another begins.
fn by_vm(found: Vec<Qemu>) -> BTreeMap<String, Vec<Qemu>> {
    let mut by_vm: BTreeMap<String, Vec<Qemu>> = BTreeMap::new();
    for qemu in found {
        by_vm.entry(qemu.uuid.clone()).or_default().push(qemu);
    }
    for qemus in by_vm.values_mut().filter(|qemus| qemus.len() > 1) {
        qemus.retain(|qemu| started(qemu.pid).as_ref() == Some(&qemu.started));
    }
    by_vm.retain(|_, qemus| !qemus.is_empty());
    by_vm
}

fn state_files(dir: &Path) -> BTreeMap<String, (u32, Seen)> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "xml"))
        .filter_map(|path| parsed(&std::fs::read_to_string(path).ok()?))
        .collect()
}

/// The state that libvirt keeps of a running domain: `<domstatus state= reason= pid=>`, with the domain in it.
fn parsed(xml: &str) -> Option<(String, (u32, Seen))> {
    let head = xml.split("<domstatus ").nth(1)?.split('>').next()?;
    let attribute =
        |name: &str| head.split(&format!("{name}='")).nth(1)?.split('\'').next().map(str::to_owned);
    let vm = xml.split("<uuid>").nth(1)?.split("</uuid>").next()?.to_owned();
    let seen = Seen {
        qemu: None,
        run: mark_in(xml, "run"),
        disk: mark_in(xml, "disk"),
        generation: mark_in(xml, "generation").and_then(|text| text.parse().ok()),
        state: format!("{}/{}", attribute("state")?, attribute("reason")?),
    };
    Some((vm, (attribute("pid")?.parse().ok()?, seen)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "<!--\nWARNING\n-->\n<domstatus state='running' reason='booted' pid='4711'>\n<taint flag='x'/>\
        <domain type='qemu' id='3'><name>web</name><uuid>6f1c3c1e-0000-4000-8000-000000000001</uuid><metadata>\
        <dewpoint:mark xmlns:dewpoint=\"https://dewpoint.dev/ns/domain/1\" vm=\"v\" generation=\"4\" disk=\"d\" run=\"r\"/>\
        </metadata></domain></domstatus>";

    #[test]
    fn libvirts_state_tells_process_run_and_disk() {
        let (vm, (pid, seen)) = parsed(STATE).unwrap();
        assert_eq!((vm.as_str(), pid), ("6f1c3c1e-0000-4000-8000-000000000001", 4711));
        assert_eq!(
            (seen.run.as_deref(), seen.disk.as_deref(), seen.generation),
            (Some("r"), Some("d"), Some(4))
        );
        assert_eq!(seen.state, "running/booted");
        assert!(parsed("<domstatus state='run").is_none(), "half a file is none");
    }
}
