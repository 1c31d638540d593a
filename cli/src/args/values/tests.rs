use dewpoint_proto::cause::Reason;

use super::*;

#[track_caller]
fn refused<T: FromStr<Err = Cause> + fmt::Debug>(text: &str) {
    let cause = text.parse::<T>().expect_err(text);
    assert_eq!(cause.reason, Reason::Invalid, "{text}");
    assert!(!cause.advice.is_empty(), "{text}: no advice");
}

#[test]
fn sizes_are_binary_and_whole() {
    let size = |text: &str| text.parse::<Size>().unwrap().0;
    assert_eq!(size("512MiB"), 512 << 20);
    assert_eq!(size("2GiB"), 2 << 30);
    assert_eq!(size("2G"), 2 << 30);
    assert_eq!(size("2g"), 2 << 30);
    assert_eq!(size("1048576"), 1 << 20);
    assert_eq!(size("16TiB"), 16 << 40);
    for wrong in ["", "GiB", "2GB", "1.5GiB", "-1", "2 GiB", "99999999999999999999", "17179869184TiB", "0x10"]
    {
        refused::<Size>(wrong);
    }
}

#[test]
fn durations_are_more_than_nothing_and_less_than_forever() {
    assert_eq!("90s".parse::<Span>().unwrap().0, Duration::from_secs(90));
    assert_eq!("1h 30m".parse::<Span>().unwrap().0, Duration::from_secs(5400));
    for wrong in ["", "0s", "5", "-5s", "1000years", "soon"] {
        refused::<Span>(wrong);
    }
    assert_eq!("1500ms".parse::<Span>().unwrap().guest_seconds().unwrap(), 2);
    assert!("2h".parse::<Span>().unwrap().guest_seconds().is_err());
}

#[test]
fn a_deadline_is_an_instant_or_a_span_from_now() {
    let at = |text: &str| text.parse::<NotAfter>().unwrap().at(Millis(1_000));
    assert_eq!(at("5s"), Millis(6_000));
    assert_eq!(at("2023-11-14T22:13:20Z"), Millis(1_700_000_000_000));
    refused::<NotAfter>("tomorrow");
}

#[test]
fn vms_hosts_and_images_go_by_name_or_id() {
    let id = "018F3C5E-7C1A-7D3E-9A5B-2F6D8C4B1A90";
    assert_eq!(id.parse::<VmRef>().unwrap().to_string(), id.to_lowercase());
    assert_eq!("web".parse::<VmRef>().unwrap().to_string(), "web");
    assert!(matches!(id.parse::<HostRef>().unwrap(), HostRef::Id(_)));
    assert_eq!("hv1.example".parse::<HostRef>().unwrap().to_string(), "hv1.example");
    let digest = "AB".repeat(32);
    assert_eq!(digest.parse::<ImageArg>().unwrap().to_string(), digest.to_lowercase());
    assert_eq!(format!("sha256:{digest}").parse::<ImageArg>().unwrap().to_string(), digest.to_lowercase());
    assert_eq!("debian-12".parse::<ImageArg>().unwrap().to_string(), "debian-12");
    for wrong in ["", "Web", "../x", "a b", "<x/>", "$(id)"] {
        refused::<VmRef>(wrong);
    }
    for wrong in ["", "a b", "a/b", "hv1;id"] {
        refused::<HostRef>(wrong);
    }
    for wrong in ["", "../x", "a b"] {
        refused::<ImageArg>(wrong);
    }
}

#[test]
fn nics_name_a_network_and_at_most_an_address_of_each_family() {
    let nic: NicArg = "lan,ip=192.0.2.5,ip=2001:DB8::5".parse().unwrap();
    assert_eq!(
        (nic.network.as_str(), nic.address4.as_str(), nic.address6.as_str()),
        ("lan", "192.0.2.5", "2001:db8::5")
    );
    assert_eq!("lan".parse::<NicArg>().unwrap().address4, "");
    for wrong in
        ["", ",ip=192.0.2.5", "lan,192.0.2.5", "lan,ip=", "lan,ip=192.0.2.5,ip=192.0.2.6", "lan,mac=x"]
    {
        refused::<NicArg>(wrong);
    }
}

#[test]
fn labels_and_pools() {
    let label: Label = "team=a=b".parse().unwrap();
    assert_eq!((label.key.as_str(), label.value.as_str()), ("team", "a=b"));
    refused::<Label>("team");
    refused::<Label>("=x");
    refused::<Label>("a b=x");
    let pool: Pool4 = "192.0.2.10-192.0.2.99".parse().unwrap();
    assert_eq!(pool.last, Ipv4Addr::new(192, 0, 2, 99));
    refused::<Pool4>("192.0.2.99-192.0.2.10");
    refused::<Pool4>("192.0.2.0/24");
}
