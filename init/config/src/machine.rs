//! Machine config: what this device should be. `kedge.yaml`, from several sources laid over each other.

use crate::cidr::Cidr;
use crate::document::{self, ConfigError};
use crate::source::{self, Source};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

mod check;
mod labels;

/// A whole machine config. Every field has a default: an empty document is a server that asks DHCP for an address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MachineConfig {
    /// Also the node's name. Without it init makes one up from the machine's hardware address, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    pub role: Role,
    /// The server an agent joins, such as `https://192.168.1.10:6443`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The secret an agent joins with. Logs never show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    pub network: Network,
    pub cluster: Cluster,
    pub node: Node,
    /// `/proc/sys` entries, by their dotted names.
    pub sysctls: BTreeMap<String, String>,
    /// Objects that are applied when the API answers: YAML documents, in order.
    pub manifests: Vec<Manifest>,
    pub time: Time,
    pub logs: Logs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Control plane and node agent.
    #[default]
    Server,
    /// Node agent only.
    Agent,
}

/// A text that is not shown in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Secret(…)")
    }
}

/// How the device reaches its network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Network {
    /// Whether interfaces that `interfaces` does not name ask DHCP for an address.
    pub dhcp: bool,
    pub interfaces: Vec<Interface>,
    /// Before those that DHCP tells.
    pub nameservers: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wifi: Option<Wifi>,
}

/// A wireless network to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wifi {
    pub ssid: String,
    /// WPA2's or WPA3's; none for an open network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<Secret>,
    /// ISO 3166-1, such as `CH`: which channels may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

impl Default for Network {
    fn default() -> Self {
        Self { dhcp: true, interfaces: Vec::new(), nameservers: Vec::new(), wifi: None }
    }
}

/// One interface with its own rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    /// The kernel's name, such as `eth0`.
    pub name: String,
    #[serde(default)]
    pub dhcp: bool,
    #[serde(default)]
    pub addresses: Vec<Cidr>,
    /// The default route's next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// What all nodes of a cluster have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cluster {
    /// Pods' addresses; each node has a /24 of it.
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: Cidr,
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: Cidr,
    /// The address of the cluster's DNS service; of `serviceCIDR`.
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    /// Ports that NodePort services are given.
    pub node_ports: PortRange,
    pub api_port: u16,
    /// Further names and addresses that the API's certificate is valid for.
    #[serde(rename = "tlsSANs")]
    pub tls_sans: Vec<String>,
    /// Whose tokens are believed: an `AuthenticationConfiguration` of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Document>,
    /// Who is asked what users may do: an `AuthorizationConfiguration` of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Document>,
    /// The way to a server that knows tokens: a kubeconfig.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_webhook: Option<Document>,
    /// What the API server notes of requests; without it, nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<Audit>,
    /// Whether Secrets lie encrypted, by a key that the server makes.
    pub secrets_encryption: bool,
    /// What lies encrypted, and by which keys: an `EncryptionConfiguration` of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Document>,
}

/// Another document, in this one or in a file. A file is read again when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// Either this or `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            cluster_cidr: Cidr::v4_16(10, 42),
            service_cidr: Cidr::v4_16(10, 43),
            cluster_dns: IpAddr::from([10, 43, 0, 10]),
            cluster_domain: "cluster.local".into(),
            node_ports: PortRange { first: 30000, last: 32767 },
            api_port: 6443,
            tls_sans: Vec::new(),
            authentication: None,
            authorization: None,
            token_webhook: None,
            audit: None,
            secrets_encryption: false,
            encryption: None,
        }
    }
}

/// The audit log of the API server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Audit {
    /// An `audit.k8s.io/v1` Policy, as text. Either this or `policyFile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A file that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_file: Option<PathBuf>,
    /// Where events are written; without it and without a webhook, to `audit/audit.log` of the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<AuditLog>,
    /// The kubeconfig file of a webhook that events are sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_config_file: Option<PathBuf>,
}

/// A file of events that is set aside when it has grown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuditLog {
    /// Without it, `audit/audit.log` of the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Megabytes of one file.
    pub max_size: u64,
    /// Files that were set aside and are kept; 0: all.
    pub max_backups: u64,
    /// Days that they are kept; 0: for ever.
    pub max_age: u64,
}

impl Default for AuditLog {
    /// Kept small: it may be a card.
    fn default() -> Self {
        Self { path: None, max_size: 16, max_backups: 4, max_age: 30 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

/// What is told about this node to the cluster, and how many pods it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Node {
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub max_pods: u32,
    /// Kept back from pods, as Kubernetes quantities.
    pub reserved: BTreeMap<String, String>,
}

impl Default for Node {
    fn default() -> Self {
        Self { labels: BTreeMap::new(), taints: Vec::new(), max_pods: 110, reserved: BTreeMap::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Taint {
    pub key: String,
    #[serde(default)]
    pub value: String,
    pub effect: TaintEffect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl TaintEffect {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// What messages call it.
    pub name: String,
    /// One or more YAML documents. Either this or `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// A file, or a folder of files, of the system image or of STATE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Time {
    /// SNTP servers. Empty: those that DHCP tells.
    pub servers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Logs {
    pub level: Level,
}

impl Default for Logs {
    fn default() -> Self {
        Self { level: Level::Info }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl MachineConfig {
    /// Reads and checks one whole document. `file` is only for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let config: Self = if text.trim().is_empty() { Self::default() } else { document::parse(file, text)? };
        config.check(file, text)
    }

    /// Lays documents over each other, lowest first, then checks the whole. Mappings merge key by key, lists are replaced.
    pub fn merge(sources: &[Source]) -> Result<Self, ConfigError> {
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        let config = source::merge(sources)?;
        // A mistake of the whole belongs to no single document; if there is one only, its line can be told.
        match sources {
            [one] => config.check(&one.name, &one.text),
            _ => config.check(&names.join(" + "), ""),
        }
    }
}
