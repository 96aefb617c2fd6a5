//! `kedge server` as a process of somebody's Linux: up, asked with curl, ended, up again with everything there.
#![cfg(test)]

#[path = "../benches/api/client.rs"]
mod client;
#[path = "hosted/encryption.rs"]
mod encryption;
#[path = "../../qemu-tests/src/kubectl.rs"]
#[expect(dead_code, reason = "boot tests ask more of it")]
mod kubectl;
#[path = "hosted/storm.rs"]
mod storm;
#[path = "hosted/upgrades.rs"]
mod upgrades;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

/// Ends a hang; an unhurried machine needs a fraction of it.
const LIMIT: Duration = Duration::from_secs(60);

struct Server {
    process: Child,
    data: PathBuf,
    port: u16,
}

impl Server {
    fn start(data: &Path, port: u16) -> Self {
        Self::start_with(data, port, &[])
    }

    fn start_with(data: &Path, port: u16, options: &[&str]) -> Self {
        // What a server before it left does not tell that this one is up.
        let _ = std::fs::remove_file(data.join("admin.kubeconfig"));
        let process = Command::new(env!("CARGO_BIN_EXE_kedge"))
            .args(["server", "--disable-agent", "--https-port", &port.to_string(), "--data-dir"])
            .arg(data)
            .args(options)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(data.with_extension("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { process, data: data.to_owned(), port };
        server.until(|| data.join("admin.kubeconfig").exists(), "admin.kubeconfig");
        server
    }

    fn until(&self, done: impl Fn() -> bool, what: &str) {
        let start = Instant::now();
        while !done() {
            let log = std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default();
            assert!(start.elapsed() < LIMIT, "no {what}; the server said: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One request with the certificates that stand in the kubeconfig.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        serde_json::from_slice(&self.answer(method, path, body)).unwrap()
    }

    fn answer(&self, method: &str, path: &str, body: &Value) -> Vec<u8> {
        let config = std::fs::read_to_string(self.data.join("admin.kubeconfig")).unwrap();
        let config: Value = serde_yaml::from_str(&config).unwrap();
        let file = |pointer: &str, name: &str| {
            let text = config.pointer(pointer).and_then(Value::as_str).unwrap();
            let path = self.data.join(name);
            std::fs::write(&path, base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap();
            path
        };
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--request", method, "--header", "Content-Type: application/json"]);
        curl.arg("--cacert").arg(file("/clusters/0/cluster/certificate-authority-data", "ca.pem"));
        curl.arg("--cert").arg(file("/users/0/user/client-certificate-data", "client.pem"));
        curl.arg("--key").arg(file("/users/0/user/client-key-data", "client.key"));
        if !body.is_null() {
            curl.arg("--data").arg(body.to_string());
        }
        let Output { status, stdout, stderr } =
            curl.arg(format!("https://127.0.0.1:{}{path}", self.port)).output().unwrap();
        assert!(status.success(), "curl: {}", String::from_utf8_lossy(&stderr));
        stdout
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn what_was_written_is_there_after_an_end_and_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (data, port) = (folder.path().join("data"), free_port());
    for (round, signal) in ["-TERM", "-KILL", "-INT"].iter().enumerate() {
        let mut server = Server::start(&data, port);
        let list = server.ask("GET", MAPS, &Value::Null);
        let mut names: Vec<&str> =
            list["items"].as_array().unwrap().iter().filter_map(|map| map["metadata"]["name"].as_str()).collect();
        names.retain(|name| name.starts_with("round-"));
        assert_eq!(names, ["round-0", "round-1", "round-2"][..round]);
        let map = json!({"metadata": {"name": format!("round-{round}")}, "data": {"k": "v"}});
        assert_eq!(server.ask("POST", MAPS, &map)["data"], map["data"]);
        server.signal(signal);
        let status = server.process.wait().unwrap();
        assert_eq!(status.success(), *signal != "-KILL", "{signal}: {status}");
    }
    for (name, mode) in [("", 0o700), ("admin.kubeconfig", 0o600), ("cluster.db", 0o600), ("cluster.db-wal", 0o600)] {
        // The log goes with a clean end.
        if let Ok(found) = std::fs::metadata(data.join(name)) {
            assert_eq!(found.permissions().mode() & 0o777, mode, "{name:?} holds secrets");
        }
    }
}

/// A command that ends by itself.
fn kedge(words: &[&str], data: &Path) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kedge")).args(words).arg("--data-dir").arg(data).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn names(server: &Server) -> Vec<String> {
    let list = server.ask("GET", MAPS, &Value::Null);
    let names =
        list["items"].as_array().unwrap().iter().map(|map| map["metadata"]["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("map-")).collect()
}

#[test]
fn a_snapshot_is_taken_of_a_running_server_and_returned_to() {
    let folder = tempfile::tempdir().unwrap();
    let (data, port) = (folder.path().join("data"), free_port());
    let mut server = Server::start(&data, port);
    let map = |name: &str| json!({"metadata": {"name": name}});
    server.ask("POST", MAPS, &map("map-before"));
    let file = folder.path().join("kept.db");
    let (done, text) = kedge(&["snapshot", "save", file.to_str().unwrap()], &data);
    assert!(done && text.contains("sound"), "{text}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let after = server.ask("POST", MAPS, &map("map-after"));
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    let (done, text) = kedge(&["snapshot", "restore", file.to_str().unwrap()], &data);
    assert!(!done && text.contains("another process holds it"), "{text}");
    // The same by the API: one that the server keeps, a check of everything.
    let kept = server.ask("POST", "/kedge/snapshot", &Value::Null);
    assert_eq!(server.ask("GET", "/kedge/snapshots", &Value::Null)["snapshots"][0]["path"], kept["path"]);
    assert!(server.ask("GET", "/kedge/check", &Value::Null)["objects"].as_u64().unwrap() > 50);
    server.signal("-TERM");
    server.process.wait().unwrap();

    let (done, text) = kedge(&["snapshot", "restore", file.to_str().unwrap()], &data);
    assert!(done && text.contains("cluster.db.replaced-"), "{text}");
    let mut server = Server::start(&data, port);
    assert_eq!(names(&server), ["map-before"]);
    assert!(version(&server.ask("POST", MAPS, &map("map-new"))) > version(&after));
    server.signal("-TERM");
    server.process.wait().unwrap();

    // What the disk does to it from now on is noticed, told, and undone as far as may be.
    let database = data.join("cluster.db");
    let mut bytes = std::fs::read(&database).unwrap();
    let middle = bytes.len() / 2;
    bytes[4096..middle].fill(0xa5);
    std::fs::write(&database, bytes).unwrap();
    let server = Server::start(&data, port);
    assert_eq!(names(&server), ["map-after", "map-before"], "the newest snapshot");
    let log = std::fs::read_to_string(data.with_extension("log")).unwrap();
    assert!(log.contains("cluster.db.damaged-") && log.contains("the cluster is back at the snapshot"), "{log}");
    let events = server.ask("GET", "/api/v1/events?fieldSelector=reason=DatabaseDamaged", &Value::Null);
    let event = &events["items"][0];
    assert_eq!((&event["type"], &event["involvedObject"]["kind"]), (&json!("Warning"), &json!("Node")), "{events}");
}

#[test]
fn an_audit_log_is_kept_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, log) = (folder.path().join("policy.yaml"), folder.path().join("logs/audit.log"));
    let rules = "- {level: Request, resources: [{group: '', resources: [configmaps]}]}\n- {level: Metadata}\n";
    std::fs::write(&policy, format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}")).unwrap();
    let options = ["--audit-policy-file", policy.to_str().unwrap(), "--audit-log-path", log.to_str().unwrap()];
    let mut server = Server::start_with(&folder.path().join("data"), free_port(), &options);
    let map = json!({"metadata": {"name": "noted"}, "data": {"k": "v"}});
    assert_eq!(server.ask("POST", MAPS, &map)["data"], map["data"]);
    server.signal("-TERM");
    assert!(server.process.wait().unwrap().success());
    let text = std::fs::read_to_string(&log).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let noted: Vec<_> = events
        .iter()
        .filter(|event| event["requestURI"] == MAPS && event["verb"] == "create")
        // A controller makes a map there as well, and may be in the midst of it.
        .filter(|event| !event["user"]["username"].as_str().unwrap().starts_with("system:serviceaccount:"))
        .map(|event| (event["stage"].as_str().unwrap(), &event["requestObject"]["data"]["k"]))
        .collect();
    assert_eq!(noted, [("RequestReceived", &Value::Null), ("ResponseComplete", &json!("v"))]);
    // Controllers are noted like anyone.
    let by = |name: &str| events.iter().any(|event| event["user"]["username"].as_str().unwrap().starts_with(name));
    assert!(by("system:serviceaccount:kube-system:") && by("system:apiserver"), "{text}");
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn two_servers_do_not_share_a_database_or_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let first = Server::start(&folder.path().join("data"), free_port());
    for (data, port, says) in [
        (&first.data, free_port(), "another process holds it"),
        (&folder.path().join("other"), first.port, "is another API server running?"),
    ] {
        let log = folder.path().join("second.log");
        let process = Command::new(env!("CARGO_BIN_EXE_kedge"))
            .args(["server", "--disable-agent", "--https-port", &port.to_string(), "--data-dir"])
            .arg(data)
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let second = Server { process, data: data.clone(), port };
        second.until(|| std::fs::read_to_string(&log).unwrap().contains(says), says);
    }
    assert_eq!(first.ask("GET", "/version", &Value::Null)["minor"], "36");
}

#[test]
fn what_policies_get_wrong_about_their_kinds_stands_in_their_status() {
    const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), free_port());
    let field = json!({"type": "object", "properties": {"size": {"type": "integer"}}});
    let schema = json!({"type": "object", "properties": {"spec": field}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let names = json!({"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"});
    let spec = json!({"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    server.ask("POST", definitions, &json!({"metadata": {"name": "things.example.com"}, "spec": spec}));
    let list = "/apis/example.com/v1/things";
    server.until(|| server.ask("GET", list, &Value::Null)["kind"] == "ThingList", "things");
    let rule = |group: &str, name: &str| json!({"operations": ["CREATE"], "apiGroups": [group], "apiVersions": ["v1"], "resources": [name]});
    let rules = [rule("apps", "deployments"), rule("example.com", "things")];
    let validations =
        [json!({"expression": "object.spec.size > 1"}), json!({"expression": "object.metadata.name != ''"})];
    let policy = json!({"metadata": {"name": "sizes"}, "spec": {"matchConstraints": {"resourceRules": rules}, "validations": validations}});
    server.ask("POST", POLICIES, &policy);
    let of = |name: &str| server.ask("GET", &format!("{POLICIES}/{name}"), &Value::Null);
    let observed = |generation: i64| move |policy: Value| policy["status"]["observedGeneration"] == generation;
    server.until(|| observed(1)(of("sizes")), "status");
    let mut policy = of("sizes");
    let warning = "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'size'\n | object.spec.size > 1\n | ...........^\n";
    let warnings = json!([{"fieldRef": "spec.validations[0].expression", "warning": warning}]);
    assert_eq!(policy["status"]["typeChecking"], json!({"expressionWarnings": warnings}));
    let manager = &policy["metadata"]["managedFields"][0];
    assert_eq!((&manager["operation"], &manager["subresource"]), (&json!("Apply"), &json!("status")), "{policy}");
    policy["spec"]["validations"].as_array_mut().unwrap().remove(0);
    server.ask("PUT", &format!("{POLICIES}/sizes"), &policy);
    server.until(|| observed(2)(of("sizes")), "status of the change");
    assert_eq!(of("sizes")["status"]["typeChecking"]["expressionWarnings"], Value::Null);
}
