//! The whole front over loopback TLS, before a backend that keeps nothing but what the test put there.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use kedge_api::request::{Payload, WatchEvent};
use kedge_api::resource::{Subresource, known};
use kedge_api::{Answer, Body, Change, Client, Key, Object, Request, Resource, Revision, Status, User, Verb};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::authn::fixed::FixedTokens;
use crate::authn::token::Tokens;
use crate::authz::Authorizer;
use crate::backend::Backend;
use crate::clock::Clock;
use crate::describe::health::Health;
use crate::fixture::Objects;
use crate::pki::{Identity, Names, Pki, Profile, Signer};
use crate::tls;
use crate::wire::protobuf;

/// Serves config maps and pods: answers creations with what came, watches with three events.
#[derive(Default)]
struct Echo {
    seen: Mutex<Vec<String>>,
}

fn object(name: &str, revision: u64) -> Arc<Object> {
    let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "resourceVersion": revision.to_string()}});
    let key = Key::new(known::CONFIG_MAPS, "n", name);
    let meta = serde_json::from_value(value["metadata"].clone()).unwrap();
    Arc::new(Object { key, revision: Revision(revision), meta, json: value.to_string().into() })
}

#[async_trait]
impl Backend for Echo {
    async fn carry_out(&self, request: Request) -> Result<Answer, Status> {
        let options = &request.options;
        self.seen.lock().unwrap().push(format!(
            "{} {} {}/{} by {} as {:?}",
            request.verb.as_str(),
            request.target.resource,
            request.target.namespace,
            request.target.name,
            request.who.name,
            options.field_manager
        ));
        let payload = match (request.verb, request.body) {
            (Verb::Create, Body::Object { value, duplicates }) => {
                return Ok(Answer { code: 201, warnings: duplicates, payload: Payload::Value(value) });
            }
            (Verb::Watch, _) => {
                let change = |before: Option<u64>, after: Option<u64>, revision| {
                    let of = |revision: Option<u64>| revision.map(|r| object("a", r));
                    Ok(WatchEvent::Object(Arc::new(Change {
                        revision: Revision(revision),
                        key: object("a", 1).key.clone(),
                        before: of(before),
                        after: of(after),
                    })))
                };
                let events = vec![
                    change(None, Some(1), 1),
                    change(Some(1), None, 2),
                    Ok(WatchEvent::Bookmark { revision: Revision(3), initial_end: true }),
                ];
                let rest = match options.timeout_seconds {
                    Some(_) => futures::stream::pending().boxed(),
                    None => futures::stream::iter([Err(Status::new(kedge_api::Reason::Expired, "too old"))]).boxed(),
                };
                Payload::Watch(futures::stream::iter(events).chain(rest).boxed())
            }
            (Verb::Get, _) if request.target.name == "panics" => panic!("on purpose"),
            (Verb::Get, _) => Payload::Stored(object(&request.target.name, 1)),
            (_, body) => Payload::Value(json!({"kind": "Echo", "body": format!("{body:?}")})),
        };
        Ok(Answer { code: 200, warnings: Vec::new(), payload })
    }

    fn rows(&self) -> Arc<[Arc<Resource>]> {
        const ALL: &[Verb] = &[
            Verb::Get,
            Verb::List,
            Verb::Watch,
            Verb::Create,
            Verb::Update,
            Verb::Patch,
            Verb::Delete,
            Verb::DeleteCollection,
        ];
        const EXEC: &[Subresource] =
            &[Subresource { name: "exec", kind: "PodExecOptions", group_version: None, verbs: &[Verb::Connect] }];
        let row = |id, kind: &'static str, singular: &'static str, subresources| Resource {
            id,
            version: "v1".into(),
            kind: kind.into(),
            singular: singular.into(),
            short_names: (&[]).into(),
            categories: (&[]).into(),
            namespaced: true,
            verbs: ALL,
            subresources,
            columns: &[],
            selectable: &[],
            schema: format!("io.k8s.api.core.v1.{kind}").into(),
            volatile: false,
            deprecated: None,
            stored_in: None,
            made_annotations: &[],
            custom: None,
        };
        [
            row(known::CONFIG_MAPS, "ConfigMap", "configmap", &[]),
            row(known::PODS, "Pod", "pod", EXEC),
            Resource { namespaced: false, ..row(known::NODES, "Node", "node", &[]) },
        ]
        .map(Arc::new)
        .into()
    }
}

struct World {
    _dir: tempfile::TempDir,
    pki: Arc<Pki>,
    echo: Arc<Echo>,
    objects: Arc<Objects>,
    front: Arc<Front>,
    address: SocketAddr,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<Result<(), ListenError>>,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let pki = Arc::new(Pki::open(dir.path(), Names::new("n1", vec![]), clock.clone()).unwrap());
    let (echo, objects) = (Arc::new(Echo::default()), Arc::new(Objects::bootstrapped().await));
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let setup = Setup {
        own: None,
        tokens: Arc::new(Tokens::new(pki.token_key(), clock.clone()).unwrap()),
        fixed: FixedTokens::default(),
        access: Access::default(),
        authorizer: Arc::new(Authorizer::new(objects.clone())),
        pki: Arc::clone(&pki),
        backend: echo.clone(),
        informer: objects.clone(),
        health: Health::default(),
        clock,
        audit: None,
        address: address.to_string(),
        stop: stop.clone(),
    };
    let (front, tls) = assemble(setup).unwrap();
    let served = tokio::spawn(serve(listener, tls, Arc::clone(&front), stop.clone()));
    World { _dir: dir, pki, echo, objects, front, address, stop, served }
}

type Sender = hyper::client::conn::http1::SendRequest<Full<bytes::Bytes>>;

impl World {
    fn admin(&self) -> Arc<Identity> {
        self.pki.identity(&Profile::Admin).unwrap()
    }

    async fn connect(&self, identity: &Identity) -> Sender {
        let config = tls::client_config(identity, self.pki.authority(Signer::Server)).unwrap();
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("kubernetes.default.svc").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    async fn ask(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (http::response::Parts, String) {
        let (parts, body) = self.ask_bytes(method, uri, headers, body.as_bytes()).await;
        (parts, String::from_utf8(body).unwrap())
    }

    async fn ask_bytes(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (http::response::Parts, Vec<u8>) {
        let mut sender = self.connect(&self.admin()).await;
        let mut request = http::Request::builder().method(method).uri(uri).header("host", "k");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_vec())).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        (parts, body.collect().await.unwrap().to_bytes().to_vec())
    }
}

#[tokio::test]
async fn a_request_passes_all_gates() {
    let world = world().await;
    let (parts, body) = world.ask("GET", "/api/v1/namespaces/n/configmaps/a", &[], "").await;
    assert_eq!(
        (parts.status.as_u16(), serde_json::from_str::<Value>(&body).unwrap()["metadata"]["name"].as_str()),
        (200, Some("a"))
    );
    assert!(parts.headers.contains_key("audit-id"));
    let yaml = "kind: ConfigMap\nmetadata: {name: b}\ndata: {k: v, k: w}\n";
    let headers = [("content-type", "application/yaml"), ("user-agent", "tool/1.2")];
    let (parts, body) = world.ask("POST", "/api/v1/namespaces/n/configmaps", &headers, yaml).await;
    assert_eq!(
        (parts.status.as_u16(), &parts.headers["warning"]),
        (201, &http::HeaderValue::from_static(r#"299 - "line 3: key \"k\" already set in map""#))
    );
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["data"], json!({"k": "w"}));
    let seen = world.echo.seen.lock().unwrap().clone();
    assert_eq!(seen, ["get configmaps n/a by admin as None", "create configmaps n/ by admin as Some(\"tool\")"]);
}

#[tokio::test]
async fn a_head_is_answered_without_a_body_over_http_2_as_well() {
    let world = world().await;
    let mut config = tls::client_config(&world.admin(), world.pki.authority(Signer::Server)).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(world.address).await.unwrap();
    let name = ServerName::try_from("kubernetes.default.svc").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (path, code) in [
        ("/livez/ping", 200),
        ("/apis", 200),
        ("/version", 405),
        ("/api/v1", 405),
        ("/api/v1/namespaces/n/configmaps/a", 405),
        ("/api/v1/namespaces/n/pods/p/log", 405),
        ("/nowhere", 404),
    ] {
        let request = http::Request::head(format!("https://k{path}")).body(Full::<bytes::Bytes>::default()).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!((parts.status.as_u16(), body.len()), (code, 0), "{path}");
        assert!(parts.headers["content-length"].to_str().unwrap().parse::<u64>().unwrap() > 0, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_said_as_upstream_does() {
    let world = world().await;
    let big = format!("{{\"data\":\"{}\"}}", "x".repeat(3 * 1024 * 1024));
    for (method, uri, headers, body, code, want) in [
        ("GET", "/api/v1/nope", &[][..], "", 404, "the server could not find the requested resource"),
        ("GET", "/apis/nope.example.com/v1/things", &[], "", 404, "404 page not found"),
        ("POST", "/api/v1/configmaps", &[], "{}", 405, "does not allow this method"),
        ("GET", "/api/v1/configmaps/a", &[], "", 404, "could not find"),
        ("GET", "/api/v1/namespaces/n/configmaps/a/status", &[], "", 404, "could not find"),
        ("PUT", "/version", &[], "", 405, "does not allow this method"),
        ("POST", "/api/v1/namespaces/n/configmaps", &[("content-type", "text/plain")], "x", 415, "unknown format"),
        (
            "PATCH",
            "/api/v1/namespaces/n/configmaps/a",
            &[("content-type", "application/json")],
            "{}",
            415,
            "415: Unsupported Media Type",
        ),
        (
            "PATCH",
            "/api/v1/namespaces/n/configmaps/a",
            &[("content-type", "application/json-patch+json")],
            "{}",
            400,
            "cannot unmarshal object into Go value of type []",
        ),
        ("POST", "/api/v1/namespaces/n/configmaps", &[], "[]", 400, "must be of type ConfigMap"),
        ("POST", "/api/v1/namespaces/n/configmaps", &[], &big, 413, "limit is 3145728"),
        ("GET", "/api/v1/namespaces/n/configmaps", &[("accept", "text/html")], "", 406, "406: Not Acceptable"),
        ("GET", "/api/v1/namespaces/n/configmaps?limit=x", &[], "", 400, "strconv.ParseInt"),
        ("GET", "/api/%zz", &[], "", 400, "invalid URL escape"),
        (
            "GET",
            "/api/v1/namespaces/n/configmaps",
            &[("impersonate-user", "jane")],
            "",
            403,
            "User \\\"jane\\\" cannot list resource",
        ),
        ("GET", "/api/v1/namespaces/n/configmaps/panics", &[], "", 500, "internal error"),
        ("GET", "/api/v1/namespaces/n/pods/p/exec", &[], "", 404, "pods \\\"p\\\" not found"),
    ] {
        let (parts, got) = world.ask(method, uri, headers, body).await;
        assert_eq!(parts.status.as_u16(), code, "{method} {uri}: {got}");
        assert!(got.contains(want), "{method} {uri}: {got}");
    }
}

#[tokio::test]
async fn go_clients_speak_protobuf() {
    let world = world().await;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}});
    let body = protobuf::encode(&review).unwrap();
    for accept in ["application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"] {
        let headers = [("content-type", "application/vnd.kubernetes.protobuf"), ("accept", accept)];
        let uri = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let (parts, bytes) = world.ask_bytes("POST", uri, &headers, &body).await;
        assert_eq!(parts.status.as_u16(), 201);
        let answer = if parts.headers["content-type"] == "application/json" {
            assert!(accept.contains("json"));
            serde_json::from_slice(&bytes).unwrap()
        } else {
            protobuf::decode(&bytes, None).unwrap()
        };
        assert_eq!(answer["status"]["userInfo"]["groups"], json!(["system:masters", "system:authenticated"]));
    }
    let headers = [("content-type", "application/vnd.kubernetes.protobuf")];
    let uri = "/api/v1/namespaces/n/configmaps";
    let (parts, bytes) = world.ask_bytes("POST", uri, &headers, b"k8s\0\x0a\xff").await;
    assert_eq!(parts.status.as_u16(), 400);
    let said = String::from_utf8(bytes).unwrap();
    assert!(said.contains("must be of type ConfigMap): the message ends in the middle"), "{said}");
}

#[tokio::test]
async fn nobody_and_strangers_get_401() {
    let (world, other) = (world().await, super::tests::world().await);
    let config = tls::client_config(&other.admin(), world.pki.authority(Signer::Server)).unwrap();
    let tcp = TcpStream::connect(world.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("/api").body(Full::<bytes::Bytes>::default()).unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!((parts.status.as_u16(), body["message"].as_str()), (401, Some("Unauthorized")));
}

#[tokio::test]
async fn a_watch_is_lines_until_its_time_is_up() {
    let world = world().await;
    let (parts, body) = world.ask("GET", "/api/v1/namespaces/n/configmaps?watch=1&timeoutSeconds=1", &[], "").await;
    let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines
        .iter()
        .map(|l| (l["type"].as_str().unwrap(), l["object"]["metadata"]["resourceVersion"].as_str().unwrap()))
        .collect();
    assert_eq!((parts.status.as_u16(), kinds), (200, vec![("ADDED", "1"), ("DELETED", "2"), ("BOOKMARK", "3")]));
    assert_eq!(lines[2]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let (_, body) = world.ask("GET", "/api/v1/namespaces/n/configmaps?watch=1", &[], "").await;
    let last: Value = serde_json::from_str(body.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(world.front.metrics().open_watches("", "configmaps", "v1", "namespace"), 0.0);
}

#[tokio::test]
async fn stopping_ends_watches_and_the_server() {
    let world = world().await;
    let mut sender = world.connect(&world.admin()).await;
    let request = http::Request::get("/api/v1/namespaces/n/configmaps?watch=1&timeoutSeconds=600").header("host", "k");
    let response = sender.send_request(request.body(Full::default()).unwrap()).await.unwrap();
    world.stop.cancel();
    let body = tokio::time::timeout(Duration::from_secs(3), response.into_body().collect()).await.unwrap().unwrap();
    assert_eq!(body.to_bytes().iter().filter(|b| **b == b'\n').count(), 3);
    tokio::time::timeout(Duration::from_secs(3), world.served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn the_in_process_client_is_who_it_was_made_for() {
    let world = world().await;
    let scheduler =
        InProcess::new(Arc::clone(&world.front), User::new("system:kube-scheduler", &["system:authenticated"]));
    let call = |verb, resource: kedge_api::GroupResource| {
        let target = kedge_api::Target {
            resource,
            version: String::new(),
            namespace: "n".into(),
            name: "a".into(),
            subresource: String::new(),
        };
        // A liar's request.
        let who = User::new("admin", &["system:masters"]);
        scheduler.call(Request { who, verb, target, options: Default::default(), body: Body::None })
    };
    assert!(call(Verb::Get, known::PODS).await.is_ok());
    assert_eq!(call(Verb::Get, known::SECRETS).await.unwrap_err().reason, kedge_api::Reason::Forbidden);
    assert_eq!(*world.echo.seen.lock().unwrap(), ["get pods n/a by system:kube-scheduler as Some(\"kube-scheduler\")"]);
}

/// A kubelet that echoes upgraded connections, and answers everything else with what was asked.
async fn kubelet(pki: &Pki) -> u16 {
    let verifier = tls::client_verifier(pki.authority(Signer::Client)).unwrap();
    let mut config = tls::server_config(pki.resolver(&Profile::KubeletServing).unwrap(), &[&*verifier]).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let tls = acceptor.accept(tcp).await.unwrap();
                let client =
                    crate::pki::Seen::of(&tls.get_ref().1.peer_certificates().unwrap()[0]).unwrap().common_name;
                let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let said =
                        format!("{client} {} {}", request.uri(), request.headers().contains_key("authorization"));
                    async move {
                        let mut response = http::Response::new(Full::<bytes::Bytes>::from(said));
                        if request.headers().contains_key("upgrade") {
                            *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
                            response.headers_mut().insert("connection", "Upgrade".parse().unwrap());
                            response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
                            tokio::spawn(async move {
                                let mut io = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
                                let mut buffer = [0; 5];
                                tokio::io::AsyncReadExt::read_exact(&mut io, &mut buffer).await.unwrap();
                                tokio::io::AsyncWriteExt::write_all(&mut io, &buffer).await.unwrap();
                            });
                        }
                        Ok::<_, std::convert::Infallible>(response)
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(tls), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
    port
}

fn place(world: &World, port: u16) {
    world.objects.put(
        known::PODS,
        json!({"metadata": {"namespace": "n", "name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "c"}]}}),
    );
    let status = json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}});
    world.objects.put(known::NODES, json!({"metadata": {"name": "n1"}, "status": status}));
}

#[tokio::test]
async fn connections_to_nodes_are_passed_on() {
    let world = world().await;
    place(&world, kubelet(&world.pki).await);
    let secret = [("authorization", "Bearer secret")];
    let (parts, body) = world.ask("GET", "/api/v1/namespaces/n/pods/p/log?tailLines=3", &secret, "").await;
    assert_eq!(
        (parts.status.as_u16(), body.as_str()),
        (200, "kube-apiserver-kubelet-client /containerLogs/n/p/c?tailLines=3 false")
    );
    let (parts, body) = world.ask("GET", "/api/v1/nodes/n1/proxy/healthz", &[], "").await;
    assert_eq!((parts.status.as_u16(), body.as_str()), (200, "kube-apiserver-kubelet-client /healthz false"));
    let (parts, body) = world.ask("POST", "/api/v1/namespaces/n/pods/p/exec?command=sh&stdout=1", &[], "").await;
    assert_eq!(parts.status.as_u16(), 400, "{body}");

    let mut sender = world.connect(&world.admin()).await;
    let request = http::Request::get("/api/v1/namespaces/n/pods/p/exec?command=sh&stdout=1").header("host", "k");
    let request = request.header("connection", "Upgrade").header("upgrade", "websocket").body(Full::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status().as_u16(), 101);
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    tokio::io::AsyncWriteExt::write_all(&mut io, b"hello").await.unwrap();
    let mut echoed = Vec::new();
    tokio::time::timeout(Duration::from_secs(3), tokio::io::AsyncReadExt::read_to_end(&mut io, &mut echoed))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(echoed, b"hello");
}

#[tokio::test]
async fn an_unreachable_node_is_an_error_of_ours() {
    let world = world().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    place(&world, free);
    let (parts, body) = world.ask("GET", "/api/v1/namespaces/n/pods/p/log", &[], "").await;
    assert_eq!(parts.status.as_u16(), 500);
    let want = format!(
        "Get \\\"https://127.0.0.1:{free}/containerLogs/n/p/c\\\": dial tcp 127.0.0.1:{free}: connect: connection refused"
    );
    assert!(body.contains(&want), "{body}");
    // Whoever listens there must hold a certificate of ours.
    let other = super::tests::world().await;
    place(&world, kubelet(&other.pki).await);
    let (parts, body) = world.ask("GET", "/api/v1/namespaces/n/pods/p/log", &[], "").await;
    assert_eq!(parts.status.as_u16(), 500);
    assert!(body.contains("tls: ") && body.contains("invalid peer certificate"), "{body}");
}

#[tokio::test]
async fn keys_of_tokens_are_found_where_the_service_leads() {
    let world = world().await;
    let told = async |path: &str, pointer: &str| {
        let (_, body) = world.ask("GET", path, &[], "").await;
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        value.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    let keys = |address: &str| format!("https://{address}/openid/v1/jwks");
    assert_eq!(told("/.well-known/openid-configuration", "/jwks_uri").await, keys(&world.address.to_string()));
    let slice = json!({"metadata": {"namespace": "default", "name": "kubernetes"}, "ports": [{"port": 6443}],
        "endpoints": [{"addresses": ["10.0.2.15"]}]});
    world.objects.put(known::ENDPOINT_SLICES, slice);
    assert_eq!(told("/.well-known/openid-configuration", "/jwks_uri").await, keys("10.0.2.15:6443"));
    assert_eq!(told("/api", "/serverAddressByClientCIDRs/0/serverAddress").await, "10.0.2.15:6443");
}

/// An APIService of `v1.boats.example.com` before the server at a port.
fn extend(world: &World, port: u16, available: &str) {
    let named = |name: &str| json!({"namespace": "n", "name": name, "labels": {"kubernetes.io/service-name": "s"}});
    world.objects.put(known::SERVICES, json!({"metadata": named("s"), "spec": {"ports": [{"port": 443}]}}));
    let slice =
        json!({"metadata": named("s-1"), "ports": [{"port": port}], "endpoints": [{"addresses": ["127.0.0.1"]}]});
    world.objects.put(known::ENDPOINT_SLICES, slice);
    let spec = json!({"group": "boats.example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
        "insecureSkipTLSVerify": true, "service": {"namespace": "n", "name": "s", "port": 443}});
    let status = json!({"conditions": [{"type": "Available", "status": available}]});
    let service = json!({"metadata": {"name": "v1.boats.example.com"}, "spec": spec, "status": status});
    world.objects.put(known::API_SERVICES, service);
}

#[tokio::test]
async fn what_another_server_answers_is_asked_there() {
    let world = world().await;
    let (boats, port) = ("/apis/boats.example.com/v1/boats", kubelet(&world.pki).await);
    let (parts, _) = world.ask("GET", boats, &[], "").await;
    assert_eq!(parts.status.as_u16(), 404);
    extend(&world, port, "False");
    let (parts, body) = world.ask("GET", boats, &[], "").await;
    assert_eq!((parts.status.as_u16(), body.as_str()), (503, "service unavailable\n"));
    extend(&world, port, "True");
    let secret = [("authorization", "Bearer secret")];
    let (parts, body) = world.ask("PUT", "/apis/boats.example.com/v1/boats/a%20b?x=%20", &secret, "{}").await;
    assert_eq!(
        (parts.status.as_u16(), body.as_str()),
        (200, "front-proxy-client /apis/boats.example.com/v1/boats/a%20b?x=%20 false")
    );
    let (_, body) = world.ask("GET", "/openapi/v3/apis/boats.example.com/v1", &[], "").await;
    assert_eq!(body, "front-proxy-client /openapi/v3/apis/boats.example.com/v1 false");
    // Whoever may not ask is refused here.
    let (parts, body) = world.ask("GET", boats, &[("impersonate-user", "jane")], "").await;
    assert_eq!(parts.status.as_u16(), 403, "{body}");
    let (_, body) = world.ask("GET", "/apis/boats.example.com", &[], "").await;
    assert!(body.contains(r#""preferredVersion":{"groupVersion":"boats.example.com/v1","version":"v1"}"#), "{body}");
    let mut sender = world.connect(&world.admin()).await;
    let request =
        http::Request::get(boats).header("host", "k").header("connection", "Upgrade").header("upgrade", "websocket");
    let response = sender.send_request(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(response.status().as_u16(), 101);
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    tokio::io::AsyncWriteExt::write_all(&mut io, b"hello").await.unwrap();
    let mut echoed = [0; 5];
    tokio::io::AsyncReadExt::read_exact(&mut io, &mut echoed).await.unwrap();
    assert_eq!(&echoed, b"hello");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    extend(&world, free, "True");
    let (parts, body) = world.ask("GET", boats, &[], "").await;
    let why = format!("error trying to reach service: dial tcp 127.0.0.1:{free}: connect: connection refused\n");
    assert_eq!((parts.status.as_u16(), body), (503, why));
}
