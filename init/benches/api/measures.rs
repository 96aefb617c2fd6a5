//! What is measured: each a function of a running server.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Clients, Request};
use crate::server::Server;

pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

pub struct Creates {
    pub seconds: f64,
    /// Sorted.
    pub each: Vec<Duration>,
}

/// Creates `count` objects from `clients` clients, each of which waits for its answer before it asks again.
pub fn create(server: &Server, path: &str, count: usize, clients: usize, body: impl Fn(usize) -> Value) -> Creates {
    let mut bodies: VecDeque<Vec<u8>> = (0..count).map(|n| body(n).to_string().into_bytes()).collect();
    let mut connections = server.clients(clients);
    let mut sent = Vec::with_capacity(clients);
    let mut each = Vec::with_capacity(count);
    let mut next = |connections: &mut Clients, at: usize| {
        bodies.pop_front().is_some_and(|body| {
            connections.send(at, &Request::post(path, &body)).unwrap();
            true
        })
    };
    let start = Instant::now();
    for at in 0..clients {
        sent.push(Instant::now());
        next(&mut connections, at);
    }
    while each.len() < count {
        let mut answered = Vec::new();
        connections
            .wait(&mut |part| {
                assert!(!is_refusal(part.body), "{}", String::from_utf8_lossy(part.body));
                if part.last {
                    answered.push(part.connection);
                }
            })
            .unwrap();
        for at in answered {
            each.push(sent[at].elapsed());
            sent[at] = Instant::now();
            next(&mut connections, at);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    each.sort_unstable();
    Creates { seconds, each }
}

fn is_refusal(body: &[u8]) -> bool {
    let mark = b"\"kind\":\"Status\"";
    body.len() < 2000 && body.windows(mark.len()).any(|at| at == mark)
}

/// Pods need one, which without controllers nobody makes.
pub fn service_account(server: &Server) {
    let body = br#"{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}"#;
    let answer = server.clients(1).ask(&Request::post("/api/v1/namespaces/default/serviceaccounts", body));
    assert!(!is_refusal(&answer), "{}", String::from_utf8_lossy(&answer));
}

/// 1 KB as JSON, as stored.
pub fn config_map(n: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("map-{n:05}")}, "data": {"payload": "x".repeat(780)}})
}

/// As a Deployment's: 2.4 KB with what the server adds, as those that upstream was measured with.
pub fn pod(n: usize) -> Value {
    let container = json!({
        "name": "web", "image": "registry.example/library/nginx:1.29.1-alpine",
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "MODE", "value": "production"}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10},
        "volumeMounts": [{"name": "settings", "mountPath": "/etc/settings"}],
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("web-6d4cf56db6-{n:05}"), "labels": {"app": "web", "pod-template-hash": "6d4cf56db6"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}},
        "spec": {"containers": [container], "volumes": [{"name": "settings", "configMap": {"name": "settings"}}],
            "automountServiceAccountToken": false},
    })
}

pub struct List {
    pub time: Duration,
    pub bytes: usize,
    /// Memory that the server took meanwhile, beyond what it had, in kB.
    pub peak: u64,
}

/// The median of some whole lists.
pub fn list(server: &Server, path: &str, accept: &str) -> List {
    let mut client = server.clients(1);
    let (before, mut times, mut bytes) = (server.pss(), Vec::new(), 0);
    server.forget_peak();
    for _ in 0..7 {
        let start = Instant::now();
        bytes = client.ask(&Request { accept, ..Request::get(path) }).len();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    List { time: times[times.len() / 2], bytes, peak: server.peak().saturating_sub(before) }
}

pub struct Watches {
    /// From sending the write to reading its event, of every event and watcher; sorted.
    pub each: Vec<Duration>,
    /// From sending the write to its answer; sorted.
    pub writes: Vec<Duration>,
    pub seconds: f64,
}

/// `rounds` changes of a 1 KB object, each seen by `watchers` watches on `connections` connections.
pub fn watch(server: &Server, watchers: usize, connections: usize, rounds: usize) -> Watches {
    let path = "/api/v1/namespaces/kube-public/configmaps";
    let mut writer = server.clients(1);
    let made = writer.ask(&Request::post(path, config_map(0).to_string().as_bytes()));
    let made: Value = serde_json::from_slice(&made).unwrap();
    let from = made["metadata"]["resourceVersion"].as_str().unwrap();
    let watch = format!("{path}?watch=true&resourceVersion={from}&timeoutSeconds=600");
    let mut clients = server.clients(connections);
    for n in 0..watchers {
        clients.send(n % connections, &Request::get(&watch)).unwrap();
    }
    let object = format!("{path}/map-00000");
    let mut result = Watches { each: Vec::with_capacity(watchers * rounds), writes: Vec::new(), seconds: 0.0 };
    // Until each watch has told of the first change, it may not have begun; so the first round is not counted.
    for round in 0..=rounds {
        std::thread::sleep(Duration::from_millis(if round == 0 { 1000 } else { 5 }));
        let patch = json!({"data": {"round": format!("{round:04}")}}).to_string();
        let patch = Request {
            method: "PATCH",
            body: Some(("application/merge-patch+json", patch.as_bytes())),
            ..Request::get(&object)
        };
        let start = Instant::now();
        writer.send(0, &patch).unwrap();
        let mut seen = 0;
        while seen < watchers {
            clients
                .wait(&mut |part| {
                    assert!(!part.last, "a watch ended: {}", String::from_utf8_lossy(part.body));
                    let whole = part.body.ends_with(b"}\n");
                    seen += usize::from(whole);
                    if whole && round > 0 {
                        result.each.push(start.elapsed());
                    }
                })
                .unwrap();
        }
        let now = start.elapsed();
        let mut answered = false;
        while !answered {
            writer.wait(&mut |part| answered |= part.last).unwrap();
        }
        if round > 0 {
            result.writes.push(start.elapsed());
            result.seconds += now.as_secs_f64();
        }
    }
    result.each.sort_unstable();
    result.writes.sort_unstable();
    result
}

/// From applying a definition to the first list of its kind that is answered; the median of some.
pub fn definition(server: &Server) -> Duration {
    let mut client = server.clients(1);
    let mut times: Vec<Duration> = (0..9)
        .map(|n| {
            let (plural, kind, group) = (format!("gadgets{n}"), format!("Gadget{n}"), "bench.example.com");
            let properties = json!({"spec": {"type": "object", "properties": {"size": {"type": "integer", "minimum": 0}}}});
            let crd = json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.{group}")},
                "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
                    "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}}]},
            });
            let path = format!(
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.{group}?fieldManager=bench&force=true"
            );
            let (apply, list) = (crd.to_string(), format!("/apis/{group}/v1/{plural}"));
            let start = Instant::now();
            let request = Request {
                method: "PATCH",
                body: Some(("application/apply-patch+yaml", apply.as_bytes())),
                ..Request::get(&path)
            };
            let answer = client.ask(&request);
            assert!(!is_refusal(&answer), "{}", String::from_utf8_lossy(&answer));
            while !client.ask(&Request::get(&list)).windows(8).any(|at| at == b"\"items\":") {
                assert!(start.elapsed() < Duration::from_secs(10), "{plural} is not served");
            }
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}
