//! Whoever lists, then watches, sees exactly the log: over the wire, while eight clients write.
//!
//! ```text
//! writers ── their answers ─▶ the writes          an onlooker from the beginning ─▶ the log
//!                                  └────── the same ──────┘
//! readers that come in between: list or stream of the first objects, then a watch ─▶ the rest of the log, and its last state
//! ```
#![cfg(test)]

#[path = "support/client.rs"]
#[expect(dead_code, reason = "watches here end with an object and not with time")]
mod client;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use client::{Client, Reply};
use serde_json::{Value, json};
use server::Server;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WRITERS: usize = 8;
/// All of them together are fewer than history holds: nobody here is too late.
const WRITES: usize = 100;
/// Written last, so that everyone knows where the log ends.
const LAST: &str = "zz-last";
/// Ends a hang.
const LIMIT: Duration = Duration::from_secs(120);

/// What was done to an object, with its version then.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    kind: String,
    object: Value,
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// As a watch shows them: a list's items leave out what the list says for all.
fn by_name(items: Vec<Value>) -> BTreeMap<String, Value> {
    let whole = |mut item: Value| {
        item["kind"] = json!("ConfigMap");
        item["apiVersion"] = json!("v1");
        (name(&item).to_owned(), item)
    };
    items.into_iter().map(whole).collect()
}

/// What the changes leave of what was there.
fn replay(mut state: BTreeMap<String, Value>, changes: &[Change]) -> BTreeMap<String, Value> {
    for Change { kind, object } in changes {
        let before = state.remove(name(object));
        assert_eq!(before.is_none(), kind == "ADDED", "{kind} {}", name(object));
        if kind != "DELETED" {
            state.insert(name(object).to_owned(), object.clone());
        }
    }
    state
}

async fn ask(client: &mut Client, method: &str, path: &str, content: &str, body: &Value) -> Reply {
    let headers = [("content-type".to_owned(), content.to_owned())];
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    client.ask(method, path, &headers, &body).await
}

/// Writes to a few objects that all others write to as well; gives what was answered.
async fn write(mut client: Client, writer: usize) -> (Vec<Change>, usize) {
    let (mut done, mut deleted) = (Vec::new(), 0);
    for n in 0..WRITES {
        let name = format!("m{}", (n * 7 + writer * 3) % 12);
        let body = json!({"metadata": {"name": name}, "data": {"by": format!("{writer} {n}")}});
        let patch = json!({"data": {"by": format!("{writer} {n}")}});
        let one = format!("{MAPS}/{name}");
        let (kind, reply) = match n % 4 {
            0 | 2 => ("ADDED", ask(&mut client, "POST", MAPS, "application/json", &body).await),
            1 => ("MODIFIED", ask(&mut client, "PATCH", &one, "application/merge-patch+json", &patch).await),
            _ => ("DELETED", ask(&mut client, "DELETE", &one, "application/json", &Value::Null).await),
        };
        match (reply.status, kind) {
            (200, "DELETED") => deleted += 1,
            (200 | 201, _) => done.push(Change { kind: kind.to_owned(), object: reply.json() }),
            (404 | 409, _) => {}
            (status, _) => panic!("{status}: {:?}", reply.body),
        }
    }
    (done, deleted)
}

/// A watch from `query` on until the last object comes.
async fn follow(client: &mut Client, query: &str) -> Vec<Change> {
    let path = format!("{MAPS}?watch=true&timeoutSeconds={}&{query}", LIMIT.as_secs());
    let mut changes = Vec::new();
    let mut watch = client.open(&path, &[]).await.unwrap();
    while let Some(event) = watch.next().await {
        let last = name(&event["object"]) == LAST;
        changes.push(Change { kind: event["type"].as_str().unwrap().to_owned(), object: event["object"].clone() });
        if last {
            return changes;
        }
    }
    panic!("the watch ended after {:?}", changes.last());
}

/// How a reader comes by its first objects.
#[derive(Clone, Copy, Debug)]
enum First {
    Whole,
    Cached,
    Pages,
    Stream,
}

/// What was there, at which revision, and what came after it.
struct Read {
    first: First,
    state: BTreeMap<String, Value>,
    revision: u64,
    changes: Vec<Change>,
}

async fn read(mut client: Client, first: First) -> Read {
    let mut items = Vec::new();
    let mut revision = 0;
    let lists = match first {
        First::Whole => vec![""],
        First::Cached => vec!["resourceVersion=0"],
        First::Pages => vec!["limit=3"],
        First::Stream => vec![],
    };
    for query in lists {
        let mut query = query.to_owned();
        loop {
            let list =
                ask(&mut client, "GET", &format!("{MAPS}?{query}"), "application/json", &Value::Null).await.json();
            items.extend(list["items"].as_array().unwrap_or_else(|| panic!("{list}")).clone());
            revision = version(&list);
            match list["metadata"]["continue"].as_str() {
                Some(token) if !token.is_empty() => query = format!("limit=3&continue={token}"),
                _ => break,
            }
        }
    }
    let mut changes = match first {
        First::Stream => {
            let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
            follow(&mut client, query).await
        }
        _ => follow(&mut client, &format!("resourceVersion={revision}")).await,
    };
    if let Some(end) = changes.iter().position(|change| change.kind == "BOOKMARK") {
        let rest = changes.split_off(end + 1);
        let bookmark = changes.pop().unwrap().object;
        assert_eq!(bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
        revision = version(&bookmark);
        items = changes.into_iter().map(|change| change.object).collect();
        changes = rest;
    }
    changes.retain(|change| change.kind != "BOOKMARK");
    Read { first, state: by_name(items), revision, changes }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lists_then_watches_sees_exactly_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let server = server::start(dir.path(), SocketAddr::from(([127, 0, 0, 1], 0)), None).await.unwrap();
    let client = |server: &Server| Client::admin(server);
    let before = read_now(&mut client(&server)).await;
    let mut onlooker = client(&server);
    let from = format!("resourceVersion={}", before.1);
    let log = tokio::spawn(async move { follow(&mut onlooker, &from).await });
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(client(&server), writer))).collect();
    let mut readers = Vec::new();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        if readers.len() < 40 {
            let first = [First::Whole, First::Cached, First::Pages, First::Stream][readers.len() % 4];
            readers.push(tokio::spawn(read(client(&server), first)));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (mut written, mut deleted) = (Vec::new(), 0);
    for writer in writers {
        let (done, gone) = writer.await.unwrap();
        written.extend(done);
        deleted += gone;
    }
    let last = json!({"metadata": {"name": LAST}});
    let last = ask(&mut client(&server), "POST", MAPS, "application/json", &last).await.json();
    written.push(Change { kind: "ADDED".to_owned(), object: last });

    let log = log.await.unwrap();
    assert!(log.windows(2).all(|pair| version(&pair[0].object) < version(&pair[1].object)), "the log is in order");
    written.sort_by_key(|change| version(&change.object));
    let seen: Vec<Change> = log.iter().filter(|change| change.kind != "DELETED").cloned().collect();
    assert_eq!(seen, written, "the log is what was answered");
    assert_eq!(log.len() - seen.len(), deleted);
    let end = replay(before.0, &log);
    assert_eq!(end, read_now(&mut client(&server)).await.0);
    assert!(readers.len() >= 4, "somebody read meanwhile");
    for reader in readers {
        let Read { first, state, revision, changes } = reader.await.unwrap();
        let rest: Vec<Change> = log.iter().filter(|change| version(&change.object) > revision).cloned().collect();
        assert_eq!(changes, rest, "{first:?} from {revision}");
        assert_eq!(replay(state, &changes), end, "{first:?} from {revision}");
    }
    server.stop.cancel();
}

/// All objects and the revision of now.
async fn read_now(client: &mut Client) -> (BTreeMap<String, Value>, u64) {
    let list = ask(client, "GET", MAPS, "application/json", &Value::Null).await.json();
    (by_name(list["items"].as_array().unwrap().clone()), version(&list))
}
