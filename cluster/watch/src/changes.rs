//! A watcher's place in history.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use kedge_api::{Change, GroupResource, Revision, Snapshot};

use crate::Error;
use crate::ring::Ring;
use crate::state::{Place, Shared, State};

/// Changes taken out of the rings at a time.
const BATCH: usize = 32;

/// Why there are no further changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// History was overwritten before it was read here.
    Lagged,
    Closed,
}

/// Changes of some resources after a revision, in order, without a gap.
pub struct Changes {
    shared: Arc<Shared>,
    /// Empty: all.
    rings: Vec<Place>,
    taken: VecDeque<Arc<Change>>,
    cursor: Revision,
    waker: Arc<AtomicWaker>,
}

impl Changes {
    pub(crate) fn new(shared: Arc<Shared>, resources: &[GroupResource], after: Revision) -> Self {
        let waker = Arc::new(AtomicWaker::new());
        shared.register(resources, &waker);
        let rings = shared.places(resources);
        Self { shared, rings, taken: VecDeque::new(), cursor: after, waker }
    }

    pub(crate) fn from_now(shared: Arc<Shared>, resources: &[GroupResource]) -> (Snapshot, Self) {
        let snapshot = shared.snapshot();
        let changes = Self::new(shared, resources, snapshot.revision);
        (snapshot, changes)
    }

    /// Whether history reaches back to the cursor.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let oldest = self.forgotten(&self.shared.read());
        if self.cursor < oldest { Err(Error::Expired { asked: self.cursor, oldest }) } else { Ok(()) }
    }

    fn forgotten(&self, state: &State) -> Revision {
        state.rings(&self.rings).map(Ring::forgotten).max().unwrap_or_default()
    }

    /// The next change, once there is one. May be dropped while waiting without losing anything.
    pub async fn next(&mut self) -> Result<Arc<Change>, Ended> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Changes::next`], for who polls by hand. One task at a time is woken.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Change>, Ended>> {
        if self.taken.is_empty() {
            // Before looking: what comes after that wakes.
            self.waker.register(cx.waker());
            self.take()?;
        }
        self.taken.pop_front().map_or(Poll::Pending, |change| Poll::Ready(Ok(change)))
    }

    /// Everything up to here was returned by [`Changes::next`]; `None` while some of it is still to be.
    pub fn revision(&mut self) -> Result<Option<Revision>, Ended> {
        if self.taken.is_empty() && !self.take()? { Ok(Some(self.cursor)) } else { Ok(None) }
    }

    /// Takes what came since; false if nothing did.
    fn take(&mut self) -> Result<bool, Ended> {
        if !self.shared.is_newer_than(self.cursor) {
            return Ok(false);
        }
        let state = self.shared.read();
        if self.cursor < self.forgotten(&state) {
            for ring in state.rings(&self.rings) {
                ring.lagged.fetch_add(1, Ordering::Relaxed);
            }
            return Err(Ended::Lagged);
        }
        let after = self.cursor;
        let mut whole = true;
        let mut gave = 0;
        for ring in state.rings(&self.rings) {
            let (before, mut last) = (self.taken.len(), Revision::default());
            for (count, change) in ring.since(after).enumerate() {
                // Changes of one revision go together.
                if count >= BATCH && change.revision != last {
                    whole = false;
                    break;
                }
                last = change.revision;
                self.taken.push_back(Arc::clone(change));
            }
            gave += usize::from(self.taken.len() > before);
        }
        if gave > 1 {
            self.taken.make_contiguous().sort_by_key(|c| c.revision);
        }
        if !whole {
            // Some ring has more: only what is surely older than that may go now.
            let last = self.taken.get(BATCH - 1).map_or(after, |c| c.revision);
            self.taken.truncate(self.taken.partition_point(|c| c.revision <= last));
        }
        self.cursor =
            if whole { state.snapshot.revision.max(after) } else { self.taken.back().map_or(after, |c| c.revision) };
        if self.taken.is_empty() && state.closed { Err(Ended::Closed) } else { Ok(!self.taken.is_empty()) }
    }
}
