//! A pod as the scheduler sees it: decoded once, with what it asks for summed up.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, PodAffinityTerm, PodSpec};
use kedge_api::placement::{Amounts, pod_requests};
use kedge_api::{Object, Status};
use serde::Deserialize;

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub protocol: String,
    /// Empty and `0.0.0.0` take the port on all addresses.
    pub address: String,
    pub port: i32,
}

impl HostPort {
    pub fn clashes(&self, other: &Self) -> bool {
        let any = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || any(&self.address) || any(&other.address))
    }
}

#[derive(Clone, Debug)]
pub struct PodInfo {
    pub object: Arc<Object>,
    pub spec: PodSpec,
    pub requests: Amounts,
    pub ports: Vec<HostPort>,
}

#[derive(Deserialize)]
struct Slim {
    #[serde(default)]
    spec: SlimSpec,
    #[serde(default)]
    status: SlimStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimSpec {
    node_name: Option<String>,
    scheduler_name: Option<String>,
    #[serde(default)]
    scheduling_gates: Vec<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct SlimStatus {
    phase: Option<String>,
}

/// Where a pod stands with the scheduler; read without decoding the rest of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Waits for a node, and is ours to place.
    Waiting,
    /// On this node, and still takes room there.
    Placed(String),
    /// Finished, gated, going away without a node, or another scheduler's.
    Nothing,
}

impl Standing {
    pub fn of(object: &Object, scheduler: &str) -> Result<Self, Status> {
        let slim: Slim = object.decode()?;
        let finished = matches!(slim.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let node = slim.spec.node_name.filter(|name| !name.is_empty());
        let ours = slim.spec.scheduler_name.as_deref().unwrap_or("default-scheduler") == scheduler;
        Ok(match node {
            _ if finished => Self::Nothing,
            Some(node) => Self::Placed(node),
            None if ours && slim.spec.scheduling_gates.is_empty() && !object.is_deleting() => Self::Waiting,
            None => Self::Nothing,
        })
    }
}

impl PodInfo {
    pub fn read(object: &Arc<Object>) -> Result<Self, Status> {
        #[derive(Deserialize)]
        struct Spec {
            spec: PodSpec,
        }
        let Spec { spec } = object.decode()?;
        Ok(Self { object: object.clone(), requests: pod_requests(&spec), ports: host_ports(&spec), spec })
    }

    pub fn uid(&self) -> &str {
        self.object.uid()
    }

    pub fn namespace(&self) -> &str {
        &self.object.key.namespace
    }

    pub fn priority(&self) -> i32 {
        self.spec.priority.unwrap_or(0)
    }

    pub fn affinity_terms(&self) -> &[PodAffinityTerm] {
        let affinity = self.spec.affinity.as_ref().and_then(|a| a.pod_affinity.as_ref());
        affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
    }

    pub fn anti_affinity_terms(&self) -> &[PodAffinityTerm] {
        let affinity = self.spec.affinity.as_ref().and_then(|a| a.pod_anti_affinity.as_ref());
        affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(sidecar));
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            Some(HostPort {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                address: port.host_ip.clone().unwrap_or_default(),
                port: port.host_port.filter(|p| *p > 0)?,
            })
        })
        .collect()
}
