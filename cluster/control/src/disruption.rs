//! PodDisruptionBudgets: how many of their pods may be evicted now.
//!
//! Owns the status that the API server spends of at each eviction; never evicts. A pod that is to go but is not yet seen to go is not
//! counted as healthy, so that no disruption is spent twice.
//! Source: "Disruptions" of Kubernetes' documentation.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kedge_api::event::{Severity, reference};
use kedge_api::resource::known::{
    DEPLOYMENTS, POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS,
};
use kedge_api::selector::Selector;
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde_json::{Value, json};

use crate::controller::{Controller, Now, Plan, difference, read, value};
use crate::deployment::resolve;
use crate::owner::controller_of;
use crate::pods;
use crate::replicaset::count;

const WATCHES: &[GroupResource] = &[POD_DISRUPTION_BUDGETS, PODS];
const DEFINITIONS: GroupResource = GroupResource::of("apiextensions.k8s.io", "customresourcedefinitions");
/// Whoever is evicted has this long to be seen to go.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);
const ALLOWED: &str = "DisruptionAllowed";

/// Group and kind of what has replicas, and where it is.
const SCALED: &[(&str, &str, GroupResource)] = &[
    ("", "ReplicationController", REPLICATION_CONTROLLERS),
    ("apps", "ReplicaSet", REPLICA_SETS),
    ("apps", "StatefulSet", STATEFUL_SETS),
    ("apps", "Deployment", DEPLOYMENTS),
];
/// Of what has pods, but no number of them to aim at.
const UNSCALED: &[(&str, &str, &str)] = &[("apps", "DaemonSet", "daemonsets.apps"), ("batch", "Job", "jobs.batch")];

pub struct DisruptionBudgets;

/// What a budget asks for.
struct Expected {
    pods: i32,
    healthy: i32,
    /// Pods that no one controls, where their controllers are asked for numbers.
    unmanaged: bool,
}

impl Controller for DisruptionBudgets {
    fn name(&self) -> &'static str {
        "controllermanager"
    }

    fn account(&self) -> &'static str {
        "disruption-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        if change.key.resource == POD_DISRUPTION_BUDGETS {
            keys.push(change.key.clone());
        } else if pod_matters(change) {
            let versions = [&change.before, &change.after];
            let chosen = |budget: &Object| {
                let selector = budget.decode().ok().and_then(|budget: PodDisruptionBudget| selector(&budget));
                selector.is_some_and(|s| versions.into_iter().flatten().any(|pod| s.matches(&pod.meta.labels)))
            };
            let budgets = snapshot.list(&POD_DISRUPTION_BUDGETS, &change.key.namespace);
            keys.extend(budgets.filter(|budget| chosen(budget)).map(|budget| budget.key.clone()));
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(budget)) = (snapshot.get(key), read::<PodDisruptionBudget>(snapshot, key)?) else {
            return Ok(plan);
        };
        let mut pods: Vec<Pod> = Vec::new();
        if let Some(selector) = selector(&budget) {
            for pod in snapshot.list(&PODS, &key.namespace).filter(|pod| selector.matches(&pod.meta.labels)) {
                pods.push(pod.decode()?);
            }
        }
        let before = budget.status.clone().unwrap_or_default();
        // What is told once for each version of a budget.
        let fresh = before.observed_generation != budget.metadata.generation;
        if pods.is_empty() && fresh {
            plan.tell(reference(&budget), Severity::Normal, "NoPods", "No matching pods found".into());
        }
        let status = match expected(snapshot, &budget, &pods) {
            Ok(expected) => {
                if expected.unmanaged && fresh {
                    let shown =
                        budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(shown).unwrap_or_default();
                    let message = format!(
                        "Pods selected by this PodDisruptionBudget (selector: {shown}) were found to be unmanaged. As a result, the status of \
                         the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \
                         \".spec.minAvailable\" field of the PDB to an integer value."
                    );
                    plan.tell(reference(&budget), Severity::Warning, "UnmanagedPods", message);
                }
                let disrupted = disrupted(&budget, &before, &pods, &mut plan, now);
                counted(&budget, &before, &pods, &expected, disrupted, now)
            }
            Err(why) => {
                if fresh || before.disruptions_allowed.unwrap_or(0) != 0 {
                    let message = format!("Failed to calculate the number of expected pods: {why}");
                    plan.tell(reference(&budget), Severity::Warning, "CalculateExpectedPodCountFailed", message);
                }
                let mut failed = PodDisruptionBudgetStatus { disruptions_allowed: Some(0), ..before };
                allow(&mut failed, false, "SyncFailed", &why, now);
                failed
            }
        };
        let was = value(&budget.status.clone().unwrap_or_default())?;
        if let Some(patch) = difference(&was, &value(&status)?) {
            // Evictions spend of it meanwhile: nothing is written over what they wrote.
            let meta = json!({"uid": object.uid(), "resourceVersion": object.revision.to_string()});
            plan.patch(object, "status", json!({"metadata": meta, "status": patch}));
        }
        Ok(plan)
    }
}

fn selector(budget: &PodDisruptionBudget) -> Option<Selector> {
    let selector = budget.spec.as_ref()?.selector.as_ref()?;
    Selector::from_label_selector(Some(selector)).ok()
}

fn shown(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}:{value}"));
    format!("&LabelSelector{{MatchLabels:map[string]string{{{}}}}}", labels.collect::<Vec<_>>().join(","))
}

/// Whether a pod's change can change what is allowed.
fn pod_matters(change: &Change) -> bool {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return true };
    let look = |object: &Object| object.decode().ok().map(|pod: Pod| pods::is_ready(&pod));
    before.meta.labels != after.meta.labels
        || before.is_deleting() != after.is_deleting()
        || before.meta.owner_references != after.meta.owner_references
        || look(before) != look(after)
}

fn expected(snapshot: &Snapshot, budget: &PodDisruptionBudget, pods: &[Pod]) -> Result<Expected, String> {
    let spec = budget.spec.clone().unwrap_or_default();
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let (replicas, unmanaged) = replicas(snapshot, pods)?;
            let healthy = replicas.saturating_sub(resolve(Some(most), replicas, true)).max(0);
            Ok(Expected { pods: replicas, healthy, unmanaged })
        }
        (None, Some(IntOrString::Int(least))) => {
            Ok(Expected { pods: count(pods.len()), healthy: *least, unmanaged: false })
        }
        (None, Some(least)) => {
            let (replicas, unmanaged) = replicas(snapshot, pods)?;
            Ok(Expected { pods: replicas, healthy: resolve(Some(least), replicas, true), unmanaged })
        }
        (None, None) => Ok(Expected { pods: 0, healthy: 0, unmanaged: false }),
    }
}

/// How many pods their controllers aim at, and whether some have none.
fn replicas(snapshot: &Snapshot, pods: &[Pod]) -> Result<(i32, bool), String> {
    let mut known: BTreeMap<String, i32> = BTreeMap::new();
    let mut asked: Vec<&str> = Vec::new();
    let mut unmanaged = false;
    for pod in pods {
        let Some(owner) = controller_of(&pod.metadata) else {
            unmanaged = true;
            continue;
        };
        if asked.contains(&owner.uid.as_str()) {
            continue;
        }
        asked.push(&owner.uid);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let found = scale(snapshot, namespace, owner)?;
        let missing = || format!("found no controllers for pod {:?}", pod.metadata.name.as_deref().unwrap_or_default());
        let (uid, replicas) = found.ok_or_else(missing)?;
        known.insert(uid, replicas);
    }
    Ok((known.into_values().fold(0, i32::saturating_add), unmanaged))
}

/// Who says how many there are to be, and what it says.
fn scale(snapshot: &Snapshot, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>, String> {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let is = |known: &(&str, &str)| *known == (group, owner.kind.as_str());
    if let Some((_, _, plural)) = UNSCALED.iter().find(|(group, kind, _)| is(&(group, kind))) {
        return Err(format!("{plural} does not implement the scale subresource"));
    }
    let (resource, path) = match SCALED.iter().find(|(group, kind, _)| is(&(group, kind))) {
        Some((_, _, resource)) => (resource.clone(), "/spec/replicas".to_owned()),
        None => match custom(snapshot, group, owner)? {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    let object = snapshot.get(&Key::new(resource.clone(), namespace, &owner.name));
    let Some(object) = object.filter(|object| object.uid() == owner.uid) else { return Ok(None) };
    if resource == REPLICA_SETS
        && let Some(deployment) = controller_of(&object.meta).filter(|above| above.kind == "Deployment")
        && let Some(found) = scale(snapshot, namespace, deployment)?
    {
        return Ok(Some(found));
    }
    let value: Value = object.decode().map_err(|status: Status| status.message)?;
    let replicas = value.pointer(&path).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
    Ok(Some((owner.uid.clone(), replicas.unwrap_or(0))))
}

/// Where custom resources of a kind are, and what in them is the number.
fn custom(snapshot: &Snapshot, group: &str, owner: &OwnerReference) -> Result<Option<(GroupResource, String)>, String> {
    for definition in snapshot.list(&DEFINITIONS, "") {
        let value: Value = definition.decode().map_err(|status: Status| status.message)?;
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default();
        if text("/spec/group") != group || text("/spec/names/kind") != owner.kind {
            continue;
        }
        let id = GroupResource { group: group.into(), resource: text("/spec/names/plural").into() };
        let versions = value.pointer("/spec/versions").and_then(Value::as_array);
        let version =
            versions.into_iter().flatten().find(|v| owner.api_version.ends_with(v["name"].as_str().unwrap_or("/")));
        let path = version.and_then(|v| v.pointer("/subresources/scale/specReplicasPath")).and_then(Value::as_str);
        let path = path.ok_or_else(|| format!("{id} does not implement the scale subresource"))?;
        return Ok(Some((id, path.replace('.', "/"))));
    }
    Ok(None)
}

/// The pods that were let go and are still to be seen to go.
fn disrupted(
    budget: &PodDisruptionBudget,
    before: &PodDisruptionBudgetStatus,
    pods: &[Pod],
    plan: &mut Plan,
    now: Now,
) -> BTreeMap<String, Time> {
    let mut left = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pods::is_deleting(pod)) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let Some(since) = before.disrupted_pods.as_ref().and_then(|all| all.get(&name)) else { continue };
        let due = since.0.checked_add(PATIENCE).unwrap_or(since.0);
        if due <= now {
            let place = |meta: Option<&String>| meta.cloned().unwrap_or_default();
            let (namespace, budgets) =
                (place(budget.metadata.namespace.as_ref()), place(budget.metadata.name.as_ref()));
            let message = format!("Pod {name} was expected by PDB {namespace}/{budgets} to be deleted but it wasn't");
            plan.tell(reference(pod), Severity::Warning, "NotDeleted", message);
        } else {
            plan.again_at(due, now);
            left.insert(name, since.clone());
        }
    }
    left
}

fn counted(
    budget: &PodDisruptionBudget,
    before: &PodDisruptionBudgetStatus,
    pods: &[Pod],
    expected: &Expected,
    disrupted: BTreeMap<String, Time>,
    now: Now,
) -> PodDisruptionBudgetStatus {
    let goes = |pod: &Pod| pod.metadata.name.as_ref().is_some_and(|name| disrupted.contains_key(name));
    let healthy = pods.iter().filter(|pod| pods::is_ready(pod) && !pods::is_deleting(pod) && !goes(pod)).count();
    let healthy = count(healthy);
    // While nothing is expected nothing may go: the first pods may have come that no one has counted yet.
    let allowed = if expected.pods > 0 { healthy.saturating_sub(expected.healthy).max(0) } else { 0 };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        expected_pods: Some(expected.pods),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: before.conditions.clone(),
    };
    allow(&mut status, allowed > 0, if allowed > 0 { "SufficientPods" } else { "InsufficientPods" }, "", now);
    status
}

/// Sets the condition; its time is that of its last turn.
fn allow(status: &mut PodDisruptionBudgetStatus, allowed: bool, reason: &str, message: &str, now: Timestamp) {
    let said = if allowed { "True" } else { "False" };
    let observed_generation = status.observed_generation;
    let conditions = status.conditions.get_or_insert_default();
    let before = conditions.iter().position(|condition| condition.type_ == ALLOWED);
    let since = before.and_then(|at| conditions.get(at)).filter(|condition| condition.status == said);
    let fresh = Condition {
        type_: ALLOWED.to_owned(),
        status: said.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since.map_or(Time(now), |condition| condition.last_transition_time.clone()),
        observed_generation,
    };
    match before.and_then(|at| conditions.get_mut(at)) {
        Some(condition) => *condition = fresh,
        None => conditions.push(fresh),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Step;
    use crate::testing::{Facts, at};

    fn key() -> Key {
        Key::new(POD_DISRUPTION_BUDGETS, "n", "b")
    }

    fn budget(facts: &mut Facts, spec: Value, status: Value) {
        let mut spec = spec;
        spec["selector"] = json!({"matchLabels": {"a": "b"}});
        let meta = json!({"namespace": "n", "name": "b", "generation": 1});
        facts.add(POD_DISRUPTION_BUDGETS, json!({"metadata": meta, "spec": spec, "status": status}));
    }

    fn owned(kind: &str, api_version: &str, name: &str) -> Value {
        json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": name, "controller": true}])
    }

    fn pod(facts: &mut Facts, name: &str, ready: bool, owners: Value) {
        let status = json!({"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]});
        let meta = json!({"namespace": "n", "name": name, "labels": {"a": "b"}, "ownerReferences": owners});
        facts.add(PODS, json!({"metadata": meta, "spec": {"containers": []}, "status": status}));
    }

    fn set(facts: &mut Facts, resource: GroupResource, name: &str, replicas: i32, owners: Value) {
        let meta = json!({"namespace": "n", "name": name, "ownerReferences": owners});
        facts.add(resource, json!({"metadata": meta, "spec": {"replicas": replicas}}));
    }

    /// The status as it is to be, and what is told.
    fn planned(facts: &Facts, seconds: i64) -> (Value, Vec<String>) {
        let plan = DisruptionBudgets.plan(&facts.snapshot, &key(), at(seconds)).unwrap();
        let mut told = Vec::new();
        let mut status = Value::Null;
        for step in plan.steps {
            match step {
                Step::Patch { patch, subresource: "status", .. } => status = patch["status"].clone(),
                Step::Tell(note) => told.push(note.reason),
                other => panic!("{other:?}"),
            }
        }
        (status, told)
    }

    fn numbers(status: &Value) -> [i64; 4] {
        ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"]
            .map(|field| status[field].as_i64().unwrap_or(0))
    }

    #[test]
    fn a_budget_counts_what_its_pods_controllers_aim_at() {
        for (spec, expected) in [
            (json!({"minAvailable": 2}), [3, 2, 2, 0]),
            (json!({"minAvailable": 1}), [3, 1, 2, 1]),
            (json!({"minAvailable": "50%"}), [5, 3, 2, 0]),
            (json!({"maxUnavailable": 4}), [5, 1, 2, 1]),
            (json!({"maxUnavailable": "10%"}), [5, 4, 2, 0]),
            (json!({"maxUnavailable": "100%"}), [5, 0, 2, 2]),
            (json!({}), [0, 0, 2, 0]),
        ] {
            let mut facts = Facts::default();
            set(&mut facts, DEPLOYMENTS, "d", 5, json!([]));
            set(&mut facts, REPLICA_SETS, "r", 3, owned("Deployment", "apps/v1", "d"));
            for (name, ready) in [("p", true), ("q", true), ("x", false)] {
                pod(&mut facts, name, ready, owned("ReplicaSet", "apps/v1", "r"));
            }
            budget(&mut facts, spec.clone(), json!({}));
            let (status, told) = planned(&facts, 0);
            assert_eq!((numbers(&status), told), (expected, Vec::new()), "{spec}");
            let condition = &status["conditions"][0];
            let reason = if expected[3] > 0 { "SufficientPods" } else { "InsufficientPods" };
            assert_eq!((&condition["reason"], &status["observedGeneration"]), (&json!(reason), &json!(1)));
        }
    }

    #[test]
    fn one_who_is_to_go_is_not_counted_until_time_is_up() {
        let mut facts = Facts::default();
        ["p", "q"].iter().for_each(|name| pod(&mut facts, name, true, json!([])));
        let since = at(0).to_string();
        budget(
            &mut facts,
            json!({"minAvailable": 1}),
            json!({"disruptedPods": {"p": since, "gone": since}, "disruptionsAllowed": 0}),
        );
        let plan = DisruptionBudgets.plan(&facts.snapshot, &key(), at(60)).unwrap();
        assert!(plan.again.is_some());
        let (status, told) = planned(&facts, 60);
        assert_eq!((numbers(&status), told), ([2, 1, 1, 0], Vec::new()));
        assert_eq!((&status["disruptedPods"]["p"], &status["disruptedPods"]["gone"]), (&Value::Null, &Value::Null));
        let (status, told) = planned(&facts, 121);
        assert_eq!((numbers(&status), told), ([2, 1, 2, 1], vec!["NotDeleted".to_owned()]));
    }

    #[test]
    fn what_cannot_be_counted_allows_nothing() {
        let mut facts = Facts::default();
        pod(&mut facts, "p", true, owned("DaemonSet", "apps/v1", "ds"));
        budget(&mut facts, json!({"maxUnavailable": 1}), json!({"disruptionsAllowed": 3}));
        let (status, told) = planned(&facts, 0);
        assert_eq!(told, ["CalculateExpectedPodCountFailed"]);
        assert_eq!(
            (&status["disruptionsAllowed"], &status["conditions"][0]["reason"]),
            (&json!(0), &json!("SyncFailed"))
        );
        assert_eq!(status["conditions"][0]["message"], "daemonsets.apps does not implement the scale subresource");
        let mut facts = Facts::default();
        pod(&mut facts, "p", true, json!([]));
        budget(&mut facts, json!({"maxUnavailable": 1}), json!({}));
        assert_eq!(planned(&facts, 0).1, ["UnmanagedPods"]);
        let mut none = Facts::default();
        budget(&mut none, json!({"minAvailable": 1}), json!({}));
        assert_eq!(planned(&none, 0).1, ["NoPods"]);
    }

    #[test]
    fn custom_resources_say_where_their_number_is() {
        let mut facts = Facts::default();
        let version = json!({"name": "v1", "subresources": {"scale": {"specReplicasPath": ".spec.size"}}});
        let spec = json!({"group": "e.com", "names": {"kind": "Thing", "plural": "things"}, "versions": [version]});
        facts.add(DEFINITIONS, json!({"metadata": {"name": "things.e.com"}, "spec": spec}));
        let meta = json!({"namespace": "n", "name": "t"});
        facts.add(GroupResource::of("e.com", "things"), json!({"metadata": meta, "spec": {"size": 4}}));
        pod(&mut facts, "p", true, owned("Thing", "e.com/v1", "t"));
        budget(&mut facts, json!({"maxUnavailable": 1}), json!({}));
        assert_eq!(numbers(&planned(&facts, 0).0), [4, 3, 1, 0]);
    }
}
