//! How much work a request is thought to be, in seats: the wider it is, the more of a level's concurrency it takes.

use std::time::Duration;

/// Upstream's numbers.
const BYTES_PER_SEAT: u64 = 100_000;
const LARGEST_LIST_FROM_CACHE: u64 = 1_000_000;
const MOST_SEATS_OF_A_LIST: u64 = 100;
const MOST_SEATS_OF_A_WRITE: u64 = 10;
const WATCHES_PER_SEAT: u64 = 10;
/// What telling of a write costs, for each seat's worth of watches.
const EVENT: Duration = Duration::from_millis(5);
/// What a request takes until it is known better.
const ESTIMATED: f64 = 0.003;

/// Seats while it is carried out, and for how long it keeps how many afterwards, while those who watch are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub initial: u64,
    pub last: u64,
    pub lingers: Duration,
}

impl Work {
    pub const LEAST: Self = Self::of(1);

    pub const fn of(seats: u64) -> Self {
        Self { initial: seats, last: 0, lingers: Duration::ZERO }
    }

    /// What it holds from its begin to its very end.
    pub fn seats(&self) -> u64 {
        self.initial.max(self.last)
    }

    /// In seat-seconds.
    pub fn total(&self) -> f64 {
        seconds(self.initial, ESTIMATED) + seconds(self.last, self.lingers.as_secs_f64())
    }

    /// By how much it was thought to be more than it turned out, in seat-seconds; less than nothing where it was more.
    pub fn overestimated(&self, took: Duration) -> f64 {
        seconds(self.initial, ESTIMATED - took.as_secs_f64())
    }

    /// The same work on no more seats than there are.
    pub fn within(self, limit: u64) -> Self {
        if self.last <= limit || limit == 0 {
            return self;
        }
        let work = seconds(self.last, self.lingers.as_secs_f64());
        Self { last: limit, lingers: Duration::from_secs_f64(work / as_f64(limit)), ..self }
    }
}

fn seconds(seats: u64, seconds: f64) -> f64 {
    as_f64(seats) * seconds
}

/// Counts of seats and bytes are far below where this would lose anything.
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}

/// What a list, or the begin of a watch, reads: of so many objects of such a size.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored {
    pub objects: u64,
    pub bytes: u64,
}

/// A list is as wide as what it holds in memory at once; all of them are answered from the cache. `most` is what its level allows.
pub fn list(stored: Stored, single: bool, limit: u64, most: Option<u64>) -> Work {
    let read = match (single, limit) {
        (true, _) => 1,
        (_, 0) => stored.objects,
        (_, limit) => limit.min(stored.objects),
    };
    let average = stored.bytes.checked_div(stored.objects).unwrap_or_default();
    let memory = read.saturating_mul(average).min(LARGEST_LIST_FROM_CACHE);
    Work::of(memory.div_ceil(BYTES_PER_SEAT).clamp(1, bound(most, MOST_SEATS_OF_A_LIST)))
}

/// A write of something that so many watch.
pub fn write(watches: u64, most: Option<u64>) -> Work {
    if watches < WATCHES_PER_SEAT {
        return Work::LEAST;
    }
    let seats = watches.div_ceil(WATCHES_PER_SEAT);
    let work = seconds(seats, EVENT.as_secs_f64());
    let last = seats.min(bound(most, MOST_SEATS_OF_A_WRITE));
    Work { initial: 1, last, lingers: Duration::from_secs_f64(work / as_f64(last)) }
}

fn bound(level: Option<u64>, most: u64) -> u64 {
    level.filter(|seats| *seats > 0).unwrap_or(most).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_as_wide_as_what_they_read() {
        let of = |objects, bytes| Stored { objects, bytes };
        for (stored, single, limit, most, seats) in [
            (of(0, 0), false, 0, None, 1),
            (of(100, 50_000), false, 0, None, 1),
            (of(1000, 400_000), false, 0, None, 4),
            (of(1000, 400_000), true, 0, None, 1),
            (of(1000, 400_000), false, 500, None, 2),
            (of(10_000, 40_000_000), false, 0, None, 10),
            (of(10_000, 40_000_000), false, 0, Some(3), 3),
        ] {
            assert_eq!(list(stored, single, limit, most), Work::of(seats), "{stored:?} {single} {limit} {most:?}");
        }
    }

    #[test]
    fn writes_linger_while_watches_are_told() {
        assert_eq!(write(9, None), Work::LEAST);
        let some = write(25, None);
        assert_eq!((some.initial, some.last, some.lingers), (1, 3, EVENT));
        // Many watches: no wider than the bound, but for longer.
        let many = write(400, None);
        assert_eq!((many.last, many.lingers), (10, EVENT * 4));
        assert_eq!(write(400, Some(2)).last, 2);
        let narrowed = many.within(5);
        assert_eq!((narrowed.last, narrowed.lingers), (5, EVENT * 8));
    }
}
