//! What the cluster is told about itself and its machine; init makes it of the machine config.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use kedge_net::IpNet;
pub use kedge_registry::Rules;
use kedge_serve::audit::log::LogOptions;
pub use kedge_serve::document::Given;
pub use kedge_serve::server::Access;

#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name.
    pub node: String,
    /// What lasts: database, keys, pods' volumes and logs.
    pub state: PathBuf,
    /// What lasts until the next boot.
    pub run: PathBuf,
    /// A file in memory for what never goes to disk, so that it outlives this process; `None` where no memory is at hand.
    pub notes: Option<PathBuf>,
    /// Network and prefix length of service addresses.
    pub service_network: (Ipv4Addr, u8),
    /// Addresses of all pods, and of this node's.
    pub cluster_network: IpNet,
    pub pod_range: IpNet,
    pub cluster_dns: IpAddr,
    /// `cluster.local`
    pub domain: String,
    pub node_ports: RangeInclusive<u16>,
    pub api_port: u16,
    pub access: Access,
    /// Without it, nothing is noted of requests.
    pub audit: Option<AuditSettings>,
    pub encryption: Encryption,
    /// Rules of custom resources that are the machine's own.
    pub rules: Option<Arc<dyn Rules>>,
}

/// What lies encrypted in the database, and by which keys.
#[derive(Clone, Debug)]
pub enum Encryption {
    /// Nothing new. What an own key encrypted before is read, and written anew in the clear.
    Off,
    /// Secrets, by a key that the server makes.
    Own,
    /// What an `EncryptionConfiguration` says.
    Given(Given),
}

/// What is noted of requests, and where.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// The text of an `audit.k8s.io/v1` Policy, and what messages call it.
    pub policy: (String, String),
    pub log: Option<LogOptions>,
    /// The kubeconfig file of a webhook.
    pub webhook: Option<PathBuf>,
}

impl Settings {
    /// The address of the service `kubernetes`: the first of the service network.
    pub fn kubernetes_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_network.0).wrapping_add(1))
    }
}
