//! A server that extends the API, and the real kubectl that gets its kind through ours.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kedge_serve::clock::Clock;
use kedge_serve::pki::{Names, Pki, Profile, Seen, Signer};
use kedge_serve::tls;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::World;

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn whole(value: &Value) -> Body {
    Full::new(Bytes::from(value.to_string())).boxed_unsync()
}

fn boat(name: &str, revision: u32) -> Value {
    json!({"apiVersion": "boats.example.com/v1", "kind": "Boat", "spec": {"sails": 3},
        "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": revision.to_string()}})
}

/// What it answers; what it was told about who asks goes into `told`.
fn answer(request: &http::Request<Incoming>, told: &Mutex<Vec<String>>) -> (u16, Body) {
    let header = |name: &str| {
        let values = request.headers().get_all(name).iter().map(|v| v.to_str().unwrap());
        values.collect::<Vec<_>>().join("+")
    };
    let credentials = ["authorization", "impersonate-user"].iter().any(|name| request.headers().contains_key(*name));
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let who = format!(
        "{} {} {}",
        header("x-remote-user"),
        header("x-remote-group"),
        header("x-remote-extra-example.com%2fdeck")
    );
    told.lock().unwrap().push(format!(
        "{} {path} by {who}{}",
        request.method(),
        if credentials { " with credentials" } else { "" }
    ));
    let list = "/apis/boats.example.com/v1/namespaces/default/boats";
    let verbs = json!(["get", "list", "watch", "delete"]);
    match path {
        "/apis/boats.example.com/v1" => (
            200,
            whole(&json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "boats.example.com/v1",
            "resources": [{"name": "boats", "singularName": "boat", "namespaced": true, "kind": "Boat", "shortNames": ["bt"], "verbs": verbs}]})),
        ),
        "/openapi/v3" => (
            200,
            whole(
                &json!({"paths": {"apis/boats.example.com/v1": {"serverRelativeURL": "/openapi/v3/apis/boats.example.com/v1?hash=7"}}}),
            ),
        ),
        "/openapi/v3/apis/boats.example.com/v1" => {
            let kind = json!([{"group": "boats.example.com", "version": "v1", "kind": "Boat"}]);
            let boat = json!({"type": "object", "description": "A boat of another server.", "x-kubernetes-group-version-kind": kind,
                "properties": {"spec": {"type": "object", "properties": {"sails": {"type": "integer"}}}}});
            (
                200,
                whole(&json!({"openapi": "3.0.0", "info": {"title": "boats", "version": "1"},
                "paths": {"/apis/boats.example.com/v1/namespaces/{namespace}/boats": {"get": {"x-kubernetes-action": "list", "x-kubernetes-group-version-kind": kind[0]}}}, "components": {"schemas": {"com.example.Boat": boat}}})),
            )
        }
        _ if path == list && query.contains("watch=") => {
            let events = futures::stream::iter([("ADDED", 5), ("MODIFIED", 6)]).then(|(of, revision)| async move {
                // The second comes while the first has long been read.
                tokio::time::sleep(Duration::from_millis(300 * u64::from(revision - 5))).await;
                Ok(Frame::data(Bytes::from(format!("{}\n", json!({"type": of, "object": boat("b", revision)})))))
            });
            (200, StreamBody::new(events.chain(futures::stream::pending())).boxed_unsync())
        }
        _ if path == list => (
            200,
            whole(
                &json!({"apiVersion": "boats.example.com/v1", "kind": "BoatList", "metadata": {"resourceVersion": "4"}, "items": [boat("a", 4)]}),
            ),
        ),
        _ if path == format!("{list}/a") => (200, whole(&boat("a", 4))),
        _ => (
            404,
            whole(
                &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "no such boat"}),
            ),
        ),
    }
}

/// Serves; who shows no certificate of `proxies` is nobody.
async fn extension(pki: Pki, proxies: CertificateDer<'static>, told: Arc<Mutex<Vec<String>>>) -> u16 {
    let verifier = tls::client_verifier(&proxies).unwrap();
    let config = tls::server_config(pki.resolver(&Profile::ApiServer).unwrap(), &[&*verifier]).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, verifier, told) = (acceptor.clone(), Arc::clone(&verifier), Arc::clone(&told));
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let shown = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
                let known = shown.is_some_and(|shown| {
                    verifier.verify_client_cert(&shown, &[], UnixTime::now()).is_ok()
                        && Seen::of(&shown).unwrap().common_name == "front-proxy-client"
                });
                let service = hyper::service::service_fn(move |request| {
                    let (code, body) = if known { answer(&request, &told) } else { (401, whole(&json!({}))) };
                    let mut response = http::Response::new(body);
                    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
                    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
                    async move { Ok::<_, Infallible>(response) }
                });
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _broken = builder.serve_connection(TokioIo::new(tls), service).await;
            });
        }
    });
    port
}

/// Until it is so, as kubectl sees it.
fn until(world: &World, args: &[&str], wanted: &str) {
    let mut said = String::new();
    for _ in 0..100 {
        said = world.run(args);
        if said.contains(wanted) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{wanted:?} never came: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_of_another_server_is_got_through_ours() {
    let world = World::start().await;
    world.run(&["create", "namespace", "harbour"]);
    // The server learns from the cluster whom to believe.
    let published = [
        "-n",
        "kube-system",
        "get",
        "cm",
        "extension-apiserver-authentication",
        "-o",
        "jsonpath={.data.requestheader-client-ca-file}",
    ];
    until(&world, &["-n", "kube-system", "get", "cm"], "extension-apiserver-authentication");
    let proxies = CertificateDer::from_pem_slice(world.run(&published).as_bytes()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), Names::new("boats.harbour.svc", vec![]), Clock::system()).unwrap();
    let bundle = STANDARD.encode(pki.authority_pem(Signer::Server));
    let told = Arc::new(Mutex::new(Vec::new()));
    let port = extension(pki, proxies, Arc::clone(&told)).await;
    let api = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.boats.example.com"},
        "spec": {"group": "boats.example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 10, "caBundle": bundle,
            "service": {"namespace": "harbour", "name": "boats", "port": port}}});
    assert!(world.feed(&["create"], &api.to_string()).good);
    let condition = ["get", "apiservice", "v1.boats.example.com", "-o", "jsonpath={.status.conditions[0]}"];
    until(
        &world,
        &condition,
        r#""message":"service/boats in \"harbour\" is not present","reason":"ServiceNotFound","status":"False""#,
    );
    let aggregated = ["get", "--raw", "/apis/boats.example.com/v1"];
    assert!(world.fail(&aggregated).contains("the server is currently unable to handle the request"));
    assert!(!world.run(&["api-resources"]).contains("boats"), "nobody knows yet what it has");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "boats", "namespace": "harbour"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    assert!(world.feed(&["create"], &service.to_string()).good);
    until(&world, &condition, r#""message":"all checks passed","reason":"Passed","status":"True""#);
    assert!(world.run(&["get", "apiservices"]).contains("harbour/boats"));
    let forget = r#"{"status":{"conditions":[]}}"#;
    world.run(&["patch", "apiservice", "v1.boats.example.com", "--subresource=status", "--type=merge", "-p", forget]);
    until(&world, &condition, r#""reason":"Passed","status":"True""#);

    assert!(world.run(&["get", "bt", "a"]).starts_with("NAME   AGE\na"));
    assert_eq!(world.run(&["get", "boats", "-o", "jsonpath={.items[*].spec.sails}"]), "3");
    assert!(world.run(&["explain", "boats.spec"]).contains("sails\t<integer>"));
    assert!(world.run(&["api-resources", "--api-group=boats.example.com"]).contains("boats.example.com/v1"));
    assert!(world.fail(&["get", "boat", "z"]).contains("no such boat"));
    let groups: Value = serde_json::from_str(&world.run(&["get", "--raw", "/apis"])).unwrap();
    let names: Vec<&str> = groups["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert_eq!((names[0], names.last().copied()), ("apiregistration.k8s.io", Some("boats.example.com")));
    world.run(&[
        "get",
        "boats",
        "--as",
        "admin",
        "--as-group",
        "system:masters",
        "--as-group",
        "crew",
        "--as-user-extra",
        "example.com/deck=main",
    ]);
    let list = "/apis/boats.example.com/v1/namespaces/default/boats";
    let seen = told.lock().unwrap().clone();
    assert!(seen.contains(&format!("GET {list} by admin system:masters+system:authenticated ")), "{seen:#?}");
    assert!(seen.contains(&format!("GET {list} by admin system:masters+crew+system:authenticated main")), "{seen:#?}");
    assert!(
        seen.contains(&"GET /apis/boats.example.com/v1 by system:kube-aggregator system:masters ".to_owned()),
        "{seen:#?}"
    );
    assert!(!seen.iter().any(|line| line.contains("credentials")), "{seen:#?}");
    assert!(
        world
            .fail(&["get", "boats", "--as", "jane"])
            .contains("cannot list resource \"boats\" in API group \"boats.example.com\"")
    );

    let mut watch =
        world.command(&["get", "boats", "-w", "-o", "jsonpath={.metadata.name} {.metadata.resourceVersion}{\"\\n\"}"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines().take(3);
    let lines: Vec<String> = tokio::task::block_in_place(|| lines.map(Result::unwrap).collect());
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert_eq!(lines, ["a 4", "b 5", "b 6"]);

    world.run(&[
        "-n",
        "harbour",
        "patch",
        "service",
        "boats",
        "--type=merge",
        "-p",
        r#"{"spec":{"externalName":"nowhere.invalid"}}"#,
    ]);
    until(&world, &condition, "FailedDiscoveryCheck");
    assert!(world.fail(&["get", "boats"]).contains("boats"));
    world.run(&["delete", "apiservice", "v1.boats.example.com"]);
    assert!(!world.run(&["get", "--raw", "/apis"]).contains("boats.example.com"));
}
