//! Namespaces on a bridge: the implementation of [`Network`].
//!
//! An attached namespace has one address, alone on its cable (`/32`), and reaches everything through the bridge's own
//! address. So all its packets, also those to its neighbours, pass the node's routing: service translation and filters
//! see both directions of every connection without `br_netfilter`, and a packet to itself through a service comes back
//! without the bridge port's hairpin mode.
//!
//! What is attached stands in files below the state directory (a tmpfs: it ends with the boot, as the links do) and is
//! found again after a re-exec. The nftables table is then left as it is until the first service table comes, and
//! replaced by it in one transaction, so that no connection is missed in between.

mod record;
mod wiring;

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::link::{Links, Route, RouteScope, sysctl};
use crate::nft::{self, Attached, Plan, Ranges, State};
use crate::{AttachSpec, Attachment, Error, IpNet, Mac, Network, ServiceTable, ipam};
use record::{Record, Records};

/// Names and ranges of one node's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub bridge: String,
    /// Addresses for this node's attachments; the first one is the bridge's.
    pub range: IpNet,
    /// Addresses of all nodes' attachments.
    pub cluster: IpNet,
    /// Virtual addresses of services.
    pub services: IpNet,
    /// The kernel's own (1500) when absent.
    pub mtu: Option<u32>,
    /// Where attachments are remembered.
    pub state: PathBuf,
}

/// A bridge with what hangs on it, and the node's service rules.
#[derive(Debug)]
pub struct BridgeNetwork {
    config: Config,
    ranges: Ranges,
    gateway: IpAddr,
    links: Links,
    /// Orders attach, detach and converge, so that files, links and the table's state agree.
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    pool: ipam::Pool,
    records: Records,
    socket: nft::Socket,
    state: State,
    /// Whether the kernel's table is what `state` says; else the next converge replaces it.
    known: bool,
}

impl BridgeNetwork {
    /// Sets up the bridge and forwarding in the calling thread's network namespace and finds what is attached.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let pool = ipam::Pool::open(&config.state.join("addresses"), config.range)?;
        let gateway = pool.gateway().ok_or(ipam::Error::TooSmall { range: config.range })?;
        let links = Links::open()?;
        sysctl::enable_ipv4_forwarding()?;
        sysctl::disable_bridge_filters()?;
        let mac = Mac::of(gateway);
        links.ensure_bridge(&config.bridge, mac, config.mtu).await?;
        // Neighbours reach each other through this node: that is meant so, and redirects would be ignored anyway.
        for interface in ["all", &config.bridge] {
            sysctl::interface_ipv4(interface, "send_redirects", "0")?;
        }
        links.add_address(&config.bridge, IpNet::new(gateway, config.range.prefix())?).await?;
        // Services are reached without a default route too; the node's own connections to them come from the bridge's
        // address. Their packets never get onto the bridge: they are translated or refused before.
        let mut services = Route::on_link(config.services, &config.bridge);
        services.source = Some(gateway);
        services.scope = RouteScope::Link;
        links.add_route(&services).await?;

        let records = Records::open(config.state.join("attachments"))?;
        let mut state = State::default();
        for record in records.all() {
            let plan = state.attach(&record.id, record.attached());
            state.apply(plan);
        }
        let ranges = Ranges {
            local: vec![config.range],
            cluster: vec![config.cluster],
            services: vec![config.services],
            bridge: config.bridge.clone(),
        };
        let mut socket = nft::Socket::open()?;
        let known = !socket.has_table()?;
        if known {
            socket.commit(&state.replacement(&ranges))?;
        }
        let inner = Arc::new(Mutex::new(Inner { pool, records, socket, state, known }));
        Ok(Self { config, ranges, gateway, links, inner })
    }

    /// The bridge's address: the gateway of everything attached.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Everything attached, by id: what nobody wants any more should be detached.
    pub async fn attachments(&self) -> Vec<(String, Attachment)> {
        let inner = self.inner.lock().await;
        inner.records.all().map(|record| (record.id.clone(), record.attachment.clone())).collect()
    }

    /// Commits on a thread that may block: a whole table of thousands of services takes its time.
    async fn commit(&self, mut inner: OwnedMutexGuard<Inner>, plan: Plan) -> Result<(), Error> {
        let ranges = self.ranges.clone();
        let work = move || inner.commit(plan, &ranges);
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::Interrupted(error.to_string()))?
    }

    async fn wire(&self, netns: BorrowedFd<'_>, id: &str, address: IpAddr) -> Result<(), Error> {
        wiring::connect(
            &self.links,
            netns,
            &wiring::Wire {
                name: &wiring::interface_of(id),
                bridge: &self.config.bridge,
                mtu: self.config.mtu,
                address,
                mac: Mac::of(address),
                gateway: self.gateway,
            },
        )
        .await?;
        Ok(())
    }

    /// Takes down what a failed attach has put up, so that the next one begins anew. What was attached before stays.
    async fn undo(&self, inner: &mut Inner, id: &str) {
        if inner.records.get(id).is_some() {
            return;
        }
        if let Err(error) = self.links.delete(&wiring::interface_of(id)).await {
            tracing::warn!(%id, %error, "the veth of a failed attachment stays");
        }
        if let Err(error) = inner.pool.release(id) {
            tracing::warn!(%id, %error, "the address of a failed attachment stays taken");
        }
    }
}

impl Inner {
    /// Brings the kernel to where the plan leads, from wherever it is.
    fn commit(&mut self, plan: Plan, ranges: &Ranges) -> Result<(), Error> {
        if self.known {
            match self.socket.carry_out(&plan) {
                Ok(()) => {
                    self.state.apply(plan);
                    return Ok(());
                }
                Err(error @ nft::Error::Refused { .. }) => {
                    tracing::warn!(%error, "the table is not what it should be: replacing it");
                    self.known = false;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let stale = plan.stale.clone();
        self.state.apply(plan);
        self.socket.commit(&self.state.replacement(ranges))?;
        self.known = true;
        self.socket.forget(&stale);
        Ok(())
    }
}

#[async_trait]
impl Network for BridgeNetwork {
    async fn attach(&self, netns: BorrowedFd<'_>, spec: AttachSpec) -> Result<Attachment, Error> {
        record::check_id(&spec.id)?;
        let mut inner = self.inner.clone().lock_owned().await;
        let address = inner.pool.allocate(&spec.id)?;
        let attached = Attached { addresses: vec![address], host_ports: spec.host_ports.clone() };
        if let Some((other, port)) = inner.state.conflict(&spec.id, &attached) {
            let error = Error::HostPortInUse { port, by: other.to_owned() };
            self.undo(&mut inner, &spec.id).await;
            return Err(error);
        }
        if let Err(error) = self.wire(netns, &spec.id, address).await {
            self.undo(&mut inner, &spec.id).await;
            return Err(error);
        }
        let attachment =
            Attachment { addresses: vec![IpNet::new(address, self.config.range.prefix())?], mac: Mac::of(address) };
        let id = spec.id.clone();
        let record = Record { id: spec.id, host_ports: spec.host_ports, attachment: attachment.clone() };
        inner.records.insert(record)?;
        let plan = inner.state.attach(&id, attached);
        if inner.known {
            self.commit(inner, plan).await?;
        } else {
            inner.state.apply(plan);
        }
        Ok(attachment)
    }

    async fn detach(&self, id: &str) -> Result<(), Error> {
        record::check_id(id)?;
        self.links.delete(&wiring::interface_of(id)).await?;
        let mut inner = self.inner.clone().lock_owned().await;
        inner.records.remove(id)?;
        inner.pool.release(id)?;
        let plan = inner.state.detach(id);
        if inner.known {
            self.commit(inner, plan).await
        } else {
            inner.state.apply(plan);
            Ok(())
        }
    }

    async fn converge(&self, services: &ServiceTable) -> Result<(), Error> {
        let inner = self.inner.clone().lock_owned().await;
        let plan = inner.state.converge(services);
        if inner.known && plan.is_empty() {
            return Ok(());
        }
        self.commit(inner, plan).await
    }
}
