//! What in-process consumers see: the whole state at one revision, and the changes after it.

use std::sync::Arc;

use futures::stream::BoxStream;
use imbl::ordmap::DiffItem;
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

    /// How a resource differs from another snapshot: one change for each object, whatever happened to it in between. Costs next to
    /// nothing where nothing differs, and little where little does, since snapshots share what they have in common. A deletion's
    /// revision is this snapshot's.
    pub fn since(&self, before: &Self, resource: &GroupResource) -> Vec<Change> {
        let empty = OrdMap::new();
        let (old, new) = (before.resources.get(resource), self.resources.get(resource));
        let change = |before: Option<&Arc<Object>>, after: Option<&Arc<Object>>| {
            let key = after.or(before)?.key.clone();
            let revision = after.map_or(self.revision, |object| object.revision);
            Some(Change { revision, key, before: before.cloned(), after: after.cloned() })
        };
        let changes = old.unwrap_or(&empty).diff(new.unwrap_or(&empty)).filter_map(|item| match item {
            DiffItem::Add(_, new) => change(None, Some(new)),
            DiffItem::Update { old: (_, old), new: (_, new) } => change(Some(old), Some(new)),
            DiffItem::Remove(_, old) => change(Some(old), None),
        });
        changes.collect()
    }

    /// Whether both hold the very same objects of a resource. Compares no object: a copy of the same content may count as another.
    pub fn is_same(&self, other: &Self, resource: &GroupResource) -> bool {
        match (self.resources.get(resource), other.resources.get(resource)) {
            (Some(own), Some(other)) => own.ptr_eq(other),
            (own, other) => own.is_none_or(OrdMap::is_empty) && other.is_none_or(OrdMap::is_empty),
        }
    }

    /// The same with these resources only: who keeps it for long keeps nothing else alive.
    pub fn only(&self, resources: &[GroupResource]) -> Self {
        let kept =
            resources.iter().filter_map(|resource| Some((resource.clone(), self.resources.get(resource)?.clone())));
        Self { revision: self.revision, resources: kept.collect() }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resource::known::{PODS, SECRETS};

    fn object(name: u8, revision: u64) -> Arc<Object> {
        let key = Key::new(PODS, "n", &name.to_string());
        Arc::new(Object { key, revision: Revision(revision), meta: Default::default(), json: Default::default() })
    }

    fn write(snapshot: &mut Snapshot, name: u8, put: bool, revision: u64) {
        match put {
            true => snapshot.insert(object(name, revision)),
            false => drop(snapshot.remove(&object(name, 0).key, Revision(revision))),
        }
    }

    fn names(snapshot: &Snapshot) -> Vec<(String, u64)> {
        snapshot.list(&PODS, "").map(|o| (o.key.name.to_string(), o.revision.0)).collect()
    }

    proptest! {
        /// Whatever was written, the changes lead from the one snapshot to the other.
        #[test]
        fn changes_lead_from_one_snapshot_to_the_other(
            first in proptest::collection::vec((0u8..20, any::<bool>()), 0..40),
            then in proptest::collection::vec((0u8..20, any::<bool>()), 0..40),
        ) {
            let mut snapshot = Snapshot::default();
            let mut revision = 0;
            let mut apply = |snapshot: &mut Snapshot, writes: &[(u8, bool)]| {
                for (name, put) in writes {
                    revision += 1;
                    write(snapshot, *name, *put, revision);
                }
            };
            apply(&mut snapshot, &first);
            let before = snapshot.clone();
            apply(&mut snapshot, &then);
            let mut replayed = before.clone();
            let changes = snapshot.since(&before, &PODS);
            for change in &changes {
                prop_assert!(change.before.is_some() || change.after.is_some());
                match &change.after {
                    Some(object) => replayed.insert(object.clone()),
                    None => drop(replayed.remove(&change.key, change.revision)),
                }
            }
            prop_assert_eq!(names(&replayed), names(&snapshot));
            prop_assert!(!snapshot.is_same(&before, &PODS) || changes.is_empty());
            prop_assert!(snapshot.since(&snapshot, &PODS).is_empty() && snapshot.is_same(&snapshot, &PODS));
            prop_assert!(snapshot.is_same(&before, &SECRETS));
        }
    }
}
