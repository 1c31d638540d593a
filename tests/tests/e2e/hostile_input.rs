//! Names, labels, keys and user-data full of tricks: refused by a named error before anything is written, or carried
//! through unharmed into the guest.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::limits;
use dewpoint_proto::wire::fleet::{CreateVmRequest, ListEventsRequest, ListVmsRequest};
use dewpoint_tests::caller::answer;
use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::host::files;
use dewpoint_tests::request;
use sha2::{Digest, Sha256};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ5dGVzIHRoYXQgbG9vayBsaWtlIGEga2V5IGhlcmU";

fn with(change: impl FnOnce(&mut CreateVmRequest)) -> CreateVmRequest {
    let mut request = request::vm("web");
    change(&mut request);
    request
}

/// What must be refused, and by which name.
fn refused() -> Vec<(&'static str, CreateVmRequest, &'static [Reason])> {
    const INVALID: &[Reason] = &[Reason::Invalid];
    const LARGE: &[Reason] = &[Reason::TooLarge, Reason::Invalid];
    let mut cases: Vec<(&str, CreateVmRequest, &[Reason])> = Vec::new();
    let names = [
        "",
        "-web",
        "web-",
        "we b",
        "../../etc/passwd",
        "web\n",
        "web'><x/>",
        "$(reboot)",
        "web;reboot",
        "wéb",
        "WEB\0",
        "a.b",
        "web\u{202e}",
    ];
    cases.extend(names.map(|name| (name, with(|vm| vm.name = name.to_owned()), INVALID)));
    cases.push(("a long name", with(|vm| vm.name = "w".repeat(64)), LARGE));
    cases.push(("no vCPU", with(|vm| vm.vcpus = 0), LARGE));
    cases.push(("many vCPUs", with(|vm| vm.vcpus = u32::MAX), LARGE));
    cases.push(("no memory", with(|vm| vm.memory_bytes = 0), LARGE));
    cases.push(("all memory", with(|vm| vm.memory_bytes = u64::MAX), LARGE));
    cases.push(("a disk below its image", with(|vm| vm.disk_bytes = limits::MIB), LARGE));
    cases.push(("a huge disk", with(|vm| vm.disk_bytes = u64::MAX), LARGE));
    let user_data = vec![b'#'; limits::USER_DATA_BYTES + 1];
    cases.push(("much user-data", with(|vm| vm.user_data = user_data.into()), LARGE));
    let two = format!("{KEY}\n{KEY}");
    cases.push(("two keys in one", with(|vm| vm.ssh_keys = vec![two]), INVALID));
    cases.push(("no key", with(|vm| vm.ssh_keys = vec!["\u{1b}[2J".to_owned()]), INVALID));
    let labels = (0..=limits::LABELS).map(|n| (format!("l{n}"), String::new())).collect();
    cases.push(("many labels", with(|vm| vm.labels = labels), LARGE));
    cases.push(("a label of control", with(|vm| drop(vm.labels.insert("a\nb".into(), "x".into()))), INVALID));
    cases.push((
        "an image's path",
        with(|vm| vm.image = "../../secret".to_owned()),
        &[Reason::Invalid, Reason::ImageNotFound],
    ));
    cases.push((
        "a network's path",
        with(|vm| vm.nics[0].network = "../x".to_owned()),
        &[Reason::Invalid, Reason::NetworkNotFound],
    ));
    cases.push((
        "an address elsewhere",
        with(|vm| vm.nics[0].address4 = "8.8.8.8".to_owned()),
        &[Reason::Invalid, Reason::NoAddress],
    ));
    cases.push(("an id of no kind", with(|vm| vm.vm_id = "../x".to_owned()), INVALID));
    cases
}

#[tokio::test]
async fn what_is_hostile_is_refused_by_name_before_anything_is_written() {
    let fleet = Fleet::start().await;
    for (what, request, reasons) in refused() {
        match fleet.caller.ask(request).await {
            Err(cause) => {
                assert!(reasons.contains(&cause.reason), "{what:?}: {cause:?}");
                assert!(!cause.text.is_empty() && !cause.text.contains('\n'), "{what:?}: {cause:?}");
            }
            Ok(event) => panic!("{what:?} was accepted: {event:#?}"),
        }
    }
    let events =
        answer(fleet.caller.events().list_events(ListEventsRequest::default()).await).unwrap().events;
    let vms = ListVmsRequest { include_gone: true, ..ListVmsRequest::default() };
    let vms = answer(fleet.caller.vms().list_vms(vms).await).unwrap().vms;
    assert!(events.is_empty() && vms.is_empty(), "{events:?} {vms:?}");
    assert!(fleet.domains().is_empty());
    assert!(files(&fleet.agent.data().join("vms")).is_empty());
}

#[tokio::test]
async fn what_is_strange_and_allowed_arrives_in_the_guest_unharmed() {
    let fleet = Fleet::start().await;
    let name = fleet.lab.name("x");
    let mut user_data: Vec<u8> = (0..=255).cycle().take(limits::USER_DATA_BYTES).collect();
    user_data[..40].copy_from_slice(b"#cloud-config\n]]></metadata>\n---\n'\"${x}`");
    let labels: [(&str, &str); 2] = [("team", "<b>&amp;'\"]]>"), ("note", "a: - [x] {y} #z")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let request = CreateVmRequest {
        user_data: user_data.clone().into(),
        labels: labels.clone().into(),
        ssh_keys: vec![format!("{KEY} it's \"me\" <x>&: #y")],
        ..request::vm(&name)
    };
    let vm = fleet.caller.done(request).await.vm_id;
    let facts = fleet.guest(&vm).await.until_up().await;
    assert_eq!(facts.user_data_sha256, hex::encode(Sha256::digest(&user_data)));
    assert_eq!((facts.hostname, facts.instance_id), (name, vm.clone()));
    assert_eq!(fleet.caller.vm(&vm).await.unwrap().labels, labels.into());
}
