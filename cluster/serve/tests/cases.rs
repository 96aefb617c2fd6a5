//! Cases as files: requests, and what the API answers to them, word for word.
//!
//! `cases/*.yaml` holds ours, several documents a file. `KEDGE_CASES=PATH[:PATH…]` adds folders or files of others of the same form, e.g.
//! recorded ones; `KEDGE_CASE=TEXT` runs only those whose name contains it.
//!
//! ```yaml
//! name: config-map-names
//! area: core                                  # "apply" compares metadata.managedFields, too
//! steps:
//! - do: {method: POST, path: /api/v1/namespaces/$NS/configmaps, headers: {…}, body: {…}}
//!   save: {uid: metadata.uid}                 # ${uid} from here on
//!   wait: 5                                   # within `do`: asked again until it fits, so many seconds
//!   expect: {status: 201, headers: {warning: […]}, body: {…}}
//! - do: {watch: /api/v1/namespaces/$NS/configmaps, for: 2, until: 1}
//!   expect: {events: […], closed: false}
//! ```
//!
//! `$NS` is a namespace of the case's own, `$RAND` a short random word. What `expect` may say is told in `support/expect.rs`. `as: nobody`
//! sends no credentials; a body of `{<text>: …}` or `{<base64>: …}` is sent as it is.
#![cfg(test)]

#[path = "support/client.rs"]
mod client;
#[path = "support/expect.rs"]
mod expect;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use client::{Client, Reply};
use expect::{differences, tidy};
use futures::StreamExt as _;
use serde::Deserialize as _;
use serde_json::{Value, json};
use server::Server;
use tokio::time::Instant;

/// Cases that run at once.
const AT_ONCE: usize = 8;
/// Differences shown of a case.
const SHOWN: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn every_case_is_answered_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files = vec![folder];
    files.extend(std::env::var_os("KEDGE_CASES").iter().flat_map(std::env::split_paths));
    let wanted = std::env::var("KEDGE_CASE").unwrap_or_default();
    let mut cases: Vec<Value> = files.iter().flat_map(|path| load(path)).collect();
    cases.retain(|case| case["name"].as_str().unwrap().contains(&wanted));
    assert!(!cases.is_empty(), "there are no cases");

    let dir = tempfile::tempdir().unwrap();
    let server = server::start(dir.path(), SocketAddr::from(([127, 0, 0, 1], 0)), None).await.unwrap();
    let runs = cases.iter().map(|case| run(&server, case));
    let failed: Vec<String> =
        futures::stream::iter(runs).buffered(AT_ONCE).filter_map(std::future::ready).collect().await;
    server.stop.cancel();
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn load(path: &Path) -> Vec<Value> {
    if path.is_dir() {
        let mut inside: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        inside.sort();
        return inside.iter().flat_map(|path| load(path)).collect();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let broken = |e: &dyn std::fmt::Display| -> serde_yaml::Value { panic!("{}: {e}", path.display()) };
    let cases: Vec<serde_yaml::Value> = match path.extension().and_then(|e| e.to_str()) {
        Some("json") => vec![serde_json::from_str(&text).unwrap_or_else(|e| broken(&e))],
        Some("yaml") => serde_yaml::Deserializer::from_str(&text)
            .map(|document| serde_yaml::Value::deserialize(document).unwrap_or_else(|e| broken(&e)))
            .collect(),
        _ => Vec::new(),
    };
    cases.iter().map(case).collect()
}

/// A case with its bodies as text, since they are sent with their fields in the order of the file.
fn case(read: &serde_yaml::Value) -> Value {
    let mut case = serde_json::to_value(read).unwrap();
    let steps = case["steps"].as_array_mut().unwrap();
    for (step, read) in steps.iter_mut().zip(read["steps"].as_sequence().unwrap()) {
        if let Some(body) = step["do"].get_mut("body").filter(|body| raw(body).is_none()) {
            *body = json!({"<text>": serde_json::to_string(&read["do"]["body"]).unwrap()});
        }
    }
    case
}

/// One case on its way: its names, and what it leaves behind.
struct Run<'a> {
    admin: Client,
    nobody: Client,
    area: &'a str,
    names: BTreeMap<String, String>,
    made: Vec<String>,
}

/// What went wrong, if anything did.
async fn run(server: &Server, case: &Value) -> Option<String> {
    let word = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
    let mut run = Run {
        admin: Client::admin(server),
        nobody: Client::nobody(server),
        area: case["area"].as_str().unwrap_or_default(),
        names: [("$NS".to_owned(), format!("case-{word}")), ("$RAND".to_owned(), format!("r{word}"))].into(),
        made: Vec::new(),
    };
    let namespaced = case.to_string().contains("$NS");
    let namespace = run.names["$NS"].clone();
    if namespaced {
        let of =
            |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}).to_string();
        run.admin.ask("POST", "/api/v1/namespaces", &[], of("Namespace", &namespace).as_bytes()).await;
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        run.admin.ask("POST", &accounts, &[], of("ServiceAccount", "default").as_bytes()).await;
    }
    let mut found = Vec::new();
    for (at, step) in case["steps"].as_array().unwrap().iter().enumerate() {
        let what = step["do"]["path"].as_str().or(step["do"]["watch"].as_str()).unwrap_or_default();
        let different = run.step(step).await;
        let label = format!("  step {}: {} {what}", at + 1, step["do"]["method"].as_str().unwrap_or("GET"));
        if !different.is_empty() {
            found.push(label);
            found.extend(different.into_iter().take(SHOWN).map(|line| format!("    {line}")));
        }
    }
    run.clean().await;
    if namespaced {
        run.admin.ask("DELETE", &format!("/api/v1/namespaces/{namespace}"), &[], b"").await;
        let empty = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}, "spec": {}});
        let finalize = format!("/api/v1/namespaces/{namespace}/finalize");
        run.admin.ask("PUT", &finalize, &[], empty.to_string().as_bytes()).await;
    }
    (!found.is_empty()).then(|| format!("{} {}\n{}", run.area, case["name"].as_str().unwrap(), found.join("\n")))
}

impl Run<'_> {
    /// Its differences from what was expected.
    async fn step(&mut self, step: &Value) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(step["do"]["wait"].as_u64().unwrap_or(0));
        loop {
            let action = self.fill(&step["do"]);
            let path = action["path"].as_str().or(action["watch"].as_str()).unwrap_or_default().to_owned();
            let answer = self.perform(&action).await;
            let different = match step.get("expect") {
                Some(expected) => compare(&self.fill(expected), answer.clone(), self.area, &path),
                None => Vec::new(),
            };
            if different.is_empty() || Instant::now() >= end {
                let root = answer.get("body").unwrap_or(&answer);
                for (name, path) in step["save"].as_object().into_iter().flatten() {
                    let text = match look(root, path.as_str().unwrap()) {
                        Some(Value::String(text)) => text.clone(),
                        Some(other) => other.to_string(),
                        None => String::new(),
                    };
                    self.names.insert(format!("${{{name}}}"), text);
                }
                return different;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// `{status, headers, body}`, or of a watch `{status, headers, events, closed}`.
    async fn perform(&mut self, action: &Value) -> Value {
        if let Some(seconds) = action["sleep"].as_f64() {
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            return json!({});
        }
        let method = action["method"].as_str().unwrap_or("GET");
        let body = action.get("body").map(bytes).unwrap_or_default();
        let headers = headers(action, !body.is_empty());
        let client = if action["as"] == "nobody" { &mut self.nobody } else { &mut self.admin };
        if let Some(path) = action["watch"].as_str() {
            let path = match (path.contains("watch="), path.contains('?')) {
                (true, _) => path.to_owned(),
                (false, true) => format!("{path}&watch=true"),
                (false, false) => format!("{path}?watch=true"),
            };
            let time = Duration::from_secs_f64(action["for"].as_f64().unwrap_or(10.0));
            let until = action["until"].as_u64().map(|n| usize::try_from(n).unwrap());
            let watched = client.watch(&path, &headers, time, until).await;
            let mut answer = told(&watched.reply);
            if watched.reply.status == 200 {
                answer.as_object_mut().unwrap().remove("body");
                answer["events"] = watched.events.into();
                answer["closed"] = watched.closed.into();
            }
            return answer;
        }
        let path = action["path"].as_str().unwrap();
        let answer = told(&client.ask(method, path, &headers, &body).await);
        self.note(method, path, &answer);
        answer
    }

    /// What was made is taken away after the case.
    fn note(&mut self, method: &str, path: &str, answer: &Value) {
        const ANSWERED: [&str; 5] = ["binding", "eviction", "token", "status", "scale"];
        let Some(name) = answer["body"]["metadata"]["name"].as_str() else { return };
        let bare = path.split('?').next().unwrap();
        let kept = !bare.split('/').any(|part| ANSWERED.contains(&part) || part == "bindings");
        if answer["status"] == 201 && !path.contains("dryRun") && kept && answer["body"]["kind"] != "Status" {
            self.made.push(if method == "POST" { format!("{bare}/{name}") } else { bare.to_owned() });
        }
    }

    async fn clean(&mut self) {
        for path in std::mem::take(&mut self.made).iter().rev() {
            let now = format!("{path}?gracePeriodSeconds=0&propagationPolicy=Background");
            let reply = self.admin.ask("DELETE", &now, &[], b"").await;
            let held = reply.status == 200 && !reply.json()["metadata"]["finalizers"].is_null();
            if held && !path.contains("/customresourcedefinitions/") {
                let merge = [("content-type".to_owned(), "application/merge-patch+json".to_owned())];
                self.admin.ask("PATCH", path, &merge, br#"{"metadata":{"finalizers":null}}"#).await;
            }
        }
    }

    /// With the case's own names in their places.
    fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let mut text = text.clone();
                // Longest first: `$NS` may begin what was saved under another name.
                for (name, own) in self.names.iter().rev() {
                    text = text.replace(name, own);
                }
                text.into()
            }
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(fields) => {
                let fill = |(name, value): (&String, &Value)| {
                    (self.fill(&name.as_str().into()).as_str().unwrap().to_owned(), self.fill(value))
                };
                Value::Object(fields.iter().map(fill).collect())
            }
            other => other.clone(),
        }
    }
}

fn headers(action: &Value, has_body: bool) -> Vec<(String, String)> {
    let mut headers: BTreeMap<String, Vec<String>> =
        [("accept", "application/json"), ("user-agent", "replay/1")].map(|(n, v)| (n.into(), vec![v.into()])).into();
    if has_body {
        headers.insert("content-type".into(), vec!["application/json".into()]);
    }
    for (name, value) in action["headers"].as_object().into_iter().flatten() {
        let values = match value {
            Value::String(text) => vec![text.clone()],
            Value::Array(items) => items.iter().map(|item| item.as_str().unwrap().to_owned()).collect(),
            _ => Vec::new(),
        };
        headers.insert(name.to_lowercase(), values);
    }
    headers.into_iter().flat_map(|(name, values)| values.into_iter().map(move |v| (name.clone(), v))).collect()
}

fn bytes(body: &Value) -> Vec<u8> {
    match raw(body) {
        Some(("<base64>", text)) => base64::engine::general_purpose::STANDARD.decode(text).unwrap(),
        Some((_, text)) => text.as_bytes().to_vec(),
        None => body.to_string().into_bytes(),
    }
}

/// A body that is to be sent as it is.
fn raw(body: &Value) -> Option<(&str, &str)> {
    let (name, value) = body.as_object().filter(|o| o.len() == 1)?.iter().next()?;
    ["<text>", "<base64>"].contains(&name.as_str()).then_some((name, value.as_str()?))
}

fn told(reply: &Reply) -> Value {
    let body = match std::str::from_utf8(&reply.body) {
        Ok(text) => serde_json::from_str(text).unwrap_or_else(|_| json!({"<text>": text})),
        Err(_) => json!({"<base64>": base64::engine::general_purpose::STANDARD.encode(&reply.body)}),
    };
    let mut headers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in &reply.headers {
        headers.entry(name.as_str()).or_default().push(value.to_str().unwrap());
    }
    json!({"status": reply.status, "headers": headers, "body": body})
}

fn compare(expected: &Value, mut answer: Value, area: &str, path: &str) -> Vec<String> {
    let mut expected = expected.clone();
    let mut found = Vec::new();
    if let Some(status) = expected.get("status") {
        found.extend(differences(status, answer.get("status"), "status"));
    }
    if let Some(Value::Object(wanted)) = expected.get("headers") {
        for (name, want) in wanted {
            let name = name.to_lowercase();
            let mut got = answer["headers"].get(&name).cloned();
            if want.is_string() {
                let join = |got: Value| {
                    got.as_array().unwrap().iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
                };
                got = got.map(|got| join(got).into());
            }
            found.extend(differences(want, got.as_ref(), &format!("headers.{name}")));
        }
        if let Some(warned) = answer["headers"].get("warning")
            && !wanted.keys().any(|name| name.eq_ignore_ascii_case("warning"))
        {
            found.push(format!("headers.warning: want it absent, got {warned}"));
        }
    }
    for part in ["body", "events"] {
        if let Some(want) = expected.get_mut(part) {
            tidy(want, area, path);
            if let Some(got) = answer.get_mut(part) {
                tidy(got, area, path);
            }
            found.extend(differences(want, answer.get(part), part));
        }
    }
    if expected["closed"] == true && answer["closed"] != true {
        found.push("closed: want the server to end the stream".to_owned());
    }
    found
}

/// At a path with dots, or a JSON pointer.
fn look<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() || path.starts_with('/') {
        return value.pointer(path);
    }
    path.split('.').try_fold(value, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    })
}
