//! Node lifecycle: nodes that no longer answer are marked, and pods that do not tolerate it are moved away.
//!
//! Owns the taints `node.kubernetes.io/*` and the conditions of silent nodes; never speaks to a node.
//! Leases renewed in time cost nothing: a node is looked at again only when its lease would have run out.
//! Source: "Nodes", "Taint based Evictions" of Kubernetes' documentation.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, ObjectReference, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kedge_api::event::{Severity, reference, whole_seconds};
use kedge_api::placement::{NO_EXECUTE, NO_SCHEDULE, taints, tolerates, tolerations};
use kedge_api::resource::known::{LEASES, NODES, PODS};
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde_json::{Value, json};

use crate::controller::{Controller, Now, Plan, Step, Victim, read, value};
use crate::pods;

const WATCHES: &[GroupResource] = &[NODES, PODS, LEASES];
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Upstream's `--node-monitor-grace-period`.
const GRACE: SignedDuration = SignedDuration::from_secs(50);

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Condition, the status that calls for a taint, and the taint.
const TAINTED_BY: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// The conditions that only the node can know.
const TOLD_BY_NODE: &[&str] = &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

pub struct NodeLifecycle;

impl Controller for NodeLifecycle {
    fn name(&self) -> &'static str {
        "node-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        let key = &change.key;
        if key.resource == NODES {
            keys.extend(change.after.is_some().then(|| key.clone()));
        } else if key.resource == LEASES {
            // A renewal is no news; the first lease is.
            if *key.namespace == *LEASE_NAMESPACE && change.before.is_none() {
                keys.push(Key::new(NODES, "", &key.name));
            }
        } else if change
            .before
            .as_ref()
            .is_none_or(|before| before.meta.generation != change.after.as_ref().and_then(|a| a.meta.generation))
            && let Some(pod) = change.after.as_ref().and_then(|object| object.pod().ok())
        {
            // A pod that comes to a node with a taint of effect NoExecute may have to leave again.
            let node = Key::new(NODES, "", pods::node_name(&pod));
            let evicts = |node: &std::sync::Arc<Object>| {
                node.node().is_ok_and(|n| taints(&n).iter().any(|t| t.effect == NO_EXECUTE))
            };
            keys.extend(snapshot.get(&node).is_some_and(evicts).then_some(node));
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(mut node)) = (snapshot.get(key), read::<Node>(snapshot, key)?) else { return Ok(plan) };
        let before = value(&node)?;
        let was_ready = condition(&node, "Ready").is_some_and(|c| c.status == "True");
        let expires = last_seen(snapshot, &node)?.checked_add(GRACE).unwrap_or(now);
        if expires <= now {
            if silence(&mut node, now) && was_ready {
                let name = key.name.to_string();
                plan.tell(
                    reference(&node),
                    Severity::Normal,
                    "NodeNotReady",
                    format!("Node {name} status is now: NodeNotReady"),
                );
            }
            plan.status_unless_changed(object, &before, &value(&node)?);
        } else {
            plan.again_at(expires, now);
        }
        retaint(object, &mut node, &mut plan, now)?;
        // A node that has not yet said how it is may still be starting.
        let silent = condition(&node, "Ready").is_some_and(|c| c.status == "Unknown");
        let evicting: Vec<Taint> = taints(&node).iter().filter(|taint| taint.effect == NO_EXECUTE).cloned().collect();
        if silent || !evicting.is_empty() {
            for pod in snapshot.list(&PODS, "") {
                let decoded: Pod = pod.decode()?;
                if pods::node_name(&decoded) != &*key.name || pods::is_deleting(&decoded) {
                    continue;
                }
                if silent && pods::is_ready(&decoded) {
                    unready(pod, &decoded, &mut plan, now)?;
                }
                evict(pod, &decoded, &evicting, &mut plan, now);
            }
        }
        Ok(plan)
    }
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// When the node was heard of last: its lease, its heartbeat, or its registration.
fn last_seen(snapshot: &Snapshot, node: &Node) -> Result<Timestamp, Status> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let lease = read::<Lease>(snapshot, &Key::new(LEASES, LEASE_NAMESPACE, name))?;
    let renewed = lease.and_then(|lease| lease.spec?.renew_time).map(|time| time.0);
    let heartbeat = condition(node, "Ready")
        .filter(|ready| ready.status != "Unknown")
        .and_then(|ready| ready.last_heartbeat_time.as_ref())
        .map(|time| time.0);
    let created = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
    Ok([renewed, heartbeat, created].into_iter().flatten().max().unwrap_or(Timestamp::MIN))
}

/// Sets what only the node could know to Unknown; true if that is new.
fn silence(node: &mut Node, now: Now) -> bool {
    let mut new = false;
    let at = Some(Time(whole_seconds(now)));
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    for kind in TOLD_BY_NODE {
        match conditions.iter_mut().find(|condition| condition.type_ == *kind) {
            Some(condition) if condition.status != "Unknown" => {
                new = true;
                condition.status = "Unknown".into();
                condition.reason = Some("NodeStatusUnknown".into());
                condition.message = Some("Kubelet stopped posting node status.".into());
                condition.last_transition_time = at.clone();
            }
            Some(_) => {}
            None => {
                new = true;
                conditions.push(NodeCondition {
                    type_: (*kind).into(),
                    status: "Unknown".into(),
                    reason: Some("NodeStatusNeverUpdated".into()),
                    message: Some("Kubelet never posted node status.".into()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: at.clone(),
                });
            }
        }
    }
    new
}

/// Brings the node's own taints to what its conditions call for.
fn retaint(object: &Object, node: &mut Node, plan: &mut Plan, now: Now) -> Result<(), Status> {
    let holds = |(kind, status, _): &&(&str, &str, &str)| condition(node, kind).is_some_and(|c| c.status == *status);
    let mut wanted: Vec<(&str, &str)> =
        TAINTED_BY.iter().filter(holds).map(|(.., taint)| (*taint, NO_SCHEDULE)).collect();
    let leave = wanted.iter().map(|(taint, _)| *taint).find(|taint| [NOT_READY, UNREACHABLE].contains(taint));
    wanted.extend(leave.map(|taint| (taint, NO_EXECUTE)));
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let ours = |taint: &Taint| {
        TAINTED_BY
            .iter()
            .any(|(.., key)| taint.key == *key && [NO_SCHEDULE, NO_EXECUTE].contains(&taint.effect.as_str()))
            || (taint.key == UNSCHEDULABLE && taint.effect == NO_SCHEDULE)
    };
    let is = |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let found = taints(node).to_vec();
    let mut next: Vec<_> = found.iter().filter(|t| !ours(t) || wanted.iter().any(|w| is(t, w))).cloned().collect();
    for taint in &wanted {
        if !next.iter().any(|t| is(t, taint)) {
            next.push(Taint {
                key: taint.0.into(),
                effect: taint.1.into(),
                value: None,
                time_added: Some(Time(whole_seconds(now))),
            });
        }
    }
    if next == found {
        return Ok(());
    }
    let list = if next.is_empty() { Value::Null } else { value(&next)? };
    // Taints are one list that others edit too. A status patch before this one has moved the revision on: then the uid must do.
    let revision = plan.steps.is_empty().then(|| object.revision.to_string());
    let meta = match revision {
        Some(revision) => json!({"uid": object.uid(), "resourceVersion": revision}),
        None => json!({"uid": object.uid()}),
    };
    plan.patch(object, "", json!({"metadata": meta, "spec": {"taints": list}}));
    node.spec.get_or_insert_default().taints = Some(next).filter(|taints| !taints.is_empty());
    Ok(())
}

/// Nobody can say whether the pod still serves: it counts as not ready.
fn unready(object: &Object, pod: &Pod, plan: &mut Plan, now: Now) -> Result<(), Status> {
    let mut after = pod.clone();
    let conditions = after.status.get_or_insert_default().conditions.get_or_insert_default();
    if let Some(ready) = conditions.iter_mut().find(|condition| condition.type_ == "Ready") {
        ready.status = "False".into();
        ready.last_transition_time = Some(Time(whole_seconds(now)));
    }
    plan.status(object, &value(pod)?, &value(&after)?);
    Ok(())
}

/// Deletes a pod whose tolerance of the node's taints has ended, or notes when it will.
fn evict(object: &Object, pod: &Pod, evicting: &[Taint], plan: &mut Plan, now: Now) {
    let all = pod.spec.as_ref().map(tolerations).unwrap_or_default();
    let mut until: Option<Timestamp> = None;
    for taint in evicting {
        let tolerating: Vec<_> = all.iter().filter(|toleration| tolerates(toleration, taint)).collect();
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let seconds = match tolerating.iter().map(|t| t.toleration_seconds).collect::<Option<Vec<_>>>() {
            // One that names no time tolerates for ever.
            None => continue,
            Some(seconds) => seconds.into_iter().min().unwrap_or(0).max(0),
        };
        let at = since.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(since);
        until = Some(until.map_or(at, |until| until.min(at)));
    }
    let Some(until) = until else { return };
    if until > now {
        plan.again_after(until.duration_since(now).unsigned_abs() + Duration::from_millis(100));
        return;
    }
    let about = ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(object.key.namespace.to_string()),
        name: Some(object.key.name.to_string()),
        uid: Some(object.uid().to_owned()),
        ..ObjectReference::default()
    };
    let message = format!("Marking for deletion Pod {}/{}", object.key.namespace, object.key.name);
    plan.tell(about, Severity::Normal, "TaintManagerEviction", message);
    plan.push(Step::Delete { resource: PODS, targets: vec![Victim::of(object)], told: None });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Facts, at};

    fn facts(lease: i64, ready: &str, taints: Value, tolerations: Value) -> Facts {
        let mut facts = Facts::default();
        facts.add(
            NODES,
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "creationTimestamp": Time(at(0))},
            "spec": {"taints": taints}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
        );
        facts.add(LEASES, json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1", "namespace": LEASE_NAMESPACE},
            "spec": {"renewTime": at(lease).to_string()}}));
        facts.add(
            PODS,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
            "spec": {"nodeName": "n1", "containers": [], "tolerations": tolerations},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        );
        facts
    }

    fn plan(facts: &Facts, now: i64) -> Plan {
        NodeLifecycle.plan(&facts.snapshot, &Key::new(NODES, "", "n1"), at(now)).unwrap()
    }

    fn patched(plan: &Plan, resource: GroupResource, what: &str) -> Vec<Value> {
        let of = |step: &Step| match step {
            Step::Patch { resource: r, subresource, patch, .. } if *r == resource && *subresource == what => {
                Some(patch.clone())
            }
            _ => None,
        };
        plan.steps.iter().filter_map(of).collect()
    }

    #[test]
    fn a_renewed_lease_asks_for_nothing_but_a_later_look() {
        let plan = plan(&facts(100, "True", json!([]), json!([])), 120);
        assert_eq!((plan.steps.len(), plan.again), (0, Some(Duration::from_secs(31))));
    }

    #[test]
    fn a_silent_node_is_marked_tainted_and_its_pods_are_not_ready() {
        let plan = plan(
            &facts(100, "True", json!([{"key": "k", "effect": "NoSchedule"}]), json!([{"operator": "Exists"}])),
            151,
        );
        let status = patched(&plan, NODES, "status");
        assert!(status[0]["metadata"]["resourceVersion"].is_string(), "it would undo what the node says meanwhile");
        let ready = &status[0]["status"]["conditions"][0];
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("Unknown"), &json!("NodeStatusUnknown")));
        let taints = patched(&plan, NODES, "")[0]["spec"]["taints"].clone();
        let keys: Vec<_> = taints
            .as_array()
            .unwrap()
            .iter()
            .map(|t| (t["key"].as_str().unwrap(), t["effect"].as_str().unwrap()))
            .collect();
        assert_eq!(keys, [("k", NO_SCHEDULE), (UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)]);
        assert_eq!(patched(&plan, PODS, "status")[0]["status"]["conditions"][0]["status"], "False");
        assert!(!plan.steps.iter().any(|step| matches!(step, Step::Delete { .. })), "the pod tolerates all");
    }

    #[test]
    fn pods_leave_when_their_tolerance_ends() {
        let taint = json!([{"key": NOT_READY, "effect": "NoExecute", "timeAdded": Time(at(100))}, {"key": NOT_READY, "effect": "NoSchedule"}]);
        let tolerate = |seconds: i64| json!([{"key": NOT_READY, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        let deletes = |plan: &Plan| plan.steps.iter().filter(|step| matches!(step, Step::Delete { .. })).count();
        for (tolerations, now, expected) in [
            (json!([]), 100, 1),
            (tolerate(300), 100, 0),
            (tolerate(300), 399, 0),
            (tolerate(300), 400, 1),
            (json!([{"operator": "Exists"}]), 9999, 0),
        ] {
            let plan = plan(&facts(now, "False", taint.clone(), tolerations.clone()), now);
            assert_eq!(deletes(&plan), expected, "{tolerations} at {now}");
        }
        let waiting = plan(&facts(100, "False", taint, tolerate(20)), 100);
        assert_eq!(waiting.again, Some(Duration::from_millis(20_100)));
        // Ready again: the taints go.
        let taints = json!([{"key": NOT_READY, "effect": "NoExecute"}, {"key": NOT_READY, "effect": "NoSchedule"}]);
        let plan = plan(&facts(100, "True", taints, json!([])), 100);
        assert_eq!((patched(&plan, NODES, "")[0]["spec"]["taints"].clone(), deletes(&plan)), (Value::Null, 0));
    }
}
