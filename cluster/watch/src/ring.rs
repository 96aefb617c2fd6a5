//! The recent changes of one resource.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use kedge_api::{Change, Revision};

/// Changes kept, whatever their size.
const FEWEST: usize = 64;
const MOST: usize = 1024;
/// Beyond the fewest, no more than this many bytes of objects that only history may still hold.
const BYTES: usize = 1 << 20;

pub(crate) struct Ring {
    /// Changes up to this revision are forgotten.
    forgotten: Revision,
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Changes that were ever here.
    pub(crate) pushed: u64,
    /// Watchers that came too late for a change.
    pub(crate) lagged: AtomicU64,
}

impl Ring {
    pub(crate) fn new(forgotten: Revision) -> Self {
        Self { forgotten, changes: VecDeque::new(), bytes: 0, pushed: 0, lagged: AtomicU64::new(0) }
    }

    pub(crate) fn push(&mut self, change: Change) {
        self.bytes += weight(&change);
        self.pushed += 1;
        self.changes.push_back(Arc::new(change));
        while self.changes.len() > MOST || (self.changes.len() > FEWEST && self.bytes > BYTES) {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.bytes -= weight(&oldest);
            self.forgotten = oldest.revision;
        }
    }

    pub(crate) fn forgotten(&self) -> Revision {
        self.forgotten
    }

    /// Changes after `after`, oldest first.
    pub(crate) fn since(&self, after: Revision) -> impl DoubleEndedIterator<Item = &Arc<Change>> {
        let from = self.changes.partition_point(|c| c.revision <= after);
        self.changes.range(from..)
    }
}

/// What a change holds on to: the version that it replaced.
fn weight(change: &Change) -> usize {
    change.before.as_ref().map_or(0, |o| o.json.len())
}
