//! The DHCP client against dnsmasq, in namespaces. Needs root and dnsmasq (Debian: dnsmasq-base).
#![cfg(test)]

#[expect(dead_code, reason = "this test needs only the namespaces of the support module")]
mod support;

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kedge_net::dhcp::{Client, Event, Lease, Options};
use kedge_net::link::{Links, Wanted};
use support::{Namespace, in_own_network, skipped};
use tokio::sync::mpsc;

/// A server in a namespace behind `eth0` of the test's own; ends with this value.
struct Server {
    process: Child,
    inside: Links,
    namespace: Namespace,
    leases: tempfile::TempDir,
}

impl Server {
    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn server(links: &Links, extra: &[&str]) -> Option<Server> {
    let namespace = Namespace::new();
    links.create_local_veth("eth0", "lan0").await.unwrap();
    links.move_to("lan0", namespace.fd()).await.unwrap();
    let inside = Links::open_in(namespace.fd()).unwrap();
    inside.add_address("lan0", "192.0.2.1/24".parse().unwrap()).await.unwrap();
    inside.up("lan0").await.unwrap();
    links.wait("eth*", Wanted::Carrier).await.unwrap();
    let leases = tempfile::tempdir().unwrap();
    let process = start(&namespace, leases.path(), extra).await?;
    Some(Server { process, inside, namespace, leases })
}

async fn start(namespace: &Namespace, leases: &std::path::Path, extra: &[&str]) -> Option<Child> {
    let mut command = Command::new("dnsmasq");
    command
        .args([
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=lan0",
            "--bind-interfaces",
            "--no-ping",
        ])
        .args(["--user=root", "--group=root", "--log-facility=-", "--domain=lan.example", "--pid-file="])
        .arg(format!("--dhcp-leasefile={}", leases.join("leases").display()))
        .args(extra)
        .stderr(Stdio::null());
    match namespace.call(move || command.spawn()).await {
        Ok(process) => Some(process),
        Err(error) => {
            skipped(&format!("a test of the DHCP client: cannot start dnsmasq: {error}"));
            None
        }
    }
}

async fn client(links: &Links, options: Options) -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(4);
    let client = Client::new(links.clone(), "eth0", options).await.unwrap();
    tokio::spawn(async move { client.run(sender).await.unwrap() });
    receiver
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    tokio::time::timeout(Duration::from_secs(20), events.recv()).await.expect("no event in 20 s").unwrap()
}

fn bound(event: Event) -> Lease {
    match event {
        Event::Bound(lease) => lease,
        other => panic!("{other:?}"),
    }
}

const RANGE: &str = "--dhcp-range=192.0.2.50,192.0.2.60,255.255.255.0,2m";

#[test]
fn an_address_and_all_that_comes_with_it() {
    in_own_network(|| async {
        let links = Links::open().unwrap();
        let options = ["--dhcp-option=option:dns-server,192.0.2.53", "--dhcp-option=option:ntp-server,192.0.2.4"];
        let Some(server) = server(&links, &[&[RANGE][..], &options].concat()).await else { return };
        let begun = Instant::now();
        let mut events = client(&links, Options { hostname: Some("anchor".into()), ..Options::default() }).await;
        let lease = bound(next(&mut events).await);
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
        assert_eq!((lease.address.prefix(), lease.server), (24, Ipv4Addr::new(192, 0, 2, 1)));
        assert!(("192.0.2.50".."192.0.2.61").contains(&lease.address.address().to_string().as_str()), "{lease:?}");
        assert_eq!(lease.routers, [Ipv4Addr::new(192, 0, 2, 1)]);
        assert_eq!(lease.dns, [Ipv4Addr::new(192, 0, 2, 53)]);
        assert_eq!(lease.ntp, [Ipv4Addr::new(192, 0, 2, 4)]);
        assert_eq!(lease.domain.as_deref(), Some("lan.example"));
        assert_eq!(lease.lifetime, Duration::from_secs(120));
        let known = std::fs::read_to_string(server.leases.path().join("leases")).unwrap();
        assert!(known.contains("anchor"), "the server knows the name: {known}");
    });
}

/// busybox' server, because dnsmasq leases nothing for less than two minutes.
async fn short_leases(namespace: &Namespace, dir: &std::path::Path, first: &str, last: &str) -> Option<Child> {
    let conf = dir.join(format!("udhcpd-{first}.conf"));
    let text = format!(
        "start {first}\nend {last}\ninterface lan0\nmin_lease 1\nauto_time 0\nlease_file {dir}/{first}\npidfile {dir}/pid\n\
         option subnet 255.255.255.0\noption lease 6\n",
        dir = dir.display()
    );
    std::fs::write(&conf, text).unwrap();
    let mut command = Command::new("busybox");
    command.args(["udhcpd", "-f", "-I", "192.0.2.1"]).arg(conf).stderr(Stdio::null());
    match namespace.call(move || command.spawn()).await {
        Ok(process) => Some(process),
        Err(error) => {
            skipped(&format!("a test of the DHCP client: cannot start busybox: {error}"));
            None
        }
    }
}

#[test]
fn a_lease_is_renewed_and_ends_when_its_server_does() {
    in_own_network(|| async {
        let links = Links::open().unwrap();
        let Some(mut server) = server(&links, &[RANGE]).await else { return };
        server.stop();
        let (first, other) = (["192.0.2.50", "192.0.2.59"], ["192.0.2.70", "192.0.2.79"]);
        let Some(process) = short_leases(&server.namespace, server.leases.path(), first[0], first[1]).await else {
            return;
        };
        server.process = process;
        let mut events = client(&links, Options::default()).await;
        let lease = bound(next(&mut events).await);
        assert_eq!((lease.lifetime, lease.renew_after), (Duration::from_secs(10), Duration::from_secs(5)));
        links.add_address("eth0", lease.address).await.unwrap();
        let begun = Instant::now();
        assert_eq!(next(&mut events).await, Event::Renewed(lease.clone()));
        assert!((4..8).contains(&begun.elapsed().as_secs()), "at half of its time: {:?}", begun.elapsed());

        server.stop();
        let begun = Instant::now();
        assert_eq!(next(&mut events).await, Event::Lost(lease.clone()));
        assert!((8..13).contains(&begun.elapsed().as_secs()), "at its end: {:?}", begun.elapsed());
        links.remove_address("eth0", lease.address).await.unwrap();
        server.process = short_leases(&server.namespace, server.leases.path(), other[0], other[1]).await.unwrap();
        let new = bound(next(&mut events).await);
        assert!(new.address.to_string().starts_with("192.0.2.7"), "{new:?}");
    });
}

#[test]
fn an_address_that_the_server_refuses_is_given_up() {
    in_own_network(|| async {
        let links = Links::open().unwrap();
        let Some(_server) = server(&links, &[RANGE, "--dhcp-authoritative"]).await else { return };
        let wanted = Some(Ipv4Addr::new(198, 51, 100, 7));
        let mut events = client(&links, Options { wanted, ..Options::default() }).await;
        let begun = Instant::now();
        let lease = bound(next(&mut events).await);
        assert!(lease.address.to_string().starts_with("192.0.2."), "{lease:?}");
        assert!(begun.elapsed() < Duration::from_secs(6), "refused, not waited for: {:?}", begun.elapsed());
    });
}

#[test]
fn a_known_address_is_kept_and_a_replugged_cable_is_noticed() {
    in_own_network(|| async {
        let links = Links::open().unwrap();
        let Some(server) = server(&links, &[RANGE, "--dhcp-authoritative"]).await else { return };
        let wanted = Ipv4Addr::new(192, 0, 2, 57);
        let mut events = client(&links, Options { wanted: Some(wanted), ..Options::default() }).await;
        let lease = bound(next(&mut events).await);
        assert_eq!(lease.address.address(), wanted);
        server.inside.down("lan0").await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.inside.up("lan0").await.unwrap();
        assert_eq!(next(&mut events).await, Event::Lost(lease.clone()));
        assert_eq!(bound(next(&mut events).await).address, lease.address);
    });
}
