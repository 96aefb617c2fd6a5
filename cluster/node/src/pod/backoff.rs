//! How long to wait before trying again: doubling up to a limit, forgotten after a quiet time.
//!
//! The numbers are upstream's: 10 s to 5 min, forgotten after twice the limit.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::after;

const FIRST: u32 = 10;
const LIMIT: u32 = 300;
const FORGET: i64 = 2 * LIMIT as i64;

/// The delay in force. Nothing waits before the first try and the second one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    seconds: u32,
    since: Option<Timestamp>,
}

impl Backoff {
    /// When the next try may be made after a failure at `failed`; `None` if at once.
    pub fn until(&self, failed: Timestamp) -> Option<Timestamp> {
        (self.seconds > 0 && !self.forgotten(failed)).then(|| after(failed, self.seconds.into()))
    }

    /// The delay in seconds, as messages name it.
    pub fn seconds(&self) -> u32 {
        self.seconds
    }

    /// Records that a try follows the failure at `failed`.
    pub fn next(&mut self, failed: Timestamp, now: Timestamp) {
        self.seconds =
            if self.seconds == 0 || self.forgotten(failed) { FIRST } else { self.seconds.saturating_mul(2).min(LIMIT) };
        self.since = Some(now);
    }

    fn forgotten(&self, failed: Timestamp) -> bool {
        self.since.is_some_and(|since| failed > after(since, FORGET))
    }
}

/// As upstream prints durations: `10s`, `1m20s`, `5m0s`.
pub fn duration(seconds: u32) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_ten_seconds_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = Timestamp::UNIX_EPOCH;
        assert_eq!(backoff.until(now), None);
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            backoff.next(now, now);
            now = after(now, 1);
            assert_eq!(backoff.until(now), Some(after(now, expected)));
            now = after(now, expected);
        }
    }

    #[test]
    fn is_forgotten_after_ten_quiet_minutes() {
        let start = Timestamp::UNIX_EPOCH;
        let mut backoff = Backoff::default();
        backoff.next(start, start);
        backoff.next(start, start);
        assert_eq!(backoff.until(after(start, 600)), Some(after(start, 620)));
        assert_eq!(backoff.until(after(start, 601)), None);
        backoff.next(after(start, 601), after(start, 601));
        assert_eq!(backoff.seconds(), 10);
    }

    #[test]
    fn durations_print_as_upstream() {
        assert_eq!([10, 80, 300].map(duration), ["10s", "1m20s", "5m0s"]);
    }
}
