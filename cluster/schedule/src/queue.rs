//! The waiting pods: those to try now, those in back-off, and those that only a change can help.
//!
//! Owns order and wake-ups; never decides and never reads a clock. A pod is in one place only. Pods of higher priority go first, then
//! those that waited longer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::plugins::Wake;
use crate::pod::PodInfo;

/// Upstream's `podInitialBackoffSeconds` and `podMaxBackoffSeconds`.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

type Uid = Arc<str>;
type Order = (Reverse<i32>, u64);

#[derive(Debug)]
struct Waiting {
    pod: Arc<PodInfo>,
    order: Order,
    attempts: u32,
    place: Place,
    /// Not before this time.
    backoff_until: Option<Instant>,
}

#[derive(Debug, PartialEq)]
enum Place {
    Active,
    Backoff(Instant),
    /// What may help.
    Unschedulable(Vec<Wake>),
    /// Handed out; a change that may help meanwhile is remembered.
    Out {
        woken: Vec<Wake>,
    },
}

#[derive(Debug, Default)]
pub struct Queue {
    pods: HashMap<Uid, Waiting>,
    active: BTreeMap<Order, Uid>,
    backoff: BTreeSet<(Instant, Order, Uid)>,
    serial: u64,
}

impl Queue {
    /// A pod that waits, new or with a changed spec: it is tried at once.
    pub fn add(&mut self, pod: PodInfo) {
        let uid: Uid = pod.uid().into();
        let attempts = self.pods.get(&uid).map_or(0, |waiting| waiting.attempts);
        self.remove(&uid);
        self.serial += 1;
        let order = (Reverse(pod.priority()), self.serial);
        let waiting = Waiting { pod: Arc::new(pod), order, attempts, place: Place::Active, backoff_until: None };
        self.pods.insert(uid.clone(), waiting);
        self.active.insert(order, uid);
    }

    /// The pod as it is waiting, if it is.
    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.pods.get(uid).map(|waiting| &waiting.pod)
    }

    /// A newer version whose spec is the same: it stays where it is.
    pub fn refresh(&mut self, pod: PodInfo) {
        if let Some(waiting) = self.pods.get_mut(pod.uid()) {
            waiting.pod = Arc::new(pod);
        }
    }

    pub fn remove(&mut self, uid: &str) {
        let Some((uid, waiting)) = self.pods.remove_entry(uid) else { return };
        match waiting.place {
            Place::Active => drop(self.active.remove(&waiting.order)),
            Place::Backoff(until) => {
                self.backoff.remove(&(until, waiting.order, uid));
            }
            Place::Unschedulable(_) | Place::Out { .. } => {}
        }
    }

    /// Hands out the next pod to try. It comes back through [`Self::refused`] or [`Self::failed`], or leaves by [`Self::remove`].
    pub fn take(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        while self.backoff.first().is_some_and(|(until, ..)| *until <= now) {
            let Some((_, order, uid)) = self.backoff.pop_first() else { break };
            if let Some(waiting) = self.pods.get_mut(&uid) {
                waiting.place = Place::Active;
                self.active.insert(order, uid);
            }
        }
        let (_, uid) = self.active.pop_first()?;
        let waiting = self.pods.get_mut(&uid)?;
        waiting.place = Place::Out { woken: Vec::new() };
        waiting.attempts += 1;
        Some(waiting.pod.clone())
    }

    /// No node fits; `helped_by` may change that.
    pub fn refused(&mut self, uid: &str, helped_by: Vec<Wake>, now: Instant) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        let Place::Out { woken } = &waiting.place else { return };
        let missed = woken.iter().any(|wake| helped_by.contains(wake));
        waiting.backoff_until = Some(now + backoff(waiting.attempts));
        waiting.place = Place::Unschedulable(helped_by);
        if missed {
            self.activate(uid, now);
        }
    }

    /// Binding failed: tried again after the back-off.
    pub fn failed(&mut self, uid: &str, now: Instant) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        if !matches!(waiting.place, Place::Out { .. }) {
            return; // Changed meanwhile, and waiting again already.
        }
        waiting.backoff_until = Some(now + backoff(waiting.attempts));
        self.activate(uid, now);
    }

    /// Something happened that may help some.
    pub fn wake(&mut self, wake: Wake, now: Instant) {
        let mut helped = Vec::new();
        for (uid, waiting) in &mut self.pods {
            match &mut waiting.place {
                Place::Unschedulable(helped_by) if helped_by.contains(&wake) => helped.push(uid.clone()),
                Place::Out { woken } if !woken.contains(&wake) => woken.push(wake),
                Place::Unschedulable(_) | Place::Out { .. } | Place::Active | Place::Backoff(_) => {}
            }
        }
        helped.iter().for_each(|uid| self.activate(uid, now));
    }

    fn activate(&mut self, uid: &str, now: Instant) {
        let Some((uid, _)) = self.pods.get_key_value(uid) else { return };
        let uid = uid.clone();
        let Some(waiting) = self.pods.get_mut(&uid) else { return };
        match waiting.backoff_until.filter(|until| *until > now) {
            Some(until) => {
                waiting.place = Place::Backoff(until);
                self.backoff.insert((until, waiting.order, uid));
            }
            None => {
                waiting.place = Place::Active;
                self.active.insert(waiting.order, uid);
            }
        }
    }

    /// When the next back-off ends.
    pub fn next_due(&self) -> Option<Instant> {
        self.backoff.first().map(|(until, ..)| *until)
    }
}

fn backoff(attempts: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::pod;
    use proptest::prelude::*;
    use serde_json::json;

    fn take(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.take(now).map(|pod| pod.object.key.name.to_string())
    }

    #[test]
    fn priority_then_age() {
        let mut queue = Queue::default();
        let now = Instant::now();
        for (name, priority) in [("a", 0), ("b", 10), ("c", 10), ("d", -1)] {
            queue.add(pod(name, json!({"priority": priority, "containers": []})));
        }
        let order: Vec<_> = std::iter::from_fn(|| take(&mut queue, now)).collect();
        assert_eq!(order, ["b", "c", "a", "d"]);
    }

    #[test]
    fn only_what_may_help_wakes_and_not_before_the_backoff() {
        let mut queue = Queue::default();
        let now = Instant::now();
        let after = |ms| now + Duration::from_millis(ms);
        queue.add(pod("a", json!({"containers": []})));
        assert_eq!(take(&mut queue, now).as_deref(), Some("a"));
        queue.refused("a", vec![Wake::Node], now);
        queue.wake(Wake::PodGone, after(2000));
        assert_eq!((take(&mut queue, after(2000)), queue.next_due()), (None, None));
        queue.wake(Wake::Node, after(500));
        assert_eq!((take(&mut queue, after(999)), queue.next_due()), (None, Some(after(1000))));
        assert_eq!(take(&mut queue, after(1000)).as_deref(), Some("a"));
        // The second back-off is twice as long, and a change while the pod was out is not lost.
        queue.wake(Wake::Node, after(1000));
        queue.refused("a", vec![Wake::Node], after(1000));
        assert_eq!((take(&mut queue, after(2999)), queue.next_due()), (None, Some(after(3000))));
        assert_eq!(take(&mut queue, after(3000)).as_deref(), Some("a"));
        queue.failed("a", after(3000));
        assert_eq!(queue.next_due(), Some(after(7000)));
        queue.remove("a");
        assert!(queue.pods.is_empty() && queue.backoff.is_empty() && queue.active.is_empty());
    }

    proptest! {
        #[test]
        fn a_pod_is_in_one_place(ops in proptest::collection::vec((0..6u8, 0..3usize), 0..100)) {
            let mut queue = Queue::default();
            let mut now = Instant::now();
            let mut out: Vec<String> = Vec::new();
            for (op, i) in ops {
                let name = ["a", "b", "c"][i];
                match op {
                    0 => { queue.add(pod(name, json!({"containers": []}))); out.retain(|o| o != name); }
                    1 => if let Some(taken) = take(&mut queue, now) {
                        prop_assert!(!out.contains(&taken));
                        out.push(taken);
                    },
                    2 => if let Some(at) = out.iter().position(|o| o == name) {
                        out.remove(at);
                        queue.refused(name, vec![Wake::Node], now);
                    },
                    // Also of a pod that is not out: it stays where it is.
                    3 => { out.retain(|o| o != name); queue.failed(name, now); }
                    4 => queue.wake(Wake::Node, now),
                    _ => now += Duration::from_millis(700),
                }
                let places = |f: fn(&Place) -> bool| queue.pods.values().filter(|w| f(&w.place)).count();
                prop_assert_eq!(places(|p| *p == Place::Active), queue.active.len());
                prop_assert_eq!(places(|p| matches!(p, Place::Backoff(_))), queue.backoff.len());
                prop_assert_eq!(places(|p| matches!(p, Place::Out { .. })), out.len());
            }
        }
    }
}
