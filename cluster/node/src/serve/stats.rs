//! What pods use, as `kubectl top` and Prometheus want to see it, and which pods there are.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kedge_api::Snapshot;
use kedge_api::metrics::{Form, Kind, Text};
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

/// A resource metric of containers, of pods or of the node, which metrics-server reads.
type Row = (&'static str, Kind, &'static str, fn(&Usage) -> Option<f64>);
const ROWS: [Row; 2] = [
    ("cpu_usage_seconds_total", Kind::Counter, "Time of CPU.", |usage| usage.cpu_nanoseconds.map(|n| n as f64 / 1e9)),
    ("memory_working_set_bytes", Kind::Gauge, "Memory in use that cannot be given back.", |usage| {
        usage.memory_working_set_bytes.map(|b| b as f64)
    }),
];

/// In Prometheus' text format; the machine's own lines follow.
pub fn metrics(site: &Site) -> String {
    let mut text = Text::new(Form::Prometheus);
    let (pods, node) = (all(site), node_use(site));
    let name = |text: &Option<String>| text.clone().unwrap_or_default();
    for (metric, kind, help, value) in ROWS {
        text.head(&format!("container_{metric}"), kind, help);
        for (pod, _, containers) in &pods {
            let (namespace, pod) = (name(&pod.metadata.namespace), name(&pod.metadata.name));
            for measured in containers {
                let container = measured.state.labels.get(label::CONTAINER).cloned().unwrap_or_default();
                let labels = [("container", &*container), ("namespace", &*namespace), ("pod", &*pod)];
                value(&measured.usage).into_iter().for_each(|value| text.value(&labels, value));
            }
        }
        text.head(&format!("pod_{metric}"), kind, help);
        for (pod, usage, _) in &pods {
            let (namespace, pod) = (name(&pod.metadata.namespace), name(&pod.metadata.name));
            let labels = [("namespace", &*namespace), ("pod", &*pod)];
            value(usage).into_iter().for_each(|value| text.value(&labels, value));
        }
        text.head(&format!("node_{metric}"), kind, help);
        value(&node).into_iter().for_each(|value| text.value(&[], value));
    }
    site.host.tell(&mut text);
    text.finish()
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
