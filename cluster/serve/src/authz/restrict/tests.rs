use kedge_api::{GroupResource, Informer};
use serde_json::json;

use super::*;
use crate::fixture::Objects;

fn world() -> Objects {
    let objects = Objects::default();
    objects.put(known::NODES, json!({"metadata": {"name": "n1", "uid": "u1"}}));
    for (name, node) in [("mine", "n1"), ("other", "n2")] {
        objects.put(known::PODS, json!({"metadata": {"namespace": "a", "name": name}, "spec": {"nodeName": node}}));
    }
    objects
}

fn ask(resource: GroupResource, at: (&str, &str, &str), new: Value, old: Option<Value>) -> Result<(), String> {
    let (namespace, name, subresource) = at;
    let target = Target {
        resource,
        version: String::new(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
    };
    check("n1", &world().snapshot(), &target, &new, old.as_ref()).map_err(|status| status.message)
}

fn change(mut object: Value, path: &str, value: Value) -> Value {
    let (parent, field) = path.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field] = value;
    object
}

#[test]
fn a_node_makes_mirror_pods_of_its_own_only() {
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1", "controller": true});
    let pod = json!({"metadata": {"namespace": "a", "name": "p", "annotations": {MIRROR: "x"}, "ownerReferences": [owner]},
                     "spec": {"nodeName": "n1", "containers": [{"name": "c"}], "volumes": [{"name": "v", "emptyDir": {}}]}});
    let make = |pod: Value| ask(known::PODS, ("a", "", ""), pod, None);
    assert_eq!(make(pod.clone()), Ok(()));
    for (path, value, want) in [
        (
            "/metadata/annotations",
            json!({}),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror pods",
        ),
        ("/spec/nodeName", json!("n2"), "node \"n1\" can only create pods with spec.nodeName set to itself"),
        (
            "/metadata/ownerReferences",
            json!([]),
            "node \"n1\" can only create pods with an owner reference set to itself",
        ),
        ("/metadata/ownerReferences/0/uid", json!("u2"), "node \"n1\" UID mismatch: expected \"u1\" got \"u2\""),
        (
            "/metadata/ownerReferences/0/controller",
            json!(false),
            "node \"n1\" can only create pods with a controller owner reference set to itself",
        ),
        (
            "/spec/serviceAccountName",
            json!("admin"),
            "node \"n1\" can not create pods that reference a service account",
        ),
        (
            "/spec/volumes/0/secret",
            json!({"secretName": "s"}),
            "node \"n1\" can not create pods that reference secrets",
        ),
        (
            "/spec/containers/0/envFrom",
            json!([{"configMapRef": {"name": "c"}}]),
            "node \"n1\" can not create pods that reference configmaps",
        ),
    ] {
        // The path ends in a field of an object, but for the first element of a list.
        let changed = match path.strip_prefix("/metadata/ownerReferences/0/") {
            Some(field) => {
                let mut pod = pod.clone();
                pod["metadata"]["ownerReferences"][0][field] = value;
                pod
            }
            None => change(pod.clone(), path, value),
        };
        assert_eq!(make(changed).unwrap_err(), format!("pods \"p\" is forbidden: {want}"));
    }
}

#[test]
fn a_node_leaves_what_steers_pods_alone() {
    let node = json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/os": "linux", "own": "1"}}, "spec": {"taints": [{"key": "a"}]}});
    let put = |new: Value, old: Option<Value>| ask(known::NODES, ("", "n1", ""), new, old);
    assert_eq!(put(node.clone(), None), Ok(()));
    assert_eq!(
        put(change(node.clone(), "/metadata/labels", json!({"node.kubernetes.io/x": "y"})), Some(node.clone())),
        Ok(())
    );
    let labelled = change(
        node.clone(),
        "/metadata/labels",
        json!({"node-role.kubernetes.io/x": "", "node-restriction.kubernetes.io/y": ""}),
    );
    let names = "node-restriction.kubernetes.io/y, node-role.kubernetes.io/x";
    for (new, old, want) in [
        (labelled.clone(), None, format!("is not allowed to set the following labels: {names}")),
        (labelled.clone(), Some(node.clone()), format!("is not allowed to modify labels: {names}")),
        (node.clone(), Some(labelled.clone()), format!("is not allowed to modify labels: {names}")),
        (
            change(node.clone(), "/spec/taints", json!([])),
            Some(node.clone()),
            "is not allowed to modify taints".to_owned(),
        ),
        (
            change(node.clone(), "/metadata/ownerReferences", json!([{}])),
            Some(node.clone()),
            "is not allowed to modify ownerReferences".to_owned(),
        ),
        (json!({"metadata": {"name": "n2"}}), None, "is not allowed to modify node \"n2\"".to_owned()),
    ] {
        let refused = put(new, old).unwrap_err();
        assert_eq!(refused, format!("nodes \"n1\" is forbidden: node \"n1\" {want}"));
    }
    let pod = json!({"metadata": {"name": "mine", "labels": {"a": "b"}}, "spec": {"nodeName": "n1"}});
    let status = |new: Value| ask(known::PODS, ("a", "mine", "status"), new, Some(pod.clone()));
    assert_eq!(status(change(pod.clone(), "/status", json!({"phase": "Running"}))), Ok(()));
    assert!(
        status(change(pod.clone(), "/metadata/labels", json!({})))
            .unwrap_err()
            .ends_with("cannot update labels through pod status")
    );
}

#[test]
fn a_node_acts_for_pods_that_run_there() {
    let token = |reference: Value| {
        ask(known::SERVICE_ACCOUNTS, ("a", "sa", "token"), json!({"spec": {"boundObjectRef": reference}}), None)
    };
    let pod = |name: &str, uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
    assert_eq!(token(pod("mine", "x")), Ok(()));
    for (reference, want) in [
        (json!(null), "node requested token not bound to a pod"),
        (pod("mine", ""), "node requested token with a pod binding without a uid"),
        (pod("other", "x"), "node requested token bound to a pod scheduled on a different node"),
    ] {
        assert!(token(reference).unwrap_err().ends_with(want), "{want}");
    }
    let lease = |namespace: &str, name: &str| {
        ask(known::LEASES, (namespace, "", ""), json!({"metadata": {"name": name}}), None)
    };
    assert_eq!(lease(LEASES, "n1"), Ok(()));
    assert!(lease(LEASES, "n2").is_err() && lease("kube-system", "n1").is_err());
}
