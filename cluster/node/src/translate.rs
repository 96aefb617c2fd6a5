//! The one place that turns a Pod into values of `runtime` and `net`. Pure: what has to be looked up comes in as values.
//!
//! ```text
//! Pod, Container ─▶ container ─┬─ env      envFrom, env, service variables, $(NAME)
//!                              ├─ security users, groups, capabilities
//!                              ├─ resources, qos   cgroups
//!                              └─ mounts   volumes, hosts, resolv.conf, termination message
//! Pod ─▶ attach  host ports
//! ```

pub mod container;
pub mod env;
pub mod expand;
pub mod fields;
pub mod files;
pub mod mounts;
pub mod qos;
pub mod resources;
pub mod security;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kedge_net::{AttachSpec, HostPort, Protocol};

/// Why a pod cannot be turned into containers. All show as `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{kind} {name:?} not found")]
    Missing { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {object}")]
    MissingKey { kind: &'static str, object: String, key: String },
    #[error("unsupported field reference {0:?}")]
    Field(String),
    #[error("{0}")]
    Object(String),
    #[error("{0} is not supported by this node yet")]
    Unsupported(&'static str),
    #[error("no command specified: neither the container nor its image names one")]
    NoCommand,
    #[error("{0}")]
    User(String),
    #[error("container has runAsNonRoot and image will run as root (container: {0})")]
    Root(String),
    #[error("volume {0:?} of a volumeMount is not a volume of the pod")]
    Volume(String),
    #[error("subPath {0:?} must be relative and must not contain '..'")]
    SubPath(String),
    #[error("host port {0} is not a port number")]
    Port(i32),
}

pub fn is_host_network(spec: &PodSpec) -> bool {
    spec.host_network == Some(true)
}

/// What the network is asked for. Sidecars may have host ports, too.
pub fn attach(pod: &Pod) -> Result<AttachSpec, Error> {
    let mut host_ports = Vec::new();
    for port in pod.spec.iter().flat_map(qos::containers).flat_map(|c| c.ports.iter().flatten()) {
        let Some(host_port) = port.host_port.filter(|p| *p != 0) else { continue };
        let number = |p: i32| u16::try_from(p).map_err(|_| Error::Port(p));
        host_ports.push(HostPort {
            proto: protocol(port.protocol.as_deref()),
            host_ip: port.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
            host_port: number(host_port)?,
            port: number(port.container_port)?,
        });
    }
    Ok(AttachSpec { id: pod.metadata.uid.clone().unwrap_or_default(), host_ports })
}

pub fn protocol(text: Option<&str>) -> Protocol {
    match text {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) | None => Protocol::Tcp,
    }
}

/// The name that the pod calls itself, and with its domain where it has one.
pub fn hostname(pod: &Pod, domain: &str) -> (String, String) {
    let spec = pod.spec.as_ref();
    let (name, namespace) = (pod.metadata.name.as_deref(), pod.metadata.namespace.as_deref());
    if let Some(fixed) = spec.and_then(|s| s.hostname_override.clone()) {
        return (fixed.clone(), fixed);
    }
    let short: String = match spec.and_then(|s| s.hostname.as_deref()).filter(|h| !h.is_empty()) {
        Some(hostname) => hostname.to_owned(),
        None => name.unwrap_or_default().chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned(),
    };
    match spec.and_then(|s| s.subdomain.as_deref()).filter(|d| !d.is_empty()) {
        Some(subdomain) => {
            let full = format!("{short}.{subdomain}.{}.svc.{domain}", namespace.unwrap_or_default());
            let kernel = if spec.and_then(|s| s.set_hostname_as_fqdn) == Some(true) { full.clone() } else { short };
            (kernel, full)
        }
        None => (short.clone(), short),
    }
}
