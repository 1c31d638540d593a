//! Whether a host is heard: a pure function of its last heartbeat and now.

use std::fmt;
use std::time::Duration;

use dewpoint_proto::time::Millis;

/// When a host is late, and when lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivenessPolicy {
    /// Silent for longer: late.
    pub late_after: Duration,
    /// Silent for longer: lost. Nothing is concluded about its VMs.
    pub lost_after: Duration,
}

impl Default for LivenessPolicy {
    fn default() -> Self {
        Self { late_after: Duration::from_secs(15), lost_after: Duration::from_secs(60) }
    }
}

/// Whether a host is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Liveness {
    /// Heard in time.
    Alive,
    /// Silent for a while.
    Late,
    /// Silent for long. Its VMs may well run.
    Lost,
    /// Its log does not match ours: connected, and delivered nothing.
    Diverged,
    /// Known, and never heard.
    NeverSeen,
    /// A person has said that it will not come back.
    Retired,
}

impl Liveness {
    /// By the last heartbeat; a clock that went back makes nobody late.
    #[must_use]
    pub fn of(last: Option<Millis>, now: Millis, policy: LivenessPolicy) -> Self {
        let Some(last) = last else { return Self::NeverSeen };
        match now.since(last) {
            silent if silent > policy.lost_after => Self::Lost,
            silent if silent > policy.late_after => Self::Late,
            _ => Self::Alive,
        }
    }

    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Late => "late",
            Self::Lost => "lost",
            Self::Diverged => "diverged",
            Self::NeverSeen => "never_seen",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_makes_late_and_then_lost() {
        let policy = LivenessPolicy::default();
        let at = |seconds: i64| Liveness::of(Some(Millis(0)), Millis(seconds * 1000), policy);
        assert_eq!(
            [-5, 0, 15, 16, 60, 61].map(at),
            [
                Liveness::Alive,
                Liveness::Alive,
                Liveness::Alive,
                Liveness::Late,
                Liveness::Late,
                Liveness::Lost
            ]
        );
        assert_eq!(Liveness::of(None, Millis(0), policy), Liveness::NeverSeen);
    }
}
