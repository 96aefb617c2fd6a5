//! What in-process consumers see: the whole state at one revision, and the changes after it.

use std::sync::Arc;

use futures::stream::BoxStream;
use imbl::{HashMap, OrdMap};

use crate::object::{Key, Object, Revision};
use crate::resource::GroupResource;

/// Namespace and name within one resource.
type Name = (Arc<str>, Arc<str>);

/// All objects at one revision. A clone is a few pointer copies and is never changed by later writes.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub revision: Revision,
    resources: HashMap<GroupResource, OrdMap<Name, Arc<Object>>>,
}

impl Snapshot {
    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.resources.get(&key.resource)?.get(&(key.namespace.clone(), key.name.clone()))
    }

    /// All objects of a resource, by namespace and name; an empty `namespace` means all namespaces.
    pub fn list<'a>(
        &'a self,
        resource: &GroupResource,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let from: Name = (namespace.into(), "".into());
        self.resources
            .get(resource)
            .into_iter()
            .flat_map(move |objects| objects.range(from.clone()..))
            .take_while(move |((ns, _), _)| namespace.is_empty() || **ns == *namespace)
            .map(|(_, object)| object)
    }

    /// The resources that have, or had, an object: what garbage collection and namespace deletion go through.
    pub fn resources(&self) -> impl Iterator<Item = &GroupResource> {
        self.resources.keys()
    }

    pub fn len(&self, resource: &GroupResource) -> usize {
        self.resources.get(resource).map_or(0, OrdMap::len)
    }

    pub fn insert(&mut self, object: Arc<Object>) {
        self.revision = self.revision.max(object.revision);
        let Key { resource, namespace, name } = object.key.clone();
        self.resources.entry(resource).or_default().insert((namespace, name), object);
    }

    /// Takes an object out at `revision`.
    pub fn remove(&mut self, key: &Key, revision: Revision) -> Option<Arc<Object>> {
        self.revision = self.revision.max(revision);
        self.resources.get_mut(&key.resource)?.remove(&(key.namespace.clone(), key.name.clone()))
    }
}

/// One committed write, in the order of revisions. Holds both versions, so that a selector can tell when an object leaves its view.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: Revision,
    pub key: Key,
    pub before: Option<Arc<Object>>,
    /// `None`: deleted at `revision`.
    pub after: Option<Arc<Object>>,
}

/// In-process view of the store.
pub trait Informer: Send + Sync {
    fn snapshot(&self) -> Snapshot;

    /// The state now and every later change of `resources` (all, if empty), without a gap. The stream ends when the consumer fell so
    /// far behind that changes were dropped, or the cache closed: then subscribe anew.
    fn subscribe(&self, resources: &[GroupResource]) -> (Snapshot, BoxStream<'static, Change>);
}
