//! Whatever happens in whatever order: a VM is never started against what is wanted, twice at once, too early, or too
//! often; and the keeper always comes to rest.

use proptest::prelude::*;

use super::*;

/// Something that happens.
#[derive(Clone, Debug)]
enum Happens {
    GoesOff(&'static str),
    Hangs,
    Time(u64),
    AgentRestarts,
    LibvirtForgets,
    HostBoots,
    Wanted(bool),
    EventBegins,
    EventEnds,
    StartedByHand,
    StartsFail(bool),
    StartsAreCutOff(bool),
    Held(bool),
}

fn happens() -> impl Strategy<Value = Happens> {
    let off = prop::sample::select(vec![
        "shutoff/crashed",
        "shutoff/shutdown",
        "shutoff/destroyed",
        "shutoff/unknown",
        "shutoff/migrated",
        "shutoff/saved",
    ]);
    prop_oneof![
        4 => off.prop_map(Happens::GoesOff),
        4 => (0_u64..1_000).prop_map(Happens::Time),
        1 => Just(Happens::Hangs),
        1 => Just(Happens::AgentRestarts),
        1 => Just(Happens::LibvirtForgets),
        1 => Just(Happens::HostBoots),
        1 => any::<bool>().prop_map(Happens::Wanted),
        1 => Just(Happens::EventBegins),
        2 => Just(Happens::EventEnds),
        1 => Just(Happens::StartedByHand),
        1 => any::<bool>().prop_map(Happens::StartsFail),
        1 => any::<bool>().prop_map(Happens::StartsAreCutOff),
        1 => any::<bool>().prop_map(Happens::Held),
    ]
}

/// What is counted while it happens.
struct Run {
    host: Host,
    fails: bool,
    cut: bool,
    /// Starts by policy since the last event, boot, or good run.
    in_a_row: u32,
    power_ons: Vec<RunId>,
    went_off: Moment,
}

impl Run {
    fn new(restart: Restart) -> Self {
        let host = Host::with(restart);
        let now = host.now;
        Self { host, fails: false, cut: false, in_a_row: 0, power_ons: Vec::new(), went_off: now }
    }

    fn happens(&mut self, what: &Happens) {
        let host = &mut self.host;
        let on = host.there().power == Power::Running;
        match *what {
            Happens::GoesOff(detail) if on => {
                host.goes_off(detail, &[]);
                self.went_off = host.now;
            }
            Happens::Hangs if on => {
                host.there().power = Power::Crashed;
                host.there().detail = "crashed/panicked".to_owned();
                self.went_off = host.now;
            }
            Happens::Time(seconds) => host.passes(Duration::from_secs(seconds)),
            Happens::AgentRestarts => host.heard.clear(),
            Happens::LibvirtForgets if !host.there().is_on() => {
                host.there().detail = "shutoff/unknown".to_owned()
            }
            Happens::HostBoots => self.boots(),
            Happens::Wanted(on) if host.row.unfinished => {
                host.row.wanted = if on { Wanted::On } else { Wanted::Off };
            }
            Happens::EventBegins => host.row.unfinished = true,
            Happens::EventEnds if host.row.unfinished => self.event_ends(),
            Happens::StartedByHand if !host.there().is_on() => {
                let run = host.there().mark.there().unwrap().run.unwrap();
                host.runs(run);
            }
            Happens::StartsFail(fails) => self.fails = fails,
            Happens::StartsAreCutOff(cut) => self.cut = cut,
            Happens::Held(held) => host.held = held,
            _ => {}
        }
        self.keeps();
    }

    /// As the journal does it when it is opened.
    fn boots(&mut self) {
        let host = &mut self.host;
        host.goes_off("shutoff/unknown", &[]);
        host.now.boot = BootId(Uuid::now_v7());
        host.now.since_boot_ms = 60_000;
        if host.row.wanted == Wanted::On {
            let (what, run) = (IncidentKind::HostWentDown, host.row.run);
            host.row.kept = Kept { noted: Some(Noted { what, run, at: host.now }), ..Kept::default() };
        }
        self.in_a_row = 0;
        self.went_off = host.now;
    }

    /// It leaves the VM as it is wanted, under a run of its own.
    fn event_ends(&mut self) {
        let host = &mut self.host;
        host.row.unfinished = false;
        match host.row.wanted {
            Wanted::On => {
                let run = RunId::fresh();
                host.row.run = Some(run);
                host.runs(run);
                self.power_ons.push(run);
                self.in_a_row = 0;
            }
            Wanted::Off => host.goes_off("shutoff/destroyed", &[]),
        }
    }

    /// What the lane does, until there is nothing to do.
    fn keeps(&mut self) {
        for _ in 0..8 {
            let decided = self.host.decides();
            if matches!(decided, Keep::Start(_) | Keep::PowerOff) {
                self.may_start();
            }
            match decided {
                Keep::Note(kept) => {
                    assert_ne!(*kept, self.host.row.kept, "nothing is noted twice");
                    self.host.row.kept = *kept;
                    self.host.heard.clear();
                }
                Keep::Start(by) => {
                    if self.starts(by) {
                        return;
                    }
                }
                Keep::PowerOff => self.host.goes_off("shutoff/destroyed", &[]),
                Keep::Rest | Keep::Wait(_) | Keep::Leave(_) => return,
            }
        }
        panic!("it does not come to rest: {:?}", self.host);
    }

    fn may_start(&self) {
        let host = &self.host;
        assert!(!host.row.unfinished && !host.held && host.row.wanted == Wanted::On, "{host:?}");
        let noted = host.row.kept.noted.as_ref().expect("what is started was noted");
        if noted.what != IncidentKind::HostWentDown {
            let restart = host.row.spec.as_ref().unwrap().restart;
            assert_ne!(restart, Restart::Never);
            assert!(restart == Restart::Always || !super::super::incident::was_meant(noted.what), "{host:?}");
            if !host.row.kept.starting {
                assert!(host.now.since(&self.went_off) >= host.bounds.backoff_first, "{host:?}");
            }
        }
        assert!(!matches!(noted.what, IncidentKind::MigratedAway | IncidentKind::SavedByHand));
    }

    /// True: the agent was cut off.
    fn starts(&mut self, by: StartAs) -> bool {
        let host = &mut self.host;
        assert!(!host.there().is_on(), "started while it is on: {host:?}");
        let run = match by {
            StartAs::Again(run) => run,
            StartAs::New => {
                let ran_well =
                    host.row.kept.last.is_some_and(|last| host.now.since(&last) >= host.bounds.steady);
                self.in_a_row = if ran_well { 1 } else { self.in_a_row + 1 };
                let run = RunId::fresh();
                host.row.kept = begun(&host.row.kept, run, host.now);
                host.row.run = Some(run);
                run
            }
        };
        assert!(self.in_a_row <= host.bounds.limit, "too often in a row: {host:?}");
        if self.cut {
            // Journaled, and no more.
            self.cut = false;
            return true;
        }
        if self.fails {
            let cause = dewpoint_proto::cause::Cause::new(Reason::HypervisorError, "it failed");
            host.row.kept = failed(&host.row.kept, &cause, host.now);
            host.there().mark = Seen::There(mark(run));
            self.went_off = host.now;
            return false;
        }
        host.runs(run);
        assert!(!self.power_ons.contains(&run), "a run is powered on twice");
        self.power_ons.push(run);
        host.row.kept = answered(&host.row.kept);
        false
    }
}

proptest! {
    #[test]
    fn whatever_happens_a_vm_is_started_only_when_it_may_be(
        restart in prop::sample::select(Restart::ALL.to_vec()),
        all in prop::collection::vec(happens(), 1..60),
    ) {
        let mut run = Run::new(restart);
        for what in &all {
            run.happens(what);
        }
        // In the end, with time and no more trouble, what is wanted on and may be started is on.
        run.happens(&Happens::EventEnds);
        run.fails = false;
        run.host.held = false;
        run.cut = false;
        for _ in 0..20 {
            run.happens(&Happens::Time(400));
        }
        let (host, on) = (&run.host, run.host.domain.there().is_some_and(Domain::is_on));
        if host.row.wanted == Wanted::On && !on {
            let explained = matches!(host.decides(), Keep::Leave(_));
            prop_assert!(explained, "off, and nobody says why: {:?}", host);
        }
    }
}
