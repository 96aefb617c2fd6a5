//! The node's side of this machine: containers, network, cluster DNS and the agent over them.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;
use kedge_net::attach::{BridgeNetwork, Config as BridgeConfig};
use kedge_net::link::Links;
use kedge_net::{IpNet, dns};
use kedge_node::dns::ClusterZone;
use kedge_node::ground::Linux;
use kedge_node::machine::Machine;
use kedge_node::{Agent, AgentError, AgentOptions, Host, Tls};
use kedge_runtime::cgroup::Cgroups;
use kedge_runtime::engine::{Config as RuntimeConfig, Containers};
use kedge_runtime::images::Store as Images;
use kedge_runtime::reaper::Reaper;
use kedge_runtime::sandbox::Sandboxes;
use kedge_serve::pki::{Profile, Signer};
use std::collections::BTreeMap;
use tokio::sync::watch;

use crate::{ControlPlane, Settings};

/// The kubelet's port.
const PORT: u16 = 10250;
const BRIDGE: &str = "kedge0";

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("containers: {0}")]
    Runtime(#[from] kedge_runtime::Error),
    #[error("the pod network: {0}")]
    Network(#[from] kedge_net::Error),
    #[error("an address range of the pod network: {0}")]
    Range(#[from] kedge_net::address::ParseError),
    #[error("namespaces of pods: {0}")]
    Sandboxes(std::io::Error),
    #[error("container images: {0}")]
    Images(#[from] kedge_runtime::images::Error),
    #[error("the address of cluster DNS: {0}")]
    Link(#[from] kedge_net::link::Error),
    #[error("cluster DNS: {0}")]
    Dns(#[from] dns::Error),
    #[error("the node's certificate: {0}")]
    Pki(#[from] kedge_serve::pki::PkiError),
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// What a node is, beside the cluster's settings.
pub struct NodeOptions {
    pub addresses: watch::Receiver<Vec<IpAddr>>,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// e.g. `Kedge 0.1.0`
    pub os_image: String,
    pub machine_id: String,
    pub host: Arc<dyn Host>,
}

/// Containers, network and images of this machine. One for each life of the process.
pub struct Node {
    settings: Settings,
    runtime: Arc<Containers>,
    network: Arc<BridgeNetwork>,
    ground: Arc<Linux>,
}

impl Node {
    /// Finds what a predecessor left running and goes on with it. `images` is where the system's own images lie.
    pub async fn open(settings: Settings, images: &Path, reaper: Reaper, successor: bool) -> Result<Self, NodeError> {
        let runtime = RuntimeConfig {
            root: settings.run.join("containers"),
            writable: settings.state.join("containers"),
            ..RuntimeConfig::device(successor)
        };
        let network = BridgeConfig {
            bridge: BRIDGE.to_owned(),
            range: settings.pod_range,
            cluster: settings.cluster_network,
            services: IpNet::new(settings.service_network.0.into(), settings.service_network.1)?,
            mtu: None,
            state: settings.run.join("net"),
        };
        let (runtime, network) =
            tokio::try_join!(async { Containers::open(runtime, reaper).await.map_err(NodeError::from) }, async {
                BridgeNetwork::open(network).await.map_err(NodeError::from)
            },)?;
        let sandboxes = Sandboxes::open(&settings.run.join("ns")).map_err(NodeError::Sandboxes)?;
        let images = Images::open(images, &settings.state.join("images"))?;
        let ground = Arc::new(Linux::new(sandboxes, Cgroups::detect(), images));
        Ok(Self { settings, runtime: Arc::new(runtime), network: Arc::new(network), ground })
    }

    /// Answers the cluster's names until it fails.
    pub async fn dns(
        &self,
        plane: &ControlPlane,
        nameservers: watch::Receiver<Vec<SocketAddr>>,
        ready: impl FnOnce(),
    ) -> Result<(), NodeError> {
        let address = self.settings.cluster_dns;
        Links::open()?.ensure_local_address(address).await?;
        let networks = vec![
            self.settings.cluster_network,
            IpNet::new(self.settings.service_network.0.into(), self.settings.service_network.1)?,
        ];
        let zone = ClusterZone::new(plane.informer(), &self.settings.domain, networks);
        let server = dns::Server::bind(&[SocketAddr::new(address, 53)], zone, nameservers).await?;
        ready();
        Ok(server.run().await?)
    }

    /// Runs pods until it fails. Dropping the future stops the agent and no container.
    pub async fn agent(&self, plane: &ControlPlane, options: NodeOptions) -> Result<(), NodeError> {
        let name = self.settings.node.clone();
        let client = plane.client(&format!("system:node:{name}"), &["system:nodes"]);
        let options = AgentOptions {
            node_name: name,
            addresses: options.addresses,
            labels: options.labels,
            taints: options.taints,
            pod_cidrs: vec![self.settings.pod_range.to_string()],
            state_dir: self.settings.state.clone(),
            run_dir: self.settings.run.clone(),
            listen: SocketAddr::from(([0, 0, 0, 0], PORT)),
            tls: Tls {
                identity: plane.pki.resolver(&Profile::KubeletServing)?,
                client_ca: vec![plane.pki.authority(Signer::Client).clone()],
            },
            cluster_dns: vec![self.settings.cluster_dns],
            cluster_domain: self.settings.domain.clone(),
            machine: Machine::read(&options.os_image, &options.machine_id),
            host: options.host,
        };
        let agent = Agent::new(
            options,
            client,
            plane.informer(),
            self.runtime.clone(),
            self.network.clone(),
            self.ground.clone(),
        );
        Ok(agent.run().await?)
    }

    /// Leaves containers running and everything that was read of them written down, for a successor of this process.
    pub async fn suspend(&self) {
        self.runtime.suspend().await;
    }
}
