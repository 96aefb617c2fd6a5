//! Pods that nobody else would remove: those of nodes that are gone, and those deleted before they had a node.
//!
//! Source: "Garbage collection of Pods" of Kubernetes' documentation.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kedge_api::resource::known::{NODES, PODS};
use kedge_api::{Change, GroupResource, Key, Snapshot, Status};

use crate::controller::{Controller, Now, Plan, Step, Victim, read};
use crate::pods;

const WATCHES: &[GroupResource] = &[PODS, NODES];
/// A node may register a moment after its first pod.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);

pub struct PodCollector;

impl Controller for PodCollector {
    fn name(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        if change.key.resource == NODES {
            if change.after.is_none() {
                keys.extend(snapshot.list(&PODS, "").map(|pod| pod.key.clone()));
            }
            return;
        }
        // Only what decides is looked at: a pod that comes, is bound, or is deleted.
        let (before, Some(after)) = (&change.before, &change.after) else { return };
        let news = before
            .as_ref()
            .is_none_or(|b| b.is_deleting() != after.is_deleting() || b.meta.generation != after.meta.generation);
        if news {
            keys.push(change.key.clone());
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(pod)) = (snapshot.get(key), read::<Pod>(snapshot, key)?) else { return Ok(plan) };
        let node = pods::node_name(&pod);
        if node.is_empty() {
            if !object.is_deleting() {
                return Ok(plan);
            }
        } else {
            if snapshot.get(&Key::new(NODES, "", node)).is_some() {
                return Ok(plan);
            }
            let created = pod.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
            let until = created.checked_add(QUARANTINE).unwrap_or(now);
            if until > now {
                plan.again_at(until, now);
                return Ok(plan);
            }
        }
        let victim = Victim { grace_seconds: Some(0), ..Victim::of(object) };
        plan.push(Step::Delete { resource: PODS, targets: vec![victim], told: None });
        Ok(plan)
    }
}
