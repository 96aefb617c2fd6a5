//! A store that forgets everything: the same semantics for tests, without a disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use kedge_api::{Key, Object, Revision};

use crate::hub::Hub;
use crate::{Commit, Error, Event, Expect, Listing, Range, Store, Summary, Write};

pub struct Memory {
    /// Orders writes among each other and against watches: revision, objects and hub change together.
    state: Mutex<State>,
}

struct State {
    head: Revision,
    objects: BTreeMap<Key, Arc<Object>>,
    hub: Hub,
}

impl Memory {
    pub fn new() -> Self {
        let head = Revision(1);
        Self { state: Mutex::new(State { head, objects: BTreeMap::new(), hub: Hub::new(head) }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Object>>, Error> {
        Ok(self.state().objects.get(key).cloned())
    }

    async fn list(&self, range: &Range) -> Result<Listing, Error> {
        let state = self.state();
        let objects = state.objects.values().filter(|o| range.contains(&o.key)).cloned().collect();
        Ok(Listing { revision: state.head, objects, unreadable: Vec::new() })
    }

    async fn commit(&self, expect: Expect, write: Write) -> Result<Commit, Error> {
        let state = &mut *self.state();
        let revision = Revision(state.head.0 + 1);
        let event = swap(&mut state.objects, revision, expect, &write)?;
        state.head = revision;
        state.hub.publish(&event, |watcher, event| watcher.try_send(event).is_ok());
        Ok(Commit { revision, object: event.after })
    }

    async fn watch(&self, after: Revision) -> Result<BoxStream<'static, Event>, Error> {
        let receiver = self.state().hub.watch(after)?;
        Ok(stream::unfold(receiver, |mut r| async move { r.recv().await.map(|event| (event, r)) }).boxed())
    }

    async fn snapshot(&self, _to: &Path) -> Result<Summary, Error> {
        Err(Error::Nothing)
    }

    async fn check(&self) -> Result<Summary, Error> {
        Err(Error::Nothing)
    }
}

/// Compare-and-swap on a map.
pub(crate) fn swap(
    objects: &mut BTreeMap<Key, Arc<Object>>,
    revision: Revision,
    expect: Expect,
    write: &Write,
) -> Result<Event, Error> {
    let key = write.key();
    let found = objects.get(key).map(|o| o.revision);
    if !expect.holds(found) {
        return Err(Error::Conflict { key: key.clone(), expect, found });
    }
    let after = match write {
        Write::Put(draft) => {
            let object = draft.stamp(revision);
            objects.insert(key.clone(), object.clone());
            Some(object)
        }
        Write::Delete(key) => {
            objects.remove(key);
            None
        }
    };
    Ok(Event { revision, key: key.clone(), after })
}
