//! Every kind that discovery names walks the way of an object, asked as kubectl asks.
//!
//! ```text
//! create → get → list → table → watch → update → JSON, merge, strategic, apply patch → status → scale → delete → deletecollection
//! ```
//!
//! The kinds come from the server's own discovery; `walk/objects.yaml` holds one small object of each. What a kind cannot do stands in
//! `ABSENT`: a step that fails without a row there fails the walk, and so does a row that is no longer true.
#![cfg(test)]

#[path = "support/client.rs"]
mod client;
#[path = "walk/discovery.rs"]
mod discovery;
#[path = "support/server.rs"]
mod server;
#[path = "walk/steps.rs"]
mod steps;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use client::Client;
use serde::Deserialize as _;
use serde_json::{Value, json};
use steps::{Step, Walk};

use Step::{Apply, Collection, Create, Delete, Get, Json, List, Merge, Scale, Status, Strategic, Table, Update, Watch};

const NAMESPACE: &str = "walk";

/// In the order in which they are taken.
const STEPS: &[Step] =
    &[Create, Get, List, Table, Watch, Update, Json, Merge, Strategic, Apply, Status, Scale, Delete, Collection];

/// What is answered and not kept.
const ALL_BUT_CREATE: &[Step] = &[Get, List, Table, Watch, Update, Json, Merge, Strategic, Apply, Delete, Collection];
/// What is made when asked for.
const ALL_BUT_READ: &[Step] = &[Create, Watch, Update, Json, Merge, Strategic, Apply, Delete, Collection];

/// What upstream does not offer either, and why.
const ABSENT: &[(&str, &[Step], &str)] = &[
    ("v1/bindings", ALL_BUT_CREATE, "a request, not an object"),
    ("v1/componentstatuses", ALL_BUT_READ, "found out when asked for"),
    ("v1/namespaces", &[Collection], "too much would go at once"),
    ("authentication.k8s.io/v1/selfsubjectreviews", ALL_BUT_CREATE, "a question, not an object"),
    ("authentication.k8s.io/v1/tokenreviews", ALL_BUT_CREATE, "a question, not an object"),
    ("authorization.k8s.io/v1/localsubjectaccessreviews", ALL_BUT_CREATE, "a question, not an object"),
    ("authorization.k8s.io/v1/selfsubjectaccessreviews", ALL_BUT_CREATE, "a question, not an object"),
    ("authorization.k8s.io/v1/selfsubjectrulesreviews", ALL_BUT_CREATE, "a question, not an object"),
    ("authorization.k8s.io/v1/subjectaccessreviews", ALL_BUT_CREATE, "a question, not an object"),
    ("walk.example.com/v1/walkers", &[Strategic], "a schema of one's own names no merge keys"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_served_kind_walks_the_way_of_an_object() {
    let dir = tempfile::tempdir().unwrap();
    let server = server::start(dir.path(), SocketAddr::from(([127, 0, 0, 1], 0)), None).await.unwrap();
    let (mut admin, mut nobody) = (Client::admin(&server), Client::nobody(&server));
    let documents = documents();
    let mut objects: BTreeMap<(String, String), &Value> = BTreeMap::new();
    for document in &documents {
        let named = |field: &str| document[field].as_str().unwrap().to_owned();
        // What others lean on is there before them.
        if document["metadata"]["labels"]["walk"] == "leant-on" {
            prepare(&mut admin, document).await;
        } else {
            objects.insert((named("apiVersion"), named("kind")), document);
        }
    }
    let mut wrong = Vec::new();
    let kinds = discovery::kinds(&mut admin, "walk.example.com").await;
    assert!(kinds.len() > 65, "{} kinds are served", kinds.len());
    for kind in kinds {
        let id = kind.id();
        let absent = ABSENT.iter().find(|(name, ..)| *name == id).map_or(&[][..], |(_, steps, _)| *steps);
        let object = objects.remove(&(kind.api_version(), kind.name.clone()));
        if object.is_none() && !absent.contains(&Create) {
            wrong.push(format!("{id}: no {} in objects.yaml", kind.name));
            continue;
        }
        let mut walk = Walk::new(&mut admin, kind, object.cloned().unwrap_or_default());
        wrong.extend(walk.refuses(&mut nobody).await.err().map(|why| format!("{id}: to nobody: {why}")));
        let steps: Vec<Step> = STEPS.iter().copied().filter(|step| walk.applies(*step)).collect();
        for step in steps {
            match (walk.take(step).await, absent.contains(&step)) {
                (Err(why), false) => wrong.push(format!("{id}: {step:?}: {why}")),
                (Ok(()), true) => wrong.push(format!("{id}: {step:?} works: its row is to go")),
                (Ok(()), false) | (Err(_), true) => {}
            }
        }
    }
    wrong.extend(objects.keys().map(|(version, kind)| format!("{version} {kind} is not served")));
    server.stop.cancel();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn documents() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/walk/objects.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// Makes something that is no step of the walk.
async fn prepare(admin: &mut Client, document: &Value) {
    let (version, kind) = (document["apiVersion"].as_str().unwrap(), document["kind"].as_str().unwrap());
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let place = match document["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}"),
        None => root,
    };
    let path = format!("{place}/{}s", kind.to_lowercase());
    let json = [("content-type".to_owned(), "application/json".to_owned())];
    let reply = admin.ask("POST", &path, &json, document.to_string().as_bytes()).await;
    assert_eq!(reply.status, 201, "{path}: {}", String::from_utf8_lossy(&reply.body));
    if kind == "CustomResourceDefinition" {
        let item = format!("{path}/{}", document["metadata"]["name"].as_str().unwrap());
        let established = json!({"type": "Established", "status": "True"});
        for _ in 0..300 {
            let conditions = admin.ask("GET", &item, &[], b"").await.json()["status"]["conditions"].clone();
            let is = |c: &Value| c["type"] == established["type"] && c["status"] == established["status"];
            if conditions.as_array().is_some_and(|all| all.iter().any(is)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{item} is not established");
    }
}
