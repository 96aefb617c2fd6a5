//! What a node must be: named, schedulable, tolerated, and of the right labels.

use k8s_openapi::api::core::v1::Taint;
use kedge_api::placement::{
    NO_EXECUTE, NO_SCHEDULE, PREFER_NO_SCHEDULE, node_affinity_allows, node_term_matches, taints as taints_of,
    tolerates, tolerations, untolerated,
};

use super::Refusal;
use crate::cache::{Cache, NodeState};
use crate::pod::PodInfo;

pub fn unschedulable(pod: &PodInfo, node: &NodeState, _: &Cache) -> Result<(), Refusal> {
    if node.node.spec.as_ref().and_then(|spec| spec.unschedulable) != Some(true) {
        return Ok(());
    }
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: NO_SCHEDULE.into(),
        value: None,
        time_added: None,
    };
    match tolerations(&pod.spec).iter().any(|toleration| tolerates(toleration, &taint)) {
        true => Ok(()),
        false => Err(Refusal::fixed("node(s) were unschedulable")),
    }
}

pub fn node_name(pod: &PodInfo, node: &NodeState, _: &Cache) -> Result<(), Refusal> {
    match pod.spec.node_name.as_deref().unwrap_or_default() {
        "" => Ok(()),
        name if name == node.name() => Ok(()),
        _ => Err(Refusal::fixed("node(s) didn't match the requested node name")),
    }
}

pub fn taints(pod: &PodInfo, node: &NodeState, _: &Cache) -> Result<(), Refusal> {
    match untolerated(taints_of(&node.node), tolerations(&pod.spec), &[NO_SCHEDULE, NO_EXECUTE]) {
        None => Ok(()),
        Some(_) => Err(Refusal::fixed("node(s) had untolerated taint(s)")),
    }
}

/// How many taints ask to stay away.
pub fn avoided_taints(pod: &PodInfo, node: &NodeState, _: &Cache) -> i64 {
    let tolerated = |taint: &Taint| {
        tolerations(&pod.spec)
            .iter()
            .filter(|t| matches!(t.effect.as_deref().unwrap_or_default(), "" | PREFER_NO_SCHEDULE))
            .any(|toleration| tolerates(toleration, taint))
    };
    let avoided = taints_of(&node.node).iter().filter(|t| t.effect == PREFER_NO_SCHEDULE && !tolerated(t)).count();
    i64::try_from(avoided).unwrap_or(i64::MAX)
}

pub fn node_affinity(pod: &PodInfo, node: &NodeState, _: &Cache) -> Result<(), Refusal> {
    match node_affinity_allows(&pod.spec, &node.node) {
        true => Ok(()),
        false => Err(Refusal::fixed("node(s) didn't match Pod's node affinity/selector")),
    }
}

/// The weights of the preferred terms that match.
pub fn preferred(pod: &PodInfo, node: &NodeState, _: &Cache) -> i64 {
    let affinity = pod.spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let terms = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
    let matching = terms.unwrap_or_default().iter().filter(|term| node_term_matches(&term.preference, &node.node));
    matching.map(|term| i64::from(term.weight)).sum()
}
