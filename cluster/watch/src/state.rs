//! The state that the pump changes and everyone reads.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;

use futures::task::AtomicWaker;
use kedge_api::{Change, GroupResource, Key, Revision, Snapshot};
use kedge_store::{Event, Listing, Unreadable};
use tokio::sync::watch;

use crate::Error;
use crate::kept::Kept;
use crate::ring::Ring;

pub(crate) struct Shared {
    /// Orders the snapshot against the rings: a reader sees both at the same revision.
    state: RwLock<State>,
    /// Of the state, so that a watcher can tell without it that there is nothing new. The highest number at the end.
    newest: AtomicU64,
    /// Orders registering against waking; never held together with `state`.
    waiters: Mutex<Waiters>,
    head: watch::Sender<Revision>,
    pub(crate) kept: Kept,
    /// Why the store is not followed, when it is not.
    trouble: RwLock<Option<String>>,
}

pub(crate) struct State {
    pub(crate) snapshot: Snapshot,
    /// What the store has and cannot read; empty as a rule.
    pub(crate) unreadable: BTreeMap<Key, String>,
    /// Each resource's for good at one place, so that who watches it need not look for it.
    rings: Vec<Ring>,
    places: HashMap<GroupResource, Place>,
    /// History begins here.
    floor: Revision,
    pub(crate) closed: bool,
}

/// Of a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(usize);

#[derive(Default)]
struct Waiters {
    all: Vec<Weak<AtomicWaker>>,
    by_resource: HashMap<GroupResource, Vec<Weak<AtomicWaker>>>,
}

impl State {
    pub(crate) fn ring(&self, resource: &GroupResource) -> Option<&Ring> {
        self.rings.get(self.places.get(resource)?.0)
    }

    /// Those at these places; all, if there is none.
    pub(crate) fn rings<'a>(&'a self, places: &'a [Place]) -> impl Iterator<Item = &'a Ring> {
        let all = if places.is_empty() { self.rings.as_slice() } else { &[] };
        all.iter().chain(places.iter().filter_map(|place| self.rings.get(place.0)))
    }

    /// Where a resource's ring is, made if there is none yet.
    fn place(&mut self, resource: &GroupResource) -> Place {
        if let Some(place) = self.places.get(resource) {
            return *place;
        }
        let place = Place(self.rings.len());
        self.rings.push(Ring::new(self.floor));
        self.places.insert(resource.clone(), place);
        place
    }

    /// One resource as it was, as far back as its changes are remembered: each one after `revision` is undone, the latest first.
    pub(crate) fn at(&self, resource: &GroupResource, revision: Revision) -> Option<Snapshot> {
        let ring = self.ring(resource);
        if revision < ring.map_or(self.floor, Ring::forgotten) || revision > self.snapshot.revision {
            return None;
        }
        let mut then = self.snapshot.only(std::slice::from_ref(resource));
        for change in ring.into_iter().flat_map(|ring| ring.since(revision)).rev() {
            match &change.before {
                Some(object) => then.insert(object.clone()),
                None => {
                    then.remove(&change.key, revision);
                }
            }
        }
        then.revision = revision;
        Some(then)
    }

    fn record(&mut self, change: Change) {
        let place = self.place(&change.key.resource);
        if let Some(ring) = self.rings.get_mut(place.0) {
            ring.push(change);
        }
    }
}

impl Shared {
    pub(crate) fn new(snapshot: Snapshot, unreadable: Vec<Unreadable>, keep: Duration) -> Self {
        let (floor, unreadable) = (snapshot.revision, by_key(unreadable));
        Self {
            state: RwLock::new(State {
                snapshot,
                unreadable,
                rings: Vec::new(),
                places: HashMap::new(),
                floor,
                closed: false,
            }),
            newest: AtomicU64::new(floor.0),
            waiters: Mutex::default(),
            head: watch::Sender::new(floor),
            kept: Kept::new(keep),
            trouble: RwLock::default(),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        let newest = if state.closed { u64::MAX } else { state.snapshot.revision.0 };
        self.newest.store(newest, Ordering::Release);
        result
    }

    /// Whether something happened after `revision`.
    pub(crate) fn is_newer_than(&self, revision: Revision) -> bool {
        self.newest.load(Ordering::Acquire) > revision.0
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.read().snapshot.clone()
    }

    pub(crate) fn revision(&self) -> Revision {
        self.read().snapshot.revision
    }

    pub(crate) async fn reach(&self, revision: Revision) -> Result<(), Error> {
        let mut head = self.head.subscribe();
        head.wait_for(|now| *now >= revision).await.map_err(|_| Error::Closed)?;
        // At the end the head is set to the last revision there could be.
        if self.read().closed { Err(Error::Closed) } else { Ok(()) }
    }

    pub(crate) fn apply(&self, event: Event) {
        let resource = event.key.resource.clone();
        let applied = self.write(|state| {
            let new = event.revision > state.snapshot.revision;
            if new {
                apply(state, event);
            }
            new.then_some(state.snapshot.revision)
        });
        if let Some(revision) = applied {
            self.wake(&resource);
            self.head.send_replace(revision);
        }
    }

    /// Takes over a list of the whole store as if each difference had been an event.
    pub(crate) fn resync(&self, Listing { revision, objects, unreadable }: Listing) {
        self.write(|state| {
            state.unreadable = by_key(unreadable);
            let before = state.snapshot.clone();
            let mut events: Vec<Event> = Vec::new();
            let mut listed = Snapshot::default();
            for object in objects {
                if before.get(&object.key).is_none_or(|old| old.revision != object.revision) {
                    let (revision, key) = (object.revision, object.key.clone());
                    events.push(Event { revision, key, after: Some(object.clone()) });
                }
                listed.insert(object);
            }
            let gone = state.places.keys().chain(before.resources()).flat_map(|r| before.list(r, ""));
            let mut gone: Vec<_> = gone.filter(|o| listed.get(&o.key).is_none()).map(|o| o.key.clone()).collect();
            gone.sort();
            gone.dedup();
            events.sort_by_key(|e| e.revision);
            events.extend(gone.into_iter().map(|key| Event { revision, key, after: None }));
            for event in events {
                apply(state, event);
            }
            state.snapshot.revision = revision;
        });
        self.wake_all();
        self.head.send_replace(revision);
    }

    /// The store is followed.
    pub(crate) fn found(&self) {
        *self.trouble.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The store is not followed, for now.
    pub(crate) fn lost(&self, what: &str, error: &kedge_store::Error) {
        tracing::warn!(%error, "{what}");
        *self.trouble.write().unwrap_or_else(PoisonError::into_inner) = Some(format!("{what}: {error}"));
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.read().closed {
            return Err(Error::Closed.to_string());
        }
        self.trouble.read().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    /// Changes that were recorded, and watchers that came too late for one.
    pub(crate) fn counts(&self, resource: &GroupResource) -> (u64, u64) {
        self.read().ring(resource).map_or((0, 0), |ring| (ring.pushed, ring.lagged.load(Ordering::Relaxed)))
    }

    pub(crate) fn close(&self) {
        self.write(|state| state.closed = true);
        self.wake_all();
        self.head.send_replace(Revision(u64::MAX));
    }

    /// Where the rings of these are.
    pub(crate) fn places(&self, resources: &[GroupResource]) -> Vec<Place> {
        self.write(|state| resources.iter().map(|resource| state.place(resource)).collect())
    }

    /// Wakes `waker` after each change of one of `resources`, or of any if there is none.
    pub(crate) fn register(&self, resources: &[GroupResource], waker: &Arc<AtomicWaker>) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if resources.is_empty() {
            waiters.all.push(Arc::downgrade(waker));
        }
        for resource in resources {
            waiters.by_resource.entry(resource.clone()).or_default().push(Arc::downgrade(waker));
        }
    }

    fn wake(&self, resource: &GroupResource) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        wake(&mut waiters.all);
        if let Some(list) = waiters.by_resource.get_mut(resource) {
            wake(list);
        }
    }

    fn wake_all(&self) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        wake(&mut waiters.all);
        waiters.by_resource.values_mut().for_each(wake);
    }
}

fn by_key(unreadable: Vec<Unreadable>) -> BTreeMap<Key, String> {
    unreadable.into_iter().map(|Unreadable { key, why, .. }| (key, why)).collect()
}

fn apply(state: &mut State, event: Event) {
    let Event { revision, key, after } = event;
    // Whatever was written there now, it is not that.
    state.unreadable.remove(&key);
    let before = match &after {
        Some(object) => {
            let before = state.snapshot.get(&key).cloned();
            state.snapshot.insert(object.clone());
            before
        }
        None => state.snapshot.remove(&key, revision),
    };
    state.snapshot.revision = state.snapshot.revision.max(revision);
    if before.is_some() || after.is_some() {
        state.record(Change { revision, key, before, after });
    }
}

fn wake(waiters: &mut Vec<Weak<AtomicWaker>>) {
    waiters.retain(|waiter| match waiter.upgrade() {
        Some(waker) => {
            waker.wake();
            true
        }
        None => false,
    });
}
