//! What pods use, as `kubectl top` and Prometheus want to see it, and which pods there are.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kedge_api::Snapshot;
use kedge_api::resource::known::PODS;
use kedge_runtime::cgroup::Usage;
use kedge_runtime::{ContainerState, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::machine::Room;
use crate::site::Site;
use crate::translate::container::{label, pod_cgroup};

fn own(snapshot: &Snapshot, node: &str) -> impl Iterator<Item = Value> {
    let mine = move |pod: &Value| pod.pointer("/spec/nodeName").and_then(Value::as_str) == Some(node);
    snapshot.list(&PODS, "").filter_map(|o| serde_json::from_slice(&o.json).ok()).filter(mine)
}

/// A PodList of the node's pods.
pub fn pods(snapshot: &Snapshot, node: &str) -> Value {
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": own(snapshot, node).collect::<Vec<_>>()})
}

/// One running container's use.
struct Measured {
    state: ContainerState,
    usage: Usage,
}

fn measure(site: &Site, pod: &Pod, states: &[ContainerState]) -> (Usage, Vec<Measured>) {
    let Some(spec) = pod.spec.as_ref() else { return (Usage::default(), Vec::new()) };
    let cgroup = pod_cgroup(pod, spec);
    let of_pod =
        |s: &&ContainerState| s.labels.get(label::UID) == pod.metadata.uid.as_ref() && s.status == Status::Running;
    let measured = states
        .iter()
        .filter(of_pod)
        .map(|state| Measured { usage: site.ground.usage(&format!("{cgroup}/{}", state.id)), state: state.clone() });
    (site.ground.usage(&cgroup), measured.collect())
}

/// Every pod of the node with what it and its containers use.
fn all(site: &Site) -> Vec<(Pod, Usage, Vec<Measured>)> {
    let states = site.runtime.list();
    let pods = own(&site.informer.snapshot(), &site.node).filter_map(|v| Pod::deserialize(&v).ok()).collect::<Vec<_>>();
    let with = |pod: Pod| {
        let (usage, containers) = measure(site, &pod, &states);
        (pod, usage, containers)
    };
    pods.into_iter().map(with).collect()
}

/// Nanoseconds of CPU that were not idle since the machine started, from the first line of /proc/stat.
fn cpu_nanoseconds(stat: &str) -> Option<u64> {
    let numbers: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    let busy = |i: &usize| !matches!(i, 3 | 4);
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user time. In hundredths of a second.
    let ticks: u64 = numbers.iter().take(8).enumerate().filter(|(i, _)| busy(i)).map(|(_, n)| n).sum();
    ticks.checked_mul(10_000_000)
}

fn node_use(site: &Site) -> Usage {
    let used = site.memory.saturating_sub(Room::read(&site.state_dir).memory);
    Usage {
        memory_bytes: Some(used),
        memory_working_set_bytes: Some(used),
        cpu_nanoseconds: std::fs::read_to_string("/proc/stat").ok().and_then(|s| cpu_nanoseconds(&s)),
        processes: None,
    }
}

pub fn summary(site: &Site) -> Value {
    let now = json!(Time(site.now()));
    let cpu = |u: &Usage| json!({"time": now, "usageCoreNanoSeconds": u.cpu_nanoseconds});
    let memory =
        |u: &Usage| json!({"time": now, "usageBytes": u.memory_bytes, "workingSetBytes": u.memory_working_set_bytes});
    let pods = all(site).into_iter().map(|(pod, usage, containers)| {
        let meta = &pod.metadata;
        let containers = containers.iter().map(|m| {
            let name = m.state.labels.get(label::CONTAINER);
            json!({"name": name, "startTime": m.state.started_at.map(Time), "cpu": cpu(&m.usage), "memory": memory(&m.usage)})
        });
        json!({
            "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "startTime": pod.status.as_ref().and_then(|s| s.start_time.clone()),
            "containers": containers.collect::<Vec<_>>(), "cpu": cpu(&usage), "memory": memory(&usage),
            "process_stats": {"process_count": usage.processes},
        })
    });
    let pods: Vec<Value> = pods.collect();
    let node = node_use(site);
    json!({"node": {"nodeName": site.node, "cpu": cpu(&node), "memory": memory(&node)}, "pods": pods})
}

/// The resource metrics that metrics-server reads, in Prometheus' text format.
pub fn metrics(site: &Site) -> String {
    let mut cpu = String::from("# TYPE container_cpu_usage_seconds_total counter\n");
    let mut memory = String::from("# TYPE container_memory_working_set_bytes gauge\n");
    let mut pod_cpu = String::from("# TYPE pod_cpu_usage_seconds_total counter\n");
    let mut pod_memory = String::from("# TYPE pod_memory_working_set_bytes gauge\n");
    let seconds = |u: &Usage| u.cpu_nanoseconds.map(|n| n as f64 / 1e9);
    // Writing to a String cannot fail.
    let line = |out: &mut String, name: &str, labels: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let bytes = |u: &Usage| u.memory_working_set_bytes.map(|b| b as f64);
    for (pod, usage, containers) in all(site) {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let of_pod = format!("namespace={:?},pod={:?}", text(&pod.metadata.namespace), text(&pod.metadata.name));
        for m in containers {
            let labels = format!(
                "{{container={:?},{of_pod}}}",
                m.state.labels.get(label::CONTAINER).cloned().unwrap_or_default()
            );
            line(&mut cpu, "container_cpu_usage_seconds_total", &labels, seconds(&m.usage));
            line(&mut memory, "container_memory_working_set_bytes", &labels, bytes(&m.usage));
        }
        let labels = format!("{{{of_pod}}}");
        line(&mut pod_cpu, "pod_cpu_usage_seconds_total", &labels, seconds(&usage));
        line(&mut pod_memory, "pod_memory_working_set_bytes", &labels, bytes(&usage));
    }
    let node = node_use(site);
    let mut out = [cpu, memory, pod_cpu, pod_memory].concat();
    out.push_str("# TYPE node_cpu_usage_seconds_total counter\n");
    line(&mut out, "node_cpu_usage_seconds_total", "", seconds(&node));
    out.push_str("# TYPE node_memory_working_set_bytes gauge\n");
    line(&mut out, "node_memory_working_set_bytes", "", bytes(&node));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_not_use() {
        assert_eq!(cpu_nanoseconds("cpu  10 1 5 900 50 1 2 1 7 0\ncpu0 1\n"), Some(200_000_000));
        assert_eq!(cpu_nanoseconds(""), None);
    }
}
