//! The work queue: which keys want attention, and when.
//!
//! Owns order, de-duplication, delays and back-off; never knows what is done with a key, and never reads a clock. Laws, tested below:
//! a key is never handed out while it is out; whatever was added is handed out afterwards; a key waits in one place only.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

const FIRST_DELAY: Duration = Duration::from_millis(10);
const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// Retries of all keys together: this far apart on average, after a burst that lasts this long.
const RETRY_SPACING: Duration = Duration::from_millis(100);
const RETRY_BURST: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Entry {
    ready: bool,
    /// Handed out and not yet given back.
    out: bool,
    /// Added while out.
    again: bool,
    failures: u32,
    due: Option<Instant>,
}

#[derive(Debug)]
pub struct Queue<K> {
    entries: HashMap<K, Entry>,
    ready: VecDeque<K>,
    timers: BTreeSet<(Instant, K)>,
    /// When the next retry would be due if all were evenly spaced.
    retries: Option<Instant>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { entries: HashMap::new(), ready: VecDeque::new(), timers: BTreeSet::new(), retries: None }
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// The key wants attention now.
    pub fn add(&mut self, key: K) {
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.out {
            entry.again = true;
        } else if !entry.ready {
            entry.ready = true;
            self.ready.push_back(key);
        }
    }

    /// The key wants attention at `at` at the latest.
    pub fn add_at(&mut self, key: K, at: Instant) {
        let entry = self.entries.entry(key.clone()).or_default();
        match entry.due {
            Some(due) if due <= at => return,
            Some(due) => {
                self.timers.remove(&(due, key.clone()));
            }
            None => {}
        }
        entry.due = Some(at);
        self.timers.insert((at, key));
    }

    /// Hands a key out; it must come back through [`Self::done`].
    pub fn take(&mut self, now: Instant) -> Option<K> {
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, key)) = self.timers.pop_first() else { break };
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.due = None;
            }
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        let entry = self.entries.entry(key.clone()).or_default();
        entry.ready = false;
        entry.out = true;
        Some(key)
    }

    /// Takes a key back after success: its failures are forgotten.
    pub fn done(&mut self, key: &K) {
        self.give_back(key, |entry| entry.failures = 0);
    }

    /// Takes a key back after a failure and schedules its retry.
    pub fn failed(&mut self, key: &K, now: Instant) {
        let mut failures = 0;
        self.give_back(key, |entry| {
            entry.failures = entry.failures.saturating_add(1);
            failures = entry.failures;
        });
        let delay = FIRST_DELAY.saturating_mul(1 << (failures.saturating_sub(1)).min(20)).min(LONGEST_DELAY);
        let even = self.retries.map_or(now, |at| at.max(now)) + RETRY_SPACING;
        self.retries = Some(even);
        let spaced = even.duration_since(now).saturating_sub(RETRY_BURST);
        self.add_at(key.clone(), now + delay.max(spaced));
    }

    /// Takes a key back untried; it keeps its failures.
    pub fn put_back(&mut self, key: &K) {
        self.give_back(key, |_| {});
    }

    /// How often a key has failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.entries.get(key).map_or(0, |entry| entry.failures)
    }

    fn give_back(&mut self, key: &K, note: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        note(entry);
        entry.out = false;
        if std::mem::take(&mut entry.again) {
            entry.ready = true;
            self.ready.push_back(key.clone());
        } else if entry.due.is_none() && entry.failures == 0 {
            self.entries.remove(key);
        }
    }

    /// Keys that could be handed out now.
    pub fn ready(&self) -> impl Iterator<Item = &K> {
        self.ready.iter()
    }

    /// When a delayed key becomes due next; nothing before then but what is added.
    pub fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn failures_back_off_and_success_forgets() {
        let start = Instant::now();
        let mut queue = Queue::default();
        queue.add("a");
        let mut now = start;
        let mut delays = Vec::new();
        for _ in 0..20 {
            assert_eq!(queue.take(now), Some("a"));
            queue.failed(&"a", now);
            let due = queue.next_due().unwrap();
            delays.push(due - now);
            assert_eq!(queue.take(due - Duration::from_millis(1)), None);
            now = due;
        }
        assert_eq!(delays[..4], [10, 20, 40, 80].map(Duration::from_millis));
        assert_eq!(delays[19], LONGEST_DELAY);
        assert_eq!(queue.take(now), Some("a"));
        queue.done(&"a");
        assert_eq!((queue.failures(&"a"), queue.next_due(), queue.entries.len()), (0, None, 0));
    }

    #[test]
    fn many_retries_are_spread() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for i in 0..1000 {
            queue.add(i);
            queue.take(now);
            queue.failed(&i, now);
        }
        let due_in =
            |seconds| queue.timers.iter().filter(|(due, _)| *due <= now + Duration::from_secs(seconds)).count();
        assert_eq!((due_in(1), due_in(90)), (110, 1000));
    }

    #[test]
    fn the_earliest_delay_counts() {
        let now = Instant::now();
        let at = |s| now + Duration::from_secs(s);
        let mut queue = Queue::default();
        queue.add_at("a", at(5));
        queue.add_at("a", at(9));
        queue.add_at("a", at(3));
        assert_eq!((queue.next_due(), queue.timers.len()), (Some(at(3)), 1));
        assert_eq!(queue.take(at(2)), None);
        assert_eq!(queue.take(at(3)), Some("a"));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Add(u8),
        AddAt(u8, u8),
        Take,
        Done(u8),
        Failed(u8),
        Wait(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        let key = 0u8..4;
        prop_oneof![
            key.clone().prop_map(Op::Add),
            (key.clone(), 0u8..10).prop_map(|(k, s)| Op::AddAt(k, s)),
            Just(Op::Take),
            key.clone().prop_map(Op::Done),
            key.prop_map(Op::Failed),
            (0u8..10).prop_map(Op::Wait),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled(ops in proptest::collection::vec(op(), 0..200)) {
            let mut queue = Queue::default();
            let mut now = Instant::now();
            let (mut out, mut wanted) = (HashSet::new(), HashSet::new());
            let take = |queue: &mut Queue<u8>, now, out: &mut HashSet<u8>, wanted: &mut HashSet<u8>| {
                let taken = queue.take(now);
                if let Some(key) = taken {
                    assert!(out.insert(key), "handed out twice at once");
                    wanted.remove(&key);
                }
                taken
            };
            for op in ops {
                match op {
                    Op::Add(k) => { queue.add(k); wanted.insert(k); }
                    Op::AddAt(k, s) => { queue.add_at(k, now + Duration::from_secs(s.into())); wanted.insert(k); }
                    Op::Take => { take(&mut queue, now, &mut out, &mut wanted); }
                    Op::Done(k) => if out.remove(&k) { queue.done(&k) },
                    Op::Failed(k) => if out.remove(&k) { queue.failed(&k, now); wanted.insert(k); },
                    Op::Wait(s) => now += Duration::from_secs(s.into()),
                }
            }
            for key in out.drain() { queue.done(&key); }
            now += LONGEST_DELAY * 2;
            while let Some(key) = take(&mut queue, now, &mut out, &mut wanted) {
                out.remove(&key);
                queue.done(&key);
            }
            prop_assert!(wanted.is_empty(), "lost: {wanted:?}");
            prop_assert!(queue.entries.is_empty() && queue.timers.is_empty());
        }
    }
}
