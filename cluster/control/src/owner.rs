//! Who owns what: controller references, and the adoption and release of objects by selector.
//!
//! Owns the rules that all controllers with children share; never knows a child's kind.
//! Source: "Owners and Dependents" of Kubernetes' documentation.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::{Metadata, Resource as K8sResource};
use kedge_api::selector::Selector;
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde_json::{Value, json};

use crate::controller::{Plan, value};

/// A parent as its children's rules see it.
pub struct Owner<'a> {
    pub kind: &'static str,
    pub api_version: &'static str,
    pub meta: &'a ObjectMeta,
    pub selector: Selector,
}

impl<'a> Owner<'a> {
    pub fn of<T: K8sResource + Metadata<Ty = ObjectMeta>>(
        object: &'a T,
        selector: Option<&LabelSelector>,
    ) -> Result<Self, Status> {
        let selector = Selector::from_label_selector(selector)
            .map_err(|e| Status::bad_request(format!("selector of {} {:?}: {e}", T::KIND, object.metadata().name)))?;
        Ok(Self { kind: T::KIND, api_version: T::API_VERSION, meta: object.metadata(), selector })
    }

    pub fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: self.api_version.to_owned(),
            kind: self.kind.to_owned(),
            name: self.meta.name.clone().unwrap_or_default(),
            uid: self.meta.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    fn is_deleting(&self) -> bool {
        self.meta.deletion_timestamp.is_some()
    }

    fn owns(&self, meta: &ObjectMeta) -> bool {
        controller_of(meta).is_some_and(|reference| Some(&reference.uid) == self.meta.uid.as_ref())
    }

    /// The owner's children of a resource. Those that match and nobody controls are adopted, those that match no more are released:
    /// the steps for it go into `plan`.
    pub fn claim(
        &self,
        snapshot: &Snapshot,
        resource: &GroupResource,
        plan: &mut Plan,
    ) -> Result<Vec<Arc<Object>>, Status> {
        self.claim_if(snapshot, resource, plan, |_| true)
    }

    /// The same among those that may be children at all.
    pub fn claim_if(
        &self,
        snapshot: &Snapshot,
        resource: &GroupResource,
        plan: &mut Plan,
        may: impl Fn(&Object) -> bool,
    ) -> Result<Vec<Arc<Object>>, Status> {
        let namespace = self.meta.namespace.as_deref().unwrap_or_default();
        let mut children = Vec::new();
        for object in snapshot.list(resource, namespace).filter(|object| may(object)) {
            let matches = self.selector.matches(&object.meta.labels);
            match controller_of(&object.meta) {
                Some(_) if self.owns(&object.meta) => {
                    if matches {
                        children.push(object.clone());
                    } else if !self.is_deleting() {
                        plan.patch(object, "", self.release_patch(object)?);
                    }
                }
                None if matches && !self.is_deleting() && !object.is_deleting() => {
                    plan.patch(object, "", self.adopt_patch(object)?);
                    children.push(object.clone());
                }
                Some(_) | None => {}
            }
        }
        Ok(children)
    }

    fn adopt_patch(&self, object: &Object) -> Result<Value, Status> {
        let mut references = object.meta.owner_references.clone().unwrap_or_default();
        references.retain(|r| Some(&r.uid) != self.meta.uid.as_ref());
        references.push(self.reference());
        references_patch(object, &references)
    }

    fn release_patch(&self, object: &Object) -> Result<Value, Status> {
        let mut references = object.meta.owner_references.clone().unwrap_or_default();
        references.retain(|r| Some(&r.uid) != self.meta.uid.as_ref());
        references_patch(object, &references)
    }
}

/// Replaces an object's owner references if it has not changed since.
pub fn references_patch(object: &Object, references: &[OwnerReference]) -> Result<Value, Status> {
    let list = if references.is_empty() { Value::Null } else { value(&references)? };
    let revision = object.revision.to_string();
    Ok(json!({"metadata": {"uid": object.uid(), "resourceVersion": revision, "ownerReferences": list}}))
}

pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|reference| reference.controller == Some(true))
}

/// The keys of owners of `kind` that a child's change concerns: its controller before and after, or, of a child that nobody controls,
/// every owner in the namespace that might adopt it.
pub fn owner_keys(
    snapshot: &Snapshot,
    change: &Change,
    kind: &str,
    resource: &GroupResource,
    selector: fn(&Object) -> Option<Selector>,
    keys: &mut Vec<Key>,
) {
    let namespace = &change.key.namespace;
    for object in [&change.before, &change.after].into_iter().flatten() {
        if let Some(reference) = controller_of(&object.meta).filter(|reference| reference.kind == kind) {
            let key =
                Key { resource: resource.clone(), namespace: namespace.clone(), name: reference.name.as_str().into() };
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    if let Some(orphan) =
        change.after.as_ref().filter(|object| controller_of(&object.meta).is_none() && !object.is_deleting())
    {
        let adopters = snapshot
            .list(resource, namespace)
            .filter(|owner| selector(owner).is_some_and(|selector| selector.matches(&orphan.meta.labels)))
            .map(|owner| owner.key.clone());
        keys.extend(adopters);
    }
}

/// The `spec.selector` of a workload, read without the rest of it.
pub fn spec_selector(object: &Object) -> Option<Selector> {
    #[derive(serde::Deserialize)]
    struct Slim {
        spec: Spec,
    }
    #[derive(serde::Deserialize)]
    struct Spec {
        selector: Option<LabelSelector>,
    }
    let slim: Slim = serde_json::from_slice(&object.json).ok()?;
    Selector::from_label_selector(Some(&slim.spec.selector?)).ok()
}
