//! Who a host is, over restarts, copies, and power loss.

mod power_loss;

use super::*;

fn machine(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn the_id_outlives_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let first = read_or_make(dir.path(), machine("a")).unwrap();
    assert_eq!(read_or_make(dir.path(), machine("a")).unwrap(), first);
    assert_eq!(read(dir.path()).unwrap(), Some(first));
}

#[test]
fn none_is_made_beside_marked_vms() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("vms/x")).unwrap();
    std::fs::write(dir.path().join("vms/x/vm.json"), "{}").unwrap();
    let cause = read_or_make(dir.path(), machine("a")).unwrap_err();
    assert!(cause.advice.contains("backup"), "{cause:?}");
    assert!(!dir.path().join(FILE).exists());
}

#[test]
fn a_copied_disk_is_not_believed_on_another_machine() {
    let dir = tempfile::tempdir().unwrap();
    read_or_make(dir.path(), machine("a")).unwrap();
    assert_eq!(read_or_make(dir.path(), machine("b")).unwrap_err().reason, Reason::Diverged);
    read_or_make(dir.path(), None).unwrap();
}

#[test]
fn the_id_is_read_off_the_marks_when_its_file_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let host = HostId::fresh();
    for vm in ["x", "y"] {
        std::fs::create_dir_all(dir.path().join("vms").join(vm)).unwrap();
        let mark = format!("{{\"vm\":\"{}\",\"host\":\"{host}\"}}", HostId::fresh());
        std::fs::write(dir.path().join("vms").join(vm).join("vm.json"), mark).unwrap();
    }
    let cause = read_or_make(dir.path(), machine("a")).unwrap_err();
    assert!(cause.advice.contains(&format!("--take {host}")), "{cause:?}");
    let home = Home { data_dir: dir.path().to_owned(), product_uuid: machine("a") };
    home.take_id(host).unwrap();
    assert_eq!(read_or_make(dir.path(), machine("a")).unwrap().host_id, host);
}

/// A mainboard was replaced, and a person says so.
#[test]
fn another_machine_is_accepted_on_a_persons_word() {
    let dir = tempfile::tempdir().unwrap();
    let host = read_or_make(dir.path(), machine("a")).unwrap().host_id;
    assert!(read_or_make(dir.path(), machine("b")).unwrap_err().advice.contains("--accept-machine"));
    Home { data_dir: dir.path().to_owned(), product_uuid: machine("b") }.take_id(host).unwrap();
    assert_eq!(read_or_make(dir.path(), machine("b")).unwrap().host_id, host);
    read_or_make(dir.path(), machine("a")).unwrap_err();
}

#[test]
fn the_unit_hands_on_what_only_root_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let (credentials, dmi) = (dir.path().join("credentials"), dir.path().join("product_uuid"));
    std::fs::create_dir(&credentials).unwrap();
    let told = |text: &str| {
        std::fs::write(credentials.join(CREDENTIAL), text).unwrap();
        product_uuid_in(Some(&credentials), &dmi)
    };
    assert_eq!(told("4C4C-1\n"), machine("4c4c-1"));
    assert_eq!(told(UNTOLD), None);
    std::fs::write(&dmi, "4C4C-2\n").unwrap();
    assert_eq!(product_uuid_in(None, &dmi), machine("4c4c-2"));
    let unit = include_str!("../../../systemd/dewpoint-agent.service");
    assert!(unit.contains(&format!("\nLoadCredential={CREDENTIAL}:{PRODUCT_UUID}\n")));
    assert!(unit.contains(&format!("\nSetCredential={CREDENTIAL}:{UNTOLD}\n")));
}

#[test]
fn one_agent_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let held = lock(dir.path()).unwrap();
    assert!(lock(dir.path()).unwrap_err().text.contains(&std::process::id().to_string()));
    drop(held);
    lock(dir.path()).unwrap();
}
