//! The bridge network with real packets: who reaches whom, and from which address. Needs root.
#![cfg(test)]

mod support;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use kedge_net::attach::BridgeNetwork;
use kedge_net::{AttachSpec, HostPort, Network, Protocol, ServiceTable};
use support::{Namespace, Node, address, config, connect, first_line, in_own_network, ruleset, service};

#[test]
fn neighbours_the_node_and_the_outside() {
    in_own_network(|| async {
        let node = Node::new().await;
        let (a, at_a) = node.attach("a").await;
        let (b, at_b) = node.attach("b").await;
        assert_eq!(at_a.addresses, ["10.42.0.2/24".parse().unwrap()]);
        assert_eq!(at_a.mac.to_string(), "02:6b:0a:2a:00:02");
        assert_eq!(at_b.addresses, ["10.42.0.3/24".parse().unwrap()]);
        a.serve_tcp("0.0.0.0:80", "a");
        node.here.serve_tcp("10.42.0.1:80", "node");
        node.outside.serve_tcp("0.0.0.0:80", "outside");

        assert_eq!(b.ask_tcp("10.42.0.2:80").await.unwrap(), "a 10.42.0.3", "neighbours see each other's address");
        assert_eq!(a.ask_tcp("127.0.0.1:80").await.unwrap(), "a 127.0.0.1", "loopback is up");
        assert_eq!(a.ask_tcp("10.42.0.1:80").await.unwrap(), "node 10.42.0.2");
        assert_eq!(node.here.ask_tcp("10.42.0.2:80").await.unwrap(), "a 10.42.0.1");
        assert_eq!(a.ask_tcp("192.0.2.2:80").await.unwrap(), "outside 192.0.2.1", "masqueraded as the node");
    });
}

#[test]
fn a_namespaces_own_loopback_is_reached_from_outside() {
    in_own_network(|| async {
        use tokio::io::{AsyncBufReadExt, BufReader};
        let node = Node::new().await;
        let ((a, _), (b, _)) = (node.attach("a").await, node.attach("b").await);
        a.serve_tcp("127.0.0.1:80", "a");
        b.serve_tcp("[::1]:80", "b");
        node.here.serve_tcp("127.0.0.1:81", "node");
        for (within, answer) in [(&a, "a 127.0.0.1"), (&b, "b ::1")] {
            let stream = kedge_net::loopback::connect(Some(within.fd()), 80).await.unwrap();
            let line = BufReader::new(stream).lines().next_line().await.unwrap();
            assert_eq!(line.as_deref(), Some(answer));
        }
        let error = kedge_net::loopback::connect(Some(a.fd()), 81).await.unwrap_err().to_string();
        assert!(error.starts_with("failed to connect to localhost:81, IPv4: "), "{error}");
    });
}

#[test]
fn a_service_reaches_all_its_backends() {
    in_own_network(|| async {
        let node = Node::new().await;
        let (a, _) = node.attach("a").await;
        let (b, _) = node.attach("b").await;
        let (client, _) = node.attach("client").await;
        a.serve_tcp("0.0.0.0:8080", "a");
        b.serve_tcp("0.0.0.0:8080", "b");
        a.serve_udp("0.0.0.0:5353", "a");
        b.serve_udp("0.0.0.0:5353", "b");
        node.converge(vec![
            service(Protocol::Tcp, "10.43.0.9:80", None, &["10.42.0.2:8080", "10.42.0.3:8080"]),
            service(Protocol::Udp, "10.43.0.10:53", None, &["10.42.0.2:5353", "10.42.0.3:5353"]),
        ])
        .await;
        let (mut tcp, mut udp, mut from_node) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for _ in 0..40 {
            tcp.insert(client.ask_tcp("10.43.0.9:80").await.unwrap());
            udp.insert(client.ask_udp("10.43.0.10:53").await.unwrap());
            from_node.insert(node.here.ask_tcp("10.43.0.9:80").await.unwrap());
        }
        let both = |from: &str| BTreeSet::from([format!("a {from}"), format!("b {from}")]);
        assert_eq!(tcp, both("10.42.0.4"), "the client's own address is seen");
        assert_eq!(udp, both("10.42.0.4"));
        assert_eq!(from_node, both("10.42.0.1"));
        if let Some(listed) = ruleset() {
            for part in ["table inet kedge", "map endpoint4", "10.43.0.9 . tcp . 80 : goto pick4_2", "masquerade"] {
                assert!(listed.contains(part), "{part} in\n{listed}");
            }
        }
    });
}

#[test]
fn a_udp_client_that_keeps_its_port_finds_the_backend_that_is_left() {
    in_own_network(|| async {
        let node = Node::new().await;
        let (a, _) = node.attach("a").await;
        let (b, _) = node.attach("b").await;
        let (client, _) = node.attach("client").await;
        a.serve_udp("0.0.0.0:53", "a");
        b.serve_udp("0.0.0.0:53", "b");
        let to = |backend| vec![service(Protocol::Udp, "10.43.0.10:53", Some(30053), &[backend])];
        let sockets = client.call(|| [0, 1].map(|_| std::net::UdpSocket::bind("0.0.0.0:0").unwrap())).await;
        let ask = |socket: &std::net::UdpSocket, address: &str| {
            socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            socket.send_to(b"?", address).unwrap();
            let mut buffer = [0; 100];
            socket.recv(&mut buffer).map(|_| buffer[0])
        };
        for (backend, name) in [("10.42.0.2:53", b'a'), ("10.42.0.3:53", b'b'), ("10.42.0.2:53", b'a')] {
            node.converge(to(backend)).await;
            assert_eq!(ask(&sockets[0], "10.43.0.10:53").unwrap(), name);
            assert_eq!(ask(&sockets[1], "192.0.2.1:30053").unwrap(), name);
        }
    });
}

#[test]
fn a_backend_reaches_itself_through_its_service() {
    in_own_network(|| async {
        let node = Node::new().await;
        let (a, _) = node.attach("a").await;
        a.serve_tcp("0.0.0.0:8080", "a");
        node.converge(vec![service(Protocol::Tcp, "10.43.0.9:80", Some(30080), &["10.42.0.2:8080"])]).await;
        assert_eq!(a.ask_tcp("10.43.0.9:80").await.unwrap(), "a 10.42.0.1");
        assert_eq!(a.ask_tcp("192.0.2.1:30080").await.unwrap(), "a 10.42.0.1");
    });
}

#[test]
fn node_ports_and_host_ports_from_outside() {
    in_own_network(|| async {
        let node = Node::new().await;
        let (a, _) = node.attach("a").await;
        let port = |host_ip, host_port| HostPort { proto: Protocol::Tcp, host_ip, host_port, port: 8080 };
        let ports =
            vec![port(None, 8081), port(Some(address("192.0.2.1")), 8082), port(Some(address("192.0.2.9")), 8083)];
        let (b, _) = node.attach_with("b", ports).await;
        a.serve_tcp("0.0.0.0:8080", "a");
        b.serve_tcp("0.0.0.0:8080", "b");
        a.serve_udp("0.0.0.0:53", "a");
        node.converge(vec![
            service(Protocol::Tcp, "10.43.0.9:80", Some(30080), &["10.42.0.2:8080"]),
            service(Protocol::Udp, "10.43.0.9:80", Some(30080), &["10.42.0.2:53"]),
        ])
        .await;
        assert_eq!(node.outside.ask_tcp("192.0.2.1:30080").await.unwrap(), "a 10.42.0.1");
        assert_eq!(node.outside.ask_udp("192.0.2.1:30080").await.unwrap(), "a 10.42.0.1");
        assert_eq!(node.here.ask_tcp("192.0.2.1:30080").await.unwrap().split(' ').next(), Some("a"));
        assert_eq!(node.outside.ask_tcp("192.0.2.1:8081").await.unwrap(), "b 192.0.2.2", "host ports keep the client");
        assert_eq!(node.outside.ask_tcp("192.0.2.1:8082").await.unwrap(), "b 192.0.2.2");
        assert_eq!(a.ask_tcp("192.0.2.1:8081").await.unwrap(), "b 10.42.0.2");
        let elsewhere = node.outside.ask_tcp("192.0.2.1:8083").await.unwrap_err();
        assert_eq!(elsewhere.kind(), ErrorKind::ConnectionRefused, "bound to another address of the node");

        let taken = Namespace::new();
        let spec = AttachSpec { id: "c".into(), host_ports: vec![port(None, 8081)] };
        let error = node.network.attach(taken.fd(), spec).await.unwrap_err();
        assert_eq!(error.to_string(), "host port 8081/tcp is in use by `b`");
        node.network.detach("b").await.unwrap();
        assert!(node.outside.ask_tcp("192.0.2.1:8081").await.is_err(), "the host port goes with its owner");
    });
}

#[test]
fn services_without_endpoints_refuse_at_once() {
    in_own_network(|| async {
        let node = Node::new().await;
        let (a, _) = node.attach("a").await;
        node.converge(vec![service(Protocol::Tcp, "10.43.0.9:80", Some(30080), &[])]).await;
        let before = Instant::now();
        for (from, to) in [
            (&a, "10.43.0.9:80"),
            (&node.here, "10.43.0.9:80"),
            (&node.outside, "192.0.2.1:30080"),
            (&a, "192.0.2.1:30080"),
            (&a, "10.43.7.7:7"),
            (&node.here, "10.43.7.7:7"),
        ] {
            let error = from.ask_tcp(to).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}: {error}");
        }
        assert!(before.elapsed() < Duration::from_secs(3), "refused, not timed out");
        let error = a.ask_udp("10.43.0.9:81").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_client_stays_with_its_backend_until_that_goes() {
    in_own_network(|| async {
        let node = Node::new().await;
        let (a, _) = node.attach("a").await;
        let (b, _) = node.attach("b").await;
        let (client, _) = node.attach("client").await;
        a.serve_tcp("0.0.0.0:8080", "a");
        b.serve_tcp("0.0.0.0:8080", "b");
        let mut sticky = service(Protocol::Tcp, "10.43.0.9:80", Some(30080), &["10.42.0.2:8080", "10.42.0.3:8080"]);
        sticky.affinity_seconds = Some(60);
        node.converge(vec![sticky.clone()]).await;
        let first = client.ask_tcp("10.43.0.9:80").await.unwrap();
        let from_outside = node.outside.ask_tcp("192.0.2.1:30080").await.unwrap();
        for _ in 0..20 {
            assert_eq!(client.ask_tcp("10.43.0.9:80").await.unwrap(), first);
            assert_eq!(node.outside.ask_tcp("192.0.2.1:30080").await.unwrap(), from_outside);
        }
        let (gone, left) = if first.starts_with('a') { ("10.42.0.2:8080", "b") } else { ("10.42.0.3:8080", "a") };
        let mut fewer = sticky.clone();
        fewer.backends.retain(|backend| backend.to_string() != gone);
        node.converge(vec![fewer]).await;
        assert!(client.ask_tcp("10.43.0.9:80").await.unwrap().starts_with(left));
        node.converge(vec![sticky]).await;
        for _ in 0..20 {
            assert!(client.ask_tcp("10.43.0.9:80").await.unwrap().starts_with(left), "the new choice is remembered");
        }
    });
}

#[test]
fn the_kernel_takes_every_kind_of_rule_and_nft_lists_it() {
    in_own_network(|| async {
        let node = Node::new().await;
        let mut services = vec![
            service(Protocol::Tcp, "[fd00:43::9]:80", Some(30080), &["[fd00:42::2]:80", "[fd00:42::3]:80"]),
            service(Protocol::Sctp, "10.43.0.9:80", Some(30080), &["10.42.0.2:80", "10.42.0.3:80"]),
            service(Protocol::Udp, "[fd00:43::8]:53", Some(30053), &[]),
            service(Protocol::Udp, "10.43.0.8:53", Some(30053), &[]),
        ];
        for entry in services.clone() {
            let mut sticky = entry;
            sticky.port += 1;
            sticky.node_port = sticky.node_port.map(|port| port + 1);
            sticky.affinity_seconds = Some(10800);
            services.push(sticky);
        }
        node.converge(services.clone()).await;
        let Some(listed) = ruleset() else { return };
        for part in
            ["fd00:43::9 . tcp . 81 : goto pick6_2_10800s", "sctp . 30080 : goto node4_2", "fd00:43::8 . udp . 53"]
        {
            assert!(listed.contains(part), "{part} in\n{listed}");
        }
        services.truncate(1);
        node.converge(services).await;
        assert!(!ruleset().unwrap().contains("sctp . 30080"));
    });
}

#[test]
fn a_successor_adopts_what_is_attached() {
    in_own_network(|| async {
        let Node { network, state, links, outside: _outside, here } = Node::new().await;
        let pod = Namespace::new();
        let spec = AttachSpec { id: "a".into(), host_ports: Vec::new() };
        let attachment = network.attach(pod.fd(), spec.clone()).await.unwrap();
        pod.serve_tcp("0.0.0.0:8080", "a");
        let services =
            ServiceTable { services: vec![service(Protocol::Tcp, "10.43.0.9:80", None, &["10.42.0.2:8080"])] };
        network.converge(&services).await.unwrap();
        let open = here.call(|| connect("10.43.0.9:80".parse().unwrap()).unwrap()).await;
        assert_eq!(first_line(open.try_clone().unwrap()).unwrap(), "a 10.42.0.1");
        drop(network);

        let network = BridgeNetwork::open(config(state.path())).await.unwrap();
        assert_eq!(network.attachments().await, [("a".to_owned(), attachment.clone())]);
        assert_eq!(here.ask_tcp("10.43.0.9:80").await.unwrap(), "a 10.42.0.1", "services work before the first table");
        assert_eq!(network.attach(pod.fd(), spec).await.unwrap(), attachment);
        let other = Namespace::new();
        let spec = AttachSpec { id: "b".into(), host_ports: Vec::new() };
        let next = network.attach(other.fd(), spec).await.unwrap();
        assert_ne!(next.addresses, attachment.addresses, "the address is still taken");
        network.converge(&services).await.unwrap();
        assert_eq!(other.ask_tcp("10.43.0.9:80").await.unwrap(), "a 10.42.0.3");
        let mut open = open;
        open.write_all(b"x").unwrap();
        let mut echo = [0];
        open.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"x", "a connection through the service outlives the table's replacement");

        for _ in 0..2 {
            network.detach("a").await.unwrap();
        }
        network.detach("never-attached").await.unwrap();
        let veths = links.list().await.unwrap().into_iter().filter(|link| link.name.starts_with("veth")).count();
        assert_eq!(veths, 1, "only b's cable is left");
    });
}

#[test]
fn a_namespace_that_was_made_anew_gets_the_same_address() {
    in_own_network(|| async {
        let node = Node::new().await;
        let (first, attachment) = node.attach("a").await;
        // As when a sandbox is made anew under its id, while something still holds the old one.
        let (second, again) = node.attach("a").await;
        assert_eq!(attachment, again);
        second.serve_tcp("0.0.0.0:80", "second");
        assert_eq!(node.here.ask_tcp("10.42.0.2:80").await.unwrap(), "second 10.42.0.1");
        drop(first);
    });
}

#[test]
fn a_table_that_was_tampered_with_is_replaced() {
    in_own_network(|| async {
        let node = Node::new().await;
        let (a, _) = node.attach("a").await;
        a.serve_tcp("0.0.0.0:8080", "a");
        node.converge(vec![service(Protocol::Tcp, "10.43.0.9:80", None, &["10.42.0.2:8080"])]).await;
        let Ok(status) = std::process::Command::new("nft").args(["flush", "map", "inet", "kedge", "service4"]).status()
        else {
            return;
        };
        assert!(status.success());
        node.converge(vec![service(Protocol::Tcp, "10.43.0.9:81", None, &["10.42.0.2:8080"])]).await;
        assert_eq!(node.here.ask_tcp("10.43.0.9:81").await.unwrap(), "a 10.42.0.1");
    });
}
