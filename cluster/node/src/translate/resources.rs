//! Requests and limits as cgroup values. The numbers are upstream's: 1024 shares and 100 ms of quota a CPU.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use kedge_api::quantity::Quantity;
use kedge_runtime::Resources;

use super::qos::{self, Class};
use crate::pod::outcome::is_sidecar;

const PERIOD: u64 = 100_000;
const MIN_QUOTA: i64 = 1000;
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

fn shares(milli: i64) -> u64 {
    (milli.max(0).unsigned_abs().saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

fn quota(milli: i64) -> i64 {
    (milli.saturating_mul(PERIOD as i64) / 1000).max(MIN_QUOTA)
}

pub fn of_container(container: &Container) -> Resources {
    let cpu = qos::amount(container, qos::limits, "cpu");
    Resources {
        cpu_shares: Some(shares(qos::request(container, "cpu").map_or(0, Quantity::milli))),
        cpu_quota: cpu.map(|q| quota(q.milli())),
        cpu_period: cpu.map(|_| PERIOD),
        memory: qos::amount(container, qos::limits, "memory").map(Quantity::bytes),
        pids: None,
    }
}

/// The most that a pod's containers have at one time: all that run together, or one init container beside its sidecars.
fn sum(spec: &PodSpec, of: &dyn Fn(&Container) -> Option<Quantity>) -> (Quantity, bool) {
    let mut complete = true;
    let mut total = Quantity::ZERO;
    for container in &spec.containers {
        let amount = of(container);
        complete &= amount.is_some();
        total = total + amount.unwrap_or(Quantity::ZERO);
    }
    let (mut sidecars, mut peak) = (Quantity::ZERO, Quantity::ZERO);
    for container in spec.init_containers.iter().flatten() {
        let amount = of(container);
        complete &= amount.is_some();
        let amount = amount.unwrap_or(Quantity::ZERO);
        if is_sidecar(container) {
            sidecars = sidecars + amount;
        } else {
            peak = peak.max(sidecars + amount);
        }
    }
    ((total + sidecars).max(peak), complete)
}

/// The pod's own cgroup: a limit only where every container has one.
pub fn of_pod(spec: &PodSpec) -> Resources {
    let (cpu, _) = sum(spec, &|c| qos::request(c, "cpu"));
    let (cpu_limit, cpu_limited) = sum(spec, &|c| qos::amount(c, qos::limits, "cpu"));
    let (memory, memory_limited) = sum(spec, &|c| qos::amount(c, qos::limits, "memory"));
    let best_effort = qos::class(spec) == Class::BestEffort;
    Resources {
        cpu_shares: Some(if best_effort { MIN_SHARES } else { shares(cpu.milli()) }),
        cpu_quota: cpu_limited.then(|| quota(cpu_limit.milli())),
        cpu_period: cpu_limited.then_some(PERIOD),
        memory: memory_limited.then(|| memory.bytes()),
        pids: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container() {
        let container = serde_json::from_value(json!({"name": "a", "resources": {
            "requests": {"cpu": "250m"}, "limits": {"cpu": "1500m", "memory": "64Mi"}}}));
        let expected = Resources {
            cpu_shares: Some(256),
            cpu_quota: Some(150_000),
            cpu_period: Some(100_000),
            memory: Some(64 << 20),
            pids: None,
        };
        assert_eq!(of_container(&container.unwrap()), expected);
        assert_eq!(of_container(&Container::default()).cpu_shares, Some(2));
    }

    #[test]
    fn a_pod_is_limited_where_all_its_containers_are() {
        let limited = |cpu: &str| json!({"name": "a", "resources": {"limits": {"cpu": cpu, "memory": "1Mi"}}});
        let spec = |main, init| {
            serde_json::from_value::<PodSpec>(json!({"containers": main, "initContainers": init})).unwrap()
        };
        let pod = of_pod(&spec(json!([limited("1"), limited("500m")]), json!([limited("4")])));
        assert_eq!((pod.cpu_shares, pod.cpu_quota, pod.memory), (Some(4096), Some(400_000), Some(2 << 20)));
        let pod = of_pod(&spec(json!([limited("1"), {"name": "b"}]), json!([])));
        assert_eq!((pod.cpu_shares, pod.cpu_quota, pod.memory), (Some(1024), None, None));
        let pod = of_pod(&spec(json!([{"name": "b"}]), json!([])));
        assert_eq!(pod, Resources { cpu_shares: Some(2), ..Resources::default() });
    }
}
