//! Quality of service: the class of a pod, and what it means for cgroups and the OOM killer.
//!
//! Source: "Pod Quality of Service Classes" of Kubernetes' documentation.

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use kedge_api::quantity::Quantity;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Class {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The cgroup that pods of this class stand below.
    pub const fn cgroup(self) -> &'static str {
        match self {
            Self::Guaranteed => "/kubepods",
            Self::Burstable => "/kubepods/burstable",
            Self::BestEffort => "/kubepods/besteffort",
        }
    }
}

/// What a container asks for or may use of a resource; zero counts as absent.
pub fn amount(
    container: &Container,
    of: fn(&ResourceRequirements) -> Option<&Amounts>,
    name: &str,
) -> Option<Quantity> {
    let wire = of(container.resources.as_ref()?)?.get(name)?;
    Quantity::try_from(wire).ok().filter(|q| !q.is_zero())
}

pub type Amounts = std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

pub fn requests(r: &ResourceRequirements) -> Option<&Amounts> {
    r.requests.as_ref()
}

pub fn limits(r: &ResourceRequirements) -> Option<&Amounts> {
    r.limits.as_ref()
}

/// A request that is not written is the limit.
pub fn request(container: &Container, name: &str) -> Option<Quantity> {
    let written = container.resources.as_ref().and_then(requests).is_some_and(|r| r.contains_key(name));
    if written { amount(container, requests, name) } else { amount(container, limits, name) }
}

pub fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten())
}

pub fn class(spec: &PodSpec) -> Class {
    let mut asks = false;
    let mut guaranteed = true;
    for container in containers(spec) {
        for name in ["cpu", "memory"] {
            let (request, limit) = (request(container, name), amount(container, limits, name));
            asks |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (asks, guaranteed) {
        (false, _) => Class::BestEffort,
        (true, true) => Class::Guaranteed,
        (true, false) => Class::Burstable,
    }
}

/// `oom_score_adj` of one container's processes, on a node with so many bytes of memory.
pub fn oom_score(spec: &PodSpec, container: &Container, node_memory: u64) -> i32 {
    match class(spec) {
        Class::Guaranteed => -997,
        Class::BestEffort => 1000,
        Class::Burstable => {
            let asked = request(container, "memory").map_or(0, |q| q.bytes().max(0)).unsigned_abs();
            let share = asked.saturating_mul(1000).checked_div(node_memory).unwrap_or(0).min(1000);
            (1000 - i32::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(json!({ "containers": value })).unwrap()
    }

    #[test]
    fn classes() {
        for (containers, expected) in [
            (json!([{"name": "a"}]), Class::BestEffort),
            (json!([{"name": "a", "resources": {"requests": {"cpu": "0"}}}]), Class::BestEffort),
            (json!([{"name": "a", "resources": {"requests": {"cpu": "1"}}}]), Class::Burstable),
            (json!([{"name": "a", "resources": {"limits": {"cpu": "1"}}}]), Class::Burstable),
            (json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]), Class::Guaranteed),
            (
                json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}, {"name": "b"}]),
                Class::Burstable,
            ),
            (
                json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}}]),
                Class::Guaranteed,
            ),
            (
                json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1"}}}]),
                Class::Burstable,
            ),
        ] {
            assert_eq!(class(&spec(containers.clone())), expected, "{containers}");
        }
    }

    #[test]
    fn oom_scores_fall_with_what_is_asked() {
        let of = |memory: &str| {
            let spec = spec(json!([{"name": "a", "resources": {"requests": {"memory": memory}}}]));
            oom_score(&spec, &spec.containers[0], 1 << 30)
        };
        assert_eq!((of("1"), of("512Mi"), of("2Gi")), (999, 500, 3));
    }
}
