//! The coordinator is away for long: what was reported meanwhile waits on disk and comes in order, a bounded number at a
//! time; and the host dials a bounded number of times.

use std::time::Duration;

use super::backoff::{Bounds, full_jitter};
use super::fake::{Host, soon};
use crate::journal::fixture::{Folder, body, delivered, id, reboot, vm};

/// More than may be in flight.
const REPORTS: u64 = 400;

#[tokio::test]
async fn all_that_was_reported_while_apart_comes_in_order_and_never_too_much_at_once() {
    let folder = Folder::new();
    let journal = folder.open();
    for seq in 1..=REPORTS {
        journal.admit(delivered(seq, body(id(seq.into()), vm(99), reboot()))).await.unwrap();
    }
    let (host, mut coordinator) = Host::on(folder, journal, 4);
    // Sessions that break before anything is acknowledged lose nothing.
    for _ in 0..3 {
        drop(coordinator.welcomed(1, 0).await);
    }
    let (mut session, hello) = coordinator.welcomed(1, 0).await;
    assert_eq!(hello.last_report_seq, REPORTS);
    let mut acknowledged = 0;
    while acknowledged < REPORTS {
        let report = session.report().await.report_seq;
        assert!(report <= acknowledged + 128, "{report} is in flight, {acknowledged} is acknowledged");
        if report > acknowledged {
            assert_eq!(report, acknowledged + 1);
            acknowledged = report;
            session.acknowledge(acknowledged).await;
        }
    }
    let kept = async {
        while host.journal.tail().await.unwrap().acknowledged.0 < REPORTS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(kept).await;
}

/// A day of dialling, in no time: each wait is drawn as the link draws it.
#[test]
fn a_day_apart_is_a_bounded_number_of_dials() {
    let bounds = Bounds::default();
    let (mut dials, mut apart) = (0_u32, Duration::ZERO);
    while apart < Duration::from_secs(24 * 3600) {
        dials += 1;
        apart += full_jitter(bounds, dials, rand::random());
    }
    // Half of the longest wait, on average.
    assert!((4_000..9_000).contains(&dials), "{dials}");
}
