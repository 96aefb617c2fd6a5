//! How many seats a level could have used over time.

use std::time::{Duration, Instant};

/// By how much of what was before a smoothed figure falls in one period: half in five minutes.
const DECAY: f64 = 0.977;

/// A number that is followed over time.
#[derive(Clone, Copy, Debug)]
pub struct Followed {
    now: f64,
    since: Instant,
    /// Time-weighted sums since the last look.
    seconds: f64,
    sum: f64,
    squares: f64,
    most: f64,
}

/// Of one period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    pub average: f64,
    pub deviation: f64,
    pub most: f64,
    pub time: Duration,
}

impl Followed {
    pub fn new(at: Instant) -> Self {
        Self { now: 0.0, since: at, seconds: 0.0, sum: 0.0, squares: 0.0, most: 0.0 }
    }

    fn advance(&mut self, at: Instant) {
        let time = at.saturating_duration_since(self.since).as_secs_f64();
        self.since = self.since.max(at);
        self.seconds += time;
        self.sum += time * self.now;
        self.squares += time * self.now * self.now;
    }

    pub fn set(&mut self, value: f64, at: Instant) {
        self.advance(at);
        self.now = value;
        self.most = self.most.max(value);
    }

    /// What was since the last time this was asked.
    pub fn reset(&mut self, at: Instant) -> Seen {
        self.advance(at);
        let seen = match self.seconds > 0.0 {
            true => {
                let average = self.sum / self.seconds;
                let deviation = (self.squares / self.seconds - average * average).max(0.0).sqrt();
                Seen { average, deviation, most: self.most, time: Duration::from_secs_f64(self.seconds) }
            }
            false => Seen { most: self.most, ..Seen::default() },
        };
        *self = Self { now: self.now, most: self.now, ..Self::new(at.max(self.since)) };
        seen
    }
}

/// A level's demand, over all periods.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    pub high_watermark: f64,
    pub average: f64,
    pub deviation: f64,
    pub smoothed: f64,
}

impl Demand {
    pub fn update(&mut self, seen: Seen) {
        self.high_watermark = seen.most;
        if seen.time.is_zero() {
            return;
        }
        (self.average, self.deviation) = (seen.average, seen.deviation);
        let envelope = seen.average + seen.deviation;
        self.smoothed = envelope.max(DECAY * self.smoothed + (1.0 - DECAY) * envelope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_is_averaged_over_time_and_falls_slowly() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut followed = Followed::new(start);
        followed.set(10.0, at(2));
        followed.set(0.0, at(4));
        let seen = followed.reset(at(10));
        assert_eq!((seen.average, seen.most, seen.time), (2.0, 10.0, Duration::from_secs(10)));
        assert!((seen.deviation - 4.0).abs() < 1e-9, "{seen:?}");
        let mut demand = Demand::default();
        demand.update(seen);
        assert!((demand.smoothed - 6.0).abs() < 1e-9);
        let quiet = followed.reset(at(20));
        assert_eq!((quiet.average, quiet.most), (0.0, 0.0));
        demand.update(quiet);
        assert!(demand.smoothed > 5.8 && demand.smoothed < 6.0, "{demand:?}");
    }
}
