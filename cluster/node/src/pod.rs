//! A pod as a state machine without Linux: what is known ([`observed`]), what to do next ([`plan`]), how results change what is
//! known ([`progress`]), and what the API is told ([`status`]).
//!
//! Invariant: nothing below this module reads a clock, a file or a socket; time comes in as a value.
//!
//! ```text
//! Pod ─┐
//!      ├─▶ plan::next ─▶ Actions ─▶ worker (does them) ─▶ Event ─▶ Observed::apply ─┐
//! Observed ◀─────────────────────────────────────────────────────────────────────────┘
//!      └─▶ status::of ─▶ the API
//! ```

pub mod backoff;
pub mod observed;
pub mod outcome;
pub mod plan;
pub mod probe;
pub mod progress;
pub mod seed;
pub mod status;

#[cfg(test)]
mod tests;

pub use observed::{Observed, Phase, Sandbox, Slot, SlotId, Termination};
pub use plan::{Action, Plan, StopReason};
pub use progress::Event;

use jiff::{SignedDuration, Timestamp};

/// `seconds` after `at`; stays at the end of time instead of overflowing.
pub fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// The earlier of the two, where there are two.
pub fn sooner(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
