//! The DHCP clients, one an interface, and what their leases mean for the interface.

use kedge_net::dhcp::{self, Event, Lease, Options};
use kedge_net::link::{Links, Route};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Before a client that failed (its interface went down, say) is started again.
const PAUSE: Duration = Duration::from_secs(5);

pub struct Leases {
    hostname: String,
    clients: BTreeMap<String, Client>,
    sender: mpsc::Sender<(String, Event)>,
    events: mpsc::Receiver<(String, Event)>,
}

/// One interface's client; it ends when this is dropped.
struct Client {
    task: JoinHandle<()>,
    lease: Option<Lease>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Leases {
    pub fn new(hostname: String) -> Self {
        let (sender, events) = mpsc::channel(4);
        Self { hostname, clients: BTreeMap::new(), sender, events }
    }

    /// Starts a client for an interface. An address that it has already, from before this process was replaced, is asked for again.
    pub fn ask(&mut self, interface: &str, has: Option<Ipv4Addr>) {
        let options =
            Options { hostname: Some(self.hostname.clone()), vendor_class: Some("kedge".into()), wanted: has };
        let (name, sender) = (interface.to_owned(), self.sender.clone());
        let task = tokio::spawn(async move {
            loop {
                let Err(error) = keep(&name, &options, &sender).await else { return };
                tracing::warn!(interface = name, "DHCP: {error:#}");
                tokio::time::sleep(PAUSE).await;
            }
        });
        self.clients.insert(interface.to_owned(), Client { task, lease: None });
    }

    /// Ends the clients of interfaces that are gone.
    pub fn keep_only(&mut self, is_there: impl Fn(&str) -> bool) {
        self.clients.retain(|name, _| is_there(name));
    }

    /// The next thing that happened to a lease.
    pub async fn next(&mut self) -> (String, Event) {
        match self.events.recv().await {
            Some(event) => event,
            // Not while we hold a sender.
            None => std::future::pending().await,
        }
    }

    /// Does to the interface what the event says.
    pub async fn apply(&mut self, links: &Links, interface: &str, event: Event) -> anyhow::Result<()> {
        let Some(client) = self.clients.get_mut(interface) else { return Ok(()) };
        let old = client.lease.take();
        match event {
            Event::Bound(lease) => {
                if let Some(old) = old.filter(|old| old.address != lease.address) {
                    links.remove_address(interface, old.address).await?;
                }
                tracing::info!(interface, address = %lease.address, server = %lease.server, "DHCP lease");
                bind(links, interface, &lease).await?;
                client.lease = Some(lease);
            }
            Event::Renewed(lease) => client.lease = Some(lease),
            Event::Lost(lease) => {
                tracing::warn!(interface, address = %lease.address, "the DHCP lease is lost");
                links.remove_address(interface, lease.address).await?;
            }
        }
        Ok(())
    }

    fn held(&self) -> impl Iterator<Item = (&String, &Lease)> {
        self.clients.iter().filter_map(|(name, client)| Some((name, client.lease.as_ref()?)))
    }

    pub fn nameservers(&self) -> Vec<IpAddr> {
        self.held().flat_map(|(_, lease)| lease.dns.iter().copied().map(IpAddr::V4)).collect()
    }

    pub fn time_servers(&self) -> Vec<IpAddr> {
        self.held().flat_map(|(_, lease)| lease.ntp.iter().copied().map(IpAddr::V4)).collect()
    }

    /// For people.
    pub fn told(&self) -> String {
        let each: Vec<String> = self
            .held()
            .map(|(name, lease)| format!("{name} {} by DHCP from {}", lease.address, lease.server))
            .collect();
        each.join(", ")
    }
}

/// Runs one client until it fails, or until nobody wants its events. On a socket of its own: the kernel answers one listing at a
/// time on each (EBUSY).
async fn keep(name: &str, options: &Options, sender: &mpsc::Sender<(String, Event)>) -> anyhow::Result<()> {
    let client = dhcp::Client::new(Links::open()?, name, options.clone()).await?;
    let (events, mut happened) = mpsc::channel(1);
    let forward = async {
        while let Some(event) = happened.recv().await {
            if sender.send((name.to_owned(), event)).await.is_err() {
                return;
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        ended = client.run(events) => Ok(ended?),
        () = forward => Ok(()),
    }
}

async fn bind(links: &Links, interface: &str, lease: &Lease) -> anyhow::Result<()> {
    // A server's word about the MTU is taken within the bounds of IPv4 (RFC 791) and Ethernet.
    if let Some(mtu) = lease.mtu.filter(|mtu| (576..=9000).contains(mtu)) {
        links.set_mtu(interface, mtu.into()).await?;
    }
    links.add_address(interface, lease.address).await?;
    for (destination, gateway) in &lease.routes {
        let gateway = (!gateway.is_unspecified()).then_some(IpAddr::V4(*gateway));
        links
            .add_route(&Route { destination: *destination, gateway, ..Route::on_link(*destination, interface) })
            .await?;
    }
    if let Some(router) = lease.routers.first() {
        links.add_route(&Route::default_via(IpAddr::V4(*router), interface)).await?;
    }
    Ok(())
}
