//! Affinity and anti-affinity between pods.
//!
//! Source: "Inter-pod affinity and anti-affinity" of Kubernetes' documentation. Terms with a `namespaceSelector` are matched against
//! namespaces by their implied label `kubernetes.io/metadata.name` only, since the scheduler keeps no namespaces.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodAffinityTerm;
use kedge_api::Object;
use kedge_api::selector::{Labels, Selector};

use super::Refusal;
use crate::cache::{Cache, NodeState};
use crate::pod::PodInfo;

/// Whether a term of `holder` selects `other`.
fn selects(term: &PodAffinityTerm, holder: &Object, other: &Object) -> bool {
    let namespaces = term.namespaces.as_deref().unwrap_or_default();
    let here =
        namespaces.is_empty() && term.namespace_selector.is_none() && holder.key.namespace == other.key.namespace;
    let named = namespaces.iter().any(|ns| **ns == *other.key.namespace);
    let labels = || BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), other.key.namespace.to_string())]);
    let chosen = term.namespace_selector.as_ref().is_some_and(|selector| {
        Selector::from_label_selector(Some(selector)).is_ok_and(|selector| selector.matches(&labels()))
    });
    if !(here || named || chosen) {
        return false;
    }
    let mut selector = term.label_selector.clone();
    if let Some(selector) = &mut selector {
        for key in term.match_label_keys.iter().flatten() {
            if let Some(value) = holder.meta.labels.label(key) {
                selector.match_labels.get_or_insert_default().insert(key.clone(), value.to_owned());
            }
        }
    }
    Selector::from_label_selector(selector.as_ref()).is_ok_and(|selector| selector.matches(&other.meta.labels))
}

/// Whether some pod that the term selects is in the node's domain.
fn in_domain(term: &PodAffinityTerm, pod: &PodInfo, node: &NodeState, cache: &Cache) -> bool {
    count(term, pod, node, cache, true) > 0
}

fn count(term: &PodAffinityTerm, pod: &PodInfo, node: &NodeState, cache: &Cache, first: bool) -> i64 {
    let Some(value) = node.label(&term.topology_key) else { return 0 };
    let domain = cache.nodes.values().filter(|other| other.label(&term.topology_key) == Some(value));
    let matching =
        domain.flat_map(|other| other.pods.values()).filter(|placed| selects(term, &pod.object, &placed.object));
    i64::try_from(matching.take(if first { 1 } else { usize::MAX }).count()).unwrap_or(i64::MAX)
}

fn anywhere(term: &PodAffinityTerm, pod: &PodInfo, cache: &Cache) -> bool {
    cache.nodes.values().flat_map(|node| node.pods.values()).any(|placed| selects(term, &pod.object, &placed.object))
}

pub fn filter(pod: &PodInfo, node: &NodeState, cache: &Cache) -> Result<(), Refusal> {
    let terms = pod.affinity_terms();
    if terms.iter().any(|term| node.label(&term.topology_key).is_none())
        || (!terms.iter().all(|term| in_domain(term, pod, node, cache))
            // The first pod of a group that wants to be together would else never find a place.
            && (terms.iter().any(|term| anywhere(term, pod, cache))
                || !terms.iter().all(|term| selects(term, &pod.object, &pod.object))))
    {
        return Err(Refusal::fixed("node(s) didn't match pod affinity rules"));
    }
    if pod.anti_affinity_terms().iter().any(|term| in_domain(term, pod, node, cache)) {
        return Err(Refusal::by_pods("node(s) didn't match pod anti-affinity rules"));
    }
    let repels = |other: &NodeState| {
        other.pods.values().any(|placed| {
            placed.anti_affinity.iter().any(|term| {
                let value = node.label(&term.topology_key);
                value.is_some()
                    && value == other.label(&term.topology_key)
                    && selects(term, &placed.object, &pod.object)
            })
        })
    };
    if cache.nodes.values().any(repels) {
        return Err(Refusal::by_pods("node(s) didn't satisfy existing pods anti-affinity rules"));
    }
    Ok(())
}

/// The weights of the preferred terms that hold, less those of anti-affinity; never below zero.
pub fn score(pod: &PodInfo, node: &NodeState, cache: &Cache) -> i64 {
    let affinity = pod.spec.affinity.as_ref();
    let near = affinity
        .and_then(|a| a.pod_affinity.as_ref())
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default();
    let far = affinity
        .and_then(|a| a.pod_anti_affinity.as_ref())
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default();
    let sum = |terms: &[k8s_openapi::api::core::v1::WeightedPodAffinityTerm]| -> i64 {
        let weigh = |t: &k8s_openapi::api::core::v1::WeightedPodAffinityTerm| {
            i64::from(t.weight).saturating_mul(count(&t.pod_affinity_term, pod, node, cache, false))
        };
        terms.iter().map(weigh).sum()
    };
    if near.is_empty() && far.is_empty() {
        return 0;
    }
    // Shifted so that repulsion alone still tells nodes apart.
    (1_000_000 + sum(near) - sum(far)).max(0)
}
