//! The time as this crate is given it: a board without a clock starts at a floor and is stepped later, and tests pick their own.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// Tells the current time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The system's clock.
    pub fn system() -> Self {
        Self::new(Timestamp::now)
    }

    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// Whole seconds since 1970; times before that count as 1970.
    pub fn unix(&self) -> u64 {
        u64::try_from(self.now().as_second()).unwrap_or_default()
    }

    /// `2026-11-22T22:07:14Z`, the form of `metav1.Time`.
    pub fn text(&self, plus: Duration) -> String {
        rfc3339(self.unix().saturating_add(plus.as_secs()))
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

/// Seconds since 1970 as RFC 3339 in UTC; the last representable second stands for anything later.
pub fn rfc3339(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let at = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
