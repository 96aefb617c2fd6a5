//! What one change costs among ten thousand services: `cargo bench -p kedge-net --bench converge`, as root.
//!
//! Prints the time of the first table and the median of single changes. Runs in a network namespace of its own.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark stops by panicking")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use kedge_net::attach::{BridgeNetwork, Config};
use kedge_net::{Network, Protocol, ServiceEntry, ServiceTable};
use rustix::thread::UnshareFlags;

const SERVICES: usize = 10_000;
const CHANGES: usize = 30;

fn backend(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 42, (n >> 8) as u8, n as u8], 8080))
}

fn table() -> ServiceTable {
    let service = |n: usize| ServiceEntry {
        address: IpAddr::from([10, 43, (n >> 8) as u8, n as u8]),
        protocol: Protocol::Tcp,
        port: 80,
        node_port: None,
        affinity_seconds: None,
        backends: vec![backend(n), backend(n + 1), backend(n + 2)],
    };
    ServiceTable { services: (0..SERVICES).map(service).collect() }
}

async fn measure(name: &str, network: &BridgeNetwork, table: &mut ServiceTable, change: fn(&mut ServiceTable, usize)) {
    let mut times: Vec<Duration> = Vec::with_capacity(CHANGES);
    for n in 0..CHANGES {
        change(table, n);
        let begun = Instant::now();
        network.converge(table).await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!("{name:<40} p50 {:>10.2?}   worst {:>10.2?}", times[CHANGES / 2], times[CHANGES - 1]);
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: it makes a network namespace and needs root");
        return;
    }
    #[expect(deprecated, reason = "no other thread has been started")]
    rustix::thread::unshare(UnshareFlags::NEWNET).unwrap();
    let state = tempfile::tempdir().unwrap();
    let network = BridgeNetwork::open(Config {
        bridge: "kedge0".into(),
        range: "10.42.0.0/24".parse().unwrap(),
        cluster: "10.42.0.0/16".parse().unwrap(),
        services: "10.43.0.0/16".parse().unwrap(),
        mtu: None,
        state: state.path().to_owned(),
    })
    .await
    .unwrap();
    let mut table = table();
    let begun = Instant::now();
    network.converge(&table).await.unwrap();
    println!("{SERVICES} services with 3 backends each, at once {:>10.2?}", begun.elapsed());
    measure("nothing", &network, &mut table, |_, _| {}).await;
    measure("one backend is replaced", &network, &mut table, |table, n| table.services[n].backends[0] = backend(n + 9))
        .await;
    measure("one backend comes", &network, &mut table, |table, n| table.services[n].backends.push(backend(n + 50)))
        .await;
    measure("one service goes", &network, &mut table, |table, n| drop(table.services.remove(n * 3))).await;
}
