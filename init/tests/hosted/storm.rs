//! A server killed in a storm of writes of both sorts: what goes to disk, and what stays in memory. No revision comes twice, nothing
//! acknowledged is missing, and who watched before is told to begin anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::client::{Clients, Request, identity};
use super::{LIMIT, Server, free_port};

const WRITERS: usize = 16;
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const EVENTS: &str = "/api/v1/namespaces/default/events";

/// What was acknowledged: its version, by path and name.
type Written = BTreeMap<(&'static str, String), u64>;

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{object}"))
}

/// The `n`th write of a round: as many to disk as to memory.
fn write(round: usize, n: usize) -> (&'static str, String, Value) {
    let name = format!("storm-{round}-{n}");
    let about = json!({"kind": "Namespace", "name": "default", "namespace": "default"});
    match n % 4 {
        0 | 1 => (CONFIG_MAPS, name.clone(), json!({"metadata": {"name": name}, "data": {"n": n.to_string()}})),
        2 => (LEASES, name.clone(), json!({"metadata": {"name": name}, "spec": {"holderIdentity": n.to_string()}})),
        _ => (
            EVENTS,
            name.clone(),
            json!({"metadata": {"name": name}, "involvedObject": about, "reason": n.to_string()}),
        ),
    }
}

fn clients(server: &Server, count: usize) -> Clients {
    Clients::open(count, server.port, &identity(&server.data.join("admin.kubeconfig")))
}

fn ask(client: &mut Clients, request: &Request<'_>) -> Value {
    serde_json::from_slice(&client.ask(request)).unwrap()
}

/// Writes until so many writes are acknowledged, kills the server in the midst of the next, and notes what else it had answered.
fn storm(server: &mut Server, round: usize, many: usize, written: &mut Written) {
    let mut connections = clients(server, WRITERS);
    let (mut begun, mut acknowledged) = (0, 0);
    let mut waiting: Vec<Option<(&'static str, String)>> = vec![None; WRITERS];
    let mut answers: Vec<Vec<u8>> = vec![Vec::new(); WRITERS];
    let mut killed = false;
    loop {
        for (at, waiting) in waiting.iter_mut().enumerate().filter(|(_, waiting)| waiting.is_none() && !killed) {
            let (path, name, body) = write(round, begun);
            begun += 1;
            if connections.send(at, &Request::post(path, body.to_string().as_bytes())).is_ok() {
                *waiting = Some((path, name));
            }
        }
        let mut ended = Vec::new();
        let more = connections.wait(&mut |part| {
            answers[part.connection].extend_from_slice(part.body);
            if part.last {
                ended.push(part.connection);
            }
        });
        for at in ended {
            let answer: Value = serde_json::from_slice(&std::mem::take(&mut answers[at])).unwrap();
            written.insert(waiting[at].take().unwrap(), version(&answer));
            acknowledged += 1;
        }
        if acknowledged >= many && !killed {
            server.process.kill().unwrap();
            killed = true;
        }
        if more.is_err() {
            assert!(killed, "the server ended by itself");
            break;
        }
    }
    server.process.wait().unwrap();
}

/// The revisions of a list, and of each object in it.
fn listed(client: &mut Clients, path: &str) -> (u64, BTreeMap<String, u64>) {
    let list = ask(client, &Request::get(path));
    let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
    (version(&list), items.iter().map(|o| (o["metadata"]["name"].as_str().unwrap().to_owned(), version(o))).collect())
}

/// The first line of a watch.
fn first_event(server: &Server, path: &str, from: u64) -> Value {
    let mut client = clients(server, 1);
    let path = format!("{path}?watch=true&resourceVersion={from}&timeoutSeconds={}", LIMIT.as_secs());
    client.send(0, &Request::get(&path)).unwrap();
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        client.wait(&mut |part| line.extend_from_slice(part.body)).unwrap();
    }
    serde_json::from_slice(&line).unwrap()
}

/// `outlives`: what is not on disk is there after the process as well, since memory was at hand for it.
fn kills(folder: &Path, outlives: bool) {
    let (data, port) = (folder.join("data"), free_port());
    let mut written = Written::new();
    let mut newest = 0;
    for (round, many) in [40, 300, 1100].into_iter().enumerate() {
        let mut server = Server::start(&data, port);
        let mut before = Written::new();
        storm(&mut server, round, many, &mut before);
        assert!(before.values().all(|version| *version > newest), "a revision came again");
        let (oldest, last) = (*before.values().min().unwrap(), *before.values().max().unwrap());
        newest = last;
        written.extend(before);
        let versions: BTreeSet<u64> = written.values().copied().collect();
        assert_eq!(versions.len(), written.len(), "a revision was given to two");

        let server = Server::start(&data, port);
        let mut client = clients(&server, 1);
        for (n, path) in [(0, CONFIG_MAPS), (2, LEASES), (3, EVENTS)] {
            let (revision, there) = listed(&mut client, path);
            assert!(revision >= newest, "{path}: {revision} after {newest}");
            let durable = path == CONFIG_MAPS;
            for ((_, name), version) in written.iter().filter(|((of, _), _)| *of == path) {
                match there.get(name) {
                    Some(found) => assert_eq!(found, version, "{path} {name}"),
                    None => assert!(!durable && !outlives, "{path} {name} is lost"),
                }
            }
            for from in [oldest, last] {
                let event = first_event(&server, path, from);
                assert_eq!(
                    (&event["type"], &event["object"]["code"]),
                    (&json!("ERROR"), &json!(410)),
                    "{path}: {event}"
                );
            }
            let mut body = write(round, n).2;
            body["metadata"]["name"] = json!(format!("later-{round}-{n}"));
            let made = version(&ask(&mut client, &Request::post(path, body.to_string().as_bytes())));
            assert!(made > newest, "{path}: {made} after {newest}");
            newest = made;
        }
    }
}

#[test]
fn a_kill_in_a_storm_of_writes_loses_nothing_durable_and_turns_no_revision_back() {
    kills(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().path(), false);
}

#[test]
fn where_memory_is_at_hand_leases_and_events_outlive_the_process() {
    kills(tempfile::tempdir_in("/dev/shm").unwrap().path(), true);
}
