//! Topology spread constraints: pods of a kind evenly over zones, nodes or whatever a label says.
//!
//! Source: "Pod Topology Spread Constraints" of Kubernetes' documentation.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use kedge_api::placement::{NO_EXECUTE, NO_SCHEDULE, node_affinity_allows, taints, tolerations, untolerated};
use kedge_api::selector::{Labels, Selector};

use super::Refusal;
use crate::cache::{Cache, NodeState};
use crate::pod::PodInfo;

const HARD: &str = "DoNotSchedule";

fn constraints(pod: &PodInfo, hard: bool) -> impl Iterator<Item = &TopologySpreadConstraint> {
    pod.spec.topology_spread_constraints.iter().flatten().filter(move |c| (c.when_unsatisfiable == HARD) == hard)
}

/// The constraint's selector, with the pod's own values for `matchLabelKeys`.
fn selector(pod: &PodInfo, constraint: &TopologySpreadConstraint) -> Option<Selector> {
    let mut selector = constraint.label_selector.clone()?;
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = pod.object.meta.labels.label(key) {
            selector.match_labels.get_or_insert_default().insert(key.clone(), value.to_owned());
        }
    }
    Selector::from_label_selector(Some(&selector)).ok()
}

fn counts(pod: &PodInfo, node: &NodeState, selector: &Selector) -> i64 {
    let own = |other: &&crate::cache::Placed| {
        *other.object.key.namespace == *pod.object.key.namespace
            && !other.object.is_deleting()
            && selector.matches(&other.object.meta.labels)
    };
    i64::try_from(node.pods.values().filter(own).count()).unwrap_or(i64::MAX)
}

/// Whether a node's pods and its domain count at all.
fn included(pod: &PodInfo, node: &NodeState, constraint: &TopologySpreadConstraint) -> bool {
    let affinity =
        constraint.node_affinity_policy.as_deref() == Some("Ignore") || node_affinity_allows(&pod.spec, &node.node);
    let tainted = constraint.node_taints_policy.as_deref() == Some("Honor")
        && untolerated(taints(&node.node), tolerations(&pod.spec), &[NO_SCHEDULE, NO_EXECUTE]).is_some();
    affinity && !tainted
}

/// Matching pods by domain, over the nodes that have all of the pod's hard topology keys.
fn domains<'a>(
    pod: &PodInfo,
    cache: &'a Cache,
    constraint: &TopologySpreadConstraint,
    selector: &Selector,
) -> BTreeMap<&'a str, i64> {
    let mut domains = BTreeMap::new();
    for node in cache.nodes.values() {
        let complete = constraints(pod, true).all(|c| node.label(&c.topology_key).is_some());
        if let Some(value) =
            node.label(&constraint.topology_key).filter(|_| complete && included(pod, node, constraint))
        {
            *domains.entry(value).or_insert(0) += counts(pod, node, selector);
        }
    }
    domains
}

pub fn filter(pod: &PodInfo, node: &NodeState, cache: &Cache) -> Result<(), Refusal> {
    for constraint in constraints(pod, true) {
        let Some(value) = node.label(&constraint.topology_key) else {
            return Err(Refusal::fixed(
                "node(s) didn't match pod topology spread constraints (missing required label)",
            ));
        };
        let Some(selector) = selector(pod, constraint) else { continue };
        let domains = domains(pod, cache, constraint, &selector);
        let enough = domains.len() >= usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1);
        let least = if enough { domains.values().min().copied().unwrap_or(0) } else { 0 };
        let own = i64::from(selector.matches(&pod.object.meta.labels));
        let here = domains.get(value).copied().unwrap_or(0);
        if here + own - least > i64::from(constraint.max_skew) {
            return Err(Refusal::by_pods("node(s) didn't match pod topology spread constraints"));
        }
    }
    Ok(())
}

/// Matching pods in the node's domains, over all soft constraints: fewer is better.
pub fn score(pod: &PodInfo, node: &NodeState, cache: &Cache) -> i64 {
    constraints(pod, false)
        .filter_map(|constraint| {
            let selector = selector(pod, constraint)?;
            let value = node.label(&constraint.topology_key)?;
            let nodes = cache.nodes.values().filter(|n| n.label(&constraint.topology_key) == Some(value));
            Some(nodes.map(|n| counts(pod, n, &selector)).sum::<i64>())
        })
        .sum()
}
