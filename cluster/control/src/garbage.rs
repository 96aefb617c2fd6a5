//! Garbage collection by owner references: what has no owner left goes.
//!
//! Owns the finalizers `foregroundDeletion` and `orphan`, and the deletion of dependents; never knows a kind beyond what the mapper
//! says. Dependents are found by a walk over the snapshot's parsed metadata when an owner goes: no index is kept.
//! Source: "Garbage Collection" and "Use Cascading Deletion" of Kubernetes' documentation.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kedge_api::resource::known::{EVENTS, LEASES};
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};

use crate::controller::{Controller, Now, Plan, Step, Victim};
use crate::finalizer;
use crate::owner::references_patch;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Dependents treated by one plan.
const BURST: usize = 500;

/// Which resource a kind is served as, and whether it is namespaced: `("apps/v1", "Deployment")`. `None`: not served (now).
pub type Mapper = Arc<dyn Fn(&str, &str) -> Option<(GroupResource, bool)> + Send + Sync>;

pub struct GarbageCollector {
    pub mapper: Mapper,
}

impl GarbageCollector {
    fn key_of(&self, reference: &OwnerReference, namespace: &str) -> Option<Key> {
        let (resource, namespaced) = (self.mapper)(&reference.api_version, &reference.kind)?;
        Some(Key::new(resource, if namespaced { namespace } else { "" }, &reference.name))
    }
}

fn references(meta: &ObjectMeta) -> &[OwnerReference] {
    meta.owner_references.as_deref().unwrap_or_default()
}

/// All objects that name `owner` as an owner. Those of a namespaced owner are in its namespace.
fn dependents<'a>(snapshot: &'a Snapshot, owner: &'a Object) -> impl Iterator<Item = &'a Arc<Object>> {
    let resources = snapshot.resources().filter(|resource| **resource != EVENTS && **resource != LEASES);
    resources
        .flat_map(|resource| snapshot.list(resource, &owner.key.namespace))
        .filter(|object| references(&object.meta).iter().any(|reference| reference.uid == owner.uid()))
}

impl Controller for GarbageCollector {
    fn name(&self) -> &'static str {
        "garbage-collector-controller"
    }

    fn account(&self) -> &'static str {
        "generic-garbage-collector"
    }

    fn watches(&self) -> &'static [GroupResource] {
        &[]
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        if change.key.resource == EVENTS || change.key.resource == LEASES {
            return;
        }
        match (&change.before, &change.after) {
            (before, Some(after)) => {
                let finalized =
                    after.is_deleting() && (finalizer::holds(after, FOREGROUND) || finalizer::holds(after, ORPHAN));
                let disowned = before.as_ref().is_none_or(|b| references(&b.meta) != references(&after.meta));
                if finalized || (disowned && !references(&after.meta).is_empty()) {
                    keys.push(after.key.clone());
                }
                if finalized && finalizer::holds(after, FOREGROUND) {
                    keys.extend(dependents(snapshot, after).map(|dependent| dependent.key.clone()));
                }
                if after.is_deleting() || disowned {
                    keys.extend(before.iter().flat_map(|b| self.waiting_owners(snapshot, b)));
                }
            }
            (Some(gone), None) => {
                keys.extend(dependents(snapshot, gone).map(|dependent| dependent.key.clone()));
                keys.extend(self.waiting_owners(snapshot, gone));
            }
            (None, None) => {}
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, _: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let Some(object) = snapshot.get(key) else { return Ok(plan) };
        if object.is_deleting() {
            if finalizer::holds(object, ORPHAN) {
                orphan(snapshot, object, &mut plan)?;
            } else if finalizer::holds(object, FOREGROUND) {
                let blocks = |dependent: &Arc<Object>| {
                    let mut own = references(&dependent.meta).iter().filter(|r| r.uid == object.uid());
                    own.any(|reference| reference.block_owner_deletion == Some(true))
                };
                // Each dependent is planned on its own; the owner goes when none that blocks it is left.
                if !dependents(snapshot, object).any(blocks) {
                    finalizer::lift(object, FOREGROUND, &mut plan);
                }
            }
            return Ok(plan);
        }
        let (mut solid, mut dangling, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for reference in references(&object.meta) {
            match self.key_of(reference, &key.namespace) {
                // Of what is not served nothing can be said.
                None => solid.push(reference.clone()),
                Some(owner) => match snapshot.get(&owner).filter(|owner| owner.uid() == reference.uid) {
                    None => dangling.push(reference.clone()),
                    Some(owner) if owner.is_deleting() && finalizer::holds(owner, FOREGROUND) => {
                        waiting.push(reference.clone())
                    }
                    Some(_) => solid.push(reference.clone()),
                },
            }
        }
        let victim = |propagation| Step::Delete {
            resource: key.resource.clone(),
            targets: vec![Victim { propagation, ..Victim::of(object) }],
            told: None,
        };
        if !solid.is_empty() {
            if !dangling.is_empty() || !waiting.is_empty() {
                // Someone still owns it: only the references to those who go are dropped.
                plan.patch(object, "", references_patch(object, &solid)?);
            }
        } else if !waiting.is_empty() {
            let mut own = dependents(snapshot, object).peekable();
            let propagation = if own.peek().is_some() { "Foreground" } else { "Background" };
            if own.any(|dependent| dependent.is_deleting() && finalizer::holds(dependent, FOREGROUND)) {
                // Owners and dependents may wait for each other in a circle: here it is opened.
                plan.patch(object, "", references_patch(object, &unblocking(object))?);
            }
            plan.push(victim(propagation));
        } else if !dangling.is_empty() {
            // What the object itself was asked for when it was deleted stays; else in the background.
            plan.push(victim(match () {
                () if finalizer::holds(object, ORPHAN) => "Orphan",
                () if finalizer::holds(object, FOREGROUND) => "Foreground",
                () => "Background",
            }));
        }
        Ok(plan)
    }
}

impl GarbageCollector {
    /// Owners that wait for this object to go.
    fn waiting_owners(&self, snapshot: &Snapshot, object: &Object) -> Vec<Key> {
        let owners = references(&object.meta).iter().filter_map(|r| self.key_of(r, &object.key.namespace));
        owners
            .filter(|key| snapshot.get(key).is_some_and(|o| o.is_deleting() && finalizer::holds(o, FOREGROUND)))
            .collect()
    }
}

/// The object's owner references, for none of which its owner waits.
fn unblocking(object: &Object) -> Vec<OwnerReference> {
    let mut all = references(&object.meta).to_vec();
    all.iter_mut().for_each(|reference| reference.block_owner_deletion = Some(false));
    all
}

fn orphan(snapshot: &Snapshot, owner: &Object, plan: &mut Plan) -> Result<(), Status> {
    let mut any = false;
    for dependent in dependents(snapshot, owner).take(BURST) {
        any = true;
        let left: Vec<_> = references(&dependent.meta).iter().filter(|r| r.uid != owner.uid()).cloned().collect();
        plan.patch(dependent, "", references_patch(dependent, &left)?);
    }
    if any {
        // The finalizer goes when the snapshot shows that nobody refers to the owner any more.
        plan.again_after(std::time::Duration::ZERO);
    } else {
        finalizer::lift(owner, ORPHAN, plan);
    }
    Ok(())
}
