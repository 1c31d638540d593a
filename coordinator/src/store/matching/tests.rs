use dewpoint_proto::ids::HostId;

use super::*;

const OURS: u128 = 0x11;
const OTHER: u128 = 0x22;

fn journal(id: u128) -> JournalId {
    JournalId(uuid::Uuid::from_u128(id))
}

fn event(id: u128) -> Option<EventId> {
    Some(EventId(uuid::Uuid::from_u128(id)))
}

fn hello(id: u128, last_seq: u64, at: Option<EventId>, last_report: u64) -> Hello {
    Hello {
        protocol: 2,
        host: HostId(uuid::Uuid::from_u128(1)),
        journal: journal(id),
        start_count: 1,
        last_seq: Seq(last_seq),
        last_seq_event: at,
        last_report: ReportSeq(last_report),
        agent_version: "0.1.0".into(),
        hostname: "h1".into(),
        product_uuid: None,
        doubt: None,
    }
}

fn ours(last: u64, accepted: u64, report: u64, event_there: Option<EventId>) -> Option<OurLog> {
    Some(OurLog {
        journal: journal(OURS),
        last_seq: Seq(last),
        accepted_seq: Seq(accepted),
        last_report: ReportSeq(report),
        event_there,
        product_uuid: Some("one".into()),
        goes_on_at: None,
    })
}

#[derive(Debug, PartialEq)]
enum Want {
    New,
    After(u64),
    Diverged,
    Recovering,
}

fn came(found: &LogMatch) -> Want {
    match found {
        LogMatch::New => Want::New,
        LogMatch::Matched { after } => Want::After(after.0),
        LogMatch::Diverged(_) => Want::Diverged,
        LogMatch::Recovering(_) => Want::Recovering,
    }
}

/// Every way in which two logs can stand to each other, and the one answer (promise 11).
#[test]
fn each_pair_of_logs_has_one_answer() {
    let table = [
        ("first contact", hello(OURS, 0, None, 0), None, Want::New),
        ("first contact, with local events", hello(OURS, 0, None, 9), None, Want::New),
        ("our database is lost", hello(OURS, 4, event(4), 2), None, Want::Recovering),
        ("nothing was ever delivered", hello(OURS, 0, None, 0), ours(3, 0, 0, None), Want::After(0)),
        ("all delivered", hello(OURS, 3, event(3), 1), ours(3, 3, 1, event(3)), Want::After(3)),
        ("an acknowledgement was lost", hello(OURS, 3, event(3), 1), ours(5, 1, 1, event(3)), Want::After(3)),
        ("reports not stored yet", hello(OURS, 3, event(3), 8), ours(3, 3, 1, event(3)), Want::After(3)),
        ("our database is older", hello(OURS, 4, event(4), 1), ours(3, 3, 1, None), Want::Recovering),
        ("its journal is older", hello(OURS, 2, event(2), 1), ours(3, 3, 1, event(2)), Want::Diverged),
        ("its reports are older", hello(OURS, 3, event(3), 1), ours(3, 3, 2, event(3)), Want::Diverged),
        ("its disk is a clone", hello(OURS, 3, event(7), 1), ours(3, 3, 1, event(3)), Want::Diverged),
        ("an event without id", hello(OURS, 3, None, 1), ours(3, 3, 1, event(3)), Want::Diverged),
        ("a lost journal", hello(OTHER, 0, None, 0), ours(3, 3, 1, None), Want::Diverged),
        ("a lost journal, unfinished", hello(OTHER, 0, None, 0), ours(3, 0, 0, None), Want::Diverged),
        ("a lost journal with local events", hello(OTHER, 0, None, 0), ours(0, 0, 1, None), Want::Diverged),
        ("a new journal before any event", hello(OTHER, 0, None, 0), ours(0, 0, 0, None), Want::New),
        ("another coordinator's journal", hello(OTHER, 2, event(2), 0), ours(0, 0, 0, None), Want::Diverged),
    ];
    for (name, hello, ours, want) in table {
        let found = match_host(&hello, ours.as_ref());
        assert_eq!(came(&found), want, "{name}: {found:?}");
    }
}

/// A host was ahead, and its queue was made to go on there: with what nobody gave it since it stops nobody but itself.
#[test]
fn a_host_that_is_ahead_of_where_its_queue_goes_on_diverges_alone() {
    let went_on = OurLog { goes_on_at: Some(Seq(9)), ..ours(9, 9, 1, event(9)).unwrap() };
    assert_eq!(came(&match_host(&hello(OURS, 9, event(9), 1), Some(&went_on))), Want::After(9));
    let found = match_host(&hello(OURS, 10, event(10), 1), Some(&went_on));
    let LogMatch::Diverged(cause) = found else { panic!("{found:?}") };
    assert!(cause.advice.contains("host reconcile"), "{cause:?}");
    assert_eq!(cause.fields["goes_on_after_seq"], "9");
}

/// A mainboard was replaced, or a disk was cloned: the logs may match, and still a person looks.
#[test]
fn another_machine_diverges_and_its_logs_match_all_the_same() {
    let ours = ours(3, 3, 1, event(3)).unwrap();
    let on = |machine: &str| Hello { product_uuid: Some(machine.into()), ..hello(OURS, 3, event(3), 1) };
    assert_eq!(came(&match_host(&on("one"), Some(&ours))), Want::After(3));
    assert_eq!(came(&match_host(&on("two"), Some(&ours))), Want::Diverged);
    assert_eq!(came(&match_logs(&on("two"), Some(&ours))), Want::After(3));
    let first = OurLog { product_uuid: None, ..ours };
    assert_eq!(came(&match_host(&on("two"), Some(&first))), Want::After(3), "the first that is told is kept");
}

#[test]
fn an_agent_that_doubts_its_journal_is_believed() {
    let ours = ours(3, 3, 1, event(3)).unwrap();
    let doubt = Some(Cause::new(Reason::JournalLost, "an older copy"));
    let found = match_host(&Hello { doubt, ..hello(OURS, 3, event(3), 1) }, Some(&ours));
    assert!(matches!(&found, LogMatch::Diverged(cause) if cause.text.contains("older copy")), "{found:?}");
}
