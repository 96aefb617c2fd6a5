//! What controllers ask of pods: ready, available, active; how one is made from a template; which goes first.
//!
//! Owns pure predicates over the generated types; never acts. Source: Kubernetes' "Pod Lifecycle" and "ReplicaSet" pages
//! ("Scaling a ReplicaSet" gives the order of deletion).

use std::cmp::Reverse;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_deleting(pod)
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").filter(|c| c.status == "True")?.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether a pod has been ready for `min_ready` seconds; if not yet, when it will have been.
pub fn availability(pod: &Pod, min_ready: i32, now: Timestamp) -> (bool, Option<Timestamp>) {
    if !is_ready(pod) {
        return (false, None);
    }
    if min_ready == 0 {
        return (true, None);
    }
    let Some(since) = ready_since(pod) else { return (false, None) };
    let at = since.checked_add(SignedDuration::from_secs(min_ready.into())).unwrap_or(since);
    (at <= now, (at > now).then_some(at))
}

pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// A pod of a template, named by the server below `prefix`.
pub fn from_template(
    template: &PodTemplateSpec,
    namespace: Option<&str>,
    prefix: String,
    owner: OwnerReference,
) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: namespace.map(str::to_owned),
            generate_name: Some(prefix),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// A pod's place in the order of deletion: the least goes first. `neighbours` are the owner's active pods on the same node.
pub fn deletion_rank(pod: &Pod, neighbours: usize, now: Timestamp) -> impl Ord + use<> {
    let cost = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(DELETION_COST))
        .and_then(|cost| cost.parse::<i32>().ok())
        .unwrap_or(0);
    let phase = match phase(pod) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let restarts = pod
        .status
        .iter()
        .filter_map(|status| status.container_statuses.as_ref())
        .flatten()
        .map(|container| container.restart_count)
        .max()
        .unwrap_or(0);
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (
        !node_name(pod).is_empty(),
        phase,
        is_ready(pod),
        cost,
        Reverse(neighbours),
        age_class(ready_since(pod), now),
        Reverse(restarts),
        age_class(created, now),
        // Of like pods any may go; the uid makes the choice the same each time.
        pod.metadata.uid.clone(),
    )
}

/// Ages on a logarithmic scale, as upstream compares them: the choice among pods of about one age is then random, and does not
/// always hit the youngest.
fn age_class(since: Option<Timestamp>, now: Timestamp) -> u32 {
    let seconds = since.map_or(0, |since| now.duration_since(since).as_secs().max(0));
    u64::try_from(seconds).unwrap_or(0).checked_ilog2().map_or(0, |log| log + 1)
}
