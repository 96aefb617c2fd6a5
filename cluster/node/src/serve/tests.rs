use std::path::Path;

use futures::{SinkExt, StreamExt};
use http_body_util::Empty;
use k8s_openapi::api::core::v1::Pod;
use kedge_api::event::Recorder;
use kedge_api::resource::known::PODS;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;
use crate::fake::{Api, Machine, host};
use crate::pod::SlotId;
use crate::translate::container::label;
use kedge_runtime::{ContainerSpec, Runtime};

/// A certificate authority for tests.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn generate() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key.
    fn leaf(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    pub fn tls(&self) -> Tls {
        let (certificate, key) = self.leaf("n1");
        Tls::from_pem(&certificate, &key, &self.pem).unwrap()
    }

    fn client(&self, name: Option<&str>) -> tokio_rustls::TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match name {
            Some(name) => {
                let (certificate, key) = self.leaf(name);
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        tokio_rustls::TlsConnector::from(Arc::new(config))
    }
}

const API_SERVER: &str = "kube-apiserver-kubelet-client";

struct Node {
    authority: Authority,
    address: SocketAddr,
    site: Arc<Site>,
    machine: Arc<Machine>,
    pod: Pod,
    _dir: tempfile::TempDir,
}

impl Node {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (authority, api, machine) = (Authority::generate(), Api::new(), Machine::new(dir.path()));
        let pod = api.put(
            &PODS,
            json!({"metadata": {"namespace": "shop", "name": "web", "uid": "u-1"}, "spec": {"nodeName": "n1", "containers": [{"name": "main"}, {"name": "late"}]}}),
        );
        api.put(
            &PODS,
            json!({"metadata": {"namespace": "shop", "name": "else"}, "spec": {"nodeName": "n2", "containers": []}}),
        );
        let site = Arc::new(Site {
            node: "n1".into(),
            state_dir: dir.path().to_owned(),
            run_dir: dir.path().to_owned(),
            cluster_dns: Vec::new(),
            domain: "cluster.local".into(),
            cpus: 1,
            memory: 1 << 30,
            addresses: watch::channel(vec![host()]).1,
            client: api.clone(),
            informer: api.clone(),
            runtime: machine.clone(),
            network: machine.clone(),
            ground: machine.clone(),
            host: Arc::new(crate::Unmanaged),
            recorder: Recorder::new(api.clone(), "kubelet", "n1"),
        });
        let labels = [(label::UID, "u-1"), (label::NAMESPACE, "shop"), (label::POD, "web"), (label::CONTAINER, "main")];
        let labels = labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let id = crate::translate::container::id("u-1", SlotId::Main(0), 1);
        machine.create(ContainerSpec { id: id.clone(), labels, ..ContainerSpec::default() }).await.unwrap();
        machine.start(&id).await.unwrap();
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), &authority.tls(), site.clone()).await.unwrap();
        let address = server.address().unwrap();
        tokio::spawn(server.run());
        let pod = serde_json::from_value(pod).unwrap();
        Self { authority, address, site, machine, pod, _dir: dir }
    }

    fn log(&self, attempt: u32) -> std::path::PathBuf {
        let path = self.site.log(&self.pod, "main", attempt);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    async fn connect(&self, name: Option<&str>) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let server = rustls::pki_types::ServerName::IpAddress(self.address.ip().into());
        self.authority.client(name).connect(server, stream).await
    }

    async fn request(&self, name: &str, path: &str) -> Response<Incoming> {
        let stream = self.connect(Some(name)).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(Request::get(path).body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
    }

    /// A connection that speaks SPDY.
    async fn upgrade(&self, path: &str, protocol: &str) -> TokioIo<hyper::upgrade::Upgraded> {
        let stream = self.connect(Some(API_SERVER)).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let request = Request::post(path).header("connection", "Upgrade").header("upgrade", "SPDY/3.1");
        let request = request.header("x-stream-protocol-version", protocol);
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-stream-protocol-version"]),
            (101, &protocol.parse().unwrap())
        );
        TokioIo::new(hyper::upgrade::on(response).await.unwrap())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = self.request(API_SERVER, path).await;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn session(
        &self,
        path: &str,
    ) -> tokio_tungstenite::WebSocketStream<tokio_rustls::client::TlsStream<TcpStream>> {
        self.session_in(path, Some("v5.channel.k8s.io")).await
    }

    async fn session_in(
        &self,
        path: &str,
        protocol: Option<&str>,
    ) -> tokio_tungstenite::WebSocketStream<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut request = format!("wss://{}{path}", self.address).into_client_request().unwrap();
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        let stream = self.connect(Some(API_SERVER)).await.unwrap();
        tokio_tungstenite::client_async(request, stream).await.unwrap().0
    }
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what).await.expect("nothing came within ten seconds")
}

#[tokio::test]
async fn only_the_api_server_and_masters_are_answered() {
    let node = Node::start().await;
    assert_eq!(node.get("/healthz").await, (200, "ok".into()));
    assert_eq!(node.request("somebody", "/healthz").await.status(), 403);
    let refused = match node.connect(None).await {
        // With TLS 1.3 the refusal comes with the first read.
        Ok(mut stream) => tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 10]).await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "a client without certificate is not served");
    assert_eq!(node.get("/nothing").await.0, 404);
}

#[tokio::test]
async fn pods_and_what_they_use() {
    let node = Node::start().await;
    let pods: Value = serde_json::from_str(&node.get("/pods").await.1).unwrap();
    assert_eq!((pods["items"].as_array().unwrap().len(), &pods["items"][0]["metadata"]["name"]), (1, &json!("web")));
    let summary: Value = serde_json::from_str(&node.get("/stats/summary").await.1).unwrap();
    assert_eq!(summary["pods"][0]["containers"][0]["memory"]["workingSetBytes"], 1000);
    let metrics = node.get("/metrics/resource").await.1;
    assert!(
        metrics
            .contains("container_memory_working_set_bytes{container=\"main\",namespace=\"shop\",pod=\"web\"} 1000\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn logs_are_read_by_attempt() {
    let node = Node::start().await;
    append(&node.log(0), "2026-01-01T00:00:00Z stdout F old\n");
    append(&node.log(1), "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr F two\n");
    for (path, expected) in [
        ("/containerLogs/shop/web/main", (200, "one\ntwo\n")),
        ("/containerLogs/shop/web/main?previous=true", (200, "old\n")),
        ("/containerLogs/shop/web/main?tailLines=1&timestamps=true", (200, "2026-01-01T00:00:02Z two\n")),
        ("/containerLogs/shop/web/main?limitBytes=2", (200, "on")),
        (
            "/containerLogs/shop/web/late",
            (400, "container \"late\" in pod \"web\" is waiting to start: ContainerCreating"),
        ),
        ("/containerLogs/shop/web/none", (400, "container \"none\" not found in pod \"web\"")),
        ("/containerLogs/shop/none/main", (404, "pod \"none\" not found")),
        (
            "/containerLogs/shop/web/main?tailLines=x",
            (400, "unable to decode query: tailLines=\"x\" is not a number of lines"),
        ),
    ] {
        assert_eq!(node.get(path).await, (expected.0, expected.1.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn logs_are_followed_over_rotation_to_the_containers_end() {
    let node = Node::start().await;
    let log = node.log(1);
    append(&log, "t stdout F one\n");
    let mut body = node.request(API_SERVER, "/containerLogs/shop/web/main?follow=true").await.into_body();
    let mut next = async || {
        let frame = within(body.frame()).await?;
        Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    };
    assert_eq!(next().await.as_deref(), Some("one\n"));
    append(&log, "t stdout F two\n");
    assert_eq!(next().await.as_deref(), Some("two\n"));
    std::fs::rename(&log, log.with_extension("log.1")).unwrap();
    append(&log, "t stdout F three\n");
    assert_eq!(next().await.as_deref(), Some("three\n"));
    append(&log, "t stdout F last\n");
    node.machine.end("u1-c0-1", 0);
    assert_eq!(next().await.as_deref(), Some("last\n"));
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn a_command_is_run_over_its_channels() {
    let node = Node::start().await;
    let mut socket = node.session("/exec/shop/web/main?command=say&command=7&input=1&output=1&error=1").await;
    let mut received = Vec::new();
    while let Some(message) = within(socket.next()).await {
        match message.unwrap() {
            Message::Binary(data) => {
                if &data[..] == b"\x01say 7\n" {
                    socket
                        .send(Message::Binary(Bytes::from_static(b"\x04{\"Width\":80,\"Height\":24}")))
                        .await
                        .unwrap();
                    socket.send(Message::Binary(Bytes::from_static(b"\0hello\n"))).await.unwrap();
                }
                received.push(data);
            }
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 1000);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let [first, said, echoed, status] = received.as_slice() else { panic!("{received:?}") };
    assert_eq!((&first[..], &said[..], &echoed[..]), (&b"\x01"[..], &b"\x01say 7\n"[..], &b"\x01hello\n"[..]));
    let status: Value = serde_json::from_slice(&status[1..]).unwrap();
    assert_eq!(
        (&status["reason"], &status["details"]["causes"][0]["message"]),
        (&json!("NonZeroExitCode"), &json!("7"))
    );
}

#[tokio::test]
async fn attaching_ends_with_success_and_refusals_are_told() {
    let node = Node::start().await;
    let mut socket = node.session("/attach/shop/web/main?output=1&input=1").await;
    socket.send(Message::Binary(Bytes::from_static(b"\0x\n"))).await.unwrap();
    let mut last = Bytes::new();
    while let Some(Ok(Message::Binary(data))) = within(socket.next()).await {
        last = data;
    }
    assert_eq!(&last[..], b"\x03{\"metadata\":{},\"status\":\"Success\"}");
    let (code, why) = node.get("/exec/shop/web/main?command=x&output=1").await;
    assert_eq!((code, why.as_str()), (400, "unable to upgrade: X-Stream-Protocol-Version is required"));
    assert_eq!(node.get("/exec/shop/web/late?command=x&output=1").await.0, 404);
}

#[tokio::test]
async fn old_protocols_of_websocket_tell_failures_as_text() {
    let node = Node::start().await;
    for (protocol, said, failed) in [
        (Some("channel.k8s.io"), &b"\x01say 7\n"[..], &b"\x03command terminated with non-zero exit code: error executing command [say 7], exit code 7"[..]),
        (None, b"\x01say 7\n", b"\x03command terminated with non-zero exit code: error executing command [say 7], exit code 7"),
        (Some("base64.channel.k8s.io"), b"1c2F5IDcK", b"3Y29tbWFuZCB0ZXJtaW5hdGVkIHdpdGggbm9uLXplcm8gZXhpdCBjb2RlOiBlcnJvciBleGVjdXRpbmcgY29tbWFuZCBbc2F5IDddLCBleGl0IGNvZGUgNw=="),
    ] {
        let mut socket = node.session_in("/exec/shop/web/main?command=say&command=7&output=1", protocol).await;
        let mut received = Vec::new();
        while let Some(Ok(message @ (Message::Binary(_) | Message::Text(_)))) = within(socket.next()).await {
            received.push(message.into_data());
        }
        assert_eq!(received[1..], [said, failed], "{protocol:?}");
    }
}

#[tokio::test]
async fn a_client_of_v5_ends_standard_input() {
    let node = Node::start().await;
    let mut socket = node.session("/exec/shop/web/main?command=0&output=1&input=1").await;
    // No end of line: the command waits for the end.
    socket.send(Message::Binary(Bytes::from_static(b"\0half"))).await.unwrap();
    socket.send(Message::Binary(Bytes::from_static(b"\xff\0"))).await.unwrap();
    let mut received = Vec::new();
    while let Some(Ok(Message::Binary(data))) = within(socket.next()).await {
        received.push(data);
    }
    let [_, _, half, status] = received.as_slice() else { panic!("{received:?}") };
    assert_eq!((&half[..], &status[..]), (&b"\x01half"[..], &b"\x03{\"metadata\":{},\"status\":\"Success\"}"[..]));
}

#[tokio::test]
async fn a_command_is_run_over_spdy() {
    let node = Node::start().await;
    let upgraded =
        node.upgrade("/exec/shop/web/main?command=say&command=7&input=1&output=1", "v4.channel.k8s.io").await;
    let mut client = spdy::tests::Client::new(upgraded);
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
        client.open(stream, &[("streamtype", kind)]).await;
        assert_eq!(within(client.next()).await.unwrap().stream, stream);
    }
    client.data(3, false, b"hal").await;
    client.data(3, true, b"f").await;
    let (mut said, mut told, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let frame = within(client.next()).await.expect("a goodbye comes before the end");
        match (frame.kind, frame.stream) {
            (0, 1) => told.extend(frame.payload),
            (0, 5) => said.extend(frame.payload),
            _ => break,
        }
        if frame.fin {
            ended.push(frame.stream);
        }
    }
    assert_eq!((&said[..], &ended[..]), (&b"say 7\nhalf"[..], &[5, 1][..]));
    assert_eq!(serde_json::from_slice::<Value>(&told).unwrap()["details"]["causes"][0]["message"], "7");
}

/// Says back one line.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = tokio::io::BufReader::new(stream);
            let mut line = String::new();
            tokio::io::AsyncBufReadExt::read_line(&mut stream, &mut line).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, line.as_bytes()).await.unwrap();
        }
    });
    port
}

async fn unused() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn ports_are_forwarded_over_spdy_in_pairs_of_streams() {
    let (node, port, unused) = (Node::start().await, echo().await, unused().await);
    let mut client = spdy::tests::Client::new(node.upgrade("/portForward/shop/web", "portforward.k8s.io").await);
    let (good, bad) = (port.to_string(), unused.to_string());
    // Of the second client no request ids are known: its streams follow each other.
    let streams = [
        (1, vec![("streamtype", "error"), ("port", &good), ("requestid", "0")]),
        (3, vec![("streamtype", "error"), ("port", &bad)]),
        (5, vec![("streamtype", "data"), ("port", &bad)]),
        (7, vec![("streamtype", "data"), ("port", &good), ("requestid", "0")]),
    ];
    for (stream, headers) in &streams {
        client.open(*stream, headers).await;
    }
    client.data(7, false, b"hello\n").await;
    let (mut said, mut why, mut ended) = (Vec::new(), Vec::new(), std::collections::BTreeSet::new());
    while ended.len() < 4 {
        let frame = within(client.next()).await.unwrap();
        match (frame.kind, frame.stream) {
            (0, 7) => said.extend(frame.payload),
            (0, 3) => why.extend(frame.payload),
            _ => {}
        }
        if frame.fin {
            ended.insert(frame.stream);
        }
    }
    assert_eq!(said, b"hello\n");
    let why = String::from_utf8(why).unwrap();
    assert!(
        why.starts_with(&format!(
            "error forwarding port {unused} to pod web, uid u-1: failed to connect to localhost:{unused}"
        )),
        "{why}"
    );
    client.open(9, &[("streamtype", "data"), ("port", "none")]).await;
    let frame = within(client.next()).await.unwrap();
    assert_eq!((frame.kind, frame.stream), (spdy::frame::RST_STREAM, 9));
}

#[tokio::test]
async fn ports_are_forwarded_over_channels_of_a_websocket() {
    let (node, port, unused) = (Node::start().await, echo().await, unused().await);
    let path = format!("/portForward/shop/web?port={unused},{port}");
    for protocol in [None, Some("v4.channel.k8s.io")] {
        let mut socket = node.session_in(&path, protocol).await;
        socket.send(Message::Binary(Bytes::from_static(b"\x02hello\n"))).await.unwrap();
        let mut said = std::collections::BTreeMap::<u8, Vec<u8>>::new();
        while let Some(Ok(Message::Binary(data))) = within(socket.next()).await {
            said.entry(data[0]).or_default().extend(&data[1..]);
        }
        let heard = |channel: u8, port: u16| said[&channel].strip_prefix(&port.to_le_bytes()).unwrap();
        assert_eq!((heard(0, unused), heard(2, port), heard(3, port)), (&b""[..], &b"hello\n"[..], &b""[..]));
        assert!(heard(1, unused).starts_with(b"error forwarding port"));
    }
    assert_eq!(node.get("/portForward/shop/none").await, (404, "pod does not exist".into()));
}
