//! How long to wait before a service is started again.

use std::time::Duration;

const LEAST: Duration = Duration::from_millis(250);
const MOST: Duration = Duration::from_secs(60);
/// Having run for so long, a service starts over with the shortest pause.
const HEALTHY: Duration = Duration::from_secs(120);

/// Doubles with each failure in a row.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: LEAST }
    }
}

impl Backoff {
    /// The pause after a run of this length.
    pub fn after(&mut self, ran: Duration) -> Duration {
        let pause = if ran >= HEALTHY { LEAST } else { self.next };
        self.next = (pause * 2).min(MOST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_start_over_after_a_healthy_run() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> = (0..12).map(|_| backoff.after(Duration::ZERO).as_millis() as u64).collect();
        assert_eq!(pauses[..5], [250, 500, 1000, 2000, 4000]);
        assert_eq!(pauses[9..], [60_000, 60_000, 60_000]);
        assert_eq!(backoff.after(HEALTHY), LEAST);
        assert_eq!(backoff.after(Duration::ZERO), LEAST * 2);
    }
}
