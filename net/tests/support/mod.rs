//! Namespaces for tests: every test runs in a network of its own, and the host's is never touched.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::Duration;

use kedge_net::attach::{BridgeNetwork, Config};
use kedge_net::link::{Links, Route};
use kedge_net::{AttachSpec, Attachment, HostPort, Network, Protocol, ServiceEntry, ServiceTable};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Runs a test in a new network namespace; says so, past the harness's capture, when it may not.
pub fn in_own_network<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        skipped(&format!("{name}: it makes network namespaces and needs root"));
        return;
    }
    let body = move || {
        enter_new_network();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            Links::open().unwrap().up("lo").await.unwrap();
            tokio::time::timeout(Duration::from_secs(60), test()).await.expect("the test took over a minute");
        });
    };
    if let Err(panic) = std::thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Says that something was not tested, past the harness's capture of what passing tests print.
pub fn skipped(what: &str) {
    let mut stderr = std::io::stderr();
    stderr.write_all(format!("SKIPPED {what}\n").as_bytes()).unwrap();
}

fn enter_new_network() {
    #[expect(deprecated, reason = "the flag NEWNET changes nothing that other code of this thread relies on")]
    rustix::thread::unshare(UnshareFlags::NEWNET).unwrap();
}

/// A network namespace that lives as long as this value.
pub struct Namespace(OwnedFd);

impl Namespace {
    pub fn new() -> Self {
        let open = || {
            enter_new_network();
            OwnedFd::from(std::fs::File::open("/proc/thread-self/ns/net").unwrap())
        };
        Self(std::thread::spawn(open).join().unwrap())
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Runs blocking code inside, on its own thread.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let fd = self.0.try_clone().unwrap();
        std::thread::spawn(move || {
            move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }

    /// The same, waiting for the result without stopping the test's own tasks.
    pub async fn call<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let handle = self.run(work);
        match tokio::task::spawn_blocking(move || handle.join()).await.unwrap() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Answers every connection with the client's address and the server's name, and echoes lines after that.
    pub fn serve_tcp(&self, address: &str, name: &'static str) {
        let address: SocketAddr = address.parse().unwrap();
        let listener = self.run(move || TcpListener::bind(address).unwrap()).join().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let peer = stream.peer_addr().unwrap().ip();
                    let _ = writeln!(stream, "{name} {peer}");
                    let mut byte = [0];
                    while matches!(stream.read(&mut byte), Ok(1)) && stream.write_all(&byte).is_ok() {}
                });
            }
        });
    }

    pub fn serve_udp(&self, address: &str, name: &'static str) {
        let address: SocketAddr = address.parse().unwrap();
        let socket = self.run(move || UdpSocket::bind(address).unwrap()).join().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
            }
        });
    }

    /// What a TCP server at the address says: its name and whom it sees.
    pub async fn ask_tcp(&self, address: &str) -> std::io::Result<String> {
        let address: SocketAddr = address.parse().unwrap();
        self.call(move || first_line(connect(address)?)).await
    }

    pub async fn ask_udp(&self, address: &str) -> std::io::Result<String> {
        let address: SocketAddr = address.parse().unwrap();
        self.call(move || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(Duration::from_secs(3)))?;
            socket.connect(address)?;
            socket.send(b"?")?;
            let mut buffer = [0; 1500];
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
        .await
    }
}

pub fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    Ok(stream)
}

pub fn first_line(mut stream: TcpStream) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// A node: the test's own namespace with a bridge network, and a neighbour outside on 192.0.2.0/24.
pub struct Node {
    pub network: BridgeNetwork,
    pub state: tempfile::TempDir,
    pub links: Links,
    /// 192.0.2.2; the node is 192.0.2.1. It knows no route to the cluster.
    pub outside: Namespace,
    /// The node's own namespace, for code that runs on threads of its own.
    pub here: Namespace,
}

pub fn config(state: &std::path::Path) -> Config {
    Config {
        bridge: "kedge0".into(),
        range: "10.42.0.0/24".parse().unwrap(),
        cluster: "10.42.0.0/16".parse().unwrap(),
        services: "10.43.0.0/16".parse().unwrap(),
        mtu: None,
        state: state.to_owned(),
    }
}

impl Node {
    pub async fn new() -> Self {
        let links = Links::open().unwrap();
        let outside = Namespace::new();
        links.create_local_veth("wan0", "far0").await.unwrap();
        links.move_to("far0", outside.fd()).await.unwrap();
        links.add_address("wan0", "192.0.2.1/24".parse().unwrap()).await.unwrap();
        let far = Links::open_in(outside.fd()).unwrap();
        far.add_address("far0", "192.0.2.2/24".parse().unwrap()).await.unwrap();
        far.up("far0").await.unwrap();
        links.add_route(&Route::default_via("192.0.2.2".parse().unwrap(), "wan0")).await.unwrap();
        let state = tempfile::tempdir().unwrap();
        let network = BridgeNetwork::open(config(state.path())).await.unwrap();
        let here = Namespace(std::fs::File::open("/proc/thread-self/ns/net").unwrap().into());
        Self { network, state, links, outside, here }
    }

    /// A namespace that is attached under this id.
    pub async fn attach(&self, id: &str) -> (Namespace, Attachment) {
        self.attach_with(id, Vec::new()).await
    }

    pub async fn attach_with(&self, id: &str, host_ports: Vec<HostPort>) -> (Namespace, Attachment) {
        let namespace = Namespace::new();
        let spec = AttachSpec { id: id.into(), host_ports };
        let attachment = self.network.attach(namespace.fd(), spec).await.unwrap();
        (namespace, attachment)
    }

    pub async fn converge(&self, services: Vec<ServiceEntry>) {
        self.network.converge(&ServiceTable { services }).await.unwrap();
    }
}

pub fn service(protocol: Protocol, address: &str, node_port: Option<u16>, backends: &[&str]) -> ServiceEntry {
    let address: SocketAddr = address.parse().unwrap();
    ServiceEntry {
        address: address.ip(),
        protocol,
        port: address.port(),
        node_port,
        affinity_seconds: None,
        backends: backends.iter().map(|backend| backend.parse().unwrap()).collect(),
    }
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What nft(8) lists, when it is installed.
pub fn ruleset() -> Option<String> {
    let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().ok()?;
    assert!(output.status.success(), "nft list ruleset: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}
