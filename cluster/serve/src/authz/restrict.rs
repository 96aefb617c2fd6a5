//! What a node may write, as far as only the body tells. Follows upstream's NodeRestriction admission; what can be told without the body
//! the Node authorizer has said before.
//!
//! So a node that was taken over cannot draw privileged pods to itself, nor act as accounts of pods that run elsewhere.

use std::collections::BTreeSet;

use kedge_api::resource::known;
use kedge_api::{Key, Reason, Snapshot, Status, Target};
use serde_json::Value;

use super::node::refers_to_any;

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
/// What a pod of a node's own may not refer to, and how it is called.
const OUT_OF_REACH: &[(&str, &str)] = &[
    ("serviceaccounts", "a service account"),
    ("secrets", "secrets"),
    ("configmaps", "configmaps"),
    ("persistentvolumeclaims", "persistentvolumeclaims"),
    ("resourceclaims", "resourceclaims"),
];

/// Labels of the Kubernetes domains that a node may give itself.
const OWN_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// And all labels of these domains.
const OWN_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESERVED: &str = "node-restriction.kubernetes.io";

/// `Forbidden` if the node may not write the object so. `old` is what is there already.
pub(super) fn check(
    node: &str,
    snapshot: &Snapshot,
    target: &Target,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let (resource, subresource) = (&target.resource, target.subresource.as_str());
    let verdict = match (resource.group.as_str(), resource.resource.as_str(), subresource, old) {
        ("", "pods", "", None) => mirror(node, snapshot, new),
        ("", "pods", "", Some(_)) => {
            Err(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"))
        }
        ("", "pods", "status", Some(old)) => pod_status(node, new, old),
        ("", "nodes", "" | "status", old) => own_node(node, new, old),
        ("", "serviceaccounts", "token", _) => token(node, snapshot, &target.namespace, new),
        ("coordination.k8s.io", "leases", _, _) => lease(node, &target.namespace, new),
        ("storage.k8s.io", "csinodes", _, _) if text(new, "/metadata/name") != node => {
            Err("can only access CSINode with the same name as the requesting node".to_owned())
        }
        _ => Ok(()),
    };
    verdict.map_err(|why| {
        let name = if target.name.is_empty() { text(new, "/metadata/name") } else { &target.name };
        Status::about(Reason::Forbidden, resource, name, format!("{resource} {name:?} is forbidden: {why}"))
    })
}

type Verdict = Result<(), String>;

fn ensure(right: bool, why: impl FnOnce() -> String) -> Verdict {
    if right { Ok(()) } else { Err(why()) }
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The twin of a static pod: of this node, and reaching for nothing that is kept in the API.
fn mirror(node: &str, snapshot: &Snapshot, pod: &Value) -> Verdict {
    let marked = pod.pointer("/metadata/annotations").and_then(|all| all.get(MIRROR)).is_some();
    ensure(marked, || format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"))?;
    ensure(text(pod, "/spec/nodeName") == node, || {
        format!("node {node:?} can only create pods with spec.nodeName set to itself")
    })?;
    let owners =
        pod.pointer("/metadata/ownerReferences").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let owner = match owners {
        [owner] => owner,
        [] => return Err(format!("node {node:?} can only create pods with an owner reference set to itself")),
        _ => return Err(format!("node {node:?} can only create pods with a single owner reference set to itself")),
    };
    let flag = |path: &str| owner.pointer(path).and_then(Value::as_bool).unwrap_or_default();
    let itself = (text(owner, "/apiVersion"), text(owner, "/kind"), text(owner, "/name")) == ("v1", "Node", node);
    ensure(itself, || format!("node {node:?} can only create pods with an owner reference set to itself"))?;
    ensure(flag("/controller"), || {
        format!("node {node:?} can only create pods with a controller owner reference set to itself")
    })?;
    ensure(!flag("/blockOwnerDeletion"), || {
        format!("node {node:?} must not set blockOwnerDeletion on an owner reference")
    })?;
    let uid = snapshot.get(&Key::new(known::NODES, "", node)).map(|object| object.uid().to_owned());
    let uid = uid.ok_or_else(|| format!("node {node:?} not found"))?;
    let given = text(owner, "/uid");
    ensure(given == uid, || format!("node {node:?} UID mismatch: expected {uid:?} got {given:?}"))?;
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    OUT_OF_REACH.iter().try_for_each(|(resource, name)| {
        ensure(!refers_to_any(spec, resource), || format!("node {node:?} can not create pods that reference {name}"))
    })
}

fn pod_status(node: &str, new: &Value, old: &Value) -> Verdict {
    ensure(text(old, "/spec/nodeName") == node, || {
        format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")
    })?;
    let same = |path: &str| new.pointer(path) == old.pointer(path);
    ensure(same("/metadata/labels"), || format!("node {node:?} cannot update labels through pod status"))?;
    ensure(same("/status/resourceClaimStatuses"), || format!("node {node:?} cannot update resource claim statuses"))
}

fn own_node(node: &str, new: &Value, old: Option<&Value>) -> Verdict {
    let name = text(new, "/metadata/name");
    ensure(name == node, || format!("node {node:?} is not allowed to modify node {name:?}"))?;
    let forbidden = forbidden_labels(new, old);
    let listed = || forbidden.iter().copied().collect::<Vec<_>>().join(", ");
    let Some(old) = old else {
        return ensure(forbidden.is_empty(), || {
            format!("node {node:?} is not allowed to set the following labels: {}", listed())
        });
    };
    let same = |path: &str| new.pointer(path) == old.pointer(path);
    ensure(same("/metadata/ownerReferences"), || format!("node {node:?} is not allowed to modify ownerReferences"))?;
    ensure(same("/spec/taints"), || format!("node {node:?} is not allowed to modify taints"))?;
    ensure(forbidden.is_empty(), || format!("node {node:?} is not allowed to modify labels: {}", listed()))
}

/// The labels that differ and are not the node's to give or take.
fn forbidden_labels<'a>(new: &'a Value, old: Option<&'a Value>) -> BTreeSet<&'a str> {
    let labels =
        |object: Option<&'a Value>| object.and_then(|o| o.pointer("/metadata/labels")).and_then(Value::as_object);
    let (after, before) = (labels(Some(new)), labels(old));
    let keys = after.into_iter().chain(before).flat_map(|map| map.keys());
    let differs = |key: &&String| after.and_then(|map| map.get(*key)) != before.and_then(|map| map.get(*key));
    keys.filter(differs).map(String::as_str).filter(|key| !is_own_label(key)).collect()
}

fn is_own_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    let within = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    if within(RESERVED) {
        return false;
    }
    let reserved = within("kubernetes.io") || within("k8s.io");
    !reserved || OWN_LABELS.contains(&key) || OWN_DOMAINS.iter().any(|own| within(own))
}

/// A token is for a pod that runs here.
fn token(node: &str, snapshot: &Snapshot, namespace: &str, request: &Value) -> Verdict {
    let field = |name: &str| text(request, &format!("/spec/boundObjectRef/{name}"));
    let (name, uid) = (field("name"), field("uid"));
    let bound = field("apiVersion") == "v1" && field("kind") == "Pod" && !name.is_empty();
    ensure(bound, || "node requested token not bound to a pod".to_owned())?;
    ensure(!uid.is_empty(), || "node requested token with a pod binding without a uid".to_owned())?;
    // One that is gone or another is for the issuer to refuse.
    let Some(pod) = snapshot.get(&Key::new(known::PODS, namespace, name)) else { return Ok(()) };
    let pod: Value = pod.decode().map_err(|status| status.message)?;
    ensure(text(&pod, "/spec/nodeName") == node, || {
        "node requested token bound to a pod scheduled on a different node".to_owned()
    })
}

fn lease(node: &str, namespace: &str, lease: &Value) -> Verdict {
    ensure(namespace == LEASES, || format!("can only access leases in the {LEASES:?} system namespace"))?;
    ensure(text(lease, "/metadata/name") == node, || {
        "can only access node lease with the same name as the requesting node".to_owned()
    })
}

#[cfg(test)]
mod tests;
