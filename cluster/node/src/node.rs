//! The Node object and its Lease: registered, kept true, renewed.
//!
//! The Lease tells that the node lives, every 10 s; the status is told when it changed, and every 5 min.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use kedge_api::resource::known::{LEASES, NODES};
use kedge_api::{Client, ClientExt, Key, Options, Reason, Snapshot, Status, Verb};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::machine::{Machine, Room};
use crate::site::Site;

const RENEW: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;
const TELL: i64 = 300;
const VERSION: &str = concat!("v1.36.0+kedge", env!("CARGO_PKG_VERSION"));
const PODS: u32 = 110;
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Memory that the system itself keeps: pods cannot ask for it.
const RESERVE: u64 = 96 << 20;

/// What the node is told to be.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub pod_cidrs: Vec<String>,
    pub machine: Machine,
    pub port: u16,
}

/// Runs for as long as the node lives.
pub async fn run(site: Arc<Site>, identity: Identity) {
    let mut told: Option<(Value, Timestamp)> = None;
    let mut registered = false;
    let mut addresses = site.addresses.clone();
    loop {
        let now = site.now();
        if !registered {
            match register(&*site.client, &site.node, &identity).await {
                Ok(()) => registered = true,
                Err(error) => tracing::warn!(node = site.node, %error, "node is not registered yet"),
            }
        }
        if registered {
            let room = Room::read(&site.state_dir);
            let status = status(&identity, &site.host_addresses(), room, &site.ground.images());
            let due = told.as_ref().is_none_or(|(old, at)| {
                *old != status
                    || now.duration_since(*at).as_secs() >= TELL
                    || !is_believed(&site.informer.snapshot(), &site.node, &status)
            });
            if due {
                match tell(&site, &status, now).await {
                    Ok(()) => told = Some((status, now)),
                    Err(error) if error.is(Reason::NotFound) => registered = false,
                    Err(error) => tracing::warn!(node = site.node, %error, "status of the node is refused"),
                }
            }
            if let Err(error) = renew(&*site.client, &site.node, now).await {
                tracing::warn!(node = site.node, %error, "lease of the node is not renewed");
            }
        }
        // A node that is not known yet is what everybody waits for: try soon.
        let pause = if registered && told.is_some() { RENEW } else { Duration::from_millis(500) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Ok(()) = addresses.changed() => {}
        }
    }
}

async fn register(client: &dyn Client, name: &str, identity: &Identity) -> Result<(), Status> {
    let machine = &identity.machine;
    let mut labels = identity.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", &machine.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", &machine.architecture),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"podCIDR": identity.pod_cidrs.first(), "podCIDRs": identity.pod_cidrs, "taints": identity.taints},
    });
    let node = Node::deserialize(&node).map_err(|e| Status::internal(format!("making a Node: {e}")))?;
    match client.create(&NODES, &node).await {
        Err(error) if error.is(Reason::AlreadyExists) => {
            // Others may have labelled it meanwhile: only our own are set again.
            let patch = json!({"metadata": {"labels": labels}});
            client.merge(&NODES, ("", name, ""), patch).await.map(drop)
        }
        other => other.map(drop),
    }
}

fn status(identity: &Identity, addresses: &[IpAddr], room: Room, images: &[(Vec<String>, u64)]) -> Value {
    let machine = &identity.machine;
    let reserve = RESERVE.min(machine.memory / 2);
    let amounts = |memory: u64, disk: u64| {
        json!({"cpu": machine.cpus.to_string(), "memory": format!("{}Ki", memory >> 10), "ephemeral-storage": format!("{}Ki", disk >> 10),
            "pods": PODS.to_string()})
    };
    // Upstream's default limits: 100Mi of memory, 10 % of the disk; less memory where the machine is small.
    let memory_low = room.memory < (100 << 20).min(machine.memory / 20);
    let disk_low = room.disk > 0 && room.disk_free < room.disk / 10;
    let pressure = |kind: &str, low: bool, fine: &str, bad: &str, message: (&str, &str)| {
        json!({"type": kind, "status": if low { "True" } else { "False" }, "reason": if low { bad } else { fine },
            "message": if low { message.1 } else { message.0 }})
    };
    let ips = addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}));
    json!({
        "capacity": amounts(machine.memory, room.disk),
        "allocatable": amounts(machine.memory.saturating_sub(reserve), room.disk / 10 * 9),
        "addresses": ips.collect::<Vec<_>>(),
        "conditions": [
            pressure("MemoryPressure", memory_low, "KubeletHasSufficientMemory", "KubeletHasInsufficientMemory",
                ("kubelet has sufficient memory available", "kubelet has insufficient memory available")),
            pressure("DiskPressure", disk_low, "KubeletHasNoDiskPressure", "KubeletHasDiskPressure",
                ("kubelet has no disk pressure", "kubelet has disk pressure")),
            pressure("PIDPressure", false, "KubeletHasSufficientPID", "KubeletHasInsufficientPID",
                ("kubelet has sufficient PID available", "kubelet has insufficient PID available")),
            {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": identity.port}},
        "nodeInfo": {
            "machineID": machine.machine_id, "systemUUID": machine.system_uuid, "bootID": machine.boot_id,
            "kernelVersion": machine.kernel, "osImage": machine.os_image, "operatingSystem": "linux",
            "architecture": machine.architecture, "containerRuntimeVersion": concat!("kedge://", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": VERSION, "kubeProxyVersion": "",
        },
        "images": images.iter().map(|(names, size)| json!({"names": names, "sizeBytes": size})).collect::<Vec<_>>(),
    })
}

/// Whether the cluster has the node's conditions as they were told: who took the node for silent may have said otherwise since.
fn is_believed(snapshot: &Snapshot, node: &str, status: &Value) -> bool {
    let Some(Ok(node)) = snapshot.get(&Key::new(NODES, "", node)).map(|object| object.decode::<Value>()) else {
        return true;
    };
    let list = |of: &Value, path: &str| of.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    let there = list(&node, "/status/conditions");
    list(status, "/conditions").iter().all(|told| {
        let same = there.iter().find(|condition| condition.get("type") == told.get("type"));
        same.is_some_and(|same| same.get("status") == told.get("status"))
    })
}

/// Adds the times, which make no difference by themselves, and tells.
async fn tell(site: &Site, status: &Value, now: Timestamp) -> Result<(), Status> {
    let at = ("", site.node.as_str(), "");
    let before = site.client.verb(Verb::Get, &NODES, at, Options::default(), Default::default()).await?;
    let mut status = status.clone();
    let old = before.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(hostname) = status.pointer_mut("/addresses").and_then(Value::as_array_mut) {
        hostname.push(json!({"type": "Hostname", "address": site.node}));
    }
    if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        for condition in conditions.iter_mut() {
            stamp(condition, &old, now);
        }
        let foreign = old.iter().filter(|c| !conditions.iter().any(|n| n.get("type") == c.get("type")));
        let foreign: Vec<Value> = foreign.cloned().collect();
        conditions.extend(foreign);
    }
    site.client.merge(&NODES, ("", &site.node, "status"), json!({"status": status})).await.map(drop)
}

fn stamp(condition: &mut Value, old: &[Value], now: Timestamp) {
    let now = json!(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    let same =
        old.iter().find(|o| o.get("type") == condition.get("type") && o.get("status") == condition.get("status"));
    let since = same.and_then(|o| o.get("lastTransitionTime")).cloned().unwrap_or_else(|| now.clone());
    if let Some(fields) = condition.as_object_mut() {
        fields.insert("lastHeartbeatTime".into(), now);
        fields.insert("lastTransitionTime".into(), since);
    }
}

async fn renew(client: &dyn Client, node: &str, now: Timestamp) -> Result<(), Status> {
    let now = json!(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(now));
    let patch = json!({"spec": {"renewTime": now, "holderIdentity": node}});
    match client.merge(&LEASES, (LEASE_NAMESPACE, node, ""), patch).await {
        Err(error) if error.is(Reason::NotFound) => {
            let at = ("", node, "");
            let owner = client.verb(Verb::Get, &NODES, at, Options::default(), Default::default()).await?;
            let owner =
                json!([{"apiVersion": "v1", "kind": "Node", "name": node, "uid": owner.pointer("/metadata/uid")}]);
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": node, "namespace": LEASE_NAMESPACE, "ownerReferences": owner},
                "spec": {"holderIdentity": node, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now},
            });
            let at = (LEASE_NAMESPACE, "", "");
            client.verb(Verb::Create, &LEASES, at, Options::default(), lease.into()).await.map(drop)
        }
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use kedge_api::Informer as _;

    use super::*;

    #[test]
    fn a_small_machine_as_the_api_sees_it() {
        let machine = Machine { cpus: 2, memory: 256 << 20, os_image: "Kedge 0.1.0".into(), ..Machine::default() };
        let identity = Identity { machine, port: 10250, ..Identity::default() };
        let room = Room { memory: 100 << 20, disk: 1000 << 10, disk_free: 50 << 10 };
        let status = status(&identity, &["192.0.2.7".parse().unwrap()], room, &[]);
        assert_eq!(status["capacity"]["memory"], "262144Ki");
        assert_eq!(status["allocatable"]["memory"], "163840Ki");
        assert_eq!(status["allocatable"]["ephemeral-storage"], "900Ki");
        let shown = |i: usize| {
            format!(
                "{}={}",
                status["conditions"][i]["type"].as_str().unwrap(),
                status["conditions"][i]["status"].as_str().unwrap()
            )
        };
        assert_eq!(
            [0, 1, 2, 3].map(shown),
            ["MemoryPressure=False", "DiskPressure=True", "PIDPressure=False", "Ready=True"]
        );
        let mut node: Node = serde_json::from_value(json!({"metadata": {"name": "n"}, "status": status})).unwrap();
        assert_eq!(node.status.take().unwrap().addresses.unwrap()[0].address, "192.0.2.7");
    }

    #[test]
    fn what_others_say_of_the_node_is_seen() {
        let told =
            json!({"conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "False"}]});
        let api = crate::fake::Api::new();
        let believed = |ready: &str, disk: &str| {
            let conditions = json!([{"type": "Foreign", "status": "True"}, {"type": "DiskPressure", "status": disk},
                {"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]);
            api.put(&NODES, json!({"metadata": {"name": "n1"}, "status": {"conditions": conditions}}));
            is_believed(&api.snapshot(), "n1", &told)
        };
        assert!(believed("True", "False"));
        assert!(!believed("Unknown", "False") && !believed("True", "Unknown"));
        assert!(is_believed(&api.snapshot(), "another", &told));
        api.put(&NODES, json!({"metadata": {"name": "n1"}}));
        assert!(!is_believed(&api.snapshot(), "n1", &told));
    }

    #[test]
    fn transition_times_stay_while_nothing_changes() {
        let mut condition = json!({"type": "Ready", "status": "True"});
        let old = [json!({"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"})];
        stamp(&mut condition, &old, Timestamp::UNIX_EPOCH);
        assert_eq!(condition["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert_eq!(condition["lastHeartbeatTime"], "1970-01-01T00:00:00Z");
        let mut condition = json!({"type": "Ready", "status": "False"});
        stamp(&mut condition, &old, Timestamp::UNIX_EPOCH);
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:00Z");
    }
}
