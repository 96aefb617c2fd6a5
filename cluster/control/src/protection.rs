//! What is in use is not deleted: volumes, claims and classes of volume attributes wait until nobody uses them.
//!
//! Owns the finalizers that admission gives to such objects; never deletes. Source: "Storage Object in Use Protection" of Kubernetes'
//! documentation.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kedge_api::resource::known::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, VOLUME_ATTRIBUTES_CLASSES};
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde_json::Value;

use crate::controller::{Controller, Now, Plan};
use crate::finalizer;
use crate::pods;

pub struct Protection(&'static Rule);

struct Rule {
    name: &'static str,
    resource: GroupResource,
    finalizer: &'static str,
    watches: &'static [GroupResource],
    used: fn(&Snapshot, &Object) -> Result<bool, Status>,
}

impl Protection {
    pub const VOLUMES: Self = Self(&Rule {
        name: "pv-protection-controller",
        resource: PERSISTENT_VOLUMES,
        finalizer: "kubernetes.io/pv-protection",
        watches: &[PERSISTENT_VOLUMES],
        used: |_, volume| {
            let volume: Value = volume.decode()?;
            Ok(volume.pointer("/status/phase").is_some_and(|phase| phase == "Bound"))
        },
    });
    pub const CLAIMS: Self = Self(&Rule {
        name: "pvc-protection-controller",
        resource: PERSISTENT_VOLUME_CLAIMS,
        finalizer: "kubernetes.io/pvc-protection",
        watches: &[PERSISTENT_VOLUME_CLAIMS, PODS],
        used: claim_is_used,
    });
    pub const ATTRIBUTES: Self = Self(&Rule {
        name: "volumeattributesclass-protection-controller",
        resource: VOLUME_ATTRIBUTES_CLASSES,
        finalizer: "kubernetes.io/vac-protection",
        watches: &[VOLUME_ATTRIBUTES_CLASSES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES],
        used: class_is_used,
    });
}

impl Controller for Protection {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn watches(&self) -> &'static [GroupResource] {
        self.0.watches
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        let waits = |object: &Object| object.is_deleting() && finalizer::holds(object, self.0.finalizer);
        if change.key.resource == self.0.resource {
            keys.extend(change.after.iter().filter(|object| waits(object)).map(|object| object.key.clone()));
        } else if change.before.is_some() {
            // A user that is new needs no look: it sees that the object is going.
            let namespace = if self.0.resource == PERSISTENT_VOLUME_CLAIMS { &*change.key.namespace } else { "" };
            let waiting = snapshot.list(&self.0.resource, namespace).filter(|object| waits(object));
            keys.extend(waiting.map(|object| object.key.clone()));
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, _: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        if let Some(object) = snapshot.get(key)
            && object.is_deleting()
            && finalizer::holds(object, self.0.finalizer)
            && !(self.0.used)(snapshot, object)?
        {
            finalizer::lift(object, self.0.finalizer, &mut plan);
        }
        Ok(plan)
    }
}

/// By a pod that has a node and has not ended; no node starts one whose claim is going.
fn claim_is_used(snapshot: &Snapshot, claim: &Object) -> Result<bool, Status> {
    let name = &*claim.key.name;
    for object in snapshot.list(&PODS, &claim.key.namespace) {
        let pod: Pod = object.decode()?;
        if pods::node_name(&pod).is_empty() || pods::is_finished(&pod) {
            continue;
        }
        let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let uses = volumes.any(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(source), _) => source.claim_name == name,
            (None, Some(_)) => name.strip_prefix(&*object.key.name) == Some(&format!("-{}", volume.name)),
            (None, None) => false,
        });
        if uses {
            return Ok(true);
        }
    }
    Ok(false)
}

/// By a claim that wants it, has it or is on the way to it, or by a volume.
fn class_is_used(snapshot: &Snapshot, class: &Object) -> Result<bool, Status> {
    let name = Some(&*class.key.name);
    for object in snapshot.list(&PERSISTENT_VOLUME_CLAIMS, "") {
        let claim: PersistentVolumeClaim = object.decode()?;
        let status = claim.status.as_ref();
        let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
        let had = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
        let next = status
            .and_then(|status| status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.as_deref());
        if [wanted, had, next].contains(&name) {
            return Ok(true);
        }
    }
    for object in snapshot.list(&PERSISTENT_VOLUMES, "") {
        let volume: PersistentVolume = object.decode()?;
        if volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref()) == name {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Facts, at};
    use serde_json::json;

    fn going(name: &str, finalizer: &str, more: Value) -> Value {
        let mut object = json!({"metadata": {"name": name, "finalizers": [finalizer, "example.com/other"],
            "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    }

    /// Whether the object may go.
    fn freed(facts: &Facts, rule: &Protection, namespace: &str, name: &str) -> bool {
        let key = Key::new(rule.0.resource.clone(), namespace, name);
        let plan = rule.plan(&facts.snapshot, &key, at(0)).unwrap();
        let patch = plan.steps.first().map(|step| format!("{step:?}"));
        assert!(
            patch.as_ref().is_none_or(|patch| patch.contains("example.com/other") && !patch.contains("protection"))
        );
        patch.is_some()
    }

    #[test]
    fn a_claim_waits_for_pods_that_run_with_it() {
        let pod = |name: &str, node: &str, phase: &str, volume: Value| {
            json!({"metadata": {"namespace": "n", "name": name}, "status": {"phase": phase},
                "spec": {"nodeName": node, "containers": [], "volumes": [volume]}})
        };
        let claimed = json!({"name": "v", "persistentVolumeClaim": {"claimName": "p-v"}});
        for (used, pod) in [
            (true, pod("a", "node", "Running", claimed.clone())),
            (false, pod("a", "", "Pending", claimed.clone())),
            (false, pod("a", "node", "Succeeded", claimed)),
            (true, pod("p", "node", "Running", json!({"name": "v", "ephemeral": {}}))),
            (false, pod("q", "node", "Running", json!({"name": "v", "ephemeral": {}}))),
        ] {
            let mut facts = Facts::default();
            let mut claim = going("p-v", "kubernetes.io/pvc-protection", json!({}));
            claim["metadata"]["namespace"] = "n".into();
            facts.add(PERSISTENT_VOLUME_CLAIMS, claim);
            let before = facts.add(PODS, pod.clone());
            assert_eq!(freed(&facts, &Protection::CLAIMS, "n", "p-v"), !used, "{pod}");
            let mut keys = Vec::new();
            let change = Change {
                revision: facts.snapshot.revision,
                key: before.key.clone(),
                before: Some(before),
                after: None,
            };
            Protection::CLAIMS.keys(&facts.snapshot, &change, &mut keys);
            assert_eq!(keys.len(), 1, "a pod that goes is what the claim waits for");
        }
    }

    #[test]
    fn a_volume_waits_while_it_is_bound_and_a_class_while_it_is_named() {
        for (phase, free) in [("Bound", false), ("Released", true), ("Available", true)] {
            let mut facts = Facts::default();
            facts.add(
                PERSISTENT_VOLUMES,
                going("v", "kubernetes.io/pv-protection", json!({"status": {"phase": phase}})),
            );
            assert_eq!(freed(&facts, &Protection::VOLUMES, "", "v"), free, "{phase}");
        }
        let class = || going("gold", "kubernetes.io/vac-protection", json!({}));
        let claim = |more: Value| {
            let mut claim = json!({"metadata": {"namespace": "n", "name": "c"}});
            claim.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            claim
        };
        for (claim, free) in [
            (claim(json!({"spec": {"volumeAttributesClassName": "gold"}})), false),
            (claim(json!({"status": {"currentVolumeAttributesClassName": "gold"}})), false),
            (claim(json!({"spec": {"volumeAttributesClassName": "silver"}})), true),
        ] {
            let mut facts = Facts::default();
            facts.add(VOLUME_ATTRIBUTES_CLASSES, class());
            facts.add(PERSISTENT_VOLUME_CLAIMS, claim.clone());
            assert_eq!(freed(&facts, &Protection::ATTRIBUTES, "", "gold"), free, "{claim}");
        }
    }
}
