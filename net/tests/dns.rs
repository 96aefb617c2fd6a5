//! The DNS server on loopback: with a client of our own, and with dig where it is installed (Debian: bind9-dnsutils).
#![cfg(test)]

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kedge_net::dns::{Authority, Data, Error, Record, RecordType, Server, Zone, ZoneAnswer};
use tokio::net::UdpSocket;
use tokio::sync::watch;

/// `web.zone` has addresses, `many.zone` more than fit into a datagram; counts what it is asked.
#[derive(Clone, Default)]
struct Names {
    apex: &'static str,
    asked: Arc<AtomicUsize>,
    silent: bool,
}

impl Zone for Names {
    fn answer(&self, name: &str, record_type: RecordType) -> ZoneAnswer {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let Some(host) = name.strip_suffix(self.apex).and_then(|host| host.strip_suffix('.')) else {
            return ZoneAnswer::NotMine;
        };
        let record = |data| Record { name: name.into(), ttl: 30, data };
        match (host, record_type) {
            ("web", RecordType::A) => ZoneAnswer::Records(vec![record(Data::A(Ipv4Addr::new(10, 43, 0, 9)))]),
            ("_http._tcp.web", RecordType::Srv) => ZoneAnswer::Records(vec![record(Data::Srv {
                priority: 0,
                weight: 100,
                port: 80,
                target: format!("web.{}", self.apex),
            })]),
            ("many", RecordType::A) => {
                ZoneAnswer::Records((0..200).map(|n| record(Data::A(Ipv4Addr::new(10, 42, 1, n)))).collect())
            }
            ("web" | "many" | "_http._tcp.web", _) => ZoneAnswer::NoData,
            _ => ZoneAnswer::NxDomain,
        }
    }

    fn authority(&self, _: &str) -> Option<Authority> {
        (!self.silent).then(|| Authority { apex: self.apex.into(), negative_ttl: 20 })
    }
}

/// Starts a server on a port of its own.
async fn start(names: Names, upstreams: Vec<SocketAddr>) -> (SocketAddr, watch::Sender<Vec<SocketAddr>>) {
    let (sender, receiver) = watch::channel(upstreams);
    // The port that UDP was given may be taken for TCP: then another.
    let any = ["127.0.0.1:0".parse().unwrap()];
    let server = loop {
        match Server::bind(&any, names.clone(), receiver.clone()).await {
            Err(Error::Listen { source, .. }) if source.kind() == ErrorKind::AddrInUse => {}
            bound => break bound.unwrap(),
        }
    };
    let address = server.addresses()[0];
    tokio::spawn(async move { server.run().await.unwrap() });
    (address, sender)
}

fn names(apex: &'static str) -> Names {
    Names { apex, ..Names::default() }
}

/// What `dig +short`-like options print; `None` says that dig is not installed.
async fn dig(server: SocketAddr, args: &[&str]) -> Option<String> {
    let mut command = Command::new("dig");
    command.arg("@127.0.0.1").args(["-p", &server.port().to_string(), "+time=8", "+tries=1"]).args(args);
    match tokio::task::spawn_blocking(move || command.output()).await.unwrap() {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
        Err(error) => {
            std::io::stderr().write_all(format!("SKIPPED a look-up with dig: {error}\n").as_bytes()).unwrap();
            None
        }
    }
}

#[tokio::test]
async fn dig_sees_the_zone() {
    let (server, _upstreams) = start(names("cluster.local"), vec![]).await;
    for (args, expected) in [
        (&["+short", "web.cluster.local"][..], &["10.43.0.9\n"][..]),
        (&["+short", "+tcp", "WEB.cluster.local"], &["10.43.0.9\n"]),
        (&["+short", "_http._tcp.web.cluster.local", "SRV"], &["0 100 80 web.cluster.local.\n"]),
        (&["web.cluster.local", "AAAA"], &["status: NOERROR", "ANSWER: 0", "SOA", "flags: qr aa rd ra"]),
        (&["nobody.cluster.local"], &["status: NXDOMAIN", "SOA"]),
        (&["+ignore", "many.cluster.local"], &[" tc ", "EDNS: version: 0"]),
        (&["+ignore", "+noedns", "many.cluster.local"], &[" tc "]),
        (&["elsewhere.example"], &["status: SERVFAIL"]),
        (&["+opcode=NOTIFY", "web.cluster.local"], &["status: NOTIMP"]),
        (&["+edns=1", "+noednsneg", "web.cluster.local"], &["status: BADVERS"]),
        (&["-c", "CH", "version.bind", "TXT"], &["status: REFUSED"]),
    ] {
        let Some(output) = dig(server, args).await else { return };
        for part in expected {
            assert!(output.contains(part), "{args:?}: no `{part}` in\n{output}");
        }
    }
    let Some(retried) = dig(server, &["+short", "many.cluster.local"]).await else { return };
    assert_eq!(retried.lines().count(), 200, "by TCP after the truncation bit");
}

/// A query by UDP, and the answer's bytes.
async fn ask(server: SocketAddr, name: &str, kind: u8) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, kind, 0, 1]);
    socket.send_to(&query, server).await.unwrap();
    let mut buffer = vec![0; 1500];
    let (length, _) =
        tokio::time::timeout(Duration::from_secs(10), socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(length);
    assert_eq!(buffer[..2], [0x12, 0x34]);
    buffer
}

fn code(answer: &[u8]) -> u8 {
    answer[3] & 0xf
}

#[tokio::test]
async fn others_answers_are_kept_also_negative_ones() {
    let outer = names("example");
    let (upstream, _none) = start(outer.clone(), vec![]).await;
    let (server, upstreams) = start(names("cluster.local"), vec![upstream]).await;
    for _ in 0..3 {
        assert_eq!(code(&ask(server, "web.example", 1).await), 0);
        assert_eq!(code(&ask(server, "nobody.example", 1).await), 3);
        assert_eq!(code(&ask(server, "web.example", 28).await), 0);
    }
    assert_eq!(outer.asked.load(Ordering::SeqCst), 3, "each once");

    let other = names("example");
    let (second, _none) = start(other.clone(), vec![]).await;
    upstreams.send(vec![second]).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    ask(server, "web.example", 1).await;
    assert_eq!(other.asked.load(Ordering::SeqCst), 1, "new servers are asked anew");
}

#[tokio::test]
async fn a_long_answer_comes_from_upstream_by_tcp() {
    let (upstream, _none) = start(names("example"), vec![]).await;
    let (server, _upstreams) = start(names("cluster.local"), vec![upstream]).await;
    let Some(output) = dig(server, &["+short", "many.example"]).await else { return };
    assert_eq!(output.lines().count(), 200);
}

#[tokio::test]
async fn a_dead_server_is_passed_over_and_none_is_said_so() {
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let silent = dead.local_addr().unwrap();
    let (upstream, _none) = start(names("example"), vec![]).await;
    let (server, upstreams) = start(names("cluster.local"), vec![silent, upstream]).await;
    let begun = Instant::now();
    assert_eq!(code(&ask(server, "web.example", 1).await), 0);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    upstreams.send(vec![silent]).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(code(&ask(server, "web.example", 1).await), 2, "SERVFAIL");
    upstreams.send(vec![server]).unwrap();
    assert_eq!(code(&ask(server, "web.example", 1).await), 2, "never asks itself");
}

#[tokio::test]
async fn more_questions_than_can_be_forwarded_are_answered_all_the_same() {
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (server, _upstreams) = start(names("cluster.local"), vec![dead.local_addr().unwrap()]).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let query = |n: u16| {
        let mut query = n.to_be_bytes().to_vec();
        query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        query.extend([5, b'a' + (n % 26) as u8, b'a' + (n / 26) as u8, b'x', b'y', b'z', 0, 0, 1, 0, 1]);
        query
    };
    for n in 0..300 {
        client.send_to(&query(n), server).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut buffer = [0; 1500];
    let begun = Instant::now();
    for _ in 0..44 {
        tokio::time::timeout(Duration::from_secs(2), client.recv(&mut buffer)).await.expect("no refusal").unwrap();
        assert_eq!(code(&buffer), 2);
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "those over the limit are refused at once");
    assert_eq!(code(&ask(server, "web.cluster.local", 1).await), 0, "and the zone is answered meanwhile");
}

#[tokio::test]
async fn garbage_stops_nothing() {
    let (server, _upstreams) = start(names("cluster.local"), vec![]).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut state = 1u32;
    for length in 0..600 {
        let garbage: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        client.send_to(&garbage, server).await.unwrap();
    }
    let mut stream = tokio::net::TcpStream::connect(server).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[0, 9, 1, 2, 3]).await.unwrap();
    assert_eq!(code(&ask(server, "web.cluster.local", 1).await), 0);
}

#[tokio::test]
async fn the_machine_itself_looks_names_up() {
    let (server, _upstreams) = start(names("zone"), vec![]).await;
    let silent = "127.0.0.1:1".parse().unwrap();
    let found = kedge_net::dns::addresses("web.zone", &[silent, server]).await.unwrap();
    assert_eq!(found, [Ipv4Addr::new(10, 43, 0, 9)]);
    assert_eq!(kedge_net::dns::addresses("many.zone.", &[server]).await.unwrap().len(), 200);
    for (name, servers, told) in [
        ("none.zone", vec![server], "Non-Existent Domain"),
        ("_http._tcp.web.zone", vec![server], "no address"),
        ("web.zone", vec![], "no DNS server answers"),
        (&"x".repeat(70), vec![server], "label"),
    ] {
        let error = kedge_net::dns::addresses(name, &servers).await.unwrap_err().to_string();
        assert!(error.contains(told), "{name}: {error}");
    }
}
