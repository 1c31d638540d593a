use super::*;

fn network(first: &str, last: &str) -> NetworkSpec {
    NetworkSpec {
        name: "lan".parse().unwrap(),
        bridge: None,
        ipv4: Some(Pool4 {
            subnet: "192.0.2.0/24".parse().unwrap(),
            gateway: Some("192.0.2.1".parse().unwrap()),
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
        }),
        ipv6: Some(Pool6 { subnet: "2001:db8::/64".parse().unwrap(), gateway: None }),
        nameservers: Vec::new(),
    }
}

fn any() -> NicRequest {
    NicRequest { network: "lan".parse().unwrap(), address4: None, address6: None }
}

fn four(nic: &Nic) -> String {
    nic.addresses[0].to_string()
}

#[test]
fn addresses_are_given_out_once_and_the_gateway_never() {
    let (mut pools, spec) = (Pools::default(), network("192.0.2.1", "192.0.2.3"));
    let first = pools.choose(&spec, &any()).unwrap();
    let second = pools.choose(&spec, &any()).unwrap();
    assert_eq!([four(&first), four(&second)], ["192.0.2.2/24", "192.0.2.3/24"]);
    assert_ne!(first.mac, second.mac);
    assert_eq!(pools.choose(&spec, &any()).unwrap_err().reason, Reason::NoAddress);
    pools.release([(&spec.name, first.addresses[0].address)]);
    assert_eq!(four(&pools.choose(&spec, &any()).unwrap()), "192.0.2.2/24");
}

#[test]
fn a_wanted_address_is_of_the_network_and_free() {
    let (mut pools, spec) = (Pools::default(), network("192.0.2.10", "192.0.2.20"));
    let want = |text: &str| NicRequest { address4: Some(text.parse().unwrap()), ..any() };
    assert_eq!(four(&pools.choose(&spec, &want("192.0.2.200")).unwrap()), "192.0.2.200/24");
    assert_eq!(pools.choose(&spec, &want("192.0.2.200")).unwrap_err().reason, Reason::NoAddress);
    for wrong in ["198.51.100.1", "192.0.2.0", "192.0.2.255", "192.0.2.1"] {
        assert_eq!(pools.choose(&spec, &want(wrong)).unwrap_err().reason, Reason::Invalid, "{wrong}");
    }
}

#[test]
fn a_refused_nic_holds_nothing() {
    let (mut pools, mut spec) = (Pools::default(), network("192.0.2.10", "192.0.2.10"));
    spec.ipv6 = None;
    let wrong = NicRequest { address6: Some("2001:db8::5".parse().unwrap()), ..any() };
    assert_eq!(pools.choose(&spec, &wrong).unwrap_err().reason, Reason::Invalid);
    assert_eq!(four(&pools.choose(&spec, &any()).unwrap()), "192.0.2.10/24");
}
