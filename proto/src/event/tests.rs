//! Bytes from outside are hostile until parsed: whatever comes, it is an event or a cause, never a crash.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::spec::{DiskMode, ImageDigest, Nic, Placement};

fn image() -> ImageRef {
    ImageRef { digest: ImageDigest([7; 32]), size_bytes: 4096, virtual_size_bytes: 1 << 30, local_path: None }
}

fn spec() -> VmSpec {
    let nic = Nic {
        mac: "52:54:00:12:34:56".parse().unwrap(),
        network: None,
        bridge: Some("br0".parse().unwrap()),
        addresses: vec!["192.0.2.5/24".parse().unwrap(), "2001:db8::5/64".parse().unwrap()],
        gateway4: Some(Ipv4Addr::new(192, 0, 2, 1)),
        gateway6: None,
        nameservers: vec![Ipv4Addr::new(192, 0, 2, 53).into()],
    };
    VmSpec {
        name: "web".parse().unwrap(),
        vcpus: 2,
        memory_bytes: 1 << 30,
        disk_bytes: 2 << 30,
        disk_mode: DiskMode::Overlay,
        nics: vec![nic],
        ssh_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ0 me@example".into()],
        user_data: b"#cloud-config\n".to_vec(),
        labels: [("role".to_owned(), "web".to_owned())].into(),
        placement: Placement::Movable,
        restart: crate::spec::Restart::default(),
    }
}

fn kinds() -> Vec<Kind> {
    let timeout_seconds = Some(30);
    vec![
        Kind::Create(Box::new(Create { spec: spec(), source: image(), power: InitialPower::On })),
        Kind::Start,
        Kind::Stop(Stop { stubborn: Stubborn::Force, timeout_seconds }),
        Kind::Reboot(Reboot { manner: RebootManner::Soft, timeout_seconds }),
        Kind::Snapshot(Snapshot { image_name: Some("web-1".parse().unwrap()) }),
        Kind::Restore(Restore { source: image() }),
        Kind::Destroy(Destroy { disks: DiskDisposal::DeleteNow }),
        Kind::Cancel(Cancel { target: EventId(Uuid::from_u128(9)) }),
    ]
}

fn event(kind: Kind) -> Event {
    Event {
        id: EventId(Uuid::from_u128(1)),
        vm: VmId(Uuid::from_u128(2)),
        accepted_at: Millis(1_800_000_000_000),
        not_after: Some(Millis(1_800_000_060_000)),
        retry_of: Some(EventId(Uuid::from_u128(3))),
        note: "because".into(),
        kind,
    }
}

fn bodies() -> Vec<Body> {
    kinds().into_iter().map(|kind| Body::encode(event(kind)).unwrap()).collect()
}

/// What may be believed when it parses: it comes back the same.
fn believed(bytes: Vec<u8>) -> Result<Event, Cause> {
    let body = Body::decode(bytes.into())?;
    let again = Body::encode(body.event().clone()).unwrap();
    assert_eq!(Body::decode(again.bytes().clone()).unwrap().event(), body.event());
    Ok(body.event().clone())
}

#[test]
fn an_event_that_was_cut_short_is_a_cause_or_another_whole_event() {
    for body in bodies() {
        for length in 0..body.bytes().len() {
            if let Err(cause) = believed(body.bytes()[..length].to_vec()) {
                assert!(!cause.text.is_empty() && !cause.advice.is_empty(), "{length}: {cause:?}");
            }
        }
    }
}

#[test]
fn fields_from_the_future_are_kept_and_do_not_matter() {
    for body in bodies() {
        let mut bytes = body.bytes().to_vec();
        // Field 2000, with three bytes in it.
        bytes.extend([0x82, 0x7d, 3, 1, 2, 3]);
        let newer = Body::decode(bytes.clone().into()).unwrap();
        assert_eq!(newer.event(), body.event());
        assert_eq!(newer.bytes(), &bytes, "they are hashed and handed on as they came");
        assert_ne!(newer.digest(), body.digest());
    }
}

#[test]
fn a_kind_from_the_future_is_named_as_such() {
    let known = wire::Event { kind: None, ..event(Kind::Start).into() };
    let mut bytes = known.encode_to_vec();
    bytes.extend([0x82, 0x7d, 0]);
    assert_eq!(Body::decode(bytes.into()).unwrap_err().reason, Reason::UnknownKind);
}

#[test]
fn more_than_an_event_may_have_is_refused_unread() {
    let cause = Body::decode(vec![0xff; limits::EVENT_BYTES + 1].into()).unwrap_err();
    assert_eq!(cause.reason, Reason::TooLarge);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_an_event_or_a_cause(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = believed(bytes);
    }

    #[test]
    fn a_spoiled_event_is_an_event_or_a_cause(
        which in 0..8_usize,
        spoil in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = bodies().swap_remove(which).bytes().to_vec();
        for (at, byte) in spoil {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = believed(bytes);
    }
}
