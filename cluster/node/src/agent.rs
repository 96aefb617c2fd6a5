//! The agent as one future: pods, services, the node object, and the server, for as long as it is polled.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Taint;
use kedge_api::event::Recorder;
use kedge_api::resource::known::{CONFIG_MAPS, ENDPOINT_SLICES, PODS, SECRETS, SERVICES};
use kedge_api::{Change, Client, GroupResource, Informer};
use kedge_net::Network;
use kedge_runtime::{Resources, Runtime};
use std::collections::BTreeMap;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::converge;
use crate::ground::{Ground, GroundError};
use crate::host::Host;
use crate::machine::Machine;
use crate::node::{self, Identity};
use crate::pods::Pods;
use crate::serve::{self, Server, Tls};
use crate::site::Site;
use crate::translate::qos::Class;

const WATCHED: [GroupResource; 5] = [PODS, CONFIG_MAPS, SECRETS, SERVICES, ENDPOINT_SLICES];

/// What the agent is told to be.
pub struct AgentOptions {
    pub node_name: String,
    /// The node's own addresses, the first one first; they may change.
    pub addresses: watch::Receiver<Vec<IpAddr>>,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub pod_cidrs: Vec<String>,
    /// `/var/lib/kedge`
    pub state_dir: PathBuf,
    /// `/run/kedge`
    pub run_dir: PathBuf,
    /// Where the kubelet's API is served.
    pub listen: SocketAddr,
    pub tls: Tls,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    pub machine: Machine,
    pub host: Arc<dyn Host>,
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("cgroups of pods cannot be made: {0}")]
    Cgroup(#[from] GroundError),
    #[error("part of the agent ended: {0}")]
    Part(tokio::task::JoinError),
    #[error(transparent)]
    Serve(#[from] serve::Error),
}

pub struct Agent {
    site: Arc<Site>,
    listen: SocketAddr,
    tls: Tls,
    identity: Identity,
}

impl Agent {
    pub fn new(
        options: AgentOptions,
        client: Arc<dyn Client>,
        informer: Arc<dyn Informer>,
        runtime: Arc<dyn Runtime>,
        network: Arc<dyn Network>,
        ground: Arc<dyn Ground>,
    ) -> Self {
        let (listen, tls) = (options.listen, options.tls);
        let identity = Identity {
            labels: options.labels,
            taints: options.taints,
            pod_cidrs: options.pod_cidrs,
            machine: options.machine.clone(),
            port: listen.port(),
        };
        let recorder = Recorder::new(client.clone(), "kubelet", &options.node_name);
        let site = Site {
            node: options.node_name,
            state_dir: options.state_dir,
            run_dir: options.run_dir,
            cluster_dns: options.cluster_dns,
            domain: options.cluster_domain,
            cpus: options.machine.cpus,
            memory: options.machine.memory,
            addresses: options.addresses,
            client,
            informer,
            runtime,
            network,
            ground,
            host: options.host,
            recorder,
        };
        Self { site: Arc::new(site), listen, tls, identity }
    }

    /// Ends only by an error. Dropping the future stops everything of the agent, and no container.
    pub async fn run(mut self) -> Result<(), AgentError> {
        let server = Server::bind(self.listen, &self.tls, self.site.clone()).await?;
        // Port 0 means any.
        self.identity.port = server.address().map_or(self.identity.port, |a| a.port());
        for class in [Class::Guaranteed, Class::Burstable, Class::BestEffort] {
            self.site.ground.cgroup(class.cgroup(), &Resources::default()).await?;
        }
        let services = Arc::new(Notify::new());
        let mut parts = JoinSet::new();
        parts.spawn(node::run(self.site.clone(), self.identity));
        parts.spawn(server.run());
        parts.spawn(converge::run(self.site.clone(), services.clone()));
        tokio::select! {
            ended = parts.join_next() => match ended {
                Some(Err(error)) => Err(AgentError::Part(error)),
                Some(Ok(())) | None => Ok(()),
            },
            () = pods(self.site, &services) => Ok(()),
        }
    }
}

/// Hands what happens, in the API and in the runtime, to the pods' workers.
async fn pods(site: Arc<Site>, services: &Notify) {
    let mut pods = Pods::new(site.clone());
    // Before the containers are listed: no end falls between.
    let mut events = site.runtime.subscribe();
    loop {
        let (snapshot, mut changes) = site.informer.subscribe(&WATCHED);
        pods.reconcile(&snapshot).await;
        drop(snapshot);
        services.notify_one();
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(change) => handle(&mut pods, change, services).await,
                    None => break,
                },
                event = events.recv() => match event {
                    Ok(event) => pods.heard(event).await,
                    Err(RecvError::Lagged(_)) => pods.relisten().await,
                    Err(RecvError::Closed) => return,
                },
                () = pods.ended(|| site.informer.snapshot()) => {}
            }
        }
        tracing::info!("informer's changes were interrupted; looking at everything again");
    }
}

async fn handle(pods: &mut Pods, change: Change, services: &Notify) {
    let resource = &change.key.resource;
    if *resource == PODS {
        match (&change.after, &change.before) {
            (Some(pod), before) => {
                // Deleted and made again between two looks.
                if let Some(before) = before.as_ref().filter(|b| b.uid() != pod.uid()) {
                    pods.deleted(before);
                }
                pods.upsert(pod, None);
            }
            (None, Some(before)) => pods.deleted(before),
            (None, None) => {}
        }
    } else if *resource == CONFIG_MAPS || *resource == SECRETS {
        pods.changed(&change.key).await;
    } else {
        services.notify_one();
    }
}

#[cfg(test)]
mod tests;
