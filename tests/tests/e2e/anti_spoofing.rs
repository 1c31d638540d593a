//! A guest sends with its own addresses and with no others; each kind of lie is tried by a real guest.

use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::request;
use dewpoint_tests::shell;
use dewpoint_tests::wire::Wiretap;

const HONEST: [&str; 3] = ["honest", "honest6", "honestarp"];
const FALSE: [&str; 7] = ["mac", "arp", "arpmac", "ipv4", "ipv6", "ndp", "vlan"];

#[tokio::test]
async fn no_lie_of_a_guest_reaches_the_host_or_a_neighbour() {
    let mut fleet = Fleet::start().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("liar"))).await.vm_id;
    let guest = fleet.guest(&vm).await;
    guest.until_up().await;
    let mut wire = Wiretap::on(&fleet.lab);

    // The rules do not live with the agent.
    fleet.agent.kill();
    let mut lies = Vec::new();
    for kind in FALSE {
        let spoofed = guest.spoof(kind).await;
        assert!(spoofed.sent > 0, "the guest sent no {kind}");
        lies.push((kind, hex::decode(&spoofed.frame).unwrap()));
        // An honest frame that comes after it proves that it would have come.
        honest_arrives(&mut wire, &guest, "honest").await;
    }
    for kind in HONEST {
        honest_arrives(&mut wire, &guest, kind).await;
    }
    for (kind, frame) in lies {
        assert!(!wire.has(&frame, &format!("tiny-spoof kind={kind}")), "a false {kind} came through");
    }

    // A neighbour's rules come and go without it.
    fleet.agent.start().await;
    let other = fleet.caller.done(request::vm(&fleet.lab.name("other"))).await.vm_id;
    fleet.caller.done(request::destroy_now(&other)).await;
    let spoofed = guest.spoof("ipv4").await;
    let frame = hex::decode(&spoofed.frame).unwrap();
    honest_arrives(&mut wire, &guest, "honest6").await;
    assert!(!wire.has(&frame, "tiny-spoof kind=ipv4"), "a false ipv4 came through after a neighbour went");

    // Without the rules every lie arrives: it was they that held it back, and the watcher would have seen it.
    shell::run("nft", ["delete", "table", "bridge", &fleet.lab.table()]);
    for kind in FALSE {
        let spoofed = guest.spoof(kind).await;
        wire.until_has(&hex::decode(&spoofed.frame).unwrap(), &format!("tiny-spoof kind={kind}")).await;
    }
}

async fn honest_arrives(wire: &mut Wiretap, guest: &dewpoint_tests::guest::Guest, kind: &str) {
    wire.forget();
    let sent = guest.spoof(kind).await;
    let frame = hex::decode(&sent.frame).unwrap();
    let text = if kind == "honestarp" { "\0no text\0".to_owned() } else { format!("tiny-spoof kind={kind}") };
    wire.until_has(&frame, &text).await;
}
