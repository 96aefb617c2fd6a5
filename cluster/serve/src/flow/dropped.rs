//! After how many seconds to come again: longer while many are turned away, shorter again when few are.

use std::collections::VecDeque;

const LONGEST: u64 = 32;

/// What was turned away, by seconds.
#[derive(Debug)]
pub struct Dropped {
    history: VecDeque<(u64, u64)>,
    now: (u64, u64),
    retry_after: u64,
    updated: u64,
}

impl Dropped {
    pub fn new(second: u64) -> Self {
        Self { history: VecDeque::new(), now: (second, 0), retry_after: 1, updated: second }
    }

    /// One more; says when to come again.
    pub fn note(&mut self, second: u64) -> u64 {
        if second <= self.now.0 {
            self.now.1 += 1;
            return self.retry_after;
        }
        let past = std::mem::replace(&mut self.now, (second, 1));
        self.history.push_back(past);
        let kept = (2 * self.retry_after).min(LONGEST);
        while self.history.front().is_some_and(|(then, _)| past.0 - then > kept) {
            self.history.pop_front();
        }
        self.update(second);
        self.retry_after
    }

    /// Doubles when three a second were turned away over the time named last; goes back by a second when less than one was.
    fn update(&mut self, second: u64) {
        let after = self.retry_after;
        if second - self.updated < after {
            return;
        }
        self.updated = second;
        let lately = self.history.iter().filter(|(then, _)| second - then <= after);
        let dropped: u64 = lately.map(|(_, count)| count).sum();
        if dropped >= 3 * after {
            self.retry_after = (2 * after).min(LONGEST);
        } else if dropped < after && after > 1 {
            self.retry_after = after - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_are_turned_away_the_longer_they_wait() {
        let mut dropped = Dropped::new(100);
        assert_eq!(dropped.note(100), 1);
        let mut told = Vec::new();
        for second in 101..200 {
            told = (0..10).map(|_| dropped.note(second)).collect();
        }
        assert_eq!(told.last(), Some(&LONGEST));
        assert!(dropped.history.len() <= usize::try_from(LONGEST).unwrap() + 1);
        for second in (300..3000).step_by(40) {
            told.push(dropped.note(second));
        }
        assert_eq!(told.last(), Some(&1));
    }
}
