use super::*;

const ENTRIES: [Entry; 9] = [
    Entry::Assigned,
    Entry::Accepted,
    Entry::Running,
    Entry::Ended(End::Succeeded),
    Entry::Ended(End::Failed),
    Entry::Ended(End::Refused),
    Entry::Ended(End::Expired),
    Entry::Ended(End::Cancelled),
    Entry::JournalLost,
];

#[test]
fn an_end_is_final() {
    for stage in Stage::ALL.into_iter().filter(|stage| stage.has_ended()) {
        for entry in ENTRIES {
            assert!(!matches!(stage.after(entry), Ok(After::Moved(_))), "{stage} moved by {entry:?}");
        }
    }
}

#[test]
fn no_stage_goes_back() {
    for stage in Stage::ALL {
        for entry in ENTRIES {
            if let Ok(After::Moved(next)) = stage.after(entry) {
                assert!(next > stage, "{stage} went back to {next} by {entry:?}");
            }
        }
    }
}

#[test]
fn a_person_answers_for_a_host_once_and_later_only_for_what_nobody_knew() {
    for ends in [ForcedAs::Failed, ForcedAs::Succeeded, ForcedAs::Unknown] {
        for stage in Stage::ALL {
            let allowed = match stage {
                Stage::Assigned | Stage::Accepted | Stage::Running => true,
                Stage::Unknown => ends != ForcedAs::Unknown,
                _ => false,
            };
            let moved = stage.after(Entry::Forced(ends));
            assert_eq!(moved == Ok(After::Moved(ends.stage())), allowed, "{stage} as {ends:?}");
        }
    }
}

#[test]
fn what_was_never_assigned_is_neither_begun_nor_failed() {
    for entry in [Entry::Accepted, Entry::Running, Entry::Ended(End::Failed), Entry::JournalLost] {
        assert!(Stage::Pending.after(entry).is_err(), "{entry:?}");
    }
}

#[test]
fn a_later_report_that_differs_is_told_apart() {
    assert_eq!(Stage::Unknown.after(Entry::Ended(End::Succeeded)), Ok(After::Contradicted));
    assert_eq!(Stage::Succeeded.after(Entry::Ended(End::Succeeded)), Ok(After::Same));
    assert_eq!(Stage::Succeeded.after(Entry::Ended(End::Failed)), Ok(After::Contradicted));
}

#[test]
fn names_come_back() {
    for stage in Stage::ALL {
        assert_eq!(Stage::from_name(stage.as_str()), Some(stage));
    }
    assert_eq!(Stage::from_name("Pending"), None);
}
