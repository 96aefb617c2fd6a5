//! Pods carry the zone and the region of the node that they are bound to, for whoever asks a pod and may not ask nodes.

use kedge_api::resource::known;
use kedge_api::{Key, Status};
use serde_json::{Map, Value};

use super::Attributes;
use crate::strategy::Scope;
use crate::value::{Fill as _, Look as _};

const LABELS: &[&str] = &["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// Of a pod that is made on its node, or of the binding that gives it one: a binding's labels become the pod's.
pub(super) fn label(scope: &Scope<'_>, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    let node = match (attributes.subresource, object.text("target.kind")) {
        ("binding", "Node") => object.text("target.name"),
        ("binding", _) => "",
        _ => object.text("spec.nodeName"),
    };
    let Some(node) = scope.snapshot.get(&Key::new(known::NODES, "", node)) else { return Ok(()) };
    let given: Map<String, Value> = node
        .meta
        .labels
        .iter()
        .flatten()
        .filter(|(key, _)| LABELS.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.as_str().into()))
        .collect();
    if !given.is_empty() {
        let mut labels = object.look("metadata.labels").as_object().cloned().unwrap_or_default();
        labels.extend(given);
        object.set("metadata.labels", labels);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;

    #[test]
    fn a_pod_on_a_node_is_where_the_node_is() {
        let labels = json!({LABELS[1]: "z", "kubernetes.io/hostname": "n1"});
        let world = World::new(&known::PODS, &[(known::NODES, json!({"metadata": {"name": "n1", "labels": labels}}))]);
        let pod = |node: &str| json!({"metadata": {"labels": {"a": "b"}}, "spec": {"nodeName": node}});
        let made = world.admit(label, None, pod("n1")).unwrap();
        assert_eq!(made["metadata"]["labels"], json!({"a": "b", LABELS[1]: "z"}));
        for elsewhere in ["", "n2"] {
            assert_eq!(world.admit(label, None, pod(elsewhere)), Ok(pod(elsewhere)));
        }
    }
}
