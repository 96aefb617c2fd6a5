//! Snapshots that paged lists continue from: few, and not for long, since each holds on to what was deleted after it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use kedge_api::{Revision, Snapshot};
use tokio::time::Instant;

use crate::state::Shared;

const MOST: usize = 16;

pub(crate) struct Kept {
    age: Duration,
    /// Orders keeping against sweeping; never held across an await.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    snapshots: VecDeque<(Instant, Snapshot)>,
    swept: bool,
}

impl Inner {
    fn sweep(&mut self, age: Duration) {
        while self.snapshots.front().is_some_and(|(since, _)| since.elapsed() >= age) {
            self.snapshots.pop_front();
        }
    }
}

impl Kept {
    pub(crate) fn new(age: Duration) -> Self {
        Self { age, inner: Mutex::default() }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn keep(&self, snapshot: &Snapshot, shared: &Arc<Shared>) {
        let start = self.with(|inner| {
            inner.sweep(self.age);
            if inner.snapshots.iter().all(|(_, s)| s.revision != snapshot.revision) {
                inner.snapshots.push_back((Instant::now(), snapshot.clone()));
            }
            if inner.snapshots.len() > MOST {
                inner.snapshots.pop_front();
            }
            !std::mem::replace(&mut inner.swept, true)
        });
        if start {
            tokio::spawn(sweep(Arc::downgrade(shared)));
        }
    }

    pub(crate) fn get(&self, revision: Revision) -> Option<Snapshot> {
        self.with(|inner| {
            inner.sweep(self.age);
            inner.snapshots.iter().find(|(_, s)| s.revision == revision).map(|(_, s)| s.clone())
        })
    }
}

/// Runs only while something is kept.
async fn sweep(shared: Weak<Shared>) {
    loop {
        let Some(next) = shared.upgrade().and_then(|shared| {
            shared.kept.with(|inner| {
                inner.sweep(shared.kept.age);
                let next = inner.snapshots.front().map(|(since, _)| *since + shared.kept.age);
                inner.swept = next.is_some();
                next
            })
        }) else {
            return;
        };
        tokio::time::sleep_until(next).await;
    }
}
