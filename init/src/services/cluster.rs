//! The cluster's services: what kedge_cluster offers, as rows of the service table.
//!
//! ```text
//! control-plane ─▶ api-server ─▶ kubeconfig          containers ─▶ cluster-dns
//!        ├─▶ controllers                                  └──────▶ node-agent
//!        └─▶ scheduler
//! ```

mod host;

use crate::console;
use crate::handout;
use crate::machine::Machine;
use crate::request::Request;
use crate::supervisor::{Handle, Service};
use anyhow::Context;
use host::MachineHost;
use kedge_cluster::{
    Access, AuditSettings, ControlPlane, Encryption, Given, IpNet, LogOptions, Node, NodeOptions, Settings,
};
use kedge_config::machine::{Audit, AuditLog, Document, Taint};
use kedge_config::names;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, watch};

/// Pods of one node: the prefix length of its part of the cluster's addresses.
const POD_PREFIX: u8 = 24;
/// The administrator's kubeconfig of a hosted server, below its data.
pub const ADMIN_KUBECONFIG: &str = "admin.kubeconfig";
/// Where requests are noted, below the state.
const AUDIT_LOG: &str = "audit/audit.log";
/// Containers have their own grace while the node agent stops.
const AGENT_STOP: Duration = Duration::from_secs(30);

/// What the services share. Opened by the first that runs; a service that fails and runs again finds it as it was.
struct Shared {
    machine: Arc<Machine>,
    plane: OnceCell<ControlPlane>,
    node: OnceCell<Node>,
    addresses: watch::Sender<Vec<IpAddr>>,
    nameservers: watch::Sender<Vec<SocketAddr>>,
    host: Arc<MachineHost>,
}

pub fn services(machine: &Arc<Machine>) -> Vec<Service> {
    let shared = Arc::new(Shared {
        machine: Arc::clone(machine),
        plane: OnceCell::new(),
        node: OnceCell::new(),
        addresses: watch::Sender::new(Vec::new()),
        nameservers: watch::Sender::new(Vec::new()),
        host: Arc::new(MachineHost::new(Arc::clone(machine))),
    });
    let mut table = vec![
        row(&shared, "control-plane", &[], control_plane),
        row(&shared, "api-server", &["control-plane"], api_server),
        row(&shared, "kubeconfig", &["api-server"], kubeconfig),
        row(&shared, "milestones", &["control-plane"], milestones),
    ];
    if !machine.hosted {
        table.push(row(&shared, "machine-config", &["api-server"], machine_config));
        table.push(row(&shared, "upgrades", &["api-server"], upgrades));
    }
    if machine.controllers {
        table.extend([
            row(&shared, "controllers", &["api-server"], controllers),
            row(&shared, "scheduler", &["api-server"], scheduler),
        ]);
    }
    if machine.agent {
        table.extend([
            row(&shared, "containers", &["modules"], containers),
            row(&shared, "cluster-dns", &["control-plane", "containers"], cluster_dns),
            row(&shared, "node-agent", &["control-plane", "containers"], node_agent).stop_limit(AGENT_STOP),
        ]);
    }
    table
}

fn row<F>(
    shared: &Arc<Shared>,
    name: &'static str,
    after: &'static [&'static str],
    run: fn(Arc<Shared>, Handle) -> F,
) -> Service
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let shared = Arc::clone(shared);
    Service::new(name, after, move |handle| run(Arc::clone(&shared), handle))
}

impl Shared {
    fn plane(&self) -> anyhow::Result<&ControlPlane> {
        self.plane.get().context("the control plane is not open")
    }

    fn node(&self) -> anyhow::Result<&Node> {
        self.node.get().context("containers are not open")
    }

    /// Tells the cluster the machine's addresses and name servers, now and whenever they change.
    fn tell_network(&self) {
        let network = self.machine.network.borrow().clone();
        let addresses: Vec<IpAddr> = network.addresses.iter().map(|(_, net)| net.address()).collect();
        let servers: Vec<SocketAddr> = network.nameservers.iter().map(|ip| SocketAddr::new(*ip, 53)).collect();
        self.addresses.send_if_modified(|now| std::mem::replace(now, addresses.clone()) != addresses);
        self.nameservers.send_if_modified(|now| std::mem::replace(now, servers.clone()) != servers);
    }
}

fn settings(machine: &Machine) -> anyhow::Result<Settings> {
    let cluster = &machine.config.cluster;
    let v4 = |what: &str, address: IpAddr| match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Err(anyhow::anyhow!("{what} {address} is not of IPv4, which is all there is yet")),
    };
    let (pods, services) = (cluster.cluster_cidr, cluster.service_cidr);
    let pod_network: Ipv4Addr = v4("clusterCIDR", pods.address())?;
    Ok(Settings {
        node: machine.hostname.clone(),
        state: machine.state.clone(),
        run: machine.run.clone(),
        notes: in_memory(&machine.run).then(|| machine.run.join("volatile")),
        service_network: (v4("serviceCIDR", services.address())?, services.prefix()),
        cluster_network: IpNet::new(pod_network.into(), pods.prefix())?,
        pod_range: IpNet::new(pod_network.into(), pods.prefix().max(POD_PREFIX))?,
        cluster_dns: cluster.cluster_dns,
        domain: cluster.cluster_domain.clone(),
        node_ports: cluster.node_ports.first..=cluster.node_ports.last,
        api_port: cluster.api_port,
        access: Access {
            authentication: given("cluster.authentication", cluster.authentication.as_ref()),
            authorization: given("cluster.authorization", cluster.authorization.as_ref()),
            token_webhook: given("cluster.tokenWebhook", cluster.token_webhook.as_ref()),
        },
        encryption: match given("cluster.encryption", cluster.encryption.as_ref()) {
            Some(given) => Encryption::Given(given),
            None if cluster.secrets_encryption => Encryption::Own,
            None => Encryption::Off,
        },
        rules: (!machine.hosted).then(|| Arc::new(super::config::Rules::of(machine)) as Arc<dyn kedge_cluster::Rules>),
        audit: cluster.audit.as_ref().map(|audit| audit_settings(audit, &machine.state)).transpose()?,
    })
}

/// Of tmpfs (statfs(2)).
const TMPFS: u32 = 0x0102_1994;

/// Whether what is written below `path`, which need not be there yet, touches no disk.
fn in_memory(path: &Path) -> bool {
    let found = path.ancestors().find_map(|above| rustix::fs::statfs(above).ok());
    found.is_some_and(|found| found.f_type as u32 == TMPFS)
}

/// A document as the cluster reads it; the name is for one that stands in the machine config.
fn given(name: &str, document: Option<&Document>) -> Option<Given> {
    let Document { content, path } = document?;
    match (content, path) {
        (Some(text), _) => Some(Given::Text { name: name.to_owned(), text: text.clone() }),
        (None, path) => path.clone().map(Given::File),
    }
}

fn audit_settings(audit: &Audit, state: &Path) -> anyhow::Result<AuditSettings> {
    let policy = match (&audit.policy, &audit.policy_file) {
        (Some(text), None) => ("of cluster.audit".to_owned(), text.clone()),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            (path.display().to_string(), text)
        }
        _ => anyhow::bail!("cluster.audit needs either a policy or a policyFile"),
    };
    let log = audit.log.clone().or_else(|| audit.webhook_config_file.is_none().then(AuditLog::default));
    let log = log.map(|log| LogOptions {
        path: log.path.unwrap_or_else(|| state.join(AUDIT_LOG)),
        max_megabytes: log.max_size,
        max_backups: log.max_backups,
        max_days: log.max_age,
    });
    Ok(AuditSettings { policy, log, webhook: audit.webhook_config_file.clone() })
}

/// Runs `work` until it ends or the service is to stop.
async fn until_stopped(handle: &Handle, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::select! {
        () = handle.stopped() => Ok(()),
        ended = work => ended,
    }
}

async fn control_plane(shared: Arc<Shared>, handle: Handle) -> anyhow::Result<()> {
    // Before the first look: an address that comes while the control plane opens is a change.
    let mut network = shared.machine.network.subscribe();
    shared.tell_network();
    let open = async {
        let settings = settings(&shared.machine)?;
        let addresses = shared.addresses.borrow().clone();
        Ok::<_, anyhow::Error>(ControlPlane::open(settings, addresses, handle.token()).await?)
    };
    let plane = shared.plane.get_or_try_init(|| open).await?;
    if let Some(damage) = plane.damage().filter(|_| !shared.machine.hosted) {
        console::say(&format!("\nkedge: {damage}\n"));
    }
    // Before the agent starts, so that its first word is heard.
    let node = plane.follow_node(&shared.machine.node_ready);
    handle.ready();
    let follow = async {
        while network.changed().await.is_ok() {
            shared.tell_network();
        }
        Ok(())
    };
    until_stopped(&handle, async {
        tokio::select! {
            ended = follow => ended,
            () = node => Ok(()),
            ended = plane.follow_addresses(shared.addresses.subscribe()) => ended.map_err(Into::into),
        }
    })
    .await
}

async fn api_server(shared: Arc<Shared>, handle: Handle) -> anyhow::Result<()> {
    let ready = || {
        shared.host.reached("api");
        handle.ready();
    };
    Ok(shared.plane()?.serve(handle.token(), ready).await?)
}

async fn controllers(shared: Arc<Shared>, handle: Handle) -> anyhow::Result<()> {
    handle.ready();
    let plane = shared.plane()?;
    until_stopped(&handle, async {
        plane.controllers().await;
        Ok(())
    })
    .await
}

async fn scheduler(shared: Arc<Shared>, handle: Handle) -> anyhow::Result<()> {
    handle.ready();
    let plane = shared.plane()?;
    until_stopped(&handle, async {
        plane.scheduler().await;
        Ok(())
    })
    .await
}

/// Holds containers and network open; before this process is replaced, what was read of them is written down.
async fn containers(shared: Arc<Shared>, handle: Handle) -> anyhow::Result<()> {
    let machine = &shared.machine;
    let open = async {
        let images = Path::new(names::IMAGES_DIR);
        let reaper = machine.reaper.clone();
        Ok::<_, anyhow::Error>(Node::open(settings(machine)?, images, reaper, machine.origin.is_successor()).await?)
    };
    let node = shared.node.get_or_try_init(|| open).await?;
    handle.ready();
    handle.stopped().await;
    if machine.ending.get() == Some(&Request::Reexec) {
        node.suspend().await;
    }
    Ok(())
}

async fn cluster_dns(shared: Arc<Shared>, handle: Handle) -> anyhow::Result<()> {
    let (plane, node) = (shared.plane()?, shared.node()?);
    let serve = node.dns(plane, shared.nameservers.subscribe(), || handle.ready());
    until_stopped(&handle, async { Ok(serve.await?) }).await
}

async fn node_agent(shared: Arc<Shared>, handle: Handle) -> anyhow::Result<()> {
    let (plane, node, machine) = (shared.plane()?, shared.node()?, &shared.machine);
    let config = &machine.config.node;
    let options = NodeOptions {
        addresses: shared.addresses.subscribe(),
        labels: config.labels.clone(),
        taints: config.taints.iter().map(taint).collect(),
        os_image: format!("Kedge {}", kedge_config::VERSION),
        machine_id: machine.hostname.clone(),
        host: shared.host.clone(),
    };
    handle.ready();
    until_stopped(&handle, async { Ok(node.agent(plane, options).await?) }).await
}

fn taint(taint: &Taint) -> kedge_cluster::Taint {
    kedge_cluster::Taint {
        key: taint.key.clone(),
        value: (!taint.value.is_empty()).then(|| taint.value.clone()),
        effect: taint.effect.as_str().to_owned(),
        time_added: None,
    }
}

/// Hands the administrator's kubeconfig out: hosted, as a file beside the data; else to the host of a virtual machine.
async fn kubeconfig(shared: Arc<Shared>, handle: Handle) -> anyhow::Result<()> {
    let (machine, plane) = (&shared.machine, shared.plane()?);
    let server = format!("https://127.0.0.1:{}", machine.config.cluster.api_port);
    if machine.hosted {
        plane.write_admin_kubeconfig(&machine.state.join(ADMIN_KUBECONFIG), &server)?;
        handle.ready();
    } else {
        let text = plane.admin_kubeconfig(&server)?;
        handle.ready();
        // In a thread of its own: a host that does not read holds up nobody.
        tokio::task::spawn_blocking(move || handout::write(names::KUBECONFIG_PORT, &text)).await??;
    }
    handle.stopped().await;
    Ok(())
}

/// The machine config as an object.
async fn machine_config(shared: Arc<Shared>, handle: Handle) -> anyhow::Result<()> {
    let (machine, plane) = (&shared.machine, shared.plane()?);
    let client = plane.client("system:apiserver", &["system:masters"]);
    let informer = plane.informer();
    handle.ready();
    until_stopped(&handle, super::config::run(machine, &*client, &*informer)).await
}

/// Upgrades of this machine, as its object asks for them.
async fn upgrades(shared: Arc<Shared>, handle: Handle) -> anyhow::Result<()> {
    let (machine, plane) = (&shared.machine, shared.plane()?);
    let client = plane.client("system:apiserver", &["system:masters"]);
    let informer = machine.informer.get_or_init(|| plane.informer());
    handle.ready();
    until_stopped(&handle, crate::upgrade::run(machine, &*client, &**informer)).await
}

/// Notes when the node was first Ready and the first pod first ran, for `/metrics`.
async fn milestones(shared: Arc<Shared>, handle: Handle) -> anyhow::Result<()> {
    handle.ready();
    let plane = shared.plane()?;
    until_stopped(&handle, async {
        plane.node_ready().await;
        shared.host.reached("ready");
        plane.pod_running().await;
        shared.host.reached("pod");
        std::future::pending().await
    })
    .await
}
