//! An informer over objects made by hand, for unit tests.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::stream::BoxStream;
use kedge_api::{Change, GroupResource, Informer, Key, Object, Revision, Snapshot};
use kedge_registry::Registry;
use kedge_store::{Memory, Store};
use kedge_watch::Cache;
use serde_json::Value;

#[derive(Default)]
pub struct Objects(Mutex<Snapshot>);

impl Objects {
    /// What every cluster has, roles above all.
    pub async fn bootstrapped() -> Self {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let cache = Cache::start(Arc::clone(&store)).await.unwrap();
        let registry = Registry::new(store, Arc::clone(&cache), kedge_registry::Options::default());
        kedge_registry::bootstrap(&registry).await.unwrap();
        Self(Mutex::new(cache.snapshot()))
    }

    pub fn put(&self, resource: GroupResource, mut value: Value) {
        let mut snapshot = self.0.lock().unwrap();
        let revision = Revision(snapshot.revision.0 + 1);
        value["metadata"]["resourceVersion"] = revision.to_string().into();
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = Key::new(resource, &text("/metadata/namespace"), &text("/metadata/name"));
        let meta = serde_json::from_value(value["metadata"].clone()).unwrap();
        snapshot.insert(Arc::new(Object { key, revision, meta, json: value.to_string().into() }));
    }

    pub fn remove(&self, resource: GroupResource, namespace: &str, name: &str) {
        let mut snapshot = self.0.lock().unwrap();
        let revision = Revision(snapshot.revision.0 + 1);
        snapshot.remove(&Key::new(resource, namespace, name), revision).unwrap();
    }
}

impl Informer for Objects {
    fn snapshot(&self) -> Snapshot {
        self.0.lock().unwrap().clone()
    }

    fn subscribe(&self, _: &[GroupResource]) -> (Snapshot, BoxStream<'static, Change>) {
        (self.snapshot(), futures::stream::pending().boxed())
    }
}
