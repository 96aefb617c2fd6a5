//! Namespace deletion: what is in a namespace that goes away goes first.
//!
//! Owns the namespace's finalizer and its conditions; never knows a kind: the snapshot says what there is.
//! Source: "Namespaces" of Kubernetes' documentation; reasons and messages as upstream's namespace controller has them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kedge_api::event::whole_seconds;
use kedge_api::resource::known::{EVENTS, NAMESPACES, PODS};
use kedge_api::{Change, GroupResource, Key, Snapshot, Status};

use crate::controller::{Controller, Now, Plan, Step, Victim, read, value};

const FINALIZER: &str = "kubernetes";
/// Deletions of one kind in one plan.
const BURST: usize = 500;

pub struct NamespaceDeletion;

impl Controller for NamespaceDeletion {
    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        &[]
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        let key = if change.key.resource == NAMESPACES {
            change.key.clone()
        } else if change.key.namespace.is_empty() {
            return;
        } else {
            Key { resource: NAMESPACES, namespace: "".into(), name: change.key.namespace.clone() }
        };
        if snapshot.get(&key).is_some_and(|namespace| namespace.is_deleting()) {
            keys.push(key);
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(namespace)) = (snapshot.get(key), read::<Namespace>(snapshot, key)?) else {
            return Ok(plan);
        };
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        if !object.is_deleting() || !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(plan);
        }
        let mut left: BTreeMap<String, usize> = BTreeMap::new();
        let mut held_by: BTreeMap<String, usize> = BTreeMap::new();
        let mut resources: Vec<_> =
            snapshot.resources().filter(|resource| snapshot.list(resource, &key.name).next().is_some()).collect();
        if resources.iter().any(|resource| **resource == PODS) {
            // What pods live by, network policies above all, stays until they are gone.
            resources.retain(|resource| **resource == PODS);
        }
        // Events last: what goes away may still have something to tell.
        resources.sort_by_key(|resource| (**resource == EVENTS, (*resource).clone()));
        for resource in resources {
            let objects: Vec<_> = snapshot.list(resource, &key.name).collect();
            left.insert(resource.to_string(), objects.len());
            for finalizer in objects.iter().flat_map(|object| object.meta.finalizers.iter().flatten()) {
                *held_by.entry(finalizer.clone()).or_insert(0) += 1;
            }
            let targets: Vec<_> =
                objects.iter().filter(|o| !o.is_deleting()).take(BURST).map(|o| Victim::of(o)).collect();
            if !targets.is_empty() {
                plan.push(Step::Delete { resource: resource.clone(), targets, told: None });
            }
        }
        let mut after = namespace.clone();
        if left.is_empty() {
            let spec = after.spec.get_or_insert_default();
            spec.finalizers = Some(finalizers.into_iter().filter(|finalizer| finalizer != FINALIZER).collect());
            plan.push(Step::Update { resource: NAMESPACES, subresource: "finalize", object: value(&after)? });
            return Ok(plan);
        }
        let list = |counts: &BTreeMap<String, usize>, word: &str| {
            let parts: Vec<_> = counts.iter().map(|(name, n)| format!("{name}{word}{n} resource instances")).collect();
            parts.join(", ")
        };
        let remaining = format!("Some resources are remaining: {}", list(&left, " has "));
        let held = format!("Some content in the namespace has finalizers remaining: {}", list(&held_by, " in "));
        let conditions = [
            (
                "NamespaceDeletionDiscoveryFailure",
                false,
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                false,
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            (
                "NamespaceDeletionContentFailure",
                false,
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
            ("NamespaceContentRemaining", true, "SomeResourcesRemain", &remaining),
            match held_by.is_empty() {
                true => (
                    "NamespaceFinalizersRemaining",
                    false,
                    "ContentHasNoFinalizers",
                    "All content-preserving finalizers finished",
                ),
                false => ("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", &held),
            },
        ];
        let status = after.status.get_or_insert_default();
        status.phase = Some("Terminating".into());
        for (kind, holds, reason, message) in conditions {
            set(status.conditions.get_or_insert_default(), kind, holds, reason, message, now);
        }
        plan.status(object, &value(&namespace)?, &value(&after)?);
        Ok(plan)
    }
}

fn set(conditions: &mut Vec<NamespaceCondition>, kind: &str, holds: bool, reason: &str, message: &str, now: Now) {
    let status = if holds { "True" } else { "False" };
    let old = conditions.iter().find(|condition| condition.type_ == kind && condition.status == status);
    let since = old.and_then(|old| old.last_transition_time.clone());
    let new = NamespaceCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: since.or_else(|| Some(Time(whole_seconds(now)))),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == kind) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}
