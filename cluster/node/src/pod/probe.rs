//! When a probe is due, and what a row of results means.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};
use serde::{Deserialize, Serialize};

use super::{after, sooner};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// The running count of one probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// When it is due next; `None` before the first time.
    next: Option<Timestamp>,
    #[serde(skip)]
    running: bool,
    good: u32,
    bad: u32,
    /// What the thresholds made of the results so far.
    pub verdict: Option<bool>,
}

/// The counts of a container's three probes; an absent probe's is never touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probes {
    startup: Tally,
    liveness: Tally,
    readiness: Tally,
}

impl Probes {
    pub fn tally(&self, kind: Kind) -> &Tally {
        match kind {
            Kind::Startup => &self.startup,
            Kind::Liveness => &self.liveness,
            Kind::Readiness => &self.readiness,
        }
    }

    pub fn tally_mut(&mut self, kind: Kind) -> &mut Tally {
        match kind {
            Kind::Startup => &mut self.startup,
            Kind::Liveness => &mut self.liveness,
            Kind::Readiness => &mut self.readiness,
        }
    }
}

impl Tally {
    /// When the probe of a container running since `since` is due; `None` while one is under way.
    pub fn due(&self, probe: &Probe, since: Timestamp) -> Option<Timestamp> {
        let first = after(since, probe.initial_delay_seconds.unwrap_or(0).max(0).into());
        (!self.running).then(|| self.next.unwrap_or(first))
    }

    pub fn begin(&mut self, probe: &Probe, now: Timestamp) {
        self.running = true;
        self.next = Some(after(now, probe.period_seconds.unwrap_or(10).max(1).into()));
    }

    pub fn record(&mut self, probe: &Probe, good: bool) {
        self.running = false;
        if good {
            self.good = self.good.saturating_add(1);
            self.bad = 0;
        } else {
            self.bad = self.bad.saturating_add(1);
            self.good = 0;
        }
        let threshold = |value: Option<i32>, default: u32| value.and_then(|v| u32::try_from(v).ok()).unwrap_or(default);
        if self.good >= threshold(probe.success_threshold, 1).max(1) {
            self.verdict = Some(true);
        } else if self.bad >= threshold(probe.failure_threshold, 3).max(1) {
            self.verdict = Some(false);
        }
    }
}

/// Which probes to run now, and when the next one is due. Liveness and readiness wait for the startup probe.
pub fn due(
    container: &Container,
    probes: &Probes,
    started: bool,
    since: Timestamp,
    now: Timestamp,
) -> (Vec<Kind>, Option<Timestamp>) {
    let (mut ready, mut wake) = (Vec::new(), None);
    for kind in Kind::ALL {
        let Some(probe) = kind.of(container) else { continue };
        if (kind == Kind::Startup) == started {
            continue;
        }
        match probes.tally(kind).due(probe, since) {
            Some(at) if at <= now => ready.push(kind),
            at => wake = sooner(wake, at),
        }
    }
    (ready, wake)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(period: i32, failures: i32, successes: i32) -> Probe {
        Probe {
            period_seconds: Some(period),
            failure_threshold: Some(failures),
            success_threshold: Some(successes),
            initial_delay_seconds: Some(5),
            ..Probe::default()
        }
    }

    #[test]
    fn thresholds_count_results_in_a_row() {
        for (results, expected) in [
            ("-", None),
            ("--", None),
            ("---", Some(false)),
            ("--+--", None),
            ("+", None),
            ("++", Some(true)),
            ("++--", Some(true)),
            ("++---", Some(false)),
            ("---+", Some(false)),
            ("---++", Some(true)),
        ] {
            let mut tally = Tally::default();
            for result in results.chars() {
                tally.record(&probe(10, 3, 2), result == '+');
            }
            assert_eq!(tally.verdict, expected, "{results}");
        }
    }

    #[test]
    fn a_startup_probe_holds_the_others_back() {
        let container = Container {
            startup_probe: Some(probe(2, 3, 1)),
            liveness_probe: Some(probe(10, 3, 1)),
            ..Container::default()
        };
        let since = Timestamp::UNIX_EPOCH;
        let mut probes = Probes::default();
        assert_eq!(due(&container, &probes, false, since, since), (vec![], Some(after(since, 5))));
        let five = after(since, 5);
        assert_eq!(due(&container, &probes, false, since, five), (vec![Kind::Startup], None));
        probes.tally_mut(Kind::Startup).begin(&probe(2, 3, 1), five);
        assert_eq!(due(&container, &probes, false, since, after(since, 9)), (vec![], None), "one at a time");
        probes.tally_mut(Kind::Startup).record(&probe(2, 3, 1), false);
        assert_eq!(due(&container, &probes, false, since, five), (vec![], Some(after(since, 7))));
        assert_eq!(due(&container, &probes, true, since, five), (vec![Kind::Liveness], None));
    }
}
