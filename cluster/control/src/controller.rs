//! What a controller is: it names what it watches, and decides purely what to do about one key.
//!
//! Owns the vocabulary of decisions ([`Plan`], [`Step`]); never acts. [`crate::act`] carries the steps out, [`crate::runner`] decides when.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kedge_api::event::{Note, Severity};
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

pub type Now = Timestamp;

pub trait Controller: Send + Sync {
    /// As it stands in events, e.g. `replicaset-controller`.
    fn name(&self) -> &'static str;

    /// The service account of `kube-system` that it acts as, whose role says what it may do; or a user, `system:…`.
    fn account(&self) -> &'static str {
        self.name()
    }

    /// The resources whose changes may matter; none named means all.
    fn watches(&self) -> &'static [GroupResource];

    /// The keys that a change of a watched resource concerns. At the start every object comes as a change without `before`.
    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>);

    /// What to do about a key. Pure: the same arguments give the same plan.
    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status>;

    /// What to do, beside trying again, when a step was refused.
    fn failed(&self, _snapshot: &Snapshot, _key: &Key, _now: Now, _why: &Status) -> Result<Plan, Status> {
        Ok(Plan::default())
    }
}

/// Steps in their order; the first that fails ends the plan, and the key is planned anew after a while.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Plan anew after this time even if nothing changes.
    pub again: Option<Duration>,
}

#[derive(Debug, PartialEq)]
pub enum Step {
    /// Creates alike objects in batches of 1, 2, 4, …, so that a refusal costs few attempts.
    Create {
        resource: GroupResource,
        objects: Vec<Value>,
        told: Option<Told>,
    },
    /// Replaces a subresource by a whole object.
    Update {
        resource: GroupResource,
        subresource: &'static str,
        object: Value,
    },
    /// A JSON merge patch.
    Patch {
        resource: GroupResource,
        namespace: String,
        name: String,
        subresource: &'static str,
        patch: Value,
    },
    /// Server-side apply by a manager, who takes what others have of it.
    Apply {
        resource: GroupResource,
        subresource: &'static str,
        object: Value,
        manager: &'static str,
    },
    Delete {
        resource: GroupResource,
        targets: Vec<Victim>,
        told: Option<Told>,
    },
    /// Asks pods to go. One whose disruption budget does not let it go stays, which is no failure.
    Evict {
        targets: Vec<Victim>,
    },
    Tell(Note),
}

/// That very object is deleted, not one of the same name that came later.
#[derive(Clone, Debug, PartialEq)]
pub struct Victim {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// `Background`, `Foreground`, `Orphan`; empty leaves it to the resource.
    pub propagation: &'static str,
    pub grace_seconds: Option<i64>,
}

impl Victim {
    pub fn of(object: &Object) -> Self {
        Self {
            namespace: object.key.namespace.to_string(),
            name: object.key.name.to_string(),
            uid: object.uid().to_owned(),
            propagation: "",
            grace_seconds: None,
        }
    }
}

/// Whom creations and deletions of pods are told about, with upstream's reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub about: ObjectReference,
    /// Tell of each success; failures are told always.
    pub successes: bool,
}

impl Plan {
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    pub fn tell(&mut self, about: ObjectReference, severity: Severity, reason: &str, message: String) {
        self.push(Step::Tell(Note { about, severity, reason: reason.to_owned(), message }));
    }

    pub fn again_after(&mut self, delay: Duration) {
        self.again = Some(self.again.map_or(delay, |sooner| sooner.min(delay)));
    }

    /// Plans anew at `at`, a second late so that comparisons of whole seconds have turned.
    pub fn again_at(&mut self, at: Timestamp, now: Now) {
        let left = at.duration_since(now).unsigned_abs();
        self.again_after(if at > now { left + Duration::from_secs(1) } else { Duration::ZERO });
    }

    /// Brings the status in `before` to that in `after`, both whole objects; nothing if they are the same.
    pub fn status(&mut self, object: &Object, before: &Value, after: &Value) {
        self.status_where(object, json!({"uid": object.uid()}), before, after);
    }

    /// The same, only if nobody has written the object since it was looked at: what is concluded from silence is void once somebody speaks.
    pub fn status_unless_changed(&mut self, object: &Object, before: &Value, after: &Value) {
        let unchanged = json!({"uid": object.uid(), "resourceVersion": object.revision.to_string()});
        self.status_where(object, unchanged, before, after);
    }

    fn status_where(&mut self, object: &Object, metadata: Value, before: &Value, after: &Value) {
        let empty = Value::Object(Map::new());
        let status = |v: &Value| v.get("status").cloned().unwrap_or_else(|| empty.clone());
        if let Some(patch) = difference(&status(before), &status(after)) {
            self.patch(object, "status", json!({"metadata": metadata, "status": patch}));
        }
    }

    pub fn patch(&mut self, object: &Object, subresource: &'static str, patch: Value) {
        self.push(Step::Patch {
            resource: object.key.resource.clone(),
            namespace: object.key.namespace.to_string(),
            name: object.key.name.to_string(),
            subresource,
            patch,
        });
    }
}

/// The JSON merge patch (RFC 7396) that turns `before` into `after`; `None` if they are the same.
pub fn difference(before: &Value, after: &Value) -> Option<Value> {
    if before == after {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (before, after) else { return Some(after.clone()) };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(before) => {
                if let Some(inner) = difference(before, value) {
                    patch.insert(key.clone(), inner);
                }
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

/// A typed object as JSON.
pub fn value<T: serde::Serialize>(object: &T) -> Result<Value, Status> {
    serde_json::to_value(object).map_err(|e| Status::internal(format!("encoding an object: {e}")))
}

/// The object at a key, whole and typed.
pub fn read<T: DeserializeOwned>(snapshot: &Snapshot, key: &Key) -> Result<Option<T>, Status> {
    snapshot.get(key).map(|object| object.decode()).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use json_patch::merge;
    use proptest::prelude::*;

    fn tree() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![any::<bool>().prop_map(Value::from), (0..5i64).prop_map(Value::from), Just(json!([1, 2]))];
        leaf.prop_recursive(3, 20, 3, |inner| {
            proptest::collection::btree_map("[a-c]", inner, 0..3).prop_map(|m| Value::Object(m.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn a_difference_applied_gives_the_target(before in tree(), after in tree()) {
            let mut patched = before.clone();
            if let Some(patch) = difference(&before, &after) {
                merge(&mut patched, &patch);
            } else {
                prop_assert_eq!(&before, &after);
            }
            prop_assert_eq!(patched, after);
        }
    }
}
