//! Brings the machine's own interfaces up: what the config says, and DHCP for the rest. Follows cards and cables that come later.
//!
//! ```text
//! link changes ─▶ plan (pure) ─▶ apply: up, addresses, route ─┐
//!                        └─ dhcp ─▶ lease ─▶ apply            ├─▶ Machine::network (addresses, name servers)
//!                                                             ┘
//! ```

mod lease;
mod plan;

use crate::machine::{Machine, Network};
use crate::supervisor::Handle;
use kedge_net::link::{Link, Links, Route};
use lease::Leases;
use plan::Plan;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

const LOOPBACK: &str = "lo";
/// Without an address for so long, those that wait for the network start all the same: a cable may come tomorrow.
const PATIENCE: Duration = Duration::from_secs(15);
/// Changes come in bursts, above all when workloads come and go.
const CALM: Duration = Duration::from_millis(100);

pub async fn run(machine: Arc<Machine>, handle: Handle) -> anyhow::Result<()> {
    let links = Links::open()?;
    let mut changes = Links::changes()?;
    links.up(LOOPBACK).await?;
    let mut leases = Leases::new(machine.hostname.clone());
    let mut configured = BTreeSet::new();
    let mut impatient = std::pin::pin!(tokio::time::sleep(PATIENCE));
    let mut is_ready = false;
    loop {
        let all = links.list().await?;
        for link in &all {
            // Once only: what somebody changes by hand stays changed.
            if !configured.insert(link.index) {
                continue;
            }
            if let Some(plan) = plan::plan(&machine.config.network, link) {
                apply(&links, &plan).await?;
                if plan.dhcp {
                    leases.ask(&plan.interface, ipv4_of(link));
                }
            }
        }
        configured.retain(|index| all.iter().any(|link| link.index == *index));
        leases.keep_only(|name| all.iter().any(|link| link.name == name));
        let found = network_of(&machine, &links.list().await?, &leases);
        let has_address = !found.addresses.is_empty();
        handle.note(if has_address {
            leases.told()
        } else {
            "no address yet (is the cable in? does DHCP answer?)".into()
        });
        machine.network.send_if_modified(|network| std::mem::replace(network, found.clone()) != found);
        if has_address && !is_ready {
            is_ready = true;
            handle.ready();
        }
        tokio::select! {
            () = handle.stopped() => return Ok(()),
            changed = changes.next() => changed?,
            (interface, event) = leases.next() => leases.apply(&links, &interface, event).await?,
            () = &mut impatient, if !is_ready => {
                is_ready = true;
                handle.ready();
            }
        }
        // With no lease outstanding every millisecond counts; what comes after can wait for its like.
        if is_ready {
            tokio::time::sleep(CALM).await;
        }
    }
}

/// Of a host that sets its interfaces up itself: only looks, and follows what changes.
pub async fn observe(machine: Arc<Machine>, handle: Handle) -> anyhow::Result<()> {
    let links = Links::open()?;
    let mut changes = Links::changes()?;
    let leases = Leases::new(machine.hostname.clone());
    loop {
        let found = network_of(&machine, &links.list().await?, &leases);
        machine.network.send_if_modified(|network| std::mem::replace(network, found.clone()) != found);
        handle.ready();
        tokio::select! {
            () = handle.stopped() => return Ok(()),
            changed = changes.next() => changed?,
        }
        tokio::time::sleep(CALM).await;
    }
}

async fn apply(links: &Links, plan: &Plan) -> anyhow::Result<()> {
    if let Some(mtu) = plan.mtu {
        links.set_mtu(&plan.interface, mtu).await?;
    }
    links.up(&plan.interface).await?;
    for address in &plan.addresses {
        links.add_address(&plan.interface, *address).await?;
    }
    if let Some(gateway) = plan.gateway {
        links.add_route(&Route::default_via(gateway, &plan.interface)).await?;
    }
    Ok(())
}

fn network_of(machine: &Machine, all: &[Link], leases: &Leases) -> Network {
    let ours = all.iter().filter(|link| plan::plan(&machine.config.network, link).is_some());
    let named = |link: &Link| {
        let name = link.name.clone();
        // Every interface has a link-local IPv6 address: it tells nobody anything.
        let useful = link.addresses.iter().filter(|net| !is_link_local(net.address())).copied();
        useful.map(move |net| (name.clone(), net)).collect::<Vec<_>>()
    };
    let nameservers = machine.config.network.nameservers.iter().copied().chain(leases.nameservers()).collect();
    Network { addresses: ours.flat_map(named).collect(), nameservers, time_servers: leases.time_servers() }
}

fn ipv4_of(link: &Link) -> Option<Ipv4Addr> {
    link.addresses.iter().find_map(|net| match net.address() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
