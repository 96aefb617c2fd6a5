//! Answers that are kept for a while, so that the same question is not asked again: bounded in number and in size.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

const MOST: usize = 4096;

pub struct Kept<K, V>(
    /// Held for a look or a change.
    Mutex<HashMap<K, (Timestamp, V)>>,
);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    pub fn get(&self, key: &K, now: Timestamp) -> Option<V> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).filter(|(until, _)| now < *until).map(|(_, value)| value.clone())
    }

    pub fn keep(&self, key: K, value: V, now: Timestamp, life: SignedDuration) {
        let Ok(until) = now.checked_add(life) else { return };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.retain(|_, (until, _)| now < *until);
        }
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(key, (until, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_for_their_time_and_not_all_of_them() {
        let kept = Kept::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let life = SignedDuration::from_secs(10);
        kept.keep(0, "a", at(0), life);
        assert_eq!((kept.get(&0, at(9)), kept.get(&0, at(10)), kept.get(&1, at(0))), (Some("a"), None, None));
        for key in 0..10_000 {
            kept.keep(key, "b", at(20), life);
        }
        assert!(kept.0.lock().unwrap().len() <= MOST);
        assert_eq!(kept.get(&9_999, at(21)), Some("b"));
    }
}
