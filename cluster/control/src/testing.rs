//! Snapshots written down as JSON, for tables of (snapshot, key) and plan.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kedge_api::{GroupResource, Key, Object, Revision, Snapshot};
use serde_json::Value;

/// A moment, in seconds after some fixed one.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

#[derive(Default)]
pub struct Facts {
    pub snapshot: Snapshot,
    revision: u64,
}

impl Facts {
    /// Adds an object; without a uid it gets its name as one.
    pub fn add(&mut self, resource: GroupResource, mut value: Value) -> Arc<Object> {
        self.revision += 1;
        let meta = &mut value["metadata"];
        if meta["uid"].is_null() {
            meta["uid"] = meta["name"].clone();
        }
        meta["resourceVersion"] = self.revision.to_string().into();
        let parsed: ObjectMeta = serde_json::from_value(meta.clone()).unwrap();
        let key = Key::new(resource, parsed.namespace.as_deref().unwrap_or(""), parsed.name.as_deref().unwrap());
        let object = Arc::new(Object {
            key,
            revision: Revision(self.revision),
            meta: parsed,
            json: serde_json::to_vec(&value).unwrap().into(),
        });
        self.snapshot.insert(object.clone());
        object
    }
}
