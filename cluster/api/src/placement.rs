//! Which node a pod may be on: taints and tolerations, node affinity, and what the pod asks for.
//!
//! Owns the pure predicates that scheduler, daemon set and node lifecycle controllers and the node agent must agree on; never knows
//! who asks. Source: "Assigning Pods to Nodes", "Taints and Tolerations" and "Resource sharing within containers" of Kubernetes' docs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, ResourceRequirements, Taint,
    Toleration,
};

use crate::quantity::Quantity;
use crate::selector::{Labels, Operator};

pub const NO_SCHEDULE: &str = "NoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";
pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";

/// Amounts by resource name: `cpu`, `memory`, `example.com/gpu`, ….
pub type Amounts = BTreeMap<String, Quantity>;
type WireAmounts = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |t: &Option<String>| t.as_deref().unwrap_or_default().to_owned();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => text(&toleration.value) == text(&taint.value),
        "Exists" => true,
        _ => false,
    }
}

/// The first taint with one of `effects` that none of `tolerations` tolerates.
pub fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration], effects: &[&str]) -> Option<&'a Taint> {
    taints
        .iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

pub fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

pub fn tolerations(pod: &PodSpec) -> &[Toleration] {
    pod.tolerations.as_deref().unwrap_or_default()
}

/// `nodeSelector` and required node affinity.
pub fn node_affinity_allows(pod: &PodSpec, node: &Node) -> bool {
    let labels = &node.metadata.labels;
    let selected =
        pod.node_selector.iter().flatten().all(|(key, value)| labels.label(key).is_some_and(|found| found == value));
    let required = pod
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|selector| node_selector_matches(selector, node))
}

/// Any term is enough.
pub fn node_selector_matches(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| node_term_matches(term, node))
}

/// All of a term's conditions must hold; a term without any matches nothing.
pub fn node_term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let holds = |requirement: &NodeSelectorRequirement, value: Option<&str>| {
        Operator::parse(&requirement.operator)
            .is_some_and(|operator| operator.holds(value, requirement.values.as_deref().unwrap_or_default()))
    };
    let field = |name: &str| (name == "metadata.name").then_some(node.metadata.name.as_deref()).flatten();
    expressions.iter().all(|e| holds(e, node.metadata.labels.label(&e.key)))
        && fields.iter().all(|f| holds(f, field(&f.key)))
}

/// Amounts that cannot be read count as nothing: validation has refused them before.
pub fn amounts(wire: Option<&WireAmounts>) -> Amounts {
    wire.into_iter().flatten().filter_map(|(name, q)| Some((name.clone(), Quantity::try_from(q).ok()?))).collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone()).or_default();
        *entry = *entry + *amount;
    }
}

fn raise(highest: &mut Amounts, other: Amounts) {
    for (name, amount) in other {
        let entry = highest.entry(name).or_insert(amount);
        *entry = (*entry).max(amount);
    }
}

/// What a pod reserves: the larger of its containers together and its init containers one at a time (sidecars, which are init
/// containers that keep running, count for both), its own requests where it states them, and the overhead of its runtime class.
pub fn pod_requests(pod: &PodSpec) -> Amounts {
    pod_amounts(pod, |resources| resources.requests.as_ref())
}

/// The same of limits.
pub fn pod_limits(pod: &PodSpec) -> Amounts {
    pod_amounts(pod, |resources| resources.limits.as_ref())
}

fn pod_amounts(pod: &PodSpec, pick: fn(&ResourceRequirements) -> Option<&WireAmounts>) -> Amounts {
    let of = |container: &Container| amounts(container.resources.as_ref().and_then(pick));
    let mut running = Amounts::new();
    for container in &pod.containers {
        add(&mut running, &of(container));
    }
    let (mut sidecars, mut initial) = (Amounts::new(), Amounts::new());
    for container in pod.init_containers.iter().flatten() {
        let mut now = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &now);
            now = sidecars.clone();
        } else {
            add(&mut now, &sidecars);
        }
        raise(&mut initial, now);
    }
    add(&mut running, &sidecars);
    raise(&mut running, initial);
    running.extend(amounts(pod.resources.as_ref().and_then(pick)));
    add(&mut running, &amounts(pod.overhead.as_ref()));
    running
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    fn node(value: serde_json::Value) -> Node {
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Node", "metadata": value})).unwrap()
    }

    #[test]
    fn tolerations_table() {
        let taint = Taint { key: "a".into(), value: Some("1".into()), effect: NO_SCHEDULE.into(), time_added: None };
        for (toleration, expected) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "a", "operator": "Exists"}), true),
            (json!({"key": "b", "operator": "Exists"}), false),
            (json!({"key": "a", "value": "1"}), true),
            (json!({"key": "a", "operator": "Equal", "value": "2"}), false),
            (json!({"key": "a", "value": "1", "effect": "NoExecute"}), false),
            (json!({"key": "a", "value": "1", "effect": "NoSchedule"}), true),
            (json!({"key": "a", "operator": "Near", "value": "1"}), false),
        ] {
            let parsed: Toleration = serde_json::from_value(toleration.clone()).unwrap();
            assert_eq!(tolerates(&parsed, &taint), expected, "{toleration}");
            assert_eq!(untolerated(std::slice::from_ref(&taint), &[parsed], &[NO_SCHEDULE]).is_none(), expected);
        }
        assert!(untolerated(&[taint], &[], &[NO_EXECUTE]).is_none());
    }

    #[test]
    fn affinity_table() {
        let node = node(json!({"name": "n1", "labels": {"zone": "a", "cpus": "8"}}));
        let affinity = |terms: serde_json::Value| json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        for (spec, expected) in [
            (json!({"containers": []}), true),
            (json!({"containers": [], "nodeSelector": {"zone": "a"}}), true),
            (json!({"containers": [], "nodeSelector": {"zone": "b"}}), false),
            (affinity(json!([])), false),
            (affinity(json!([{}])), false),
            (affinity(json!([{}, {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}])), true),
            (affinity(json!([{"matchExpressions": [{"key": "cpus", "operator": "Gt", "values": ["8"]}]}])), false),
            (affinity(json!([{"matchExpressions": [{"key": "cpus", "operator": "Gt", "values": ["7"]}]}])), true),
            (affinity(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}])), true),
            (affinity(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}])), false),
        ] {
            assert_eq!(node_affinity_allows(&pod(spec.clone()), &node), expected, "{spec}");
        }
    }

    #[test]
    fn requests_of_init_containers_sidecars_and_overhead() {
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
        let requests = |spec: serde_json::Value| pod_requests(&pod(spec)).get("cpu").map(|q| q.milli());
        let two = json!([{"name": "a", "resources": cpu("100m")}, {"name": "b", "resources": cpu("200m")}]);
        assert_eq!(requests(json!({"containers": two})), Some(300));
        assert_eq!(
            requests(json!({"containers": two, "initContainers": [{"name": "i", "resources": cpu("1")}]})),
            Some(1000)
        );
        assert_eq!(requests(json!({"containers": two, "overhead": {"cpu": "50m"}})), Some(350));
        let sidecar = json!([{"name": "s", "restartPolicy": "Always", "resources": cpu("500m")}, {"name": "i", "resources": cpu("400m")}]);
        assert_eq!(requests(json!({"containers": two, "initContainers": sidecar})), Some(900));
        assert_eq!(requests(json!({"containers": two, "resources": {"requests": {"cpu": "2"}}})), Some(2000));
        assert_eq!(requests(json!({"containers": [{"name": "a"}]})), None);
    }
}
