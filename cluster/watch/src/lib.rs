//! The watch cache: the whole state above the store, in memory, once, and the recent changes to it.
//!
//! Owns what every reader sees: lists, watches, controllers. Invariant: it never writes, and each object's bytes exist once, shared by
//! state, history and whoever looks. Start reading at [`Cache::start`].
//!
//! ```text
//! store.watch ──▶ pump ──▶ State { snapshot, a ring of changes for each resource } ──▶ wakes Changes::next of those who asked
//! ```
//! A watcher has no queue: it holds a cursor into the rings. One that is too slow finds its place overwritten and is told so.
#![forbid(unsafe_code)]

mod changes;
mod kept;
mod ring;
mod state;
mod told;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use kedge_api::{Change, GroupResource, Informer, Key, Revision, Snapshot};
use kedge_store::{Error as StoreError, Listing, Range, Store};
use tokio::task::JoinHandle;

pub use changes::{Changes, Ended};
use state::Shared;

/// Between attempts to reach a store that fails.
const RETRY: Duration = Duration::from_secs(1);
/// How long a paged list may take: as long as upstream's etcd keeps history by default.
const KEEP: Duration = Duration::from_secs(300);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `410 Expired` on the wire.
    #[error("too old resource version: {asked} ({oldest})")]
    Expired { asked: Revision, oldest: Revision },
    #[error("the watch cache is closed")]
    Closed,
}

pub struct Cache {
    shared: Arc<Shared>,
    pump: JoinHandle<()>,
}

impl Cache {
    /// Loads everything, then follows the store until dropped.
    pub async fn start(store: Arc<dyn Store>) -> Result<Arc<Self>, StoreError> {
        Self::start_keeping(store, KEEP).await
    }

    /// As [`Cache::start`], but snapshots are kept for `keep`.
    pub async fn start_keeping(store: Arc<dyn Store>, keep: Duration) -> Result<Arc<Self>, StoreError> {
        let Listing { revision, objects, unreadable } = store.list(&Range::All).await?;
        let mut snapshot = Snapshot::default();
        for object in objects {
            snapshot.insert(object);
        }
        snapshot.revision = revision;
        let shared = Arc::new(Shared::new(snapshot, unreadable, keep));
        let pump = tokio::spawn(pump(store, shared.clone()));
        Ok(Arc::new(Self { shared, pump }))
    }

    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Whether it follows the store; if not, why.
    pub fn check(&self) -> Result<(), String> {
        self.shared.check()
    }

    /// Returns when the cache shows `revision` or a later one: what makes a writer see its own write.
    pub async fn reach(&self, revision: Revision) -> Result<(), Error> {
        self.shared.reach(revision).await
    }

    /// Every change of `resources` (all, if empty) after `after`.
    pub fn watch(&self, resources: &[GroupResource], after: Revision) -> Result<Changes, Error> {
        let changes = Changes::new(self.shared.clone(), resources, after);
        changes.check().map(|()| changes)
    }

    /// Keeps a snapshot for those who will continue its list, for a while.
    pub fn keep(&self, snapshot: &Snapshot) {
        self.shared.kept.keep(snapshot, &self.shared);
    }

    /// A snapshot kept by [`Cache::keep`], or the present one if it is of that very revision.
    pub fn kept(&self, revision: Revision) -> Option<Snapshot> {
        let now = self.snapshot();
        if now.revision == revision { Some(now) } else { self.shared.kept.get(revision) }
    }

    /// Why the object cannot be read, if it is there and cannot.
    pub fn unreadable(&self, key: &Key) -> Option<String> {
        self.shared.read().unreadable.get(key).cloned()
    }

    /// The first object in `range` that cannot be read, and why.
    pub fn first_unreadable(&self, range: &Range) -> Option<(Key, String)> {
        let state = self.shared.read();
        state.unreadable.iter().find(|(key, _)| range.contains(key)).map(|(key, why)| (key.clone(), why.clone()))
    }

    /// One resource as it was at `revision`; `None` if that is too long ago.
    pub fn at(&self, resource: &GroupResource, revision: Revision) -> Option<Snapshot> {
        self.shared.read().at(resource, revision)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.pump.abort();
        self.shared.close();
    }
}

impl Informer for Cache {
    fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    fn subscribe(&self, resources: &[GroupResource]) -> (Snapshot, BoxStream<'static, Change>) {
        let (snapshot, changes) = Changes::from_now(self.shared.clone(), resources);
        let stream = stream::unfold(changes, |mut changes| async move {
            let change = changes.next().await.ok()?;
            Some((Change::clone(&change), changes))
        });
        (snapshot, stream.boxed())
    }
}

/// Follows the store. Where its history has a gap, the difference of two lists closes it.
async fn pump(store: Arc<dyn Store>, shared: Arc<Shared>) {
    loop {
        match store.watch(shared.revision()).await {
            Ok(mut events) => {
                shared.found();
                while let Some(event) = events.next().await {
                    shared.apply(event);
                }
            }
            Err(StoreError::Compacted { .. }) => match store.list(&Range::All).await {
                Ok(listing) => shared.resync(listing),
                Err(error) => shared.lost("listing the store anew", &error),
            },
            Err(StoreError::Closed) => break,
            Err(error) => shared.lost("watching the store", &error),
        }
        tokio::time::sleep(RETRY).await;
    }
    shared.close();
}
