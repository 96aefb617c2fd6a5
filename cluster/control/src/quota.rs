//! Counts what the objects of a namespace take, and writes it into the status of its quotas.
//!
//! Admission charges a quota before it lets an object in and nobody gives back on its own: this does, when objects go, pods end, or a
//! write that was charged for failed after all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kedge_api::placement::Amounts;
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status, quota};
use serde_json::{Map, Value, json};

use crate::controller::{Controller, Now, Plan, difference};

const QUOTAS: GroupResource = kedge_api::resource::known::RESOURCE_QUOTAS;
/// All of a quota is counted anew after this time, as upstream does: pods stop counting as time passes, which is no change.
const AGAIN: Duration = Duration::from_secs(300);

pub struct ResourceQuotas;

impl Controller for ResourceQuotas {
    fn name(&self) -> &'static str {
        "resourcequota-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        &[]
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        let key = &change.key;
        if key.resource == QUOTAS {
            // Its status is written by admission, too: counting at each charge would race with the object that was charged for.
            let hard = |object: &Option<Arc<Object>>| object.as_ref().map(|o| spec(o));
            if let Some(after) = &change.after
                && (hard(&change.before) != hard(&change.after) || misled(after))
            {
                keys.push(key.clone());
            }
            return;
        }
        let Some(before) = &change.before else { return };
        if key.namespace.is_empty() || snapshot.list(&QUOTAS, &key.namespace).next().is_none() {
            return;
        }
        if change.after.as_ref().is_none_or(|after| taken(&key.resource, before) != taken(&key.resource, after)) {
            keys.extend(snapshot.list(&QUOTAS, &key.namespace).map(|quota| quota.key.clone()));
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let Some(object) = snapshot.get(key).filter(|object| !object.is_deleting()) else { return Ok(plan) };
        let before: Value = object.decode()?;
        let hard = before.pointer("/spec/hard").cloned().unwrap_or_else(|| json!({}));
        let used = count(snapshot, &key.namespace, &before, &hard, now)?;
        let used: Map<_, _> = used.into_iter().map(|(name, sum)| (name, Value::from(sum.to_string()))).collect();
        let status = before.get("status").cloned().unwrap_or_else(|| json!({}));
        if let Some(patch) = difference(&status, &json!({"hard": hard, "used": used})) {
            // Of that version only: what was charged since must not be forgotten.
            let metadata = json!({"uid": object.uid(), "resourceVersion": object.revision.to_string()});
            plan.patch(object, "status", json!({"metadata": metadata, "status": patch}));
        }
        plan.again_after(AGAIN);
        Ok(plan)
    }
}

fn spec(quota: &Object) -> Option<Value> {
    quota.decode::<Value>().ok()?.get("spec").cloned()
}

/// Whether someone else wrote limits into the status that are not the quota's.
fn misled(quota: &Object) -> bool {
    quota.decode::<Value>().is_ok_and(|quota| {
        quota.pointer("/status/hard").is_some_and(|told| quota.pointer("/spec/hard").is_none_or(|hard| hard != told))
    })
}

/// What an object takes by itself, whatever the quota; nothing is known of what cannot be read.
fn taken(resource: &GroupResource, object: &Object) -> Option<Amounts> {
    let value: Value = object.decode().ok()?;
    Some(quota::usage(resource, &value, Now::UNIX_EPOCH))
}

/// The sum over all objects that the quota is about; of what is limited and nobody takes, zero.
fn count(snapshot: &Snapshot, namespace: &str, quota: &Value, hard: &Value, now: Now) -> Result<Amounts, Status> {
    let names: BTreeSet<&String> = hard.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    let mut used: Amounts = names.iter().map(|name| ((*name).clone(), Default::default())).collect();
    for resource in snapshot.resources() {
        if !names.iter().any(|name| quota::is_about(resource, name)) {
            continue;
        }
        for object in snapshot.list(resource, namespace) {
            let value: Value = object.decode()?;
            if !quota::in_scope(quota, resource, &value) {
                continue;
            }
            for (name, amount) in quota::usage(resource, &value, now) {
                if let Some(sum) = used.get_mut(&name) {
                    *sum = *sum + amount;
                }
            }
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Step;
    use crate::testing::{Facts, at};
    use kedge_api::resource::known::{PODS, SECRETS};

    fn pod(name: &str, phase: &str) -> Value {
        json!({"metadata": {"namespace": "n", "name": name}, "status": {"phase": phase},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "300m"}}}]}})
    }

    fn quota(spec: Value, status: Value) -> Value {
        json!({"metadata": {"namespace": "n", "name": "q"}, "spec": spec, "status": status})
    }

    fn plan(facts: &Facts) -> Plan {
        ResourceQuotas.plan(&facts.snapshot, &Key::new(QUOTAS, "n", "q"), at(0)).unwrap()
    }

    #[test]
    fn what_is_there_is_counted() {
        let mut facts = Facts::default();
        for (name, phase) in [("a", "Running"), ("b", "Running"), ("c", "Failed")] {
            facts.add(PODS, pod(name, phase));
        }
        facts.add(SECRETS, json!({"metadata": {"namespace": "m", "name": "s"}}));
        let hard = json!({"pods": "5", "count/pods": "5", "requests.cpu": "1", "secrets": "2"});
        facts.add(QUOTAS, quota(json!({"hard": hard}), json!({"hard": {"pods": "4"}, "used": {"pods": "9"}})));
        let plan = plan(&facts);
        let [Step::Patch { subresource: "status", patch, .. }] = plan.steps.as_slice() else { panic!("{plan:?}") };
        assert_eq!(
            *patch,
            json!({"metadata": {"uid": "q", "resourceVersion": "5"}, "status": {
                "hard": hard, "used": {"pods": "2", "count/pods": "3", "requests.cpu": "600m", "secrets": "0"}}})
        );
        assert_eq!(plan.again, Some(AGAIN));
    }

    #[test]
    fn what_is_out_of_scope_is_not() {
        let mut facts = Facts::default();
        facts.add(PODS, json!({"metadata": {"namespace": "n", "name": "a"}, "spec": {"containers": [{"name": "c"}]}}));
        let spec = json!({"hard": {"pods": "5"}, "scopes": ["NotBestEffort"]});
        facts.add(QUOTAS, quota(spec, json!({"hard": {"pods": "5"}, "used": {"pods": "0"}})));
        assert_eq!(plan(&facts).steps, [], "all is right already");
    }

    #[test]
    fn charges_wake_nobody_but_what_is_given_back_does() {
        let mut facts = Facts::default();
        let spec = json!({"hard": {"pods": "5"}});
        let fresh = facts.add(QUOTAS, quota(spec.clone(), json!({})));
        let charged = facts.add(QUOTAS, quota(spec.clone(), json!({"used": {"pods": "1"}})));
        let wrong = facts.add(QUOTAS, quota(spec.clone(), json!({"hard": {"pods": "7"}})));
        let right = facts.add(QUOTAS, quota(spec, json!({"hard": {"pods": "5"}})));
        let (running, failed) = (facts.add(PODS, pod("a", "Running")), facts.add(PODS, pod("a", "Failed")));
        let woken = |before: Option<&Arc<Object>>, after: Option<&Arc<Object>>| {
            let key = before.or(after).unwrap().key.clone();
            let change =
                Change { revision: facts.snapshot.revision, key, before: before.cloned(), after: after.cloned() };
            let mut keys = Vec::new();
            ResourceQuotas.keys(&facts.snapshot, &change, &mut keys);
            keys.len()
        };
        assert_eq!(woken(None, Some(&fresh)), 1);
        assert_eq!(woken(Some(&fresh), Some(&charged)), 0);
        assert_eq!(woken(Some(&fresh), Some(&right)), 0);
        assert_eq!(woken(Some(&fresh), Some(&wrong)), 1);
        assert_eq!(woken(None, Some(&running)), 0);
        assert_eq!(woken(Some(&running), Some(&running)), 0);
        assert_eq!(woken(Some(&running), Some(&failed)), 1);
        assert_eq!(woken(Some(&running), None), 1);
    }
}
